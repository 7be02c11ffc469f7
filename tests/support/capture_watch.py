"""What a CUDA graph forbids, watched on a CPU: operations that wait for the host, or whose shapes depend on data."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero", "aten::item"}


class ForbiddenInCaptureError(AssertionError):
    """A captured function would not survive this."""


class CaptureWatch(TorchDispatchMode):
    """Refuses what a capture refuses, and keeps a trace of operations with their shapes.

    It cannot see a Python number that a graph would freeze: `tests/gpu` compares with eager updates for that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trace: list[tuple] = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        name = operation._schema.name
        if name in WAITS:
            raise ForbiddenInCaptureError(f"{name} waits for the device or has a shape that depends on data")
        if name.startswith(("aten::index", "aten::_index_put")) and any(map(_is_mask, _tensors(arguments))):
            raise ForbiddenInCaptureError(f"{name} with a boolean mask has a shape that depends on data")
        out = operation(*arguments, **(options or {}))
        self.trace.append((name, *(tuple(tensor.shape) for tensor in _tensors((arguments, out)))))
        return out


def watch(function, parameters, times=3):
    """Call a function some times as a graph would be replayed; the number of operations of a call.

    Raises:
        ForbiddenInCaptureError: It waits, its operations change, or a gradient's buffer moves.
    """
    function()  # whatever is made once, is made: gradients and moments
    places, traces = [_places(parameters)], []
    for _ in range(times):
        with CaptureWatch() as seen:
            function()
        traces.append(seen.trace)
        places.append(_places(parameters))
    if any(trace != traces[0] for trace in traces):
        raise ForbiddenInCaptureError("operations or shapes differ from one call to the next")
    if any(place != places[0] for place in places):
        raise ForbiddenInCaptureError("a parameter or a gradient has moved in memory")
    return len(traces[0])


def _tensors(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, list | tuple):
        return [tensor for part in tree for tensor in _tensors(part)]
    return []


def _is_mask(tensor):
    return tensor.dtype is torch.bool


def _places(parameters):
    return [(p.data_ptr(), None if p.grad is None else p.grad.data_ptr()) for p in parameters]
