"""Adaptation with no session: transitions to a context, and a context to an action."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from ccm_runtime.adapt import Adapter
from ccm_runtime.belief import Array, Folded, Transitions, certainty
from ccm_runtime.errors import SpecError
from ccm_runtime.guard import Guarded
from ccm_runtime.messages import Acted, Context, Encoded, Intervention
from ccm_runtime.specs import finite_vector
from ccm_runtime.trial import Phase
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.wire import phase_from_proto

T = TypeVar("T")
MAX_TRANSITIONS = 10_000
_CHUNK = 256


class Run(Protocol):
    """Runs a job with the networks where it does not keep sessions waiting."""

    async def __call__(self, job: Callable[[], T], /) -> T:
        """Return what the job returns."""


async def encode(
    adapter: Adapter, digest: str, belief: Array | None, transitions: Sequence[pb.EncodedTransition], run: Run
) -> Encoded:
    """Fold transitions into a belief, a chunk at a time so that sessions are served in between.

    Args:
        adapter: The agent.
        digest: Of its bundle.
        belief: Where to start, `[belief]`, checked; `None`: from nothing.
        transitions: In the order in which they happened, at most `MAX_TRANSITIONS`.
        run: Runs the networks.

    Raises:
        SpecError: There are too many, one does not fit, or the result is not finite.
    """
    if len(transitions) > MAX_TRANSITIONS:
        raise SpecError(
            f"transitions: expected at most {MAX_TRANSITIONS}, got {len(transitions)}; encode them in parts"
        )
    start = adapter.initial_belief() if belief is None else belief
    folded = await run(lambda: _read(adapter, start))
    for begin in range(0, len(transitions), _CHUNK):
        chunk = _chunk(adapter, transitions[begin : begin + _CHUNK], begin)
        folded = await run(partial(adapter.policy.fold, folded.belief, chunk))
        if not all(np.isfinite(part).all() for part in (folded.belief, folded.latent_mean, folded.latent_std)):
            raise SpecError("transitions: the belief after them is not finite; their values are far too large")
        await asyncio.sleep(0)
    return Encoded(
        context=Context(digest, folded.belief[0]),
        latent_mean=folded.latent_mean[0],
        latent_std=folded.latent_std[0],
        certainty=float(certainty(folded.latent_std)[0]),
        novelty=adapter.distance(folded.latent_mean[0]),
    )


def _read(adapter: Adapter, belief: Array) -> Folded:
    mean, std = adapter.read(belief)
    return Folded(belief[None], mean[None], std[None])


class Asked(NamedTuple):
    """What an action is asked for with.

    Attributes:
        belief: What is known, `[belief]`; `None`: nothing.
        observation: As the policies see it, `[input]`.
        noise: `[act]`.
        explores: Whether it is the explorer's action; else the executor's.
        previous: The command before, `[act]`; `None`: there was none, or it is unknown.
    """

    belief: Array | None
    observation: Array
    noise: Array
    explores: bool
    previous: Array | None


def asked(adapter: Adapter, belief: Array | None, request: pb.ActRequest) -> Asked:
    """Return what a request asks, without the networks; `belief` is of the right size.

    Raises:
        SpecError: The observation, noise, phase or previous action does not fit.
    """
    does = adapter.policy.action
    phase = phase_from_proto(request.phase) if request.phase else Phase.EXECUTE
    if phase not in {Phase.EXPLORE, Phase.EXECUTE}:
        raise SpecError("phase: expected PHASE_EXPLORE or PHASE_EXECUTE")
    before = request.previous_action
    return Asked(
        belief=belief,
        observation=_input(adapter, "observation", request.observation),
        noise=_noise(request.noise, does.size),
        explores=phase is Phase.EXPLORE,
        previous=finite_vector("previous_action", before, does.size) if before else None,
    )


async def act(adapter: Adapter, asked: Asked, run: Run, deadline_s: float | None) -> Acted:
    """Return the action that is asked for or, once the deadline has passed, the fallback.

    Args:
        adapter: The agent.
        asked: What is asked for.
        run: Runs the networks, without keeping the event loop if there is a deadline.
        deadline_s: From now; `None`: the action takes as long as the networks do.

    Raises:
        SpecError: The belief cannot be read.
    """
    limit = asyncio.timeout(deadline_s)
    try:
        async with limit:
            return await run(lambda: _act(adapter, asked))
    except TimeoutError:
        if not limit.expired():  # it is the networks' own
            raise
    low = adapter.guard.low
    return _acted(adapter.guard.check(low, asked.previous, None, unusable=Intervention.LATE), 0.0, 0.0)


def _act(adapter: Adapter, asked: Asked) -> Acted:
    policy, observation, noise = adapter.policy, asked.observation[None], asked.noise[None]
    known = adapter.initial_belief() if asked.belief is None else adapter.check_belief(asked.belief)
    mean, std = adapter.read(known)
    if asked.explores and policy.adaptation.explore_with == "belief":
        action = policy.explore(observation, known[None], noise)
    else:
        action = policy.execute(observation, mean[None], noise)
    guarded = adapter.guard.check(action[0], asked.previous, None)
    return _acted(guarded, float(certainty(std[None])[0]), adapter.distance(mean))


def _acted(guarded: Guarded, certain: float, novel: float) -> Acted:
    return Acted(guarded.action, certain, novel, guarded.interventions)


def _noise(noise: Sequence[float], size: int) -> Array:
    return finite_vector("noise", noise, size) if noise else np.zeros(size, np.float32)


def _input(adapter: Adapter, name: str, values: Sequence[float]) -> Array:
    """Return an observation as the policies see it, `[input]`."""
    if adapter.policy.adaptation.observe_reward:
        return finite_vector(f"{name} (with the previous reward)", values, adapter.input_size)
    return adapter.policy.observation.validate_array(list(values))


def _chunk(adapter: Adapter, messages: Sequence[pb.EncodedTransition], begin: int) -> Transitions:
    """Return validated transitions as one row, `[1, t, .]`."""
    does = adapter.policy.action
    rows = []
    for index, message in enumerate(messages, begin):
        try:
            if not np.isfinite(message.reward):
                raise SpecError(f"reward is {message.reward}; it must be finite")  # noqa: TRY301 (named below)
            before = _input(adapter, "observation", message.observation)
            after = _input(adapter, "next_observation", message.next_observation)
            rows.append((before, does.validate_array(list(message.action)), message.reward, after))
        except SpecError as error:
            raise SpecError(f"transition {index}: {error}") from None
    before, action, reward, after = (np.array(column, np.float32)[None] for column in zip(*rows, strict=True))
    valid = np.ones((1, len(rows), 1), np.float32)
    return Transitions(before, action, reward[..., None], after, valid)
