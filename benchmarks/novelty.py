"""How well a served agent tells that it is not at home: figures of its novelty, and of exploring anew.

    python benchmarks/novelty.py --out benchmarks/results/reliability/novelty.json

On the agent that comes with the package. A trial's score is the largest novelty of its steps; AUROC is the probability
that a disturbed trial scores above an undisturbed one on another held-out task; `flagged` are trials with a novelty
above 1. Sigma is the standard deviation of an observation's entry on training tasks; each entry is shifted up or down.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from provenance import how, keep

from ccm_export.experience import Sensor, Trials, run_trials
from ccm_runtime.adapt import Adapter
from ccm_runtime.bundle import load_bundle
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.hosting import ServedAgent
from ccm_runtime.inference import OnnxPolicy
from ccm_training.envs.family import Family, Table
from ccm_training.envs.registry import get_family

_FROZEN_AFTER = 8  # steps of the first episode


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    bundle = load_bundle(embedded_bundle())
    adapter = ServedAgent(OnnxPolicy(bundle), bundle.manifest, bundle.digest).adapter()
    found = measure(adapter, get_family(bundle.manifest.family), options.tasks, options.seed)
    found["bundle_digest"] = bundle.digest
    keep(options.out, {**found, "seed": options.seed, "made": how("numpy", "onnxruntime")})
    print(options.out.read_text(encoding="utf-8"), end="")


def measure(adapter: Adapter, family: Family, num: int, seed: int) -> dict[str, Any]:
    """Return the figures, for all of the novelty and for the belief's alone."""
    tasks, others = np.split(family.sample_tasks("test", 2 * num, seed), 2)
    beliefs = replace(adapter, experience=None)
    calm, calm_beliefs = (run_trials(of, family, tasks) for of in (adapter, beliefs))
    result: dict[str, Any] = {"tasks": num, "false_alarms": flagged(calm), "disturbed": {}}
    for name, (table, sensor) in disturbances(adapter, family, others, seed).items():
        whole, alone = (run_trials(of, family, table, sensor=sensor) for of in (adapter, beliefs))
        result["disturbed"][name] = {
            "auroc": auroc(calm, whole),
            "flagged": flagged(whole),
            "auroc_of_the_belief_alone": auroc(calm_beliefs, alone),
            "mean_returns": whole.returns.mean(0).round(1).tolist(),
        }
    return result


def disturbances(adapter: Adapter, family: Family, tasks: Table, seed: int) -> dict[str, tuple[Table, Sensor | None]]:
    """Return what is done to trials: the tasks, and what the sensor makes of observations."""
    stats = adapter.experience
    if stats is None:
        raise SystemExit("this bundle's manifest has no `experience`; export it again")
    size = family.observation.size
    sign = np.random.default_rng(seed).choice([-1.0, 1.0], (len(tasks), size))
    offset = (sign * np.asarray(stats.scale[:size])).astype(np.float32)

    def shifted(sigmas: float) -> Sensor:
        return lambda _episode, _step, observed, _before: observed + np.float32(sigmas) * offset

    def frozen(episode: int, step: int, observed: Any, before: Any) -> Any:
        return observed if before is None or (episode == 0 and step <= _FROZEN_AFTER) else before

    return {
        "shifted by 3 sigma": (tasks, shifted(3)),
        "shifted by 5 sigma": (tasks, shifted(5)),
        "shifted by 10 sigma": (tasks, shifted(10)),
        "frozen sensor": (tasks, frozen),
        "goals on the other half circle": ((tasks + np.float32(np.pi)).astype(np.float32), None),
        "goals that do not lie in one direction": (np.stack([tasks[:, 0], np.roll(tasks[:, 1], 1)], 1), None),
    }


def score(trials: Trials) -> NDArray[np.float64]:
    """Return the largest novelty of each trial, `[n]`."""
    largest: NDArray[np.float64] = np.nanmax(trials.novelty, 1)
    return largest


def flagged(trials: Trials) -> float:
    """Return the share of trials with a novelty above 1."""
    return round(float((score(trials) > 1.0).mean()), 4)


def auroc(calm: Trials, disturbed: Trials) -> float:
    """Return the probability that a disturbed trial scores above a calm one; ties count half."""
    low, high = score(calm)[:, None], score(disturbed)[None]
    return round(float(((high > low) + 0.5 * (high == low)).mean()), 4)


if __name__ == "__main__":
    main()
