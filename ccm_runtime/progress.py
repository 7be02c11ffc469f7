"""What a client knows of its session without asking the server."""

from dataclasses import dataclass, field

from ccm_runtime.belief import Array
from ccm_runtime.errors import SessionUnknownError
from ccm_runtime.messages import Agent, Answer, BeginEpisode, Event, Intervention, Opened, SafeReason, Standing
from ccm_runtime.ticket import Ticket
from ccm_runtime.trial import Phase


@dataclass(slots=True)
class Progress:
    """The last answer, and the returns that were seen.

    Attributes:
        opened: The session as the server opened it.
        answer: The last answer.
        returns: Return of every finished episode.
        episode_return: Return of the current episode so far.
    """

    opened: Opened | None = None
    answer: Answer | None = None
    returns: list[float] = field(default_factory=list)
    episode_return: float = 0.0

    def take_up(self, standing: Standing) -> None:
        """Go on where another client came to."""
        self.answer, self.returns = standing.last_answer, list(standing.returns)
        self.episode_return = standing.return_so_far

    def record(self, event: Event, answer: Answer) -> None:
        """Take an answered event in."""
        self.answer = answer
        if isinstance(event, BeginEpisode):
            self.episode_return = 0.0
        else:
            self.episode_return += event.reward
            if answer.reaction.episode_over:
                self.returns.append(self.episode_return)
                self.episode_return = 0.0


class SessionView:
    """The properties of a session, sync or async."""

    def __init__(self, progress: Progress, explore_episodes: int | None) -> None:
        self._progress = progress
        self._explore_episodes = explore_episodes

    @property
    def session_id(self) -> str:
        """Names the session in logs; not a secret."""
        return self._opened.session_id

    @property
    def ticket(self) -> Ticket:
        """What to keep, and keep secret, for `resume_session` in another process."""
        return Ticket(self._opened.session_id, self._opened.token)

    @property
    def agent(self) -> Agent:
        """What the server serves."""
        return self._opened.agent

    @property
    def answer(self) -> Answer | None:
        """The last answer, whole: what the agent does and knows, timing, validity; `None` before the first."""
        return self._progress.answer

    @property
    def action(self) -> Array | None:
        """The last answer's action, `[act]`, for the observation of that time; `None`: no episode is under way."""
        action = None if self._progress.answer is None else self._progress.answer.reaction.action
        return None if action is None else action.copy()

    @property
    def phase(self) -> Phase:
        """Phase of the current episode or, between episodes, of the next one."""
        if self._progress.answer is not None:
            return self._progress.answer.reaction.phase
        if self._opened.standing is not None:
            return self._opened.standing.phase
        episodes = self.agent.explore_episodes if self._explore_episodes is None else self._explore_episodes
        return Phase.EXPLORE if episodes else Phase.EXECUTE

    @property
    def episode(self) -> int:
        """Number of the current episode, from 0; between episodes, of the next one."""
        return 0 if self._progress.answer is None else self._progress.answer.reaction.episode

    @property
    def episode_over(self) -> bool:
        """Whether no episode is under way: begin one."""
        return self._progress.answer is None or self._progress.answer.reaction.episode_over

    @property
    def certainty(self) -> float:
        """0 (nothing known of the task) to 1 (all known)."""
        return 0.0 if self._progress.answer is None else self._progress.answer.reaction.certainty

    @property
    def novelty(self) -> float:
        """How far this is from what training tasks showed, of whose trials about 97 % stay below 1; 0 is unknown."""
        return 0.0 if self._progress.answer is None else self._progress.answer.reaction.novelty

    @property
    def interventions(self) -> tuple[Intervention, ...]:
        """What the guard had to mend in the last answer's action; empty: nothing."""
        return () if self._progress.answer is None else self._progress.answer.reaction.interventions

    @property
    def task_changed(self) -> bool:
        """Whether the episode that has just ended showed that the task has changed: exploring begins anew."""
        return self._progress.answer is not None and self._progress.answer.reaction.task_changed

    @property
    def version_changed(self) -> bool:
        """Whether the episode that has just ended was the last one with that version: exploring begins with another.

        From the next event on `agent` is the one that goes on.
        """
        return self._progress.answer is not None and self._progress.answer.version_changed

    @property
    def safe(self) -> SafeReason | None:
        """Why the session is SAFE and its actions are the fallback; `None`: it is not."""
        return None if self._progress.answer is None else self._progress.answer.safe

    @property
    def returns(self) -> tuple[float, ...]:
        """Return of every finished episode, in order."""
        return tuple(self._progress.returns)

    @property
    def _opened(self) -> Opened:
        if self._progress.opened is None:
            raise SessionUnknownError("the session is not open; use it in an `async with` block, or await it")
        return self._progress.opened
