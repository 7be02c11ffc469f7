"""Stacks of dense layers for large batches on a CPU: products by oneDNN, and a whole stack as one node of the graph.

Torch leaves float32 products on x86 to MKL, which gives AMD's processors about half of what they can do. oneDNN, which
torch carries too, uses AVX-512 on all. `benchmarks/learner.py` measures it; below `LEAST` it does not pay.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-5
LEAST = 2**16
"""Entries of a hidden layer's output."""

_aten = torch.ops.aten
_HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
_AVAILABLE = _HAS_ONEDNN and torch.backends.cpu.get_cpu_capability() == "AVX512"


def pays(value: Tensor, width: int) -> bool:
    """Whether to run hidden layers of this width on `value`, `[..., inputs]`, by `run`."""
    return (
        _AVAILABLE
        and not torch.compiler.is_compiling()  # an exporter knows plain operations only
        and value.device.type == "cpu"
        and value.dtype == torch.float32
        and value.shape[:-1].numel() * width >= LEAST
    )


def run(
    value: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    gains: Sequence[Tensor] = (),
    shifts: Sequence[Tensor] = (),
) -> Tensor:
    """Linear layers with ReLU between them, after a layer normalization where there are gains.

    Args:
        value: `[rows, inputs]`.
        weights: `[outer, inner]` each.
        biases: `[outer]` each.
        gains: Of the normalizations of all layers but the last, `[outer]` each; or none.
        shifts: The same.
    """
    out: Tensor = _Stack.apply(  # type: ignore[no-untyped-call]
        value, len(weights), torch.is_grad_enabled(), *weights, *biases, *gains, *shifts
    )[0]
    return out


class _Stack(torch.autograd.Function):
    """Returns the last layer's output and, if asked, what backward needs of each hidden layer."""

    @staticmethod
    def forward(value: Tensor, num: int, keep: bool, *parameters: Tensor) -> tuple[Tensor, ...]:  # noqa: FBT001
        weights, biases, gains, shifts = _parts(parameters, num)
        kept: list[Tensor] = []
        for layer in range(num - 1):
            if not gains:
                value = _product(value, weights[layer], biases[layer], "relu")
                kept += [value] if keep else []
                continue
            before = _product(value, weights[layer], biases[layer])
            normed = _aten.native_layer_norm(before, before.shape[1:], gains[layer], shifts[layer], EPSILON)
            value = normed[0].relu_()
            kept += [value, before, *normed[1:]] if keep else []
        return (_product(value, weights[-1], biases[-1]), *kept)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        value, ctx.num, _, *parameters = inputs
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(value, *parameters, *output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        num, needed = ctx.num, ctx.needs_input_grad
        saved, count = ctx.saved_tensors, len(needed) - 3
        weights, _, gains, shifts = _parts(saved[1 : 1 + count], num)
        kept = saved[1 + count :]
        each = len(kept) // max(num - 1, 1)
        inputs = [saved[0], *kept[::each]] if kept else [saved[0]]
        need_weights, need_biases, need_gains, need_shifts = _parts(needed[3:], num)
        found: list[list[Tensor | None]] = [[None] * len(part) for part in (weights, weights, gains, shifts)]
        grad = grads[0]
        for layer in range(num - 1, -1, -1):
            if need_weights[layer]:
                found[0][layer] = _product(grad.T, inputs[layer].T)
            if need_biases[layer]:
                found[1][layer] = grad.sum(0)
            if layer == 0:
                break
            hidden = layer - 1
            grad = _product(grad, weights[layer].T)
            _aten.threshold_backward.grad_input(grad, inputs[layer], 0, grad_input=grad)
            if gains:
                _, before, mean, spread = kept[each * hidden : each * layer]
                asked = [True, need_gains[hidden], need_shifts[hidden]]
                grad, found[2][hidden], found[3][hidden] = _aten.native_layer_norm_backward(
                    grad, before, before.shape[1:], mean, spread, gains[hidden], shifts[hidden], asked
                )
        first = _product(grad, weights[0].T) if needed[0] else None
        return (first, None, None, *(gradient for part in found for gradient in part))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """One after another: the products are large."""
        each = []
        for index in range(info.batch_size):
            own = [
                value if dim is None else value.select(dim, index) for value, dim in zip(inputs, in_dims, strict=True)
            ]
            each.append(_Stack.apply(*own))  # type: ignore[no-untyped-call]
        outputs = tuple(torch.stack(parts) for parts in zip(*each, strict=True))
        return outputs, (0,) * len(outputs)


def _parts(of_parameters: Sequence[Any], num: int) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any], Sequence[Any]]:
    """Those of weights, biases, gains and shifts."""
    last = of_parameters[2 * num :]
    middle = len(last) // 2
    return of_parameters[:num], of_parameters[num : 2 * num], last[:middle], last[middle:]


def _product(value: Tensor, weight: Tensor, bias: Tensor | None = None, after: str = "none") -> Tensor:
    """`[rows, inner]` times the transpose of `[outer, inner]`, plus the bias; then ReLU if so."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(value, weight, bias, after, [], "")
    return product
