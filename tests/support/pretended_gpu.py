"""A GPU that is not there: tensors that say they are on `cuda` and refuse what a GPU refuses, computed by the CPU.

It is about *where* things are and *what a graph repeats*, not about numbers or speed: mixing tensors of two devices,
reading one without asking, a generator of the wrong device, waiting while a graph is captured, and whatever a graph
freezes (Python numbers, tensors that are made anew) go wrong here as they do there.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, NamedTuple, Self
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

HOST, GPU = torch.device("cpu"), torch.device("cuda", 0)
_WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero", "aten::equal"}
_READS = {"numpy", "__array__", "data_ptr", "untyped_storage"}
_COPIES = {"aten::copy_"}


class PretendedGpuError(RuntimeError):
    """A real GPU would have refused this."""


class GpuTensor(torch.Tensor):
    """A tensor that says it is on the GPU. `inner` is on the CPU, and so is the tensor for the autograd engine."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Self:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=inner.device,
        )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    device, is_cuda, is_cpu = GPU, True, False

    def __repr__(self) -> str:
        return f"{self.inner!r} on {GPU}"

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), options=None):
        raise PretendedGpuError(f"{operation}: a tensor of the pretended GPU outlived it")


class _Generator(torch.Generator):
    """A generator that knows which device it was made for; on a GPU, its state is another one than on a CPU."""

    _STATE_BYTES = 16
    _states: ClassVar[list[torch.Tensor]] = []

    def __new__(cls, device: torch.device | str = "cpu") -> Self:
        made = super().__new__(cls, "cpu")
        made.made_for = torch.device(device).type
        return made

    @property
    def device(self) -> torch.device:
        return GPU if self.made_for == "cuda" else HOST

    def get_state(self) -> torch.Tensor:
        state = super().get_state()
        if self.made_for == "cpu":
            return state
        self._states.append(state)
        return torch.tensor([0, len(self._states) - 1]).view(torch.uint8)

    def set_state(self, state: torch.Tensor) -> None:
        if (len(state) == self._STATE_BYTES) != (self.made_for == "cuda"):
            raise RuntimeError("RNG state is wrong size")
        super().set_state(self._states[state.view(torch.int64)[1]] if self.made_for == "cuda" else state)


class _Recorded(NamedTuple):
    operation: Any
    arguments: Any
    options: Any
    out: Any


class _Graph:
    """What was done to which memory; a replay does the same to the same memory."""

    def __init__(self) -> None:
        self._recorded: list[_Recorded] = []
        self._before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.streams: list[torch.Generator] = []

    def register_generator_state(self, stream: torch.Generator) -> None:
        self.streams.append(stream)

    def replay(self) -> None:
        for operation, arguments, options, out in self._recorded:
            found = operation(*arguments, **options)
            for old, new in zip(_tensors(out), _tensors(found), strict=True):
                if old is not new and old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def record(self, operation, arguments, options):
        """Do it for now; `forget` undoes it."""
        for place, given in zip(operation._schema.arguments, _by_place(operation, arguments, options), strict=True):
            if place.alias_info is not None and place.alias_info.is_write:
                for tensor in _tensors(given):
                    self._before.setdefault(id(tensor), (tensor, tensor.clone()))
        out = operation(*arguments, **options)
        self._recorded.append(_Recorded(operation, arguments, options, out))
        return out

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Nothing that is done inside has happened afterwards."""
        states = [stream.get_state() for stream in self.streams]
        yield
        for tensor, before in self._before.values():
            tensor.copy_(before)
        for stream, state in zip(self.streams, states, strict=True):
            stream.set_state(state)


class _Python(TorchFunctionMode):
    """Calls as Python makes them: where a new tensor is wanted, what is read."""

    def __init__(self, device: "_Device") -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, function, types, arguments=(), options=None):
        options, name = dict(options or {}), getattr(function, "__name__", "")
        here = any(_is_on_gpu(given) for given in _tensors((arguments, options)))
        if function == torch.Tensor.device.__get__:  # of a tensor that vmap has wrapped
            return GPU if here else HOST
        if here and name in _READS:
            raise PretendedGpuError(f"{name} of a tensor on {GPU}: copy it to the host first")
        if name == "tolist" and here:
            return self._device.read(arguments[0]).tolist()
        if function == torch.Tensor.data.__set__ and here:  # the engine's tensor is moved below; ours is what it wraps
            arguments[0].inner = arguments[1].inner
        if name in {"cpu", "to", "cuda"} and isinstance(arguments[0], torch.Tensor):
            return self._moved(name, arguments, options)
        wanted = options.get("device")
        if wanted is not None:
            options["device"] = HOST
        there = _is_gpu(wanted) if wanted is not None else here
        if "generator" in options:
            self._device.check_stream(name, options["generator"], there=there)
        with self._device.making(there=there):
            out = function(*arguments, **options)
            made = wanted is not None or name == "new_tensor"
            if there and made and isinstance(out, torch.Tensor) and not isinstance(out, GpuTensor):
                out = self._device.upload(out)
        return out

    def _moved(self, name, arguments, options):
        """Do what `cpu`, `cuda` and `to` do."""
        tensor, *rest = arguments
        asked = [options.get("device"), options.get("dtype"), *rest]
        like = [given.dtype if isinstance(given, torch.Tensor) else given for given in asked]
        dtype = next((given for given in like if isinstance(given, torch.dtype)), tensor.dtype)
        devices = [given for given in asked if isinstance(given, torch.device | str | torch.Tensor)]
        wanted = {"cpu": HOST, "cuda": GPU}.get(name, devices[0] if devices else tensor.device)
        with self._device.making(there=isinstance(tensor, GpuTensor)):
            tensor = tensor.type(dtype)
        if _is_gpu(wanted) == isinstance(tensor, GpuTensor):
            return tensor
        return self._device.upload(tensor) if _is_gpu(wanted) else self._device.read(tensor).clone()


class _Device(TorchDispatchMode):
    """Operations as the device sees them."""

    def __init__(self) -> None:
        super().__init__()
        self._there = False
        self.graph: _Graph | None = None

    @contextmanager
    def making(self, *, there: bool) -> Iterator[None]:
        """New tensors of what is called inside are on the GPU, or are not."""
        before, self._there = self._there, there
        try:
            yield
        finally:
            self._there = before

    def check_stream(self, name: str, stream: torch.Generator | None, *, there: bool) -> None:
        """Refuse a random stream that this device, or the graph that is being captured, does not know."""
        if stream is not None and _is_gpu(stream) != there:
            raise PretendedGpuError(f"{name}: tensor and generator are on two devices")
        if self.graph is not None and stream not in self.graph.streams:
            raise PretendedGpuError(f"{name}: its generator is not registered with the graph that is being captured")

    def upload(self, tensor: torch.Tensor) -> GpuTensor:
        """Copy to the GPU."""
        if self.graph is not None:
            raise PretendedGpuError("a tensor of the host is copied to the GPU while a graph is captured")
        made = GpuTensor(tensor.detach().clone())
        return made.requires_grad_(tensor.requires_grad)

    def read(self, tensor: GpuTensor) -> torch.Tensor:
        """Wait for the GPU, and see what it has there."""
        if self.graph is not None:
            raise PretendedGpuError("a tensor of the GPU is read while a graph is captured")
        return tensor.inner.detach()

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        options, name = options or {}, operation._schema.name
        tensors = _tensors((arguments, options))
        there = any(isinstance(tensor, GpuTensor) for tensor in tensors)
        if there and name not in _COPIES:
            self._check(operation, tensors)
        there = there or (self._there and not tensors)
        if not there:
            return operation(*arguments, **options)
        given, named = tree_map(_inner, arguments), tree_map(_inner, options)
        if self.graph is None:
            out = operation(*given, **named)
        elif name in _WAITS or any(t.dtype is torch.bool for t in tensors[1:] if name.startswith("aten::index")):
            raise PretendedGpuError(f"{name} waits for the GPU, or has a shape that depends on data, in a capture")
        elif name in _COPIES and not all(isinstance(tensor, GpuTensor) for tensor in tensors):
            raise PretendedGpuError(f"{name} between host and GPU while a graph is captured")
        else:
            out = self.graph.record(operation, given, named)
        if name in _COPIES and not isinstance(arguments[0], GpuTensor):
            return arguments[0]
        return tree_map(lambda made: GpuTensor(made) if isinstance(made, torch.Tensor) else made, out)

    @staticmethod
    def _check(operation, tensors) -> None:
        for tensor in tensors:
            if not isinstance(tensor, GpuTensor) and tensor.dim() > 0:
                raise PretendedGpuError(
                    f"{operation}: a tensor {tuple(tensor.shape)} of the host among those of the GPU"
                )


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Have a GPU, as far as torch's users can tell, for the while."""
    device = _Device()

    @contextmanager
    def graph(graph: _Graph, **_: Any) -> Iterator[None]:
        with graph.capturing():
            device.graph = graph
            try:
                yield
            finally:
                device.graph = None

    stream = mock.MagicMock()
    ours = {
        "is_available": lambda: True,
        "Stream": lambda *_: stream,
        "current_stream": lambda *_: stream,
        "stream": lambda _: ExitStack(),
        "synchronize": lambda *_: None,
        "CUDAGraph": _Graph,
        "graph": graph,
    }
    grouped = lambda lists, **_: {(None, None): (lists, list(range(len(lists[0]))))}  # noqa: E731
    with (
        mock.patch.multiple(torch.cuda, **ours),
        mock.patch.object(torch, "Generator", _Generator),
        mock.patch.object(torch.optim.Optimizer, "_group_tensors_by_device_and_dtype", staticmethod(grouped)),
        mock.patch.object(torch.__future__, "get_overwrite_module_params_on_conversion", return_value=True),
        device,
        _Python(device),
    ):
        yield


def _by_place(operation, arguments, options):
    """Arguments in the order of the schema; `None` where none was given."""
    places = operation._schema.arguments
    given = list(arguments) + [options.get(place.name) for place in places[len(arguments) :]]
    return given[: len(places)]


def _is_gpu(device) -> bool:
    """Whether a device, or where a tensor is, is the GPU."""
    device = getattr(device, "device", device)
    return torch.device(device).type == "cuda"


def _inner(given):
    return given.inner if isinstance(given, GpuTensor) else given


def _is_on_gpu(tensor) -> bool:
    """Whether a tensor, or what vmap has wrapped in it, is on the GPU."""
    while not isinstance(tensor, GpuTensor) and torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return isinstance(tensor, GpuTensor)


def _tensors(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
