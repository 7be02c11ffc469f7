"""How much a run may spend, as data: what each budget lays over a family's preset.

`cpu` is for two cores overnight, sparse families exactly as their presets say, those of MuJoCo with one seed; `gpu` for
half an hour on one H200 (reckoned from the sizes, and not run yet); `paper` for the environment steps at which we read
the paper's figures.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

BudgetName = Literal["cpu", "gpu", "paper"]


class Amount(NamedTuple):
    """What the runs of one family may spend.

    Attributes:
        preset: Whose settings these are laid over.
        settings: By dotted name.
        oracle: More of them for the oracle alone, which needs to find out nothing.
        seeds: How many runs of each method.
    """

    preset: str
    settings: Mapping[str, int] = {}
    oracle: Mapping[str, int] = {}
    seeds: int = 5


class Budget(NamedTuple):
    """What all runs may spend.

    Attributes:
        device: Where they are trained; `auto`: on a GPU where there is one.
        jobs: How many at a time on a GPU; `None`, and elsewhere: as many as there are cores.
        families: What those of each family may spend.
    """

    device: Literal["cpu", "cuda", "auto"]
    jobs: int | None
    families: Mapping[str, Amount]


def _amount(preset: str, *, seeds: int = 5, oracle: int | None = None, **settings: int) -> Amount:
    """Iterations, updates of each, tasks of each, and warm-up trials of each training task."""
    names = {
        "iterations": "collect.iterations",
        "updates": "updates_per_iteration",
        "tasks": "collect.tasks",
        "warmup": "collect.warmup_trials",
    }
    less = {} if oracle is None else {"collect.iterations": oracle}
    return Amount(preset, {names[name]: value for name, value in settings.items()}, less, seeds)


_LONG_EPISODES = ("cheetah-mass", "cheetah-mass-ood", "cheetah-vel-ood", "ant-mass", "humanoid-dir")

BUDGETS: dict[BudgetName, Budget] = {
    "cpu": Budget(
        "cpu",
        None,
        {
            "sparse-point-robot": _amount("sparse_point_robot", oracle=120),
            "hard-point-robot": _amount("hard_point_robot", oracle=120),
            "signpost-robot": _amount("signpost_robot"),
            "cheetah-sparse": _amount("cheetah_sparse", seeds=1),
            "walker-sparse": _amount("walker_sparse", seeds=1),
            **dict.fromkeys(_LONG_EPISODES, _amount("cheetah_mass", seeds=3, iterations=150)),
        },
    ),
    "gpu": Budget(
        "cuda",
        8,
        {
            "sparse-point-robot": _amount("sparse_point_robot", oracle=120),
            "hard-point-robot": _amount("hard_point_robot", oracle=120),
            "signpost-robot": _amount("signpost_robot"),
            "cheetah-sparse": _amount("cheetah_sparse", seeds=3, iterations=250, updates=100, tasks=60),
            "walker-sparse": _amount("walker_sparse", seeds=3, iterations=250, updates=100, tasks=60),
            **dict.fromkeys(_LONG_EPISODES, _amount("cheetah_mass", seeds=3, iterations=100, updates=100, tasks=25)),
        },
    ),
    "paper": Budget(
        "auto",
        4,
        {
            "sparse-point-robot": _amount("sparse_point_robot", iterations=240, updates=80, tasks=20, warmup=4),
            "hard-point-robot": _amount("hard_point_robot", iterations=100, updates=200, tasks=20, warmup=2),
            "signpost-robot": _amount("signpost_robot"),
            "cheetah-sparse": _amount("cheetah_sparse", iterations=110, updates=320, tasks=20, warmup=4),
            "walker-sparse": _amount("walker_sparse", iterations=87, updates=400, tasks=20, warmup=4),
            "cheetah-mass": _amount("cheetah_mass", iterations=230, updates=200, tasks=10, warmup=2),
            "cheetah-mass-ood": _amount("cheetah_mass", iterations=190, updates=200, tasks=10, warmup=2),
            "cheetah-vel-ood": _amount("cheetah_mass", iterations=137, updates=200, tasks=10, warmup=2),
            "ant-mass": _amount("cheetah_mass", iterations=200, updates=200, tasks=10, warmup=2),
            "humanoid-dir": _amount("cheetah_mass", iterations=125, updates=200, tasks=10, warmup=2),
        },
    ),
}

PAPER_STEPS = {
    "hard-point-robot": 420_000,
    "cheetah-sparse": 500_000,
    "walker-sparse": 410_000,
    "cheetah-mass": 1_000_000,
    "cheetah-mass-ood": 840_000,
    "cheetah-vel-ood": 630_000,
    "ant-mass": 880_000,
    "humanoid-dir": 580_000,
}
"""Environment steps at the right end of Figs. 3 and 4, as read off them; the budget `paper` spends these."""
