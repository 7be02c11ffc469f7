"""The same thing over and over: a plain call on a CPU, captured once and replayed as a CUDA graph on a GPU.

A graph repeats the very kernels of its capture on the very memory. The function must therefore read and write fixed
tensors, never wait for the device and have no shape that depends on data; what changes from call to call (learning
rates, how full the replay is, which tasks) must be a tensor that is written in place.
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

_WARM_UPS = 3
_Out = TypeVar("_Out")


class Captured(Generic[_Out]):
    """A function without arguments that returns tensors; on a GPU, the next call may overwrite them.

    The first calls on a GPU are plain ones, on a side stream: they make gradients, moments and workspaces, which have
    to be there before the capture. They count as any other call.

    Args:
        function: What to do.
        streams: The random streams that it draws from.
        device: Where its tensors are.
    """

    def __init__(
        self, function: Callable[[], _Out], *, streams: Sequence[torch.Generator], device: torch.device
    ) -> None:
        self._function, self._streams, self._device = function, streams, device
        self._warm_ups_left = _WARM_UPS
        self._side: torch.cuda.Stream | None = None
        self._recorded: tuple[torch.cuda.CUDAGraph, _Out] | None = None

    def __call__(self) -> _Out:
        """Do it."""
        if self._device.type != "cuda":
            return self._function()
        if self._side is None:
            self._side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        if self._warm_ups_left > 0:
            return self._warm_up(self._side)
        if self._recorded is None:
            self._recorded = self._capture(self._side)
        graph, out = self._recorded
        graph.replay()
        return out

    def _warm_up(self, side: torch.cuda.Stream) -> _Out:
        self._warm_ups_left -= 1
        current = torch.cuda.current_stream(self._device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            out = self._function()
        current.wait_stream(side)
        return out

    def _capture(self, side: torch.cuda.Stream) -> tuple[torch.cuda.CUDAGraph, _Out]:
        """Record the function; nothing is done yet."""
        graph = torch.cuda.CUDAGraph()
        for stream in self._streams:
            graph.register_generator_state(stream)
        # Other threads may use the device meanwhile: only this one's doings are recorded and checked.
        with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
            out = self._function()
        return graph, out


class Step:
    """One step of learning: a function without arguments that returns scalars by name, as `Captured`.

    Args:
        function: What to do; it returns metrics, all of one shape.
        streams: The random streams that it draws from.
        device: Where its tensors are.
    """

    def __init__(
        self, function: Callable[[], dict[str, Tensor]], *, streams: Sequence[torch.Generator], device: torch.device
    ) -> None:
        self._function, self._is_plain = function, device.type != "cuda"
        self._names: list[str] = []
        self._values = Captured(self._stacked, streams=streams, device=device)

    def __call__(self) -> dict[str, Tensor]:
        """Do it; the metrics are the caller's own, later calls do not overwrite them."""
        if self._is_plain:
            return self._function()
        values = self._values().clone()  # before the names, which the first call finds out
        return dict(zip(self._names, values.unbind(), strict=True))

    def _stacked(self) -> Tensor:
        metrics = self._function()
        self._names = list(metrics)
        return torch.stack(list(metrics.values()))
