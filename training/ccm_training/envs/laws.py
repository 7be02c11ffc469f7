"""What every family promises, as laws that can be checked: by `ccm check-family`, by a user's tests, and by ours.

@pytest.mark.parametrize("law", LAWS, ids=str)
def test_my_family_obeys(law):
    law.check(MyFamily())
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ccm_runtime.errors import CcmError, FamilyError
from ccm_training.envs.checked import check_specs, check_table
from ccm_training.envs.family import SPLITS, Family
from ccm_training.envs.finite import check_finite
from ccm_training.envs.scripted import Episodes, InNumpy, run_episode, script_of

_NUM = 4
_SHORT = 50  # steps, where a whole episode would not tell more
_SCRIPTS, _TASKS = 32, 8  # where the task must show: a sparse reward is seldom met
_BEYOND = 1e-4  # of a bound: float32


class Verdict(NamedTuple):
    """Whether a family obeys a law.

    Attributes:
        law: In words.
        holds: Whether it does.
        found: What speaks against it; empty where it holds.
    """

    law: str
    holds: bool
    found: str


@dataclass(frozen=True)
class Law:
    """A promise of every family.

    Attributes:
        words: What is promised.
        check: Raises `FamilyError` where a family breaks it.
    """

    words: str
    check: Callable[[Family], None]

    def __str__(self) -> str:
        return self.words


def judge(family: Family) -> list[Verdict]:
    """Check all laws; whatever the family raises speaks against it."""
    return [_judge(law, family) for law in LAWS]


def _judge(law: Law, family: Family) -> Verdict:
    try:
        law.check(family)
    except CcmError as error:
        return Verdict(law.words, holds=False, found=str(error))
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return Verdict(law.words, holds=False, found=f"{where}: {type(error).__name__}: {error}")
    return Verdict(law.words, holds=True, found="")


def specs_fit(family: Family) -> None:
    """Sizes, types and bounds are those that the specs name."""
    check_specs(family)
    tasks = family.sample_tasks("train", _NUM, 0)
    check_table("a table of tasks", tasks, (_NUM, family.task.size))
    features = family.task_features(tasks)
    check_table("task_features", features, (_NUM, features.shape[-1]))
    env = family.simulate(tasks, 0)
    _require(env.num_envs == _NUM, f"num_envs is {env.num_envs} for {_NUM} tasks")
    check_table("reset()", env.reset(), (_NUM, family.observation.size))
    after = env.step(script_of(family, _NUM, 1)[0])
    check_table("an observation", after.observation, (_NUM, family.observation.size))
    check_table("a reward", after.reward, (_NUM,))
    check_table("terminated", after.terminated, (_NUM,), "bool")


def bounds_hold(family: Family) -> None:
    """Observations stay within their spec, for tasks of every split."""
    low, high = family.observation.low_array, family.observation.high_array
    for split in SPLITS:
        tasks = family.sample_tasks(split, _NUM, 0)
        seen = run_episode(family.simulate(tasks, 0), script_of(family, _NUM, family.horizon))
        within = (seen.observations >= low - _BEYOND) & (seen.observations <= high + _BEYOND)
        within |= ~seen.lived[..., None]
        if not within.all():
            step, row, entry = np.argwhere(~within)[0]
            raise FamilyError(
                f"{family.observation.labels[entry]} is {seen.observations[step, row, entry]:g} at step {step} of task "
                f"{_told(tasks[row])}, outside [{low[entry]:g}, {high[entry]:g}]"
            )


def stays_finite(family: Family) -> None:
    """No action within the bounds makes an observation or a reward infinite or NaN."""
    tasks = family.sample_tasks("train", _NUM, 0)
    env = family.simulate(tasks, 0)
    check_finite(family.name, tasks, 0, observation=env.reset())
    over = np.zeros(_NUM, bool)
    for step, action in enumerate(script_of(family, _NUM, family.horizon), start=1):
        after = env.step(action)
        alive = ~over
        check_finite(family.name, tasks[alive], step, observation=after.observation[alive], reward=after.reward[alive])
        over |= after.terminated


def episodes_end_and_begin(family: Family) -> None:
    """An episode lasts to the horizon unless the task ends it, and a reset begins one more."""
    env = family.simulate(family.sample_tasks("train", _NUM, 0), 0)
    script = script_of(family, _NUM, family.horizon)
    for episode in (1, 2, 3):
        ended = run_episode(env, script).terminated
        _require(
            not ended[0].all() or family.horizon == 1,
            f"in episode {episode}, every simulation was over after one of {family.horizon} steps",
        )


def seeds_decide(family: Family) -> None:
    """Equal seeds give equal numbers, in every episode."""
    tasks, script = family.sample_tasks("train", _NUM, 0), script_of(family, _NUM, min(family.horizon, _SHORT))
    first, second = family.simulate(tasks, 3), family.simulate(tasks, 3)
    for episode in (1, 2):
        one, other = run_episode(first, script), run_episode(second, script)
        _same(one, other, f"two simulations with seed 3, episode {episode}")


def rows_are_alone(family: Family) -> None:
    """A simulation's numbers do not depend on the others beside it."""
    tasks, script = family.sample_tasks("train", _NUM, 0), script_of(family, _NUM, min(family.horizon, _SHORT))
    together = run_episode(family.simulate(tasks, 5), script)
    for row in range(_NUM):
        alone = run_episode(family.simulate(tasks[row : row + 1], 5 + row), script[:, row : row + 1])
        _same(
            together.only(row),
            alone,
            f"task {_told(tasks[row])}, as simulation {row} of {_NUM} and alone with its seed",
        )


def masks_are_obeyed(family: Family) -> None:
    """`reset(mask)` begins the masked episodes, and leaves the others as they are."""
    tasks, steps = family.sample_tasks("train", _NUM, 0), max(min(family.horizon, _SHORT) // 2, 1)
    script, mask = script_of(family, _NUM, 2 * steps), np.arange(_NUM) % 2 == 0
    some, all_, none = (family.simulate(tasks, 7) for _ in range(3))
    before = [run_episode(env, script[:steps]) for env in (some, all_, none)]
    over = before[0].terminated.any(0)
    last = np.array(none.step(script[steps]).observation)
    some.reset(mask)
    all_.reset()
    seen = np.array(some.step(script[steps]).observation)
    fresh = np.array(all_.step(script[steps]).observation)
    kept = ~mask & ~over
    _require(
        np.array_equal(seen[kept], last[kept]),
        "reset(mask) changed a simulation that was not masked",
    )
    _require(
        np.array_equal(seen[mask], fresh[mask]),
        "reset(mask) began other episodes in the masked simulations than a reset of all of them does",
    )


def tasks_matter(family: Family) -> None:
    """What varies changes the dynamics or the reward."""
    table = family.sample_tasks("train", _TASKS, 0)
    other = np.roll(table, 1, axis=0)
    env, twin = (family.simulate(np.tile(tasks, (_SCRIPTS, 1)), 11) for tasks in (table, other))
    if not np.array_equal(env.reset(), twin.reset()):
        return
    over = np.zeros(_SCRIPTS * _TASKS, bool)
    for action in script_of(family, len(over), family.horizon, hold=0.95):
        one, two = env.step(action), twin.step(action)
        alive = ~over
        if any(not np.array_equal(part[alive], same[alive]) for part, same in zip(one, two, strict=True)):
            return
        over |= one.terminated
    raise FamilyError(
        f"{_TASKS} tasks gave the same observations and rewards under the same {len(over)} series of actions and "
        "seeds; does the environment read its task?"
    )


def splits_are_disjoint(family: Family) -> None:
    """Train, test and ood tasks are disjoint, within their bounds, and functions of the seed."""
    num = 200
    drawn = {split: family.sample_tasks(split, num, 0) for split in SPLITS}
    seen: dict[tuple[float, ...], str] = {}
    for split, tasks in drawn.items():
        outside = ~((tasks >= family.task.low_array - _BEYOND) & (tasks <= family.task.high_array + _BEYOND)).all(1)
        _require(
            not outside.any(), f"a task of {split}, {_told(tasks[outside.argmax()])}, is outside the task's bounds"
        )
        rows = {tuple(row) for row in tasks.tolist()}
        for row in rows:
            _require(row not in seen, f"task {_told(row)} is in {seen.get(row)} and in {split}")
        seen |= dict.fromkeys(rows, split)
        again, others = family.sample_tasks(split, num, 0), family.sample_tasks(split, num, 1)
        _require(np.array_equal(tasks, again), f"two draws of {split} tasks with seed 0 differ")
        _require(not np.array_equal(tasks, others), f"{split} tasks are the same with seed 0 and seed 1")


def torch_agrees(family: Family) -> None:
    """The simulations in torch give the numbers of those in numpy."""
    import torch  # noqa: PLC0415  (the other laws need none)

    tasks, script = family.sample_tasks("train", _NUM, 0), script_of(family, _NUM, min(family.horizon, _SHORT))
    numpy = run_episode(family.simulate(tasks, 13), script)
    tensors = run_episode(InNumpy(family.make(torch.from_numpy(tasks), 13)), script)
    _same(numpy, tensors, "simulate and make", tolerance=1e-5)


def ceilings_hold(family: Family) -> None:
    """Where a ceiling is told, it is finite, and random actions do not pass it."""
    tasks = family.sample_tasks("test", _NUM, 0)
    ceiling = family.ceiling(tasks)
    if ceiling is None:
        return
    check_table("ceiling", ceiling, (_NUM,))
    returns = run_episode(family.simulate(tasks, 0), script_of(family, _NUM, family.horizon)).rewards.sum(0)
    _require(
        bool((returns <= ceiling + 1e-3 * np.abs(ceiling)).all()),
        f"random actions earned {np.round(returns, 2).tolist()}, above the ceilings {np.round(ceiling, 2).tolist()}",
    )


LAWS = (
    Law("sizes, types and bounds are those of the specs", specs_fit),
    Law("observations stay within their bounds", bounds_hold),
    Law("observations and rewards stay finite", stays_finite),
    Law("an episode lasts to the horizon or terminates, and a reset begins another", episodes_end_and_begin),
    Law("equal seeds give equal numbers", seeds_decide),
    Law("a simulation does not depend on those beside it", rows_are_alone),
    Law("reset(mask) touches the masked simulations alone", masks_are_obeyed),
    Law("the task changes the dynamics or the reward", tasks_matter),
    Law("train, test and ood tasks are disjoint, and functions of the seed", splits_are_disjoint),
    Law("numpy and torch simulations agree", torch_agrees),
    Law("no random episode passes the ceiling", ceilings_hold),
)


def _same(one: Episodes, other: Episodes, what: str, tolerance: float = 0.0) -> None:
    for name, left, right in zip(Episodes._fields, one, other, strict=True):
        close = np.isclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True)
        if not close.all():
            at = tuple(np.argwhere(~close)[0])
            raise FamilyError(f"{what}: {name} differ at step {at[0]}: {left[at]:g} and {right[at]:g}")


def _told(task: Any) -> str:
    return f"[{', '.join(f'{value:g}' for value in task)}]"


def _require(holds: bool, found: str) -> None:  # noqa: FBT001
    if not holds:
        raise FamilyError(found)
