"""The methods by name: what each has, and what it sets over a preset. What differs between them is all here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

MethodName = Literal[
    "ccm", "pearl", "pearl-cl", "pearl-dp", "pearl-cl-dp", "rl2", "varibad", "maml", "promp", "oracle", "random"
]

_SAMPLES = {"latent": "sample", "while_executing": False}
"""PEARL's adaptation: one policy, on a sample of the belief that it holds for an episode."""

_REMEMBERS: Mapping[str, Mapping[str, Any]] = {
    "encoder": {"contrastive_weight": 0.0, "pretrain_updates": 0},
    "trial": {"latent": "mean", "while_executing": True},
}
"""A policy with a memory: it acts on all that it has seen, at every step. No contrast teaches it."""

_STEPS: Mapping[str, Mapping[str, Any]] = {
    "collect": {"tasks": 40, "warmup_trials": 1},
    "trial": {"latent": "mean", "while_executing": False, "certain_at": None},
}
"""A gradient step after exploration, and none later. The warm-up is of no use to it."""


ON_POLICY_GROUPS = ("on_policy", "variational", "gradient")
"""Groups of settings that some on-policy methods read, and no other method does."""

_OF_EXPLORERS = ("explorer_rows", "own_rows", "early_contexts", "information_weight", "exploration_reward")
_OF_ENCODERS = ("contrastive_weight", "divergence_weight", "prediction_weight", "value_weight")


@dataclass(frozen=True)
class Method:
    """One way to act on a task.

    Attributes:
        explorer: It explores with a policy of its own, paid for information; else with the executor.
        encoder: It learns what the task is from a context.
        told: It is told the task.
        on_policy: It learns from fresh trials of its own policy alone; `onpolicy/registry.py` says how.
        groups: Which of `ON_POLICY_GROUPS` it reads.
        settings: Laid over the preset's, by group; `--set` still wins.
    """

    explorer: bool = False
    encoder: bool = True
    told: bool = False
    on_policy: bool = False
    groups: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def learns(self) -> bool:
        """Whether there is anything to train."""
        return self.encoder or self.told or self.on_policy

    @property
    def unread(self) -> tuple[str, ...]:
        """Beginnings of the names of settings that it does not read: what they say changes nothing."""
        groups = [f"{group}." for group in ON_POLICY_GROUPS if group not in self.groups]
        explorers = [] if self.explorer else [f"policy.{name}" for name in _OF_EXPLORERS]
        encoders = [] if self.encoder else [f"encoder.{name}" for name in _OF_ENCODERS]
        return (*groups, *explorers, *encoders)

    @property
    def gradient(self) -> bool:
        """Whether it adapts by a gradient step: by learning on the spot, where the others only look."""
        return self.on_policy and not self.encoder


METHODS: dict[MethodName, Method] = {
    "ccm": Method(explorer=True),
    "pearl": Method(
        settings={
            "encoder": {"contrastive_weight": 0.0, "value_weight": 1.0, "pretrain_updates": 0},
            "trial": _SAMPLES,
        }
    ),
    "pearl-cl": Method(settings={"trial": _SAMPLES}),
    "pearl-dp": Method(
        settings={
            "encoder": {
                "contrastive_weight": 0.0,
                "value_weight": 0.0,
                "prediction_weight": 1.0,
                "pretrain_updates": 0,
            },
            "trial": _SAMPLES,
        }
    ),
    "pearl-cl-dp": Method(settings={"encoder": {"value_weight": 0.0, "prediction_weight": 1.0}, "trial": _SAMPLES}),
    "rl2": Method(on_policy=True, groups=("on_policy",), settings=_REMEMBERS),
    "varibad": Method(
        on_policy=True, groups=("on_policy", "variational"), settings={**_REMEMBERS, "on_policy": {"minibatches": 8}}
    ),
    "maml": Method(encoder=False, on_policy=True, groups=("gradient",), settings=_STEPS),
    "promp": Method(encoder=False, on_policy=True, groups=("gradient",), settings=_STEPS),
    "oracle": Method(encoder=False, told=True),
    "random": Method(encoder=False),
}
"""`pearl`: the critic's loss alone teaches the encoder (the paper's RV). `pearl-cl`: CCM without its explorer, or PEARL
with contrast (CCM+RV). `pearl-dp`: prediction alone (DP). `pearl-cl-dp`: contrast and prediction (CCM+DP). `rl2`: a
recurrent policy, which learns by PPO what to remember. `varibad`: one whose memory learns to predict rewards. `maml`,
`promp`: a policy from which one policy-gradient step leads to each task's own."""

ADAPTIVE: tuple[MethodName, ...] = tuple(name for name in get_args(MethodName) if METHODS[name].encoder)
"""Methods that adapt by context, and can thus be exported."""
