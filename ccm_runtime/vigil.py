"""When a session goes SAFE: its policies could not be used, or had to be mended, too many times in a row."""

from collections.abc import Sequence
from dataclasses import dataclass

from ccm_runtime.messages import Intervention, SafeReason

UNUSABLE = {Intervention.LATE, Intervention.NOT_FINITE}


@dataclass(frozen=True, slots=True)
class VigilLimits:
    """How much is too much.

    Attributes:
        max_misses: Actions in a row that the fallback had to stand in for; `None`: any number.
        max_interventions: Actions in a row that the guard had to mend in any way; `None`: any number.
    """

    max_misses: int | None = None
    max_interventions: int | None = None


@dataclass(frozen=True, slots=True)
class Vigil:
    """What was seen of a session's last actions.

    Attributes:
        misses: Actions in a row that the fallback stood in for.
        mended: Actions in a row that the guard had to mend in any way.
        safe: Why the session is SAFE; `None`: it is not.
    """

    misses: int = 0
    mended: int = 0
    safe: SafeReason | None = None

    def after(self, interventions: Sequence[Intervention], limits: VigilLimits) -> "Vigil":
        """Return the vigil after an action that was given with these interventions. SAFE stays SAFE."""
        if self.safe is not None:
            return self
        if not interventions:
            return WATCHFUL
        misses = 0 if UNUSABLE.isdisjoint(interventions) else self.misses + 1
        mended = self.mended + 1
        if limits.max_misses is not None and misses >= limits.max_misses:
            return Vigil(misses, mended, SafeReason.MISSES)
        if limits.max_interventions is not None and mended >= limits.max_interventions:
            return Vigil(misses, mended, SafeReason.INTERVENTIONS)
        return Vigil(misses, mended)


WATCHFUL = Vigil()
