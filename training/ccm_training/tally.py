"""What the updates since the last report said: their metrics, on their device, and where each drew its batch."""

from collections import defaultdict

import torch
from torch import Tensor


class Tally:
    """Metrics of some updates, in order, each `[]`."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = defaultdict(list)
        self._marks: list[Tensor] = []

    def note(self, metrics: dict[str, Tensor], mark: Tensor) -> None:
        """Keep one update's metrics, and the state that its random stream was in before it."""
        for name, value in metrics.items():
            self._values[name].append(value)
        self._marks.append(mark)

    def means(self) -> dict[str, float]:
        """Mean of each metric over the updates."""
        return {name: float(torch.stack(values).mean()) for name, values in self._values.items()}

    def clear(self) -> None:
        """Begin again."""
        self._values.clear()
        self._marks.clear()

    def series(self) -> dict[str, Tensor]:
        """Each metric by update, `[updates]`."""
        return {name: torch.stack(values) for name, values in self._values.items()}

    def take(self, series: dict[str, Tensor]) -> None:
        """Go on from what `series` gave, of a run that was stopped; these updates have been found finite."""
        self.clear()
        for name, values in series.items():
            self._values[name] = list(values.unbind())

    def mark(self, update: int) -> Tensor | None:
        """State of the random stream before this update (counted from 0); `None` before the run was last resumed."""
        at = update - (len(self) - len(self._marks))
        return self._marks[at] if at >= 0 else None

    def __len__(self) -> int:
        return max(map(len, self._values.values()), default=0)
