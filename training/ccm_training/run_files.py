"""A run's small files, checked for what is read of them: one that is not what was written is named, with the reason."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from ccm_runtime.errors import CheckpointCorruptError
from ccm_runtime.wording import told
from ccm_training.methods import MethodName


class Shape(BaseModel):
    """What a file must hold; there may be more."""

    model_config = ConfigDict(strict=True)


class CollectShape(Shape):
    """Of the settings of collecting."""

    iterations: int


class SettingsShape(Shape):
    """Of `config.yaml`."""

    family: str
    method: MethodName
    seed: int
    collect: CollectShape


class LineShape(Shape):
    """Of a line of `metrics.jsonl`."""

    iteration: int
    env_steps: int
    updates: int
    time_s: float


class EvaluationShape(Shape):
    """Of `evaluation.json`."""

    returns: Annotated[list[float], Field(min_length=1)]
    explore_episodes: Annotated[int, Field(ge=0)]
    adaptation_score: float | None
    interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    task_scores: list[FiniteFloat] = []  # runs of before keep none


class DivergenceShape(Shape):
    """Of `divergence.json`."""

    iteration: int


class WandbShape(Shape):
    """Of `wandb.json`."""

    id: Annotated[str, Field(min_length=1)]


class CohortShape(Shape):
    """Of `cohort.json`."""

    seeds: list[int]
    saved: list[list[str]]


def read_yaml(path: Path, shape: type[Shape] | None = None) -> Any:
    """What a file of settings says; checked, if a shape is given.

    Raises:
        CheckpointCorruptError: It cannot be read, or is not of that shape.
    """
    try:
        tree = yaml.safe_load(_read(path))
    except yaml.YAMLError as error:
        raise CheckpointCorruptError(f"{path} is damaged: it is no YAML ({' '.join(str(error).split())})") from None
    return tree if shape is None else _checked(path, tree, shape)


def read_json(path: Path, shape: type[Shape]) -> dict[str, Any] | None:
    """What a file says; `None`: it is not there.

    Raises:
        CheckpointCorruptError: It cannot be read, or is not of that shape.
    """
    if not path.is_file():
        return None
    try:
        tree = json.loads(_read(path))
    except ValueError as error:
        raise CheckpointCorruptError(f"{path} is damaged: it is no JSON ({error})") from None
    return _checked(path, tree, shape)


def read_lines(path: Path, *, backwards: bool = False) -> Iterator[dict[str, Any]]:
    """Whole lines of the metrics, from first to last or the other way, as they are asked for; none without a file.

    Raises:
        CheckpointCorruptError: It cannot be read.
    """
    texts = _read(path).splitlines() if path.is_file() else []
    for text in reversed(texts) if backwards else texts:
        try:
            tree = json.loads(text)
            LineShape.model_validate(tree)
        except ValueError:
            continue  # cut off when the run was killed
        yield tree


def _checked(path: Path, tree: Any, shape: type[Shape]) -> dict[str, Any]:
    try:
        shape.model_validate(tree)
    except ValidationError as error:
        raise CheckpointCorruptError(f"{path} is not what `ccm train` writes: {told(error)}") from None
    checked: dict[str, Any] = tree
    return checked


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointCorruptError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise CheckpointCorruptError(f"{path} is damaged: it is no text in UTF-8 ({error.reason})") from None
