"""The asyncio client: opens sessions, and makes calls that need none."""

import random
import secrets
from collections.abc import Iterable
from typing import Self

import grpc
from numpy.typing import ArrayLike

from ccm_runtime import wire
from ccm_runtime.arguments import check_context, check_phase, check_text, check_ticket, check_transitions
from ccm_runtime.async_session import AsyncSession
from ccm_runtime.connection import Connection
from ccm_runtime.expected import expected_of
from ccm_runtime.messages import Acted, Agent, Context, Encoded, EncodedTransition, SessionOptions
from ccm_runtime.specs import BoxSpec, as_flag, as_vector
from ccm_runtime.ticket import Ticket
from ccm_runtime.trial import Phase
from ccm_runtime.v1 import adaptation_pb2 as pb

__all__ = ["AsyncClient", "AsyncSession"]


def encode_request(transitions: Iterable[EncodedTransition], context: Context | None, agent: str) -> pb.EncodeRequest:
    """Return what `AsyncClient.encode` sends, checked; of many transitions this takes long. Raises as that does."""
    return wire.encode_request(check_context(context), check_transitions(transitions), check_text("agent", agent))


class AsyncClient:
    """A client of one server; belongs to one event loop. For blocking code there is `Client`.

    Args:
        target: `HOST:PORT` of a `ccm serve`; of several that share their sessions, a name with all of their addresses
            (`dns:///NAME:PORT`), or these (`ipv4:HOST:PORT,HOST:PORT`): where one is lost, the next goes on.
        timeout_s: Longest time of any call, reconnects included.
        connect_timeout_s: Longest time until the first connection stands.
        token: Bearer token, where the server asks for one.
        credentials: TLS credentials; `None`: plain text.

    Every call raises errors of `ccm_runtime.errors` only: `ServerUnreachableError` when nobody answers,
    `DeadlineError` when no answer comes in time, and whatever the server refuses the call with.
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
        self._connection = Connection(
            target,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            token=token,
            credentials=credentials,
            rng=random.Random(secrets.randbits(64)),  # noqa: S311  # spreads clients out; no secret
        )

    async def __aenter__(self) -> Self:
        await self._connection.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; sessions that are still open stay with the server until they are idle for too long."""
        await self._connection.close()

    async def describe(self, agent: str = "") -> Agent:
        """What is served: specs, K, N, T, sizes, digests; of the agent of that name, or else the default one."""
        request = pb.DescribeAgentRequest(agent=check_text("agent", agent))
        response = await self._connection.call("DescribeAgent", request)
        return wire.agent_from_proto(response.agent)

    async def agents(self) -> tuple[Agent, ...]:
        """All that is served, the default one first; an older server has one."""
        response = await self._connection.call("DescribeAgent", pb.DescribeAgentRequest())
        return tuple(map(wire.agent_from_proto, response.agents or (response.agent,)))

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
    ) -> AsyncSession:
        """A trial, to be opened by `async with` or `await`: `session = await client.open_session()`.

        Args:
            seed: Seed of the session's own noise.
            stochastic: Sample actions instead of taking the deterministic ones.
            explore_episodes: Instead of the agent's K; 0 executes at once.
            context: Begin knowing this instead of nothing.
            expected_family: Refuse a server whose agent is of another family.
            expected_bundle_digest: Refuse a server that serves another bundle.
            expected_observation: Refuse one whose observations have another size, order, units or bounds.
            expected_action: The same of actions.
            re_explore: Explore anew when an episode shows that the task has changed.
            agent: Name of the agent, where the server has several; empty: its default one.

        Raises:
            ConfigError: A number, a text or a spec that cannot be.
            SpecError: A context or a choice that cannot be.
        """
        expected = expected_of(expected_family, expected_bundle_digest, expected_observation, expected_action)
        options = SessionOptions(
            seed=seed,
            stochastic=as_flag("stochastic", stochastic),
            explore_episodes=explore_episodes,
            context=check_context(context),
            expected_family=expected.family,
            expected_bundle_digest=expected.bundle_digest,
            re_explore=as_flag("re_explore", re_explore),
            agent=check_text("agent", agent),
            idempotency_key=secrets.token_hex(16),
        )
        return AsyncSession(self._connection, options, expected)

    def resume_session(
        self,
        ticket: Ticket,
        *,
        expected_family: str = "",
        expected_bundle_digest: str = "",
        expected_observation: BoxSpec | None = None,
        expected_action: BoxSpec | None = None,
    ) -> AsyncSession:
        """The session of a ticket, where it is now, to be taken over by `async with` or `await`.

        Nobody else can drive it from then on: whoever had it is refused with SessionTakenError. It may be in
        mid-episode, unless its `episode_over`.

        Args:
            ticket: A session's `ticket`.
            expected_family: Refuse a session whose agent is of another family; it is not closed.
            expected_bundle_digest: Refuse one of another bundle.
            expected_observation: Refuse one whose observations have another size, order, units or bounds.
            expected_action: The same of actions.

        Raises:
            ConfigError: It is no ticket, or a text or a spec that cannot be.
        """
        expected = expected_of(expected_family, expected_bundle_digest, expected_observation, expected_action)
        return AsyncSession(self._connection, SessionOptions(), expected, check_ticket(ticket))

    async def encode(
        self, transitions: Iterable[EncodedTransition], context: Context | None = None, *, agent: str = ""
    ) -> Encoded:
        """Fold transitions into a context, without a session.

        The event loop waits while they are checked and written, a tenth of a second for 10,000; `Client` does that on
        the thread of its caller.

        Args:
            transitions: In the order in which they happened (any, where beliefs are sums); at most 10,000.
            context: Where to start; `None`: knowing nothing.
            agent: Name of the agent, where the server has several; empty: the context's, or its default one.

        Raises:
            SpecError: Transitions or a context that cannot be.
        """
        return await self._encode(encode_request(transitions, context, agent))

    async def _encode(self, request: pb.EncodeRequest) -> Encoded:
        return wire.encoded_from_proto(await self._connection.call("Encode", request))

    async def act(
        self,
        context: Context | None,
        observation: ArrayLike,
        *,
        phase: Phase = Phase.EXECUTE,
        noise: ArrayLike = (),
        previous_action: ArrayLike = (),
        agent: str = "",
    ) -> Acted:
        """An action given a context, without a session.

        Args:
            context: What is known of the task; `None`: nothing.
            observation: `[obs]`.
            phase: Whose action, the explorer's or the executor's.
            noise: Standard-normal, `[act]`; empty: the deterministic action.
            previous_action: The command before in this episode, `[act]`: what `hold` holds, and what rates are limited
                against; empty: none.
            agent: Name of the agent, where the server has several; empty: the context's, or its default one.

        Raises:
            SpecError: A context, a vector or a phase that cannot be.
        """
        request = wire.act_request(
            check_context(context),
            as_vector("observation", observation),
            check_phase(phase),
            as_vector("noise", noise),
            agent=check_text("agent", agent),
            previous_action=as_vector("previous_action", previous_action),
        )
        return wire.acted_from_proto(await self._connection.call("Act", request))
