"""Trials of a run's or a bundle's agent in this process, scored or kept for pictures."""

import time
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccm_runtime.bundle import load_bundle
from ccm_runtime.errors import CheckpointMissingError
from ccm_training.checkpoint import FOLDER, load_agent
from ccm_training.envs.family import Family, Split
from ccm_training.envs.registry import get_family
from ccm_training.experiment import task_features
from ccm_training.policy import AgentPolicy, NumpyPolicy, RandomPolicy
from ccm_training.rollout import BatchPolicy, Trials, run_trials
from ccm_training.scores import Evaluation, evaluation_of


class ReportTrials(NamedTuple):
    """Trials as a report draws them.

    Attributes:
        tasks: `[n, params]`.
        observations: `[n, episodes, horizon + 1, obs]`.
        rewards: `[n, episodes, horizon]`.
        latents: Latent mean after each episode, `[n, episodes, latent]`.
    """

    tasks: NDArray[np.float32]
    observations: NDArray[np.float32]
    rewards: NDArray[np.float32]
    latents: NDArray[np.float32]


def evaluate(
    policy: BatchPolicy, family: Family, tasks: Tensor, *, method: str, split: str, seed: int = 0
) -> Evaluation:
    """One deterministic trial on each task.

    Args:
        policy: Who is scored.
        family: Where the tasks come from.
        tasks: `[n, params]`.
        method: What was trained.
        split: Name of the tasks' split.
        seed: What the tasks were drawn with; of environments, floor and interval.
    """
    started = time.perf_counter()
    trials = trials_of(policy, family, tasks, seed)
    return evaluation_of(
        trials.returns.cpu().numpy(),
        trials.certainty.cpu().numpy(),
        family,
        tasks.cpu().numpy(),
        method=method,
        split=split,
        explore_episodes=policy.adaptation.explore_episodes,
        seed=seed,
        seconds=time.perf_counter() - started,
    )


def trials_of(policy: BatchPolicy, family: Family, tasks: Tensor, seed: int = 0) -> Trials:
    """One deterministic trial on each task."""
    generator = torch.Generator(tasks.device).manual_seed(seed)
    return run_trials(
        family.make(tasks, seed),
        policy,
        episodes=policy.adaptation.episodes,
        noise=None,
        generator=generator,
    )


def evaluate_path(path: Path, *, tasks: str = "test", trials: int | None = None) -> Evaluation:
    """Evaluate a run directory or a bundle.

    Args:
        path: A run directory (it holds `checkpoints/`) or a bundle (it holds `manifest.json`).
        tasks: `train`, `test` or `ood`.
        trials: Number of tasks; `None`: the run's own number (100 for a bundle).

    Raises:
        CheckpointMissingError: It is neither.
    """
    policy, family, method, num, seed = _open(path)
    count = trials or num
    table = torch.from_numpy(family.sample_tasks(cast("Split", tasks), count, seed))
    if isinstance(policy, AgentPolicy) and method == "oracle":
        policy = AgentPolicy(policy.agent, policy.adaptation, task_features(family, table))
    return evaluate(policy, family, table, method=method, split=tasks, seed=seed)


def trials_for_report(run_dir: Path, num_tasks: int = 12) -> ReportTrials:
    """Trials of a run's agent on held-out tasks, as arrays for pictures."""
    run = load_agent(run_dir)
    tasks = torch.from_numpy(run.family.sample_tasks("test", num_tasks, run.config.tasks.seed))
    features = task_features(run.family, tasks) if run.config.method == "oracle" else None
    policy = AgentPolicy(run.agent, run.adaptation, features)
    trials = trials_of(policy, run.family, tasks)
    rows = trials.rows
    observations = torch.cat([rows.observation, rows.next_observation[:, :, -1:]], 2)[
        ..., : run.family.observation.size
    ]
    return ReportTrials(
        tasks=tasks.numpy(),
        observations=observations.numpy(),
        rewards=rows.reward[..., 0].numpy(),
        latents=policy.read(trials.beliefs).mean.numpy(),
    )


def _open(path: Path) -> tuple[BatchPolicy, Family, str, int, int]:
    """Policy, family, method, usual number of tasks and task seed of a run or a bundle."""
    if (path / "manifest.json").is_file():
        from ccm_runtime.inference import OnnxPolicy  # noqa: PLC0415  (onnxruntime)

        bundle = load_bundle(path)
        manifest = bundle.manifest
        return NumpyPolicy(OnnxPolicy(bundle)), get_family(manifest.family), manifest.provenance.method, 100, 0
    if not (path / FOLDER).is_dir():
        raise CheckpointMissingError(
            f"{path}: neither a run (no {FOLDER}/ in it) nor a bundle (no manifest.json in it); "
            "give what `ccm train` or `ccm export` wrote"
        )
    run = load_agent(path)
    if run.config.method == "random":
        generator = torch.Generator().manual_seed(run.config.seed)
        low, high = (torch.from_numpy(bound) for bound in (run.family.action.low_array, run.family.action.high_array))
        random = RandomPolicy(low, high, run.adaptation, generator)
        return random, run.family, "random", run.config.tasks.num_test, run.config.tasks.seed
    policy = AgentPolicy(run.agent, run.adaptation)
    return policy, run.family, run.config.method, run.config.tasks.num_test, run.config.tasks.seed
