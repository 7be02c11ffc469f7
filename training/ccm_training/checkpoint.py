"""Checkpoints: safetensors and JSON, written whole or not at all; the last few are kept. No pickle.

RUN_DIR/config.yaml
RUN_DIR/checkpoints/000120/tensors.safetensors    networks, targets, optimizers, replay, random streams, tally
RUN_DIR/checkpoints/000120/state.json             counters, settings, SHA-256 of these and of the tensors
RUN_DIR/checkpoints/000120-000007                 the same, stopped in the middle of an iteration
RUN_DIR/checkpoints/damaged-000120                what could not be read when the run was resumed

Simulations are not in it: every collection begins new ones, seeded by how far the run has come. Of the replay, `[tasks,
trials, ...]`, there are as many trials as the task with most of them has; up to format 2 all for which there was room.
"""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from ccm_runtime.crash_points import reach
from ccm_runtime.durable import sync_folder, write_synced, write_whole
from ccm_runtime.errors import CheckpointCorruptError, CheckpointMissingError, ConfigError
from ccm_runtime.manifest import Adaptation
from ccm_training.agent import Agent
from ccm_training.config import Config, changed_settings, parse_config
from ccm_training.envs.family import Family
from ccm_training.envs.registry import get_family
from ccm_training.experiment import Counters, Run, adaptation_of, build_agent, counters_of, task_features
from ccm_training.onpolicy.registry import ON_POLICY
from ccm_training.onpolicy.seam import first_agent
from ccm_training.policy import AgentPolicy
from ccm_training.rollout import BatchPolicy
from ccm_training.run_files import read_yaml
from ccm_training.run_folder import CONFIG, read_evaluation
from ccm_training.same_family import check_same_family
from ccm_training.tensor_file import write_tensors

FOLDER = "checkpoints"
_TENSORS, _STATE = "tensors.safetensors", "state.json"
_DAMAGED, _PARTIAL = "damaged-", ".partial"
_DAMAGE = (OSError, ValueError, KeyError, SafetensorError)
_NAME = re.compile(r"\d+(-\d+)?")
_FORMAT = 3
_REPLAY, _WRITTEN = "replay.", "replay.written"
_FREE = (
    "collect.iterations",
    "collect.simulation_limit_s",
    "evaluation.",
    "checkpoint_every",
    "checkpoints_kept",
    "threads",
)


@dataclass(frozen=True)
class LoadedRun:
    """What a finished or stopped run left behind."""

    config: Config
    family: Family
    adaptation: Adaptation
    agent: nn.Module
    counters: Counters
    scores: dict[str, Any] | None

    def policy_for(self, tasks: Tensor | None = None) -> BatchPolicy:
        """The agent for simulations of these tasks; only an oracle looks at them."""
        if self.config.what.on_policy:
            return ON_POLICY[self.config.method].policy(self.agent, self.config, self.adaptation)
        told = None if tasks is None or not self.config.what.told else task_features(self.family, tasks)
        return AgentPolicy(cast("Agent", self.agent), self.adaptation, told)


def save_checkpoint(experiment: Run, run_dir: Path) -> Path:
    """Write the run as it stands, and keep only the last few checkpoints."""
    saved = write_checkpoint(experiment, run_dir)
    newest = _stored(run_dir)[: experiment.config.checkpoints_kept]
    keep_checkpoints(run_dir, {path.name for path in newest})
    return saved


def write_checkpoint(experiment: Run, run_dir: Path) -> Path:
    """Write the run as it stands; the folder appears only once it is whole and on disk."""
    root = run_dir / FOLDER
    final = root / checkpoint_name(experiment)
    partial = root / f".{final.name}{_PARTIAL}"
    _remove_partial(root)
    try:
        _write(experiment, partial)
    except OSError:
        _remove_partial(root)  # a full disk would stay full
        raise
    if final.exists():
        _discard(final)
    partial.rename(final)
    reach("checkpoint.renamed")
    sync_folder(root)
    reach("checkpoint.on-disk")
    return final


def _write(experiment: Run, partial: Path) -> None:
    partial.mkdir(parents=True)
    reach("checkpoint.begun")
    state: dict[str, Any] = {
        "format": _FORMAT,
        "counters": asdict(experiment.counters),
        "config": experiment.config.model_dump(mode="json"),
    }
    digest = _digest(state)
    write_tensors(partial / _TENSORS, _gather(experiment), digest)
    state["digest"] = digest.hexdigest()
    reach("checkpoint.tensors-written")
    write_synced(partial / _STATE, json.dumps(state, indent=2).encode())
    sync_folder(partial)
    reach("checkpoint.state-written")


def keep_checkpoints(run_dir: Path, names: Collection[str]) -> None:
    """Discard all checkpoints but these."""
    for path in _stored(run_dir):
        if path.name not in names:
            _discard(path)
    reach("checkpoint.discarded")
    _remove_partial(run_dir / FOLDER)


def checkpoint_name(experiment: Run) -> str:
    """Name of a checkpoint of the run as it stands."""
    counters = experiment.counters
    name = f"{counters.iteration:06d}"
    if counters.iteration == 0:
        within = counters.warmup_trials + counters.pretrain_updates + counters.updates
    else:
        within = experiment.updates_done
    return f"{name}-{within:06d}" if within else name


def progress_of(name: str) -> list[int]:
    """How far a run had come, by its checkpoint's name: to be compared."""
    return [int(part) for part in name.split("-")]


def restore(experiment: Run, run_dir: Path) -> Path | None:
    """Put an experiment back to the run's last checkpoint; a damaged newer one is set aside.

    Returns:
        That checkpoint; `None` if the run was killed before its first: it begins again.

    Raises:
        CheckpointMissingError: There is no run.
        CheckpointCorruptError: None of its checkpoints is whole.
        ConfigError: The run was begun with other settings than the experiment's (save those of `_FREE`), has done more
            iterations already, or its family has changed since.
    """
    if not _stored(run_dir) and (run_dir / CONFIG).is_file():
        check_begun_with(experiment.config, run_dir)
        warnings.warn(f"{run_dir}: stopped before its first checkpoint; the run begins again", stacklevel=2)
        return None
    path, state, tensors = _last(run_dir, set_aside=True)
    _put_back(experiment, run_dir, state, tensors)
    return path


def restore_at(experiment: Run, run_dir: Path, name: str) -> None:
    """Put an experiment back to this checkpoint, which is whole; otherwise as `restore`."""
    _put_back(experiment, run_dir, *_read(run_dir / FOLDER / name))


def check_begun(run_dir: Path) -> None:
    """Refuse a folder that holds no run (CheckpointMissingError)."""
    if not _stored(run_dir) and not (run_dir / CONFIG).is_file():
        raise _missing(run_dir)


def check_begun_with(config: Config, run_dir: Path) -> None:
    """Refuse other settings than a run was begun with, save those that may change.

    Raises:
        ConfigError: They differ.
    """
    _check_settings(config, read_config(run_dir), run_dir)


def what_is_saved(run_dir: Path) -> str:
    """Where a run that ends now would go on from, in words."""
    if _stored(run_dir):
        return "the last checkpoint is from before"
    return "there is no checkpoint yet, and the run will begin again"


def is_whole(run_dir: Path, name: str) -> bool:
    """Whether this checkpoint is there and can be read; a damaged one is set aside, with a warning."""
    path = run_dir / FOLDER / name
    if not path.is_dir():
        return False
    try:
        _read(path)
    except _DAMAGE as error:
        warnings.warn(f"damaged checkpoint set aside: {path}: {error}", stacklevel=2)
        _set_aside([path])
        return False
    return True


def _put_back(experiment: Run, run_dir: Path, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a checkpoint's tensors over the experiment's own, in place: a cohort's are parts of those of all."""
    _check_settings(experiment.config, parse_config(state["config"], where=f"{run_dir}: checkpoint"), run_dir)
    counters, asked = _counters(state), experiment.config.collect.iterations
    if counters.iteration > asked:
        raise ConfigError(f"{run_dir} has done {counters.iteration} iterations; collect.iterations is {asked}, fewer")
    own = experiment.tensors()
    check_same_family(experiment.config, run_dir, own, tensors)
    experiment.counters = counters
    for name, target in own.items():
        if name in tensors or not name.startswith("optimizer."):  # earlier versions left out what had not stepped yet
            _part_saved(name, target, tensors[name]).copy_(tensors[name])
    _put_streams_back(experiment, run_dir, {name: tensors[f"stream.{name}"] for name in experiment.streams.named()})
    experiment.tally.take(
        {
            name.removeprefix("tally."): values.to(experiment.device)
            for name, values in tensors.items()
            if name.startswith("tally.")
        }
    )


def _part_saved(name: str, target: Tensor, saved: Tensor) -> Tensor:
    """The part of a tensor that a checkpoint holds: of the replay, those trials that `_gather` took."""
    return target[:, : saved.shape[1]] if _is_trials(name) else target


def _is_trials(name: str) -> bool:
    """Whether a tensor is of the replay's trials, `[tasks, trials, ...]`."""
    return name.startswith(_REPLAY) and name != _WRITTEN


def _put_streams_back(experiment: Run, run_dir: Path, states: dict[str, Tensor]) -> None:
    """Go on with the random streams, or, where another kind of device has left them, begin them anew with a warning."""
    streams, counters = experiment.streams.named(), experiment.counters
    if all(len(state) == len(streams[name].get_state()) for name, state in states.items()):
        for name, state in states.items():
            streams[name].set_state(state)
        return
    warnings.warn(
        f"{run_dir}: its last checkpoint was made on another kind of device, whose random numbers differ from those of "
        f"{experiment.device.type}: the run goes on, but will not equal one that was never stopped",
        stacklevel=2,
    )
    sequence = np.random.SeedSequence((experiment.config.seed, counters.env_steps, counters.updates))
    for stream, seed in zip(streams.values(), sequence.generate_state(len(streams)).tolist(), strict=True):
        stream.manual_seed(seed)


def read_config(run_dir: Path) -> Config:
    """The settings that a run was begun with.

    Raises:
        CheckpointCorruptError: They cannot be read.
        ConfigError: They are not what this version of ccm knows.
    """
    path = run_dir / CONFIG
    return parse_config(read_yaml(path), where=str(path))


def _check_settings(config: Config, begun_with: Config, run_dir: Path) -> None:
    changed = [text for name, text in changed_settings(begun_with, config).items() if not name.startswith(_FREE)]
    if changed:
        raise ConfigError(f"{run_dir} was begun with other settings: {'; '.join(changed)}; resume with those it has")


def _counters(state: dict[str, Any]) -> Counters:
    """Counters of a checkpoint; one of format 1 was never written before training proper."""
    tree = dict(state["counters"])
    if state["format"] == 1 and tree["env_steps"] > 0:
        tree |= {"warmup_trials": state["config"]["collect"]["warmup_trials"], "pretrained": True}
    return counters_of(tree)


def load_agent(run_dir: Path) -> LoadedRun:
    """The agent of a run's last checkpoint, on the CPU.

    Raises:
        CheckpointMissingError: There is none.
        CheckpointCorruptError: None of them is whole, or the scores cannot be read.
        ConfigError: Its family has changed since it was trained on it.
    """
    _, state, tensors = _last(run_dir)
    config = parse_config(state["config"], where=f"{run_dir}: checkpoint")
    family = get_family(config.family)
    agent: nn.Module = (
        first_agent(config, ON_POLICY[config.method], family)
        if config.what.on_policy
        else build_agent(config, family, torch.device("cpu"))
    )
    own = {f"agent.{name}": value for name, value in agent.state_dict().items()}
    check_same_family(config, run_dir, own, tensors)
    agent.load_state_dict({name: tensors[f"agent.{name}"] for name in agent.state_dict()})
    return LoadedRun(
        config=config,
        family=family,
        adaptation=adaptation_of(config, family),
        agent=agent,
        counters=_counters(state),
        scores=read_evaluation(run_dir),
    )


def parameter_hash(run_dir: Path) -> str:
    """SHA-256 over the last checkpoint's parameters and buffers, by name; equal for equal runs."""
    _, _, tensors = _last(run_dir)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.startswith("agent."):
            digest.update(name.encode())
            digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_config(config: Config, run_dir: Path) -> None:
    """Save the resolved settings as `config.yaml`; from then on the folder holds a run."""
    run_dir.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_whole(run_dir / CONFIG, text)


def _gather(experiment: Run) -> dict[str, Tensor]:
    """Everything that a checkpoint holds; of the replay, what was written."""
    tensors = experiment.tensors()
    trials = int(tensors[_WRITTEN].max()) if _WRITTEN in tensors else 0
    tensors = {name: value[:, :trials] if _is_trials(name) else value for name, value in tensors.items()}
    for name, stream in experiment.streams.named().items():
        tensors[f"stream.{name}"] = stream.get_state()
    for name, values in experiment.tally.series().items():
        tensors[f"tally.{name}"] = values
    return tensors


def _stored(run_dir: Path) -> list[Path]:
    """Checkpoints, newest first."""
    folder = run_dir / FOLDER
    found = [path for path in folder.glob("[0-9]*") if path.is_dir() and _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: progress_of(path.name), reverse=True)


def _last(run_dir: Path, *, set_aside: bool = False) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    """The newest whole checkpoint; a damaged one is passed over with a warning, and set aside if asked."""
    stored = _stored(run_dir)
    if not stored:
        raise _missing(run_dir)
    damage, damaged = "", []
    for path in stored:
        try:
            found = (path, *_read(path))
        except _DAMAGE as error:
            damage = f"{path}: {error}"
            damaged.append(path)
            what = "set aside" if set_aside else "passed over"
            warnings.warn(f"damaged checkpoint {what}: {damage}", stacklevel=3)
        else:
            if set_aside:
                _set_aside(damaged)
            return found
    raise CheckpointCorruptError(f"{run_dir}: no checkpoint is whole; the last said: {damage}")


def _missing(run_dir: Path) -> CheckpointMissingError:
    return CheckpointMissingError(
        f"{run_dir}: no checkpoint there; expected {run_dir / FOLDER}/NUMBER, as `ccm train` writes"
    )


def _set_aside(damaged: list[Path]) -> None:
    """Rename checkpoints so that they count no more; of those that were set aside, only the latest are kept."""
    if damaged:
        for path in damaged[0].parent.glob(f"{_DAMAGED}*"):
            shutil.rmtree(path, ignore_errors=True)
    for path in damaged:
        path.rename(path.with_name(_DAMAGED + path.name))


def _discard(path: Path) -> None:
    """Take a checkpoint out at once, by its name: to remove its files takes time, in which a crash may fall."""
    path.rename(path.with_name(f".{path.name}.old{_PARTIAL}"))


def _remove_partial(root: Path) -> None:
    """Remove what was discarded, and what a crash left half written."""
    for path in root.glob(f".*{_PARTIAL}"):
        shutil.rmtree(path, ignore_errors=True)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    state = json.loads((path / _STATE).read_text(encoding="utf-8"))
    content = (path / _TENSORS).read_bytes()
    if state["format"] not in range(1, _FORMAT + 1):
        raise ValueError(f"it is of format {state['format']}; this version of ccm knows {_FORMAT} and before")
    if state["format"] == 1:
        expected, found = state["sha256"], hashlib.sha256(content).hexdigest()
    else:
        expected, digest = state.pop("digest"), _digest(state)
        digest.update(content)
        found = digest.hexdigest()
    if found != expected:
        raise ValueError(f"SHA-256 is {found[:12]}..., expected {expected[:12]}...")
    return state, load_tensors(content)


def _digest(state: dict[str, Any]) -> "hashlib._Hash":
    """SHA-256 of what a checkpoint says but for its tensors, which are to follow."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode())
