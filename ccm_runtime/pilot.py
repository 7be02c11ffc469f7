"""Drive a session with something real: every action is in time, from the server or, if that is silent, the safe one.

with client.open_session() as session, Pilot(session) as pilot:
    action = pilot.begin_episode(observation)
    while action is not None:
        observation, reward, terminated, truncated, _ = robot.step(action)
        action = pilot.act(observation, reward, terminated=terminated, truncated=truncated)

The server is told of every transition in order, with the action that was truly applied; what it answers for any but the
last one is not applied. So nothing stale moves the robot, and the belief misses nothing.
"""

import asyncio
import inspect
import time
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Self

from numpy.typing import ArrayLike

from ccm_runtime.async_session import AsyncSession
from ccm_runtime.belief import Array
from ccm_runtime.client import Session
from ccm_runtime.errors import UNANSWERED, ConfigError, ServerBusyError, ServerError, SessionError, TrialOrderError
from ccm_runtime.messages import Agent, Transition
from ccm_runtime.specs import as_flag, as_reward
from ccm_runtime.watchdog import Watchdog

MAX_UNTOLD = 1_024
_MARGIN = 0.1
_CLOSED = "the pilot was closed before the server was told"


class AsyncPilot:
    """Asks a session for actions, and does not wait for them longer than the last one is valid.

    Args:
        session: An open session; nobody else drives it.
        safe_action: What to do when the server is silent, `[act]`; default: zeros, or the nearest bounds to them.
        clock: Seconds that never jump.

    Raises:
        ConfigError: It is no asyncio session.
        SpecError: The safe action does not fit.
        SessionUnknownError: The session is not open.

    Attributes:
        watchdog: Says what may be applied at any time, for a control loop of its own pace.
        num_safe: How often the safe action stood in for the server's.
    """

    def __init__(
        self,
        session: AsyncSession,
        safe_action: ArrayLike | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not inspect.iscoroutinefunction(getattr(session, "begin_episode", None)):
            advice = "; drive that one with a Pilot" if isinstance(session, Session) else ""
            raise ConfigError(f"session: expected one of an AsyncClient, got {type(session).__name__}{advice}")
        self.watchdog = Watchdog(session.agent.action, safe_action, clock)
        self.num_safe = 0
        self._warned = False
        self._session = session
        self._given: Array | None = None  # the last action was not the server's, but this one
        self._steps = 0
        self._over = True
        self._valid_for_ms = 0.0
        self._untold: deque[Transition] = deque()
        self._moves = False  # in an episode no error that passes ends the telling
        self._telling: asyncio.Task[Array | None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop telling; transitions that were not told are lost to the belief."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait([self._telling])

    async def begin_episode(self, observation: ArrayLike, *, leave_safe: bool = False, abandon: bool = False) -> Array:
        """Tell that the environment was reset; the first action, `[act]`.

        Nothing moves yet, so this waits for the server: for what it was not told of the last episode, too. It raises
        what the session raises when no answer comes in time, and may then be called again. What the server could not
        take, as its episode was over, is dropped.
        """
        self._moves = False
        if self._untold or self._telling is not None:
            try:
                await self._tells()
            except TrialOrderError:  # then this is what is to be done
                pass
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                raise SessionError(_CLOSED) from None
            finally:
                self._telling = None  # it is over, and whoever asked knows how
        action = await self._session.begin_episode(observation, leave_safe=leave_safe, abandon=abandon)
        self._steps, self._over = 0, False
        return self._renew(action, given=None)

    async def act(
        self, observation: ArrayLike, reward: float, *, terminated: bool = False, truncated: bool = False
    ) -> Array | None:
        """Tell what the last action did; the next one `[act]`, or `None` once the episode is over.

        Who comes once nine tenths of the last action's validity are over, or more, is given the safe action at once, as
        there is no time left to ask, and is warned of it once: let steps be well shorter than `--action-valid-ms`.

        Where it is cancelled its transition is told all the same: apply `watchdog.action`, and go on with the next one.

        Raises:
            SpecError: An observation, a reward or an ending that cannot be: it counts as not told.
            TrialOrderError: No episode is under way, here or at the server: begin one.
            SessionError: The server was silent for more transitions than can be kept.
            CcmError: The server refuses the session. Apply `watchdog.action`, and stop.
        """
        if self._over:
            raise TrialOrderError("no episode is under way; begin one before stepping")
        if len(self._untold) >= MAX_UNTOLD:
            raise SessionError(f"the server was silent for {MAX_UNTOLD} transitions; stop, and begin a new session")
        observed = self._session.agent.observation.validate_array(observation).copy()
        ended, cut = as_flag("terminated", terminated), as_flag("truncated", truncated)
        transition = Transition(observed, as_reward(reward), ended, cut, self._given)
        self._untold.append(transition)
        self._steps += 1
        self._moves = True
        telling, patience_s = self._tells(), self._patience_s
        try:
            await asyncio.wait([telling], timeout=patience_s)
        except asyncio.CancelledError:
            self._given = self.watchdog.action
            raise
        if telling.done():
            self._telling = None
            if telling.cancelled():
                raise SessionError(_CLOSED)
            action = telling.result()
            self._over = action is None
            return None if action is None else self._renew(action, given=None)
        if ended or cut or self._steps >= self._session.agent.horizon:
            self._over = True
            return None
        self.num_safe += 1
        action = self._renew(self.watchdog.safe_action.copy(), given=self.watchdog.safe_action)
        if not patience_s and self._valid_for_ms:
            self._warn_of_slow_steps()
        return action

    @property
    def _patience_s(self) -> float:
        """How long to wait for an answer: a tenth of the validity is left to hand the safe action over in."""
        return max(0.0, self.watchdog.left_s - _MARGIN * self._valid_for_ms / 1000)

    def _warn_of_slow_steps(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the robot's step left no time to ask the server before the last action, valid for "
                f"{self._valid_for_ms:g} ms, ran out, and the safe action is given; step faster, or raise the server's "
                "--action-valid-ms",
                stacklevel=3,
            )

    def _renew(self, action: Array, *, given: Array | None) -> Array:
        answer = self._session.answer
        self._valid_for_ms = self._valid_for_ms if answer is None else answer.valid_for_ms
        self._given = given
        return self.watchdog.renew(action, self._valid_for_ms)

    def _tells(self) -> "asyncio.Task[Array | None]":
        """Return what tells the server: what is under way, or failed since the last look; else it begins anew."""
        if self._telling is None or (self._telling.done() and not _failed(self._telling)):
            self._telling = asyncio.create_task(self._tell())
            self._telling.add_done_callback(_failed)  # if nobody asks any more, the error is no news
        return self._telling

    async def _tell(self) -> Array | None:
        """Tell what is untold, oldest first; the answer to the last one."""
        action = None
        while self._untold:
            told = self._untold[0]
            try:
                action = await self._session.act(
                    told.observation,
                    told.reward,
                    terminated=told.terminated,
                    truncated=told.truncated,
                    applied_action=told.applied_action,
                )
            except UNANSWERED as error:
                if not self._moves or (isinstance(error, ServerBusyError) and error.retry_after_s is None):
                    raise
                continue  # the same event again: the session sends it under its number
            except TrialOrderError:  # its episode is over there: all of them would be refused for ever
                self._untold.clear()
                self._over = True
                raise
            self._untold.popleft()
        return action


def _failed(telling: "asyncio.Task[Array | None]") -> bool:
    return not telling.cancelled() and telling.exception() is not None


class Pilot:
    """The pilot for blocking code; what holds of `AsyncPilot` holds here."""

    def __init__(
        self, session: Session, safe_action: ArrayLike | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not isinstance(session, Session):
            advice = "; drive that one with an AsyncPilot" if isinstance(session, AsyncSession) else ""
            raise ConfigError(
                f"session: expected one that client.open_session() gave, got {type(session).__name__}{advice}"
            )
        self._pilot = AsyncPilot(session._session, safe_action, clock)  # two halves of one client
        self._session = session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ServerError) if kind else nullcontext():  # the error that is under way matters more
            self.close()

    @property
    def watchdog(self) -> Watchdog:
        """Says what may be applied at any time, for a control loop of its own pace."""
        return self._pilot.watchdog

    @property
    def num_safe(self) -> int:
        """How often the safe action stood in for the server's."""
        return self._pilot.num_safe

    @property
    def agent(self) -> Agent:
        """What the server serves."""
        return self._session.agent

    @property
    def returns(self) -> tuple[float, ...]:
        """Return of every finished episode that the server was told of, in order."""
        return self._session.returns

    def begin_episode(self, observation: ArrayLike, *, leave_safe: bool = False, abandon: bool = False) -> Array:
        """Tell that the environment was reset; the first action, `[act]`."""
        return self._session._thread.run(self._pilot.begin_episode(observation, leave_safe=leave_safe, abandon=abandon))

    def act(
        self, observation: ArrayLike, reward: float, *, terminated: bool = False, truncated: bool = False
    ) -> Array | None:
        """Tell what the last action did; the next one `[act]`, or `None` once the episode is over."""
        return self._session._thread.run(
            self._pilot.act(observation, reward, terminated=terminated, truncated=truncated)
        )

    def close(self) -> None:
        """Stop telling; transitions that were not told are lost to the belief."""
        self._session._thread.run(self._pilot.close())
