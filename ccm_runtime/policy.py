"""The one protocol that every agent follows, torch or ONNX: explore, fold, execute."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ccm_runtime.belief import Array, Folded, Transitions
from ccm_runtime.manifest import Adaptation, BeliefSpec
from ccm_runtime.specs import BoxSpec


class Policy(Protocol):
    """Batched, stateless inference; the leading dimension `n` is the session or the simulated task.

    Where `adaptation.observe_reward` is set, the observations of `explore`, `execute` and `fold` have the reward of the
    step before as one more entry.
    """

    @property
    def observation(self) -> BoxSpec:
        """What it sees."""

    @property
    def action(self) -> BoxSpec:
        """What it does, in environment units."""

    @property
    def belief(self) -> BeliefSpec:
        """What it remembers."""

    @property
    def adaptation(self) -> Adaptation:
        """How its trials run."""

    def explore(self, observation: Array, belief: Array, noise: Array) -> Array:
        """Action of the explorer, `[n, act]`; zero noise is deterministic."""

    def execute(self, observation: Array, latent: Array, noise: Array) -> Array:
        """Action of the executor, `[n, act]`; zero noise is deterministic."""

    def fold(self, belief: Array, transitions: Transitions) -> Folded:
        """Belief `[n, belief]` after the transitions, and what it says of the task."""


@runtime_checkable
class OnDevice(Protocol):
    """A policy whose networks run on a device that may fail under them (`inference.OnnxPolicy`).

    Attributes:
        device: Where they truly run, `cpu` or `cuda`; `lost`: nowhere any more.
        failure: Why the device that they began on failed, in one line; empty: it has not.
        on_failure: Called once when it does, on whatever thread the networks ran.
    """

    device: str
    failure: str
    on_failure: Callable[[], None]
