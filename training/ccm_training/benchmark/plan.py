"""The paper's figures as data, and the runs that make up each."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from ccm_runtime.errors import ConfigError
from ccm_training.benchmark.budgets import BUDGETS, Amount, BudgetName
from ccm_training.benchmark.equal_steps import iterations_like
from ccm_training.config import Config, load_config
from ccm_training.methods import METHODS, MethodName

FigureName = Literal["figure3", "figure4", "asymptotes", "figure5", "figure6"]

VARIANTS: dict[str, tuple[str, ...]] = {
    "": (),
    "paper": ("policy.exploration_reward=paper",),
    "positive-only": ("policy.exploration_reward=positive-only",),
    "no-gain": ("policy.information_weight=0",),
    "long": (),
}
"""What a variant sets over its method; `long` has `LONGER` times the iterations instead."""

LONGER = 3


class Arm(NamedTuple):
    """What is compared.

    Attributes:
        method: What is trained.
        label: What tables and pictures call it.
        variant: Of the method; empty: the method as it is.
    """

    method: MethodName
    label: str
    variant: str = ""

    @property
    def name(self) -> str:
        """In the names of folders and files."""
        return f"{self.method}-{self.variant}" if self.variant else self.method

    @property
    def learns(self) -> bool:
        """Whether it learns to find out the task: such an arm is drawn as a curve, and compared."""
        return METHODS[self.method].learns and not METHODS[self.method].told


class Figure(NamedTuple):
    """One figure of the paper.

    Attributes:
        title: What it shows.
        families: One panel each.
        arms: One line each.
        against: Pairs of arms, by name: how probable is it that the first does better?
    """

    title: str
    families: tuple[str, ...]
    arms: tuple[Arm, ...]
    against: tuple[tuple[str, str], ...]


_ENDS = (Arm("oracle", "oracle"), Arm("random", "random actions"))

FIGURES: dict[FigureName, Figure] = {
    "figure3": Figure(
        "Encoder strategies, in and out of distribution (Fig. 3)",
        ("humanoid-dir", "cheetah-mass", "ant-mass", "cheetah-mass-ood", "cheetah-vel-ood"),
        (
            Arm("pearl-cl-dp", "CCM+DP"),
            Arm("pearl-cl", "CCM+RV"),
            Arm("pearl-dp", "DP"),
            Arm("pearl", "RV"),
            *_ENDS,
        ),
        (("pearl-cl", "pearl"), ("pearl-cl-dp", "pearl-dp"), ("pearl-cl-dp", "pearl-cl")),
    ),
    "figure4": Figure(
        "Overall adaptation on sparse families (Fig. 4)",
        ("sparse-point-robot", "hard-point-robot", "signpost-robot", "cheetah-sparse", "walker-sparse"),
        (
            Arm("ccm", "CCM"),
            Arm("pearl-cl", "PEARL-CL"),
            Arm("pearl", "PEARL"),
            Arm("varibad", "VariBAD"),
            Arm("rl2", "RL2"),
            Arm("maml", "MAML"),
            Arm("promp", "ProMP"),
            *_ENDS,
        ),
        (
            ("ccm", "pearl-cl"),
            ("ccm", "pearl"),
            ("pearl-cl", "pearl"),
            ("ccm", "varibad"),
            ("ccm", "rl2"),
            ("ccm", "maml"),
            ("ccm", "promp"),
            ("ccm", "oracle"),
        ),
    ),
    "asymptotes": Figure(
        f"What more training brings: {LONGER} times the environment steps",
        ("sparse-point-robot", "hard-point-robot"),
        (
            Arm("ccm", "CCM"),
            Arm("ccm", "CCM, long", "long"),
            Arm("varibad", "VariBAD, long", "long"),
            Arm("rl2", "RL2, long", "long"),
            Arm("maml", "MAML, long", "long"),
            Arm("promp", "ProMP, long", "long"),
            *_ENDS,
        ),
        (
            ("ccm-long", "ccm"),
            ("ccm-long", "varibad-long"),
            ("ccm-long", "rl2-long"),
            ("ccm-long", "maml-long"),
            ("ccm-long", "promp-long"),
            ("ccm", "rl2-long"),
        ),
    ),
    "figure5": Figure(
        "What the regularizer of the exploration reward does (Fig. 5)",
        ("sparse-point-robot", "hard-point-robot", "signpost-robot"),
        (
            Arm("ccm", "telescoping"),
            Arm("ccm", "paper", "paper"),
            Arm("ccm", "positive only", "positive-only"),
            Arm("ccm", "no information gain", "no-gain"),
        ),
        (("ccm", "ccm-paper"), ("ccm", "ccm-positive-only"), ("ccm", "ccm-no-gain")),
    ),
    "figure6": Figure(
        "Beliefs about ten held-out tasks (Fig. 6)",
        ("sparse-point-robot", "hard-point-robot"),
        (Arm("ccm", "CCM"), Arm("pearl-cl", "PEARL-CL"), Arm("pearl", "PEARL")),
        (),
    ),
}


@dataclass(frozen=True)
class Run:
    """One training that a figure needs."""

    budget: BudgetName
    family: str
    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """Of its folder and of its result."""
        return f"{self.family}-{self.arm.name}-{self.seed}"

    @property
    def amount(self) -> Amount:
        """What it may spend."""
        return BUDGETS[self.budget].families[self.family]

    @cached_property
    def config(self) -> Config:
        """Its settings."""
        return load_config(self.amount.preset, self._overrides, method=self.arm.method, seed=self.seed)

    def arguments(self, run_dir: Path | str) -> list[str]:
        """What to give `ccm` to train it."""
        device = BUDGETS[self.budget].device if METHODS[self.arm.method].learns else "cpu"
        words = ["train", "--config", self.amount.preset, "--method", self.arm.method, "--seed", str(self.seed)]
        words += ["--device", device, "--run-dir", str(run_dir)]
        return words + [word for override in self._overrides for word in ("--set", override)]

    def command(self, run_dir: Path | str) -> str:
        """What a person types to train it."""
        return shlex.join(["ccm", *self.arguments(run_dir)])

    @property
    def _overrides(self) -> list[str]:
        amount = self.amount
        settings = dict(amount.settings) | (dict(amount.oracle) if self.arm.method == "oracle" else {})
        family = [] if load_config(amount.preset).family == self.family else [f"family={self.family}"]
        if METHODS[self.arm.method].gradient:
            given = [*family, *_words(settings)]
            own, like = (load_config(amount.preset, given, method=method) for method in (self.arm.method, "ccm"))
            settings |= {"collect.iterations": iterations_like(own, like)}
        if self.arm.variant == "long":
            usual = settings.get("collect.iterations") or load_config(amount.preset).collect.iterations
            settings |= {"collect.iterations": LONGER * usual}
        return [*family, *_words(settings), *VARIANTS[self.arm.variant]]


def _words(settings: Mapping[str, int]) -> list[str]:
    """Settings as overrides."""
    return [f"{name}={value}" for name, value in settings.items()]


def runs_of(
    figure: FigureName,
    budget: BudgetName,
    *,
    families: list[str] | None = None,
    methods: list[str] | None = None,
    seeds: list[int] | None = None,
) -> list[Run]:
    """The runs that a figure needs: seed by seed, so that one that is stopped early has each method.

    Args:
        figure: Which.
        budget: What its runs may spend.
        families: Only these of the figure's.
        methods: Only these of its arms, by name.
        seeds: Instead of the budget's number of seeds, from 0 on.

    Raises:
        ConfigError: A family or a method that the figure does not have.
    """
    wanted = FIGURES[figure]
    arms = {arm.name: arm for arm in wanted.arms}
    chosen = [arms[name] for name in _chosen(figure, "--methods", methods, list(arms))]
    runs = []
    for family in _chosen(figure, "--families", families, list(wanted.families)):
        usual = range(BUDGETS[budget].families[family].seeds)
        runs += [Run(budget, family, arm, seed) for seed in seeds or usual for arm in chosen]
    return runs


def _chosen(figure: FigureName, flag: str, asked: list[str] | None, known: list[str]) -> list[str]:
    unknown = [name for name in asked or [] if name not in known]
    if unknown:
        raise ConfigError(f"{flag}: {figure} has no {unknown[0]!r}; it has: {', '.join(known)}")
    return asked or known
