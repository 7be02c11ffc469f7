"""The client for blocking code. It runs the asyncio client on a thread of its own: measured, that is faster.

with Client("127.0.0.1:7070") as client, client.open_session(seed=7) as session:
    action = session.begin_episode(observation)
    while not session.episode_over:
        observation, reward, terminated, truncated, _ = env.step(action)
        action = session.act(observation, reward, terminated=terminated, truncated=truncated)
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from numpy.typing import ArrayLike

from ccm_runtime.async_client import AsyncClient, encode_request
from ccm_runtime.async_session import FAREWELL_S, AsyncSession
from ccm_runtime.belief import Array
from ccm_runtime.connection import CLOSED
from ccm_runtime.errors import ServerError
from ccm_runtime.messages import Acted, Agent, Context, Encoded, EncodedTransition, SessionClosed
from ccm_runtime.progress import SessionView
from ccm_runtime.specs import BoxSpec
from ccm_runtime.ticket import Ticket
from ccm_runtime.trial import Phase

__all__ = ["AsyncClient", "AsyncSession", "Client", "Session", "Ticket"]

T = TypeVar("T")


class _LoopThread:
    """An event loop on a thread of its own; blocking code runs coroutines on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stopping = False
        # Nothing begins once it is stopping; a signal's handler may stop it in mid-call, on the very same thread.
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ccm-client", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end; an interrupt of the caller cancels it."""
        with self._lock:
            if self._stopping:
                raise _closed(coroutine)
            if not self._thread.is_alive():
                coroutine.close()
                raise ServerError("the client belongs to the process that made it; make one in each process")
            try:
                future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            except RuntimeError:  # the loop is closed
                raise _closed(coroutine) from None
        try:
            return future.result()
        except CancelledError:
            raise ServerError("the client was closed before its call was answered") from None
        except BaseException:
            future.cancel()
            raise
        finally:
            del future  # or it and its error would hold each other, with the channel, until the garbage collector comes

    def stop(self, farewell: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the last coroutine and stop the thread, once; what others still run on it ends too."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        if not self._thread.is_alive():  # another process's: threads are not inherited
            return
        try:
            asyncio.run_coroutine_threadsafe(_end(farewell), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def _closed(unmade: Coroutine[Any, Any, Any]) -> ServerError:
    unmade.close()
    return ServerError(CLOSED)


async def _end(farewell: Callable[[], Coroutine[Any, Any, None]]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await farewell()
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=FAREWELL_S)


class Client:
    """A client of one server, for blocking code; safe to share between threads.

    It takes what `AsyncClient` takes, and raises what that raises.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 10.0,
        connect_timeout_s: float = 5.0,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._client = AsyncClient(
            target,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            token=token,
            credentials=credentials,
        )
        self._thread = _LoopThread()

    def __enter__(self) -> Self:
        try:
            self._thread.run(self._client.__aenter__())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; sessions that are still open stay with the server until they are idle for too long."""
        self._thread.stop(self._client.close)

    def describe(self, agent: str = "") -> Agent:
        """What is served; see `AsyncClient.describe`."""
        return self._thread.run(self._client.describe(agent))

    def agents(self) -> tuple[Agent, ...]:
        """All that is served, the default one first."""
        return self._thread.run(self._client.agents())

    def open_session(
        self,
        *,
        seed: int = 0,
        stochastic: bool = False,
        explore_episodes: int | None = None,
        context: Context | None = None,
        expected_family: str = "",
        expected_bundle_digest: str = "",
        expected_observation: BoxSpec | None = None,
        expected_action: BoxSpec | None = None,
        re_explore: bool = False,
        agent: str = "",
    ) -> "Session":
        """Open a trial; see `AsyncClient.open_session`."""
        session = self._client.open_session(
            seed=seed,
            stochastic=stochastic,
            explore_episodes=explore_episodes,
            context=context,
            expected_family=expected_family,
            expected_bundle_digest=expected_bundle_digest,
            expected_observation=expected_observation,
            expected_action=expected_action,
            re_explore=re_explore,
            agent=agent,
        )
        self._thread.run(session.open())
        return Session(session, self._thread)

    def resume_session(
        self,
        ticket: Ticket,
        *,
        expected_family: str = "",
        expected_bundle_digest: str = "",
        expected_observation: BoxSpec | None = None,
        expected_action: BoxSpec | None = None,
    ) -> "Session":
        """Take the session of a ticket over, where it is now; see `AsyncClient.resume_session`."""
        session = self._client.resume_session(
            ticket,
            expected_family=expected_family,
            expected_bundle_digest=expected_bundle_digest,
            expected_observation=expected_observation,
            expected_action=expected_action,
        )
        self._thread.run(session.open())
        return Session(session, self._thread)

    def encode(
        self, transitions: Iterable[EncodedTransition], context: Context | None = None, *, agent: str = ""
    ) -> Encoded:
        """Fold transitions into a context, without a session; see `AsyncClient.encode`."""
        # By this thread: others do not wait for one that reads and writes for long.
        request = encode_request(transitions, context, agent)
        return self._thread.run(self._client._encode(request))  # two halves of one client

    def act(
        self,
        context: Context | None,
        observation: ArrayLike,
        *,
        phase: Phase = Phase.EXECUTE,
        noise: ArrayLike = (),
        previous_action: ArrayLike = (),
        agent: str = "",
    ) -> Acted:
        """An action given a context, without a session; see `AsyncClient.act`."""
        return self._thread.run(
            self._client.act(
                context, observation, phase=phase, noise=noise, previous_action=previous_action, agent=agent
            )
        )


class Session(SessionView):
    """One trial on one task, for blocking code; what holds of `AsyncSession` holds here."""

    def __init__(self, session: AsyncSession, thread: _LoopThread) -> None:
        super().__init__(session._progress, session._explore_episodes)  # two halves of one client
        self._session = session
        self._thread = thread

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ServerError) if kind else nullcontext():  # the error that is under way matters more
            self._thread.run(self._session.__aexit__(kind, error, trace))

    def begin_episode(self, observation: ArrayLike, *, leave_safe: bool = False, abandon: bool = False) -> Array:
        """Tell that the environment was reset; the first action, `[act]`."""
        return self._thread.run(self._session.begin_episode(observation, leave_safe=leave_safe, abandon=abandon))

    def act(
        self,
        observation: ArrayLike,
        reward: float,
        *,
        terminated: bool = False,
        truncated: bool = False,
        applied_action: ArrayLike | None = None,
    ) -> Array | None:
        """Tell what the last action did; the next action `[act]`, or `None` once the episode is over."""
        return self._thread.run(
            self._session.act(
                observation, reward, terminated=terminated, truncated=truncated, applied_action=applied_action
            )
        )

    def close(self) -> SessionClosed:
        """End the trial: the server's own count of the returns, and the context that it ended with."""
        return self._thread.run(self._session.close())
