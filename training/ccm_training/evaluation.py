"""Trials of a run's or a bundle's agent in this process, scored or kept for pictures."""

import time
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from ccm_runtime.adapt import Adapter
from ccm_runtime.bundle import load_bundle
from ccm_runtime.errors import CheckpointMissingError, ConfigError
from ccm_runtime.guard import Guard
from ccm_runtime.manifest import Manifest
from ccm_training.batch_guard import BatchGuard
from ccm_training.checkpoint import FOLDER, LoadedRun, load_agent
from ccm_training.envs.family import Family, Split, Table
from ccm_training.experiment import task_features
from ccm_training.filming import Actor
from ccm_training.policy import AgentPolicy, NumpyPolicy, RandomPolicy, TorchPolicy
from ccm_training.rollout import BatchPolicy, Trials, run_trials
from ccm_training.scores import Evaluation, evaluation_of
from ccm_training.settings import TaskConfig
from ccm_training.trained_on import check_trained_on, family_of_bundle


class ReportTrials(NamedTuple):
    """Trials as a report draws them.

    Attributes:
        tasks: `[n, params]`.
        observations: `[n, episodes, horizon + 1, obs]`; the last one again where an episode has ended.
        rewards: `[n, episodes, horizon]`.
        latents: Latent mean after each episode, `[n, episodes, latent]`; zero where the method encodes no context.
    """

    tasks: NDArray[np.float32]
    observations: NDArray[np.float32]
    rewards: NDArray[np.float32]
    latents: NDArray[np.float32]


def evaluate(
    policy: BatchPolicy,
    family: Family,
    tasks: Tensor,
    *,
    method: str,
    split: str,
    seed: int = 0,
    ceiling: float | None = None,
    floor: float | None = None,
    guard: Guard | None = None,
) -> Evaluation:
    """One deterministic trial on each task.

    Args:
        policy: Who is scored.
        family: Where the tasks come from.
        tasks: `[n, params]`.
        method: What was trained.
        split: Name of the tasks' split.
        seed: What the tasks were drawn with; of environments, floor and interval.
        ceiling: Mean return of the best policy that knows the task; `None`: the family's own, if it has one.
        floor: Mean return of random actions on these tasks, `floor_of`, if it is known already.
        guard: Of the policy's actions; `None`: none.
    """
    started = time.perf_counter()
    trials = trials_of(policy, family, tasks, seed, guard=guard)
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
        ceiling=ceiling,
        floor=floor,
    )


def trials_of(
    policy: BatchPolicy,
    family: Family,
    tasks: Tensor,
    seed: int = 0,
    *,
    episodes: int | None = None,
    guard: Guard | None = None,
) -> Trials:
    """One deterministic trial on each task, `[n, params]`; `episodes`: not as many as the policy's trials have."""
    generator = torch.Generator(tasks.device).manual_seed(seed)
    return run_trials(
        family.make(tasks, seed),
        policy,
        episodes=episodes or policy.adaptation.episodes,
        noise=None,
        generator=generator,
        guard=None if guard is None else BatchGuard(guard, len(tasks)),
    )


def evaluate_path(
    path: Path,
    *,
    tasks: str = "test",
    trials: int | None = None,
    family: str | None = None,
    ceiling: Path | None = None,
) -> Evaluation:
    """Evaluate a run directory or a bundle, which has its safety limits as where it is served.

    Args:
        path: A run directory (it holds `checkpoints/`) or a bundle (it holds `manifest.json`).
        tasks: `train` (those that it was trained on), `test` or `ood`.
        trials: Number of tasks; `None`: the run's own, also for its bundle (100 where that does not tell).
        family: Its family; `None`: as the run or the bundle says, which must be one of ours for a bundle.
        ceiling: An oracle's run, whose mean return on the same tasks is the ceiling; `None`: the family's own.

    Raises:
        CheckpointMissingError: It is neither.
        FamilyUnknownError: A bundle of a user's own family, which was not named.
        ConfigError: `family` or the oracle's is not the family that it was trained on; it was trained on fewer tasks.
    """
    opened = _open(path, family)
    oracle = None if ceiling is None else _open(ceiling, family)
    return _evaluate(opened, cast("Split", tasks), trials, oracle)


def evaluate_run(run: LoadedRun) -> Evaluation:
    """Evaluate a run that is loaded already, on its own number of held-out tasks."""
    opened = _opened(run)
    return _evaluate(opened, "test", None, None)


def trials_of_run(run: LoadedRun) -> tuple[Table, Trials]:
    """One deterministic trial on each of a run's held-out tasks, `[tasks, params]`."""
    opened = _opened(run)
    tasks = opened.family.sample_tasks("test", opened.tasks.num_test, opened.tasks.seed)
    table = torch.from_numpy(tasks)
    return tasks, trials_of(opened.policy_for(table), opened.family, table, opened.tasks.seed)


def trials_for_report(run_dir: Path, num_tasks: int = 12) -> ReportTrials:
    """Trials of a run's agent on held-out tasks, as arrays for pictures."""
    run = load_agent(run_dir)
    tasks = torch.from_numpy(run.family.sample_tasks("test", num_tasks, run.config.tasks.seed))
    policy = run.policy_for(tasks)
    trials = trials_of(policy, run.family, tasks)
    rows, latents = trials.rows, policy.read(trials.beliefs).mean
    observations = torch.cat([rows.observation, rows.next_observation[:, :, -1:]], 2)[
        ..., : run.family.observation.size
    ]
    return ReportTrials(
        tasks=tasks.numpy(),
        observations=observations.numpy(),
        rewards=rows.reward[..., 0].numpy(),
        latents=(latents if run.config.what.encoder else torch.zeros_like(latents)).numpy(),
    )


def actor_of_run(run_dir: Path, family: str | None = None) -> Actor:
    """A run's agent as a server would run it; see `find_actor`."""
    opened = _open(run_dir, family)

    def adapter(task: NDArray[np.float32]) -> Adapter:
        policy = opened.policy_for(torch.from_numpy(task[None]))
        return Adapter.of(TorchPolicy(policy, opened.family))

    return Actor(opened.family, opened.method, adapter, (opened.tasks.num_train, opened.tasks.seed))


class _Opened(NamedTuple):
    """A run or a bundle: its policy, its family, what trained it, its tasks, whether it is told of them, its guard."""

    policy: BatchPolicy
    family: Family
    method: str
    tasks: TaskConfig
    told: bool = False
    guard: Guard | None = None

    def policy_for(self, tasks: Tensor) -> BatchPolicy:
        """Its policy for simulations of these tasks; only an oracle looks at them."""
        if isinstance(self.policy, AgentPolicy) and self.told:
            return AgentPolicy(self.policy.agent, self.policy.adaptation, task_features(self.family, tasks))
        return self.policy


def _open(path: Path, family: str | None) -> _Opened:
    if (path / "manifest.json").is_file():
        from ccm_runtime.inference import OnnxPolicy  # noqa: PLC0415  (onnxruntime)

        bundle = load_bundle(path)
        manifest = bundle.manifest
        known = family_of_bundle(path, manifest.family, family)
        return _Opened(
            NumpyPolicy(OnnxPolicy(bundle)),
            known,
            manifest.provenance.method,
            _tasks_of_bundle(manifest),
            guard=Guard.of(manifest.action, manifest.safety),
        )
    if not (path / FOLDER).is_dir():
        raise CheckpointMissingError(
            f"{path}: neither a run (no {FOLDER}/ in it) nor a bundle (no manifest.json in it); "
            "give what `ccm train` or `ccm export` wrote"
        )
    run = load_agent(path)
    check_trained_on(path, run.family.name, family)
    return _opened(run)


def _tasks_of_bundle(manifest: Manifest) -> TaskConfig:
    """The tasks of the run that a bundle was made of, so that both have one score; 100 where it does not tell."""
    try:
        return TaskConfig.model_validate(manifest.provenance.config["tasks"])
    except (KeyError, ValidationError):
        return TaskConfig(num_test=100)


def _opened(run: LoadedRun) -> _Opened:
    tasks = run.config.tasks
    if not run.config.what.learns:
        generator = torch.Generator().manual_seed(run.config.seed)
        low, high = (torch.from_numpy(bound) for bound in (run.family.action.low_array, run.family.action.high_array))
        random = RandomPolicy(low, high, run.adaptation, generator)
        return _Opened(random, run.family, "random", tasks)
    config = run.config
    return _Opened(run.policy_for(), run.family, config.method, tasks, told=config.what.told)


def _evaluate(opened: _Opened, split: Split, num: int | None, oracle: _Opened | None) -> Evaluation:
    table = torch.from_numpy(_tasks_of(opened, split, num))
    return evaluate(
        opened.policy_for(table),
        opened.family,
        table,
        method=opened.method,
        split=split,
        seed=opened.tasks.seed,
        ceiling=None if oracle is None else _best_return(oracle, opened, table),
        guard=opened.guard,
    )


def _tasks_of(opened: _Opened, split: Split, num: int | None) -> Table:
    """Tasks of a split, `[num, params]`; those of `train` are among the very ones that it was trained on."""
    tasks = opened.tasks
    if split != "train":
        return opened.family.sample_tasks(split, num or tasks.num_test, tasks.seed)
    num = num or min(tasks.num_test, tasks.num_train)
    if num > tasks.num_train:
        raise ConfigError(f"--trials {num}: it was trained on {tasks.num_train} tasks; ask for as many at most")
    return opened.family.sample_tasks("train", tasks.num_train, tasks.seed)[:num]


def _best_return(oracle: _Opened, opened: _Opened, tasks: Tensor) -> float:
    """Mean return of an oracle on these tasks, in the episode that is scored: it then begins where that one does."""
    if not oracle.told or oracle.family.name != opened.family.name:
        raise ConfigError(
            f"--ceiling: expected a run of method oracle on {opened.family.name}, got one of method {oracle.method} on "
            f"{oracle.family.name}"
        )
    scored = min(opened.policy.adaptation.explore_episodes, opened.policy.adaptation.episodes - 1)
    trials = trials_of(oracle.policy_for(tasks), oracle.family, tasks, opened.tasks.seed, episodes=scored + 1)
    return float(trials.returns[:, scored].mean())
