"""How fast simulations step and trials are collected, beside Gymnasium's environments in the same process.

    python benchmarks/simulation.py --out benchmarks/results/simulation --rounds 9

Only ratios mean much on a machine that is shared: every contestant is timed in slices A-B-B-A against its reference, in
an order that is shuffled every round. Two threads can only show what they are worth where both cores are free: a round
is undisturbed where every slice had 90 % of the cores that it could use. `results.json` holds medians and quartiles
over rounds, `table.md` shows them, and `--page` lays them beside the targets between the marks of a page.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from collection_one_by_one import OneByOne
from point_robot_one_by_one import PlainPointRobot
from provenance import how, keep

from ccm_runtime.machine import cpu_s
from ccm_runtime.manifest import Adaptation
from ccm_training.agent import Agent
from ccm_training.envs.bridge import TorchEnv
from ccm_training.envs.mujoco.family import MujocoFamily
from ccm_training.envs.mujoco.simulation import MujocoEnv
from ccm_training.envs.registry import get_family
from ccm_training.policy import AgentPolicy
from ccm_training.replay import Replay
from ccm_training.rollout import Noise, Wanderer, run_trials

TWINS = {
    "cheetah-mass": ("HalfCheetah-v5", {}),
    "walker-sparse": ("Walker2d-v5", {"terminate_when_unhealthy": False}),
    "ant-mass": ("Ant-v5", {"terminate_when_unhealthy": False, "include_cfrc_ext_in_observation": False}),
}
HORIZON, EPISODES = 32, 2  # of collected trials; longer ones change no ratio
EPISODE = 200  # steps, where only simulations are timed
UNDISTURBED = 0.9
MARKS = ("<!-- targets -->\n", "<!-- end of targets -->\n")
HIDDEN = (128, 128)
TARGETS = {
    "env steps, wall, 2 threads / gymnasium.make": dict.fromkeys(TWINS, 1.8),
    "env steps, wall, 2 threads / AsyncVectorEnv(2)": dict.fromkeys(TWINS, 4.0),
    "collection, CPU, 64 tasks, 1 thread / one by one": {"cheetah-mass": 5.0, "walker-sparse": 3.0, "ant-mass": 2.5},
    "point robots, CPU, 1,024 tasks / one by one": {"sparse-point-robot": 30.0, "hard-point-robot": 30.0},
}
HEADINGS = {
    "env steps": "Environment steps, random actions, episodes of 200 steps",
    "env steps, 2 processes": "The same against AsyncVectorEnv",
    "collection": "Collecting trials: policy, simulation, belief, replay",
    "point robots": "Point robots, 1,024 tasks, random actions",
}


@dataclass(frozen=True)
class Contestant:
    """Something that makes env steps.

    Attributes:
        name: What it is.
        advance: Makes some env steps and returns how many.
        cores: How many it keeps busy if it is given them; 0 where it also waits.
        processes: Its processes beside this one, whose CPU time counts too.
    """

    name: str
    advance: Callable[[], int]
    cores: int = 1
    processes: tuple[int, ...] = ()

    def cpu_s(self) -> float:
        """CPU time so far, in s."""
        return time.process_time() + sum(map(cpu_s, self.processes))

    def slice(self, length_s: float) -> tuple[float, float]:
        """Env steps per second of wall time and of CPU time, over at least `length_s` of it."""
        steps, began, began_cpu = 0, time.perf_counter(), self.cpu_s()
        while time.perf_counter() - began < length_s:
            steps += self.advance()
        return steps / (time.perf_counter() - began), steps / (self.cpu_s() - began_cpu)


def duel(reference: Contestant, others: list[Contestant], rounds: int, slice_s: float) -> list[dict[str, Any]]:
    """Rates and ratios of each contestant to the reference, which is timed just before and just after it."""
    rng = np.random.default_rng(0)
    cores = {contestant.name: contestant.cores for contestant in (reference, *others)}
    for contestant in (reference, *others):
        contestant.advance()  # compile, allocate, warm up
    found: dict[str, list[list[tuple[float, float]]]] = {other.name: [] for other in others}
    for _ in range(rounds):
        for index in rng.permutation(len(others)):
            order = (reference, others[index], others[index], reference)
            found[others[index].name].append([contestant.slice(slice_s) for contestant in order])
    rows = []
    for name, measured in found.items():
        rates = np.array(measured)  # [round, slice, (wall, cpu)]
        mine, theirs = rates[:, 1:3].mean(1), rates[:, [0, 3]].mean(1)
        had, could = (
            rates[..., 0] / rates[..., 1],
            np.array([cores[each] for each in (reference.name, name, name, reference.name)]),
        )
        quiet = (had >= UNDISTURBED * could).all(1)
        rows.append(
            {
                "name": name,
                "reference": reference.name,
                "steps_per_s": quartiles(mine[:, 0]),
                "steps_per_cpu_s": quartiles(mine[:, 1]),
                "reference_steps_per_s": quartiles(theirs[:, 0]),
                "reference_steps_per_cpu_s": quartiles(theirs[:, 1]),
                "cores": quartiles(mine[:, 0] / mine[:, 1]),
                "ratio_wall": quartiles(mine[:, 0] / theirs[:, 0]),
                "ratio_wall_undisturbed": quartiles((mine[:, 0] / theirs[:, 0])[quiet]) if quiet.any() else None,
                "rounds_undisturbed": int(quiet.sum()),
                "ratio_cpu": quartiles(mine[:, 1] / theirs[:, 1]),
            }
        )
        print(f"  {name}: {rows[-1]['ratio_wall'][1]:.2f} wall, {rows[-1]['ratio_cpu'][1]:.2f} CPU", flush=True)
    return rows


def quartiles(values: Any) -> list[float]:
    """Lower quartile, median and upper quartile."""
    return [float(f"{value:.4g}") for value in np.quantile(values, (0.25, 0.5, 0.75))]


def batched_steps(name: str, num: int, num_threads: int) -> Contestant:
    """Our simulations of `num` tasks under random actions."""
    family = mujoco_family(name)
    env = MujocoEnv(family, family.sample_tasks("train", num, 0), 0, num_threads)
    actions = np.random.default_rng(0).uniform(-1, 1, (64, num, family.action.size)).astype(np.float32)
    env.reset()
    done = 0

    def advance() -> int:
        nonlocal done
        env.step(actions[done % 64])
        done += 1
        if done % EPISODE == 0:
            env.reset()
        return num

    return Contestant(f"{num} tasks, {num_threads} thread{'s' * (num_threads > 1)}", advance, num_threads)


def single_steps(name: str) -> Contestant:
    """One environment of Gymnasium's."""
    env = gymnasium.make(TWINS[name][0], max_episode_steps=EPISODE, **TWINS[name][1])
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (64, *env.action_space.shape)).astype(np.float32)

    def advance() -> int:
        for action in actions:
            if env.step(action)[3]:
                env.reset()
        return len(actions)

    return Contestant("gymnasium.make", advance)


def vector_steps(name: str, num: int) -> Contestant:
    """`num` environments in processes of their own."""
    kind, settings = TWINS[name]
    one = lambda: gymnasium.make(kind, max_episode_steps=EPISODE, **settings)  # noqa: E731
    env = gymnasium.vector.AsyncVectorEnv([one] * num)
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (64, *env.action_space.shape)).astype(np.float32)
    done = 0

    def advance() -> int:
        nonlocal done
        env.step(actions[done % 64])
        done += 1
        return num

    return Contestant(f"AsyncVectorEnv({num})", advance, 0, tuple(process.pid for process in env.processes))


def an_agent(family: MujocoFamily) -> AgentPolicy:
    """An untrained agent of the usual size."""
    torch.manual_seed(0)
    agent = Agent(
        observations=family.observation.size,
        action_low=torch.from_numpy(family.action.low_array),
        action_high=torch.from_numpy(family.action.high_array),
        latent=8,
        hidden=HIDDEN,
        encoder_hidden=HIDDEN,
        temperature=0.1,
    )
    return AgentPolicy(agent, Adaptation(explore_episodes=1, episodes=EPISODES, horizon=HORIZON))


def noise_for(family: MujocoFamily, num: int) -> Noise:
    """The noise that training collects with."""
    generator = torch.Generator().manual_seed(0)
    low, high = (torch.from_numpy(bound) for bound in (family.action.low_array, family.action.high_array))
    wanderer = Wanderer(low, high, turn_probability=0.2, generator=generator)
    return Noise(num, wanderer, size=family.action.size, correlation=0.9, generator=generator)


def batched_trials(name: str, num: int, num_threads: int) -> Contestant:
    """Our trials of `num` tasks, from making the simulations to storing the transitions."""
    family = mujoco_family(name)
    policy, generator = an_agent(family), torch.Generator().manual_seed(0)
    tasks = family.sample_tasks("train", num, 0)
    sizes = {"observation": family.observation.size, "action": family.action.size}
    replay = Replay(tasks=num, capacity=4, episodes=EPISODES, horizon=HORIZON, device=torch.device("cpu"), **sizes)

    def advance() -> int:
        env = TorchEnv(MujocoEnv(family, tasks, 0, num_threads), torch.device("cpu"))
        trials = run_trials(env, policy, episodes=EPISODES, noise=noise_for(family, num), generator=generator)
        replay.add(torch.arange(num), trials.rows)
        return num * EPISODES * HORIZON

    return Contestant(
        f"{num} tasks, {num_threads} thread{'s' * (num_threads > 1)}", advance, 1 if num_threads == 1 else 0
    )


def single_trials(name: str) -> Contestant:
    """The same, one environment and one step at a time."""
    env = gymnasium.make(TWINS[name][0], max_episode_steps=EPISODE, **TWINS[name][1])
    family = mujoco_family(name)
    one = OneByOne(env, an_agent(family), noise_for(family, 1), episodes=EPISODES, horizon=HORIZON)
    return Contestant("one by one", one.trial)


def batched_points(name: str, num: int) -> Contestant:
    """Our point robots in torch."""
    family = get_family(name)
    env = family.make(torch.from_numpy(family.sample_tasks("train", num, 0)))
    actions = torch.from_numpy(np.random.default_rng(0).uniform(-0.1, 0.1, (32, num, 2)).astype(np.float32))

    def advance() -> int:
        env.reset()
        for action in actions[: family.horizon]:
            env.step(action)
        return num * family.horizon

    return Contestant(f"{num:,} tasks, 1 thread", advance)


def single_points(name: str) -> Contestant:
    """The same family as a Gymnasium user would write it."""
    family = get_family(name)
    goals = family.goals(family.sample_tasks("train", 64, 0)).astype(float)
    rng, robot = np.random.default_rng(0), PlainPointRobot(radius=family.radius, horizon=family.horizon)
    actions = rng.uniform(-0.1, 0.1, (family.horizon, 2))

    def advance() -> int:
        for goal in goals:
            robot.reset(goal)
            for action in actions:
                robot.step(action)
        return len(goals) * family.horizon

    return Contestant("one by one", advance)


def mujoco_family(name: str) -> MujocoFamily:
    """One of MuJoCo's families by name."""
    family = get_family(name)
    if not isinstance(family, MujocoFamily):
        raise TypeError(name)
    return family


def measure(rounds: int, slice_s: float) -> dict[str, dict[str, Any]]:
    """All duels, by subject and family."""
    found: dict[str, dict[str, Any]] = {subject: {} for subject in HEADINGS}
    for name in TWINS:
        print(name, flush=True)
        processes = [vector_steps(name, 2), vector_steps(name, 16)]
        ours = {(num, threads): batched_steps(name, num, threads) for num in (16, 64) for threads in (1, 2)}
        single = single_steps(name)
        found["env steps"][name] = duel(single, [*ours.values(), *processes], rounds, slice_s)
        found["env steps, 2 processes"][name] = duel(processes[0], [ours[16, 2], ours[64, 2]], rounds, slice_s)
        trials = [batched_trials(name, num, threads) for num in (16, 64) for threads in (1, 2)]
        found["collection"][name] = duel(single_trials(name), trials, rounds, slice_s)
    for name in TARGETS["point robots, CPU, 1,024 tasks / one by one"]:
        print(name, flush=True)
        found["point robots"][name] = duel(single_points(name), [batched_points(name, 1024)], rounds, slice_s)
    return found


def reached(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Each target with what was measured."""
    picks = {
        "env steps, wall, 2 threads / gymnasium.make": ("env steps", "64 tasks, 2 threads", "ratio_wall"),
        "env steps, wall, 2 threads / AsyncVectorEnv(2)": (
            "env steps, 2 processes",
            "64 tasks, 2 threads",
            "ratio_wall",
        ),
        "collection, CPU, 64 tasks, 1 thread / one by one": ("collection", "64 tasks, 1 thread", "ratio_cpu"),
        "point robots, CPU, 1,024 tasks / one by one": ("point robots", "1,024 tasks, 1 thread", "ratio_cpu"),
    }
    lines = []
    for what, targets in TARGETS.items():
        subject, contestant, ratio = picks[what]
        for name, target in targets.items():
            row = next(row for row in results[subject][name] if row["name"] == contestant)
            quiet = {"undisturbed": row["ratio_wall_undisturbed"] if ratio == "ratio_wall" else None}
            quiet |= {"rounds_undisturbed": row["rounds_undisturbed"]}
            lines.append({"what": what, "family": name, "target": target, "measured": row[ratio], **quiet})
    return lines


def targets_of(record: dict[str, Any]) -> list[str]:
    """The targets and how and when they were measured, as lines of Markdown."""
    made = record["made"]
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    before, after = made["load"]
    made_by = (
        f"Made by `{made['command']}` on {made['date']}, {made['machine']} (load: {before} before, "
        f"{after} after; priority: {made['priority']}); {made['rounds']} rounds; {versions}."
    )
    rows = [
        f"| {row['what']} | `{row['family']}` | {row['target']:g} | {_spread(row['measured'])} "
        f"| {_spread(row['undisturbed'])} | {row['rounds_undisturbed'] if row['undisturbed'] else '-'} |"
        for row in record["targets"]
    ]
    return [
        "| ratio of | family | target | median (quartiles) | in undisturbed rounds | such rounds |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        made_by,
    ]


def page(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    lines = ["# Simulation and collection beside Gymnasium's environments", "", *targets_of(record)]
    for subject, families in record["results"].items():
        lines += [
            "",
            f"## {HEADINGS[subject]}",
            "",
            "| family | who | steps/s | steps/CPU-s | cores | against | its steps/CPU-s | ratio wall | ratio CPU |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| `{name}` | {row['name']} | {row['steps_per_s'][1]:,.0f} | {row['steps_per_cpu_s'][1]:,.0f} "
            f"| {row['cores'][1]:.2f} | {row['reference']} | {row['reference_steps_per_cpu_s'][1]:,.0f} "
            f"| {_spread(row['ratio_wall'])} | {_spread(row['ratio_cpu'])} |"
            for name, rows in families.items()
            for row in rows
        ]
    return "\n".join([*lines, ""])


def between_marks(text: str, lines: list[str]) -> str:
    """A page with these lines in place of what stood between its marks."""
    head, _, rest = text.partition(MARKS[0])
    _, _, tail = rest.partition(MARKS[1])
    return "".join([head, MARKS[0], "\n", "\n".join(lines), "\n\n", MARKS[1], tail])


def _spread(values: list[float] | None) -> str:
    if values is None:
        return "-"
    low, middle, high = (f"{value:.2f}" if value < 100 else f"{value:.0f}" for value in values)
    return f"{middle} ({low} to {high})"


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--rounds", type=int, default=9, help="of each duel")
    parser.add_argument("--page", type=Path, help="page to write the targets into: docs/explanation/simulation.md")
    parser.add_argument("--quick", action="store_true", help="one round of short slices: to see that it works")
    options = parser.parse_args()
    rounds, slice_s = (1, 0.02) if options.quick else (options.rounds, 0.25)
    torch.set_num_threads(1)
    before = round(os.getloadavg()[0], 2)
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # MuJoCo writes its warnings to a file where it runs
        results = measure(rounds, slice_s)
        os.chdir(home)
    made = how("mujoco", "gymnasium", "torch", "numpy") | {
        "rounds": rounds,
        "slice_s": slice_s,
        "load": [before, round(os.getloadavg()[0], 2)],
    }
    real_time = {os.SCHED_FIFO, os.SCHED_RR}
    made["priority"] = "real-time" if os.sched_getscheduler(0) in real_time else f"nice {os.nice(0)}"
    record = {"made": made, "targets": reached(results), "results": results}
    keep(options.out / "results.json", record)
    (options.out / "table.md").write_text(page(record), encoding="utf-8")
    if options.page:
        text = between_marks(options.page.read_text(encoding="utf-8"), targets_of(record))
        options.page.write_text(text, encoding="utf-8")
    sys.stdout.write(page(record))


if __name__ == "__main__":
    main()
