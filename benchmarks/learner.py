"""How fast the learner is beside PEARL's released scheme, in one process on one thread of this processor.

    python benchmarks/learner.py --out benchmarks/results/learner

Update, replay sampling and collection, with networks of the same widths and batches of the same sizes. Only ratios of
CPU time mean much on a machine that is shared: the two are timed in slices A-B-B-A, and the figure is the median over
rounds. Our update has twin critics with layer normalization and a learned temperature, the other a value network.
How many operations the products of both are, and how quick torch's own products and ours are, says what is possible.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from baseline_pearl import Collector, Pearl, Sizes, TaskReplay, sample_tasks
from point_robot_one_by_one import PlainPointRobot
from provenance import how, keep
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from ccm_training import collecting, dense
from ccm_training.agent import Agent
from ccm_training.batch import draw, sample_batch
from ccm_training.cohort import build_cohort
from ccm_training.config import parse_config
from ccm_training.envs.registry import get_family
from ccm_training.memory import keep_what_is_freed
from ccm_training.replay import Replay
from ccm_training.stack import Single
from ccm_training.updates import Learner

SIZES = Sizes()
EPISODES = 2  # so that a whole trial is the context
TARGETS = {"update": 1.15, "replay sampling": 7.0, "collection": 5.0}
Work = Callable[[], int]


def settings(**changes: Any) -> Any:
    """PEARL with the sizes of the baseline; it needs no keys."""
    tree = {
        "family": "sparse-point-robot",
        "method": "pearl",
        "meta_batch": SIZES.tasks,
        "networks": {"latent": SIZES.latent, "hidden": SIZES.hidden, "encoder_hidden": SIZES.encoder_hidden},
        "encoder": {"contrastive_weight": 0.0, "value_weight": 1.0, "key_rows": 1},
        "trial": {"latent": "sample", "while_executing": False, "observe_reward": False},
        "policy": {"rows": SIZES.rows},
        "threads": 1,
    }
    return parse_config(tree | changes, where="benchmark")


def our_learner() -> tuple[Work, Work]:
    """Our update of a batch, and our drawing of one."""
    config, generator = settings(), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    agent = Agent(
        observations=SIZES.observation,
        action_low=-torch.ones(SIZES.action),
        action_high=torch.ones(SIZES.action),
        latent=SIZES.latent,
        hidden=SIZES.hidden,
        encoder_hidden=SIZES.encoder_hidden,
        temperature=1.0,
    )
    replay = Replay(
        tasks=SIZES.tasks,
        capacity=20,
        episodes=EPISODES,
        horizon=SIZES.context // EPISODES,
        observation=SIZES.observation,
        action=SIZES.action,
        device=torch.device("cpu"),
    )
    replay.written += 20
    for field in replay.rows[:4]:  # but not `terminated`
        field.copy_(torch.randn(field.shape, generator=generator).clamp(-1.0, 1.0))
    replay.rows.valid.fill_(1.0)
    learner, features = Learner(Single(agent), config, 1, generator.device), torch.zeros(SIZES.tasks, 1)
    batch = sample_batch(replay, features, config, generator)

    def update() -> int:
        learner.update(batch, draw(config, SIZES.action, generator))
        return 1

    def sample() -> int:
        sample_batch(replay, features, config, generator)
        return 1

    return update, sample


def their_learner() -> tuple[Work, Work]:
    """The baseline's update of a batch, and its drawing of one."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    replays = [TaskReplay(SIZES, 2000) for _ in range(SIZES.tasks)]
    for replay in replays:
        for _ in range(2000):
            replay.add(
                observation=rng.standard_normal(SIZES.observation),
                action=rng.uniform(-1.0, 1.0, SIZES.action),
                reward=rng.standard_normal(),
                next_observation=rng.standard_normal(SIZES.observation),
                terminated=0.0,
            )
    agent, tasks = Pearl(SIZES), list(range(SIZES.tasks))
    context = sample_tasks(replays, tasks, SIZES.context, rng)
    rows = sample_tasks(replays, tasks, SIZES.rows, rng)

    def update() -> int:
        agent.update(context, rows)
        return 1

    def sample() -> int:
        sample_tasks(replays, tasks, SIZES.context, rng)
        sample_tasks(replays, tasks, SIZES.rows, rng)
        return 1

    return update, sample


def our_collection() -> Work:
    """A trial on each of 64 point robots at once."""
    cohort = build_cohort([settings(collect={"tasks": 64, "capacity": 4})], torch.device("cpu"))
    counters = cohort.first.counters

    def collect() -> int:
        before = counters.env_steps
        collecting.Collector(cohort)()
        return counters.env_steps - before

    return collect


def their_collection() -> Work:
    """A trial on one point robot after another."""
    family = get_family("sparse-point-robot")
    goals = family.goals(family.sample_tasks("train", 64, 0)).astype(float)
    sizes = Sizes(observation=2, action=2)
    robot = PlainPointRobot(radius=family.radius, horizon=family.horizon)
    collector = Collector(Pearl(sizes), robot, TaskReplay(sizes, 20_000), family.horizon)
    turn = iter(range(1_000_000))
    return lambda: collector.trial(goals[next(turn) % len(goals)], 4)


def rate(work: Work, slice_s: float) -> float:
    """Units of work in a second of CPU time, over at least so long a slice."""
    started, units = time.process_time(), 0
    while (spent := time.process_time() - started) < slice_s:
        units += work()
    return units / spent


def compare(ours: Work, theirs: Work, *, rounds: int, slice_s: float) -> dict[str, Any]:
    """Rates of both, in slices A-B-B-A, and the ratio of each round."""
    ours(), theirs()
    found = []
    for _ in range(rounds):
        first, other, again, last = (rate(work, slice_s) for work in (theirs, ours, ours, theirs))
        found.append(((other + again) / 2, (first + last) / 2))
    ratios = sorted(own / other for own, other in found)
    return {
        "ours_per_cpu_s": statistics.median(own for own, _ in found),
        "theirs_per_cpu_s": statistics.median(other for _, other in found),
        "ratio": statistics.median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
    }


def without_onednn(work: Work) -> Work:
    """The same by torch's own products."""

    def plain() -> int:
        least, dense.LEAST = dense.LEAST, math.inf
        done = work()
        dense.LEAST = least
        return done

    return plain


def gflop_of_products(work: Work) -> float:
    """Floating-point operations of the products, in thousand millions."""
    with FlopCounterMode(display=False) as counter:
        without_onednn(work)()  # the counter does not know its products
    return counter.get_total_flops() / 1e9


def gflop_per_s_of_products() -> dict[str, float]:
    """Of one hidden layer on all rows: by torch's own product, and by ours."""
    rows, width = SIZES.tasks * SIZES.rows, SIZES.hidden[0]
    value, weight, bias = torch.randn(rows, width), torch.randn(width, width), torch.randn(width)

    def times(product: Callable[..., Any]) -> Work:
        def work() -> int:
            product(value, weight, bias)
            return 1

        return work

    with torch.no_grad():
        of = {"torch": F.linear, "ours": lambda value, weight, bias: dense.run(value, [weight], [bias])}
        return {who: 2e-9 * rows * width**2 * rate(times(product), 0.5) for who, product in of.items()}


def where_time_goes(work: Work, num: int = 12) -> list[dict[str, Any]]:
    """The operations with the largest share of CPU time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(3):
            work()
    events = [event for event in profile.key_averages() if event.self_cpu_time_total > 0.0]
    total = sum(event.self_cpu_time_total for event in events)
    largest = sorted(events, key=lambda event: -event.self_cpu_time_total)[:num]
    return [
        {"operation": event.key, "share": round(event.self_cpu_time_total / total, 4), "calls": event.count // 3}
        for event in largest
    ]


def main() -> None:
    """Measure, print, and write `results.json` if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="Folder of results.json.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slice-s", type=float, default=2.0, help="CPU seconds of a slice.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_what_is_freed()
    (update, sample), (their_update, their_sample) = our_learner(), their_learner()
    contests = {
        "update": (update, their_update),
        "update by torch's products": (without_onednn(update), their_update),
        "replay sampling": (sample, their_sample),
        "collection": (our_collection(), their_collection()),
    }
    results: dict[str, Any] = {}
    for name, (ours, theirs) in contests.items():
        found = compare(ours, theirs, rounds=options.rounds, slice_s=options.slice_s)
        results[name] = found | {"target": TARGETS.get(name)}
        print(
            f"{name:26} {found['ratio']:6.2f}x [{found['lowest']:.2f}, {found['highest']:.2f}]"
            f"  target {TARGETS.get(name)}"
            f"  ({found['ours_per_cpu_s']:,.1f} against {found['theirs_per_cpu_s']:,.1f} a CPU second)"
        )
    products = {
        "gflop_an_update": {"ours": gflop_of_products(update), "theirs": gflop_of_products(their_update)},
        "gflop_per_s": gflop_per_s_of_products(),
    }
    for what, numbers in products.items():
        print(f"products, {what}: " + ", ".join(f"{who} {number:.1f}" for who, number in numbers.items()))
    shares = {"ours": where_time_goes(update), "theirs": where_time_goes(their_update)}
    for who, operations in shares.items():
        print(f"\nwhere the time of an update goes, {who}:")
        for line in operations:
            print(f"  {line['share']:6.1%}  {line['operation']} ({line['calls']} calls)")
    if options.out is not None:
        record = how("torch", "numpy") | {
            "sizes": vars(SIZES) | {"threads": 1, "precision": "float32"},
            "rounds": options.rounds,
            "slice_s": options.slice_s,
            "ratios": results,
            "products": products,
            "operations": shares,
        }
        keep(options.out / "results.json", record)


if __name__ == "__main__":
    main()
