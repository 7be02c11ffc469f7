"""What an array must look like: size, names, bounds and unit of each entry. Validate once, at the boundary."""

import math
import reprlib
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ccm_runtime.errors import SpecError

_LARGEST = float(np.finfo(np.float32).max)


class BoxSpec(BaseModel):  # noqa: PLW1641  # pydantic gives a frozen model its hash
    """A flat float32 vector with a name, a unit and bounds for each entry.

    Attributes:
        name: What the vector is, e.g. `observation`.
        labels: One label an entry.
        units: One unit an entry, e.g. `m`; `1` where it has none, empty where nobody said.
        low: Lower bounds; `None` where unbounded.
        high: Upper bounds; `None` where unbounded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    name: str
    labels: tuple[str, ...] = Field(min_length=1)
    units: tuple[str, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]

    @model_validator(mode="after")
    def _one_entry_each(self) -> Self:
        sizes = {len(self.labels), len(self.units), len(self.low), len(self.high)}
        if len(sizes) != 1:
            raise ValueError(f"{self.name}: labels, units, low and high must have one entry each, got sizes {sizes}")
        if not bool(np.all(self.low_array <= self.high_array)):
            raise ValueError(f"{self.name}: every low must be <= its high, got low={self.low} high={self.high}")
        return self

    def __eq__(self, other: object) -> bool:
        # Not pydantic's, which compares the cached arrays too.
        return isinstance(other, BoxSpec) and self.model_dump() == other.model_dump()

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self.labels)

    @property
    def entries(self) -> list[str]:
        """Each entry for a person: its label, with its unit if it has one, as in `goal angle (rad)`."""
        pairs = zip(self.labels, self.units, strict=True)
        return [label if unit in {"", "1"} else f"{label} ({unit})" for label, unit in pairs]

    @cached_property
    def low_array(self) -> NDArray[np.float32]:
        """Lower bounds, `[size]`, minus infinity where unbounded."""
        return np.array([-np.inf if bound is None else bound for bound in self.low], np.float32)

    @cached_property
    def high_array(self) -> NDArray[np.float32]:
        """Upper bounds, `[size]`, infinity where unbounded."""
        return np.array([np.inf if bound is None else bound for bound in self.high], np.float32)

    def validate_array(self, value: ArrayLike, *, bounded: bool = False) -> NDArray[np.float32]:
        """Return `value` as a finite float32 `[size]` vector.

        Args:
            value: What came.
            bounded: Also refuse entries outside the bounds.

        Raises:
            SpecError: `value` has another size, is not finite or (if asked) leaves the bounds.
        """
        array = value if isinstance(value, np.ndarray) and value.dtype == np.float32 else self._converted(value)
        if array.shape != (self.size,):
            raise SpecError(f"{self.name}: expected {self._wanted}, got shape {list(array.shape)}")
        if not finite(array):
            bad = int(np.flatnonzero(~np.isfinite(array))[0])
            raise SpecError(f"{self.name}: entry {self.labels[bad]} is {array[bad]}; every entry must be finite")
        if bounded and not ((array >= self.low_array) & (array <= self.high_array)).all():
            bad = int(np.flatnonzero((array < self.low_array) | (array > self.high_array))[0])
            raise SpecError(
                f"{self.name}: entry {self.labels[bad]} is {array[bad]:g}, outside [{self.low[bad]}, {self.high[bad]}]"
            )
        return array

    @property
    def _wanted(self) -> str:
        return f"{counted(self.size, 'value')} ({', '.join(self.labels)})"

    def _converted(self, value: ArrayLike) -> NDArray[np.float32]:
        array = _float32(value)
        if array is None:
            raise SpecError(f"{self.name}: expected {self._wanted}, got {_shown(value)}")
        return array


def as_vector(name: str, value: ArrayLike) -> NDArray[np.float32]:
    """Return numbers as a float32 vector, `[any]`; those that float32 cannot hold become infinite.

    Raises:
        SpecError: It is something else than numbers.
    """
    array = _float32(value)
    if array is None:
        raise SpecError(f"{name}: expected a vector of numbers, got {_shown(value)}")
    return array.reshape(-1)


def finite_vector(name: str, value: ArrayLike, size: int) -> NDArray[np.float32]:
    """Return numbers as a finite float32 vector, `[size]`.

    Raises:
        SpecError: They are more, fewer, in another shape, or not finite.
    """
    array = np.asarray(value, np.float32)
    wanted = f"{name}: expected {counted(size, 'finite number')}"
    if array.ndim != 1:
        raise SpecError(f"{wanted}, got shape {list(array.shape)}")
    if array.size != size:
        raise SpecError(f"{wanted}, got {array.size}")
    if not finite(array):
        bad = int(np.flatnonzero(~np.isfinite(array))[0])
        raise SpecError(f"{wanted}, and entry {bad} is {array[bad]}")
    return array


def as_reward(value: float) -> float:
    """Return a reward as a float.

    Raises:
        SpecError: It is not one number, or float32 cannot hold it.
    """
    try:
        reward = float(value)
    except (TypeError, ValueError):
        got = f"shape {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
        raise SpecError(f"reward: expected one number, got {got}") from None
    except OverflowError:  # a whole number beyond every float
        reward = math.inf
    if not abs(reward) <= _LARGEST:  # not a number compares as false
        raise SpecError(f"reward is {reward}; it must be a finite float32")
    return reward


def as_flag(name: str, value: object) -> bool:
    """Return whether an episode has ended as `name` says.

    Raises:
        SpecError: It is a text, or an array of several.
    """
    if value is True or value is False:
        return value
    try:
        if not isinstance(value, str):
            return bool(value)
    except ValueError:  # an array of several
        pass
    got = f"shape {list(value.shape)}" if isinstance(value, np.ndarray) else repr(value)
    raise SpecError(f"{name}: expected True or False, got {got}")


def finite(array: NDArray[np.float32]) -> bool:
    """Return whether every entry is finite."""
    # A sum of squares is by far the fastest look at a small array; it can only be wrong by overflowing, and `vdot` does
    # not warn of that.
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def counted(number: int, thing: str, things: str = "") -> str:
    """Return `1 number` or `2 numbers`."""
    return f"{number} {thing}" if number == 1 else f"{number} {things or f'{thing}s'}"


def _float32(value: ArrayLike) -> NDArray[np.float32] | None:
    """Return numbers as float32; of what is none, such as a text, a date or a ragged list: `None`."""
    try:
        array = np.asarray(value)
        if value is None or array.dtype.kind not in "biufO":
            return None
        with np.errstate(over="ignore"):  # what overflows becomes infinite
            return array.astype(np.float32, copy=False)
    except (TypeError, ValueError, OverflowError):
        return None


def _shown(value: object) -> str:
    """Return what came in place of numbers, in short."""
    if isinstance(value, np.ndarray):
        return f"shape {list(value.shape)} of {value.dtype}"
    return f"{type(value).__name__} {reprlib.repr(value)}" if isinstance(value, (list, tuple)) else type(value).__name__
