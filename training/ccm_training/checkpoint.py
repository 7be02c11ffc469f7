"""Checkpoints: safetensors and JSON, written whole or not at all; the last two are kept. No pickle.

RUN_DIR/config.yaml
RUN_DIR/checkpoints/000120/tensors.safetensors    networks, targets, optimizers, replay, random streams
RUN_DIR/checkpoints/000120/state.json             counters, settings, SHA-256 of the tensors
"""

import hashlib
import json
import os
import shutil
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from ccm_runtime.errors import CheckpointCorruptError, CheckpointMissingError, ConfigError
from ccm_runtime.manifest import Adaptation
from ccm_training.agent import Agent
from ccm_training.config import Config, parse_config
from ccm_training.envs.family import Family
from ccm_training.envs.registry import get_family
from ccm_training.experiment import Counters, Experiment, adaptation_of, build_agent, counters_of

FOLDER = "checkpoints"
KEPT = 2
_TENSORS, _STATE = "tensors.safetensors", "state.json"
_FORMAT = 1
_FREE = ("collect.iterations", "evaluation.", "checkpoint_every", "threads")


@dataclass(frozen=True)
class LoadedRun:
    """What a finished or stopped run left behind."""

    config: Config
    family: Family
    adaptation: Adaptation
    agent: Agent
    counters: Counters
    scores: dict[str, Any] | None


def save_checkpoint(experiment: Experiment, run_dir: Path) -> Path:
    """Write the run as it stands; the folder appears only once it is whole and on disk."""
    root = run_dir / FOLDER
    name = f"{experiment.counters.iteration:06d}"
    final, partial = root / name, root / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    content = save_tensors(_gather(experiment))
    state = {
        "format": _FORMAT,
        "sha256": hashlib.sha256(content).hexdigest(),
        "counters": asdict(experiment.counters),
        "config": experiment.config.model_dump(mode="json"),
    }
    _write(partial / _TENSORS, content)
    _write(partial / _STATE, json.dumps(state, indent=2).encode())
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
    _sync_folder(root)
    for old in _stored(run_dir)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def restore(experiment: Experiment, run_dir: Path) -> None:
    """Put an experiment back to the run's last checkpoint, in place.

    Raises:
        CheckpointMissingError: There is none.
        CheckpointCorruptError: None of them is whole.
        ConfigError: The run was begun with other settings than the experiment's (save those of `_FREE`).
    """
    state, tensors = _last(run_dir)
    before = _settings(parse_config(state["config"], where=f"{run_dir}: checkpoint"))
    changed = [
        f"{name} was {before[name]}, is {value}"
        for name, value in _settings(experiment.config).items()
        if value != before[name] and not name.startswith(_FREE)
    ]
    if changed:
        raise ConfigError(f"{run_dir} was begun with other settings: {'; '.join(changed)}; resume with those it has")
    experiment.counters = counters_of(state["counters"])
    for name, target in _named_tensors(experiment).items():
        target.copy_(tensors[name])
    for name, stream in experiment.streams.named().items():
        stream.set_state(tensors[f"stream.{name}"])
    for name, optimizer in _optimizers(experiment).items():
        _restore_optimizer(optimizer, f"optimizer.{name}", tensors)


def load_agent(run_dir: Path) -> LoadedRun:
    """The agent of a run's last checkpoint, on the CPU.

    Raises:
        CheckpointMissingError: There is none.
        CheckpointCorruptError: None of them is whole.
    """
    state, tensors = _last(run_dir)
    config = parse_config(state["config"], where=f"{run_dir}: checkpoint")
    family = get_family(config.family)
    agent = build_agent(config, family, torch.device("cpu"))
    agent.load_state_dict({name: tensors[f"agent.{name}"] for name in agent.state_dict()})
    scores = run_dir / "evaluation.json"
    return LoadedRun(
        config=config,
        family=family,
        adaptation=adaptation_of(config, family),
        agent=agent,
        counters=counters_of(state["counters"]),
        scores=json.loads(scores.read_text(encoding="utf-8")) if scores.is_file() else None,
    )


def parameter_hash(run_dir: Path) -> str:
    """SHA-256 over the last checkpoint's parameters and buffers, by name; equal for equal runs."""
    _, tensors = _last(run_dir)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.startswith("agent."):
            digest.update(name.encode())
            digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_config(config: Config, run_dir: Path) -> None:
    """Save the resolved settings as `config.yaml`."""
    run_dir.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    (run_dir / "config.yaml").write_text(text, encoding="utf-8")


def _settings(config: Config) -> dict[str, Any]:
    """Every setting by its dotted name."""
    tree = config.model_dump(mode="json")
    flat = {name: value for name, value in tree.items() if not isinstance(value, dict)}
    groups = ((name, group) for name, group in tree.items() if isinstance(group, dict))
    return flat | {f"{name}.{key}": value for name, group in groups for key, value in group.items()}


def _named_tensors(experiment: Experiment) -> dict[str, Tensor]:
    tensors = {f"agent.{name}": value for name, value in experiment.agent.state_dict().items()}
    tensors |= {f"replay.{name}": value for name, value in experiment.replay.rows._asdict().items()}
    tensors["replay.written"] = experiment.replay.written
    return tensors


def _optimizers(experiment: Experiment) -> dict[str, torch.optim.Optimizer]:
    return {"all": experiment.learner.optimizer, "encoder": experiment.learner.encoder_optimizer}


def _gather(experiment: Experiment) -> dict[str, Tensor]:
    tensors = {name: value.detach().cpu().contiguous() for name, value in _named_tensors(experiment).items()}
    for name, stream in experiment.streams.named().items():
        tensors[f"stream.{name}"] = stream.get_state()
    for name, optimizer in _optimizers(experiment).items():
        for index, moments in optimizer.state_dict()["state"].items():
            for moment, value in moments.items():
                tensors[f"optimizer.{name}.{index}.{moment}"] = value.detach().cpu().contiguous()
    return tensors


def _restore_optimizer(optimizer: torch.optim.Optimizer, prefix: str, tensors: dict[str, Tensor]) -> None:
    tree = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix + "."):
            index, moment = name.removeprefix(prefix + ".").split(".")
            state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({"state": state, "param_groups": tree["param_groups"]})


def _stored(run_dir: Path) -> list[Path]:
    """Checkpoints, newest first."""
    folder = run_dir / FOLDER
    found = [path for path in folder.glob("[0-9]*") if path.is_dir()] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _last(run_dir: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The newest whole checkpoint; a damaged one is passed over with a warning."""
    stored = _stored(run_dir)
    if not stored:
        raise CheckpointMissingError(
            f"{run_dir}: no checkpoint there; expected {run_dir / FOLDER}/NUMBER, as `ccm train` writes"
        )
    damage = ""
    for path in stored:
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            damage = f"{path}: {error}"
            warnings.warn(f"damaged checkpoint passed over: {damage}", stacklevel=3)
    raise CheckpointCorruptError(f"{run_dir}: no checkpoint is whole; the last said: {damage}")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    state = json.loads((path / _STATE).read_text(encoding="utf-8"))
    content = (path / _TENSORS).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != state["sha256"]:
        raise ValueError(f"{_TENSORS} has SHA-256 {digest[:12]}..., expected {state['sha256'][:12]}...")
    return state, load_tensors(content)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
