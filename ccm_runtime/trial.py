"""A trial: K episodes with the explorer, then episodes with the executor, as a pure value.

No clock, socket or model is in it. Training's evaluation, the server and the clients all advance the same value, so
that they cannot disagree on when exploring ends.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ccm_runtime.errors import TrialOrderError


class Phase(StrEnum):
    """What the trial is doing."""

    EXPLORE = "explore"
    EXECUTE = "execute"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class EpisodeBegan:
    """The environment was reset and its first observation arrived.

    Attributes:
        abandon: An episode that is under way does not count, and begins again.
    """

    abandon: bool = False


@dataclass(frozen=True, slots=True)
class Stepped:
    """One transition finished.

    Attributes:
        terminated: The task itself ended the episode.
        truncated: Something outside the task ended it (a time limit, an operator).
    """

    terminated: bool = False
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class ExplorationCompleted:
    """The belief is certain enough: execute from the next episode on."""


@dataclass(frozen=True, slots=True)
class ExplorationRenewed:
    """The task has changed: explore for so many episodes from the next one on. It comes between episodes.

    Attributes:
        episodes: How many.
    """

    episodes: int


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing more will come."""


Event = EpisodeBegan | Stepped | ExplorationCompleted | ExplorationRenewed | Closed


class Trial(NamedTuple):
    """Explore for `explore_episodes` episodes, then execute until closed.

    Attributes:
        explore_episodes: K; 0 executes from the start. Once exploring was renewed: the episodes before that, and K.
        horizon: Most transitions of an episode; the trial itself truncates an episode there. `None`: no limit.
        episodes_finished: Episodes that have ended.
        steps_in_episode: Transitions of the current episode so far.
        in_episode: Whether an episode is under way.
        closed: Whether the trial is over.
    """

    explore_episodes: int
    horizon: int | None = None
    episodes_finished: int = 0
    steps_in_episode: int = 0
    in_episode: bool = False
    closed: bool = False

    @property
    def phase(self) -> Phase:
        """The phase of the current episode or, between episodes, of the next one."""
        if self.closed:
            return Phase.CLOSED
        return Phase.EXPLORE if self.episodes_finished < self.explore_episodes else Phase.EXECUTE


def advance(trial: Trial, event: Event) -> Trial:
    """Return the trial after `event`.

    Raises:
        TrialOrderError: The event does not fit (a step outside an episode, two beginnings, anything after the close).
    """
    admit(trial, event)
    explore, horizon, finished = trial.explore_episodes, trial.horizon, trial.episodes_finished
    match event:
        case Stepped():
            steps = trial.steps_in_episode + 1
            over = event.terminated or event.truncated or (horizon is not None and steps >= horizon)
            return Trial(explore, horizon, finished + int(over), steps, not over)
        case EpisodeBegan():
            return Trial(explore, horizon, finished, 0, in_episode=True)
        case ExplorationCompleted():
            # The current episode, if any, is finished as it began.
            reached = min(explore, finished + int(trial.in_episode))
            return Trial(reached, horizon, finished, trial.steps_in_episode, trial.in_episode)
        case ExplorationRenewed():
            return Trial(finished + event.episodes, horizon, finished, trial.steps_in_episode)
        case Closed():
            return Trial(explore, horizon, finished, trial.steps_in_episode, closed=True)


def admit(trial: Trial, event: Event) -> None:
    """Refuse an event that does not fit, as `advance` does (TrialOrderError)."""
    if trial.closed:
        raise TrialOrderError(f"the trial is closed; it takes no {type(event).__name__}")
    if isinstance(event, ExplorationRenewed) and trial.in_episode:
        raise TrialOrderError("an episode is under way; exploring is renewed between episodes")
    if isinstance(event, EpisodeBegan) and trial.in_episode and not event.abandon:
        raise TrialOrderError(
            f"episode {trial.episodes_finished} is still under way after {trial.steps_in_episode} steps; "
            "end it with terminated or truncated before beginning the next, or abandon it"
        )
    if isinstance(event, Stepped) and not trial.in_episode:
        raise TrialOrderError("no episode is under way; begin one before stepping")
