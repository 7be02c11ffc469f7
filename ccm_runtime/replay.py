"""Take a recorded session again, event by event, with a bundle: does it act as it did, or how would another one act?

Every event is taken with the action that was truly applied before it, so that one difference does not become many. What
was taken without the networks is taken without them again, by a belief that lags as far behind as it did.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ccm_runtime.adapt import Adapter
from ccm_runtime.errors import CcmError, ContextMismatchError
from ccm_runtime.memory import Memory
from ccm_runtime.messages import Answer, BeginEpisode, Event, Intervention, Transition
from ccm_runtime.owed import catch_up
from ccm_runtime.recording import Recording

# What an action may differ by, of its range: a batch of many sessions is summed in another order than one alone.
ROUNDING = 1e-4
_UNUSABLE = (Intervention.LATE, Intervention.SAFE)


@dataclass(frozen=True, slots=True)
class EpisodeDifference:
    """One episode: its number, its actions, and their mean difference from the recorded ones, of the action's range."""

    episode: int
    num_actions: int
    mean_difference: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a replay came to.

    Attributes:
        same_bundle: Whether the bundle is the one that answered.
        num_events: Events that were taken again.
        num_actions: Actions among their answers.
        bit_for_bit: Whether every action is the very same.
        first_difference: Number of the first event whose action differs by more than rounding; `None`: there is none.
        largest_difference: Of any entry of any action, as a share of its range.
        episodes: Difference episode by episode.
        stopped: Why the replay ended before the recording did; empty: it did not.
    """

    same_bundle: bool
    num_events: int
    num_actions: int
    bit_for_bit: bool
    first_difference: int | None
    largest_difference: float
    episodes: tuple[EpisodeDifference, ...]
    stopped: str = ""

    @property
    def equal(self) -> bool:
        """Whether it acted as it did, up to rounding."""
        return self.first_difference is None and not self.stopped


def compare(recording: Recording, adapter: Adapter, bundle_digest: str) -> Comparison:
    """Take the events of a recording again.

    Args:
        recording: What was recorded.
        adapter: The agent that takes them; the same one, or another of the same shape.
        bundle_digest: Of its bundle.

    Raises:
        ContextMismatchError: Its observations or actions have other sizes than the recorded ones.
    """
    same = bundle_digest == recording.bundle_digest
    memory = recording.memory if same else _begun_with(adapter, recording)
    span = adapter.policy.action.high_array.astype(np.float64) - adapter.policy.action.low_array
    span = np.where(np.isfinite(span), span, 1.0)
    differences: list[tuple[int, int, float]] = []  # event, episode, largest entry
    mean_of: dict[int, list[float]] = {}
    exact, stopped, taken = True, "", 0
    for event, answer in _applied(recording):
        try:
            memory, action = _take(adapter, memory, event, answer, recording.fell_back.get(answer.sequence))
        except CcmError as error:
            stopped = f"event {answer.sequence} cannot be taken: {error}"
            break
        taken += 1
        told = answer.reaction.action
        if (action is None) != (told is None):
            stopped = f"event {answer.sequence} ends an episode in one of the two alone"
            break
        if action is None or told is None:
            continue
        exact = exact and action.tobytes() == told.tobytes()
        off = np.abs(action.astype(np.float64) - told) / span
        differences.append((answer.sequence, answer.reaction.episode, float(off.max(initial=0.0))))
        mean_of.setdefault(answer.reaction.episode, []).append(float(off.mean()))
    return Comparison(
        same_bundle=same,
        num_events=taken,
        num_actions=len(differences),
        bit_for_bit=exact and not stopped,
        first_difference=next((number for number, _, off in differences if off > ROUNDING), None),
        largest_difference=max((off for _, _, off in differences), default=0.0),
        episodes=tuple(EpisodeDifference(n, len(off), sum(off) / len(off)) for n, off in mean_of.items()),
        stopped=stopped,
    )


def _applied(recording: Recording) -> list[tuple[Event, Answer]]:
    """Return the steps, each transition with the action that was truly applied."""
    steps = list(recording.steps[:1])
    for (_, before), (event, answer) in pairwise(recording.steps):
        if isinstance(event, Transition) and event.applied_action is None:
            moved = (event.observation, event.reward, event.terminated, event.truncated, before.reaction.action)
            steps.append((Transition(*moved), answer))
        else:
            steps.append((event, answer))
    return steps


def _take(
    adapter: Adapter, memory: Memory, event: Event, answer: Answer, num_owed: int | None
) -> tuple[Memory, np.ndarray | None]:
    """Return the trial after an event, and its action; where the fallback stood in because of time, it does again.

    Args:
        adapter: The agent.
        memory: The trial before the event.
        event: With the action that was truly applied.
        answer: What it was answered.
        num_owed: Transitions that the trial owed, if the event was taken without the networks; `None`: they ran.
    """
    unusable = next((why for why in _UNUSABLE if why in answer.reaction.interventions), None)
    checked = adapter.check(memory, event)
    if num_owed is None:
        proposal = adapter.propose([memory], [checked])[0]
        after, reaction = adapter.conclude(proposal, unusable=unusable)
    else:
        lagging = catch_up(adapter.policy, memory, num_owed)
        after, reaction = adapter.fall_back(lagging, checked, unusable or Intervention.LATE)
    return after, reaction.action


def _begun_with(adapter: Adapter, recording: Recording) -> Memory:
    """Return the recorded trial as another agent begins it: knowing nothing."""
    recorded = recording.memory
    steps = (event for event, _ in recording.steps)
    sizes = {len(event.observation) for event in steps if isinstance(event, (BeginEpisode, Transition))}
    if sizes - {adapter.policy.observation.size} or len(recorded.observation) != adapter.input_size:
        raise ContextMismatchError(
            f"the recording has observations of {sorted(sizes)} entries ({len(recorded.observation)} to its policies), "
            f"this bundle's have {adapter.policy.observation.size} ({adapter.input_size}); name a bundle of its family"
        )
    begun = adapter.start(seed=recorded.seed, stochastic=recorded.stochastic)
    return recorded._replace(
        belief=begun.belief,
        latent_mean=begun.latent_mean,
        latent_std=begun.latent_std,
        latent=begun.latent,
        owed=(),
    )
