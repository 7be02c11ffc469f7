"""Random numbers for rows of simulations: from one stream, or from one for each seed of a cohort."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Source = torch.Generator | Sequence[torch.Generator]


def uniform(source: Source, *shape: int) -> Tensor:
    """Uniform in 0..1, `shape`; of several streams, each gives as many rows, and those of the first come first."""
    return _drawn(torch.rand, source, shape)


def normal(source: Source, *shape: int) -> Tensor:
    """Standard normal, otherwise as `uniform`."""
    return _drawn(torch.randn, source, shape)


def _drawn(kind: Callable[..., Tensor], source: Source, shape: tuple[int, ...]) -> Tensor:
    if isinstance(source, torch.Generator):
        return kind(shape, generator=source, device=source.device)
    own = (shape[0] // len(source), *shape[1:])
    return torch.cat([kind(own, generator=stream, device=stream.device) for stream in source])
