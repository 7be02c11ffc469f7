"""Whether the executor's last episode shows that its task has changed."""

from collections.abc import Sequence

from ccm_runtime.belief import ExperienceStats

_DROP = 0.5


def task_changed(executed: Sequence[float], novel: float, experience: ExperienceStats | None) -> bool:
    """Return whether all was well before the last episode, and is not after it.

    A task that was never well is none that has changed: to explore it again and again would help nobody.

    Args:
        executed: Return of each episode of the executor since exploring ended, the last one included.
        novel: Novelty at the end of the last one.
        experience: What training tasks are like; `None`: nobody knows.
    """
    if len(executed) < 2 or (experience is not None and experience.shortfall(executed[-2]) > 1.0):
        return False
    usual = sum(executed[:-1]) / (len(executed) - 1)
    return novel > 1.0 or executed[-1] < usual - _DROP * abs(usual)
