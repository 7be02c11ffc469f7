"""Settings of a run: frozen, strict, from a YAML preset with `--set` overrides; unknown keys name the nearest known."""

import copy
import difflib
import hashlib
import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from ccm_runtime.errors import ConfigError
from ccm_runtime.wording import told
from ccm_training.methods import METHODS, Method, MethodName
from ccm_training.run_folder import flat_settings
from ccm_training.settings import (
    CollectConfig,
    EncoderConfig,
    EvaluationConfig,
    Frozen,
    GradientConfig,
    NetworkConfig,
    OnPolicyConfig,
    PolicyConfig,
    Positive,
    Seed,
    Share,
    TaskConfig,
    TrialConfig,
    VariationalConfig,
)

PRESETS = Path(__file__).parent / "presets"


class Config(Frozen):
    """One training run.

    Attributes:
        family: Task family.
        method: What is trained.
        seed: Of everything random, save the tasks.
        meta_batch: M, distinct tasks in an update.
        updates_per_iteration: Updates after each round of collecting.
        decay_from: Share of the iterations after which learning rates fall linearly, to a tenth at the end; that of
            `promp` stays what it is, and `maml` has none.
        threads: Of the processor.
        checkpoint_every: In iterations; 0: only at the end.
        checkpoints_kept: The newest so many.
        tasks: How many tasks.
        trial: Shape of a trial.
        networks: Sizes.
        collect: How data comes in.
        encoder: What teaches the encoder.
        policy: How executor and explorer learn.
        on_policy: How methods with a memory learn.
        variational: What teaches the memory of `varibad`.
        gradient: How methods that adapt by a gradient step learn.
        evaluation: How often held-out tasks are tried.
    """

    family: str
    method: MethodName = "ccm"
    seed: Seed = 0
    meta_batch: int = Field(default=16, ge=2)
    updates_per_iteration: Positive = 30
    decay_from: Share = 0.6
    threads: int = Field(default=2, ge=1, le=1024)  # torch crashes on many more than there can be
    checkpoint_every: int = Field(default=20, ge=0)
    checkpoints_kept: Positive = 2
    tasks: TaskConfig = TaskConfig()
    trial: TrialConfig = TrialConfig()
    networks: NetworkConfig = NetworkConfig()
    collect: CollectConfig = CollectConfig()
    encoder: EncoderConfig = EncoderConfig()
    policy: PolicyConfig = PolicyConfig()
    on_policy: OnPolicyConfig = OnPolicyConfig()
    variational: VariationalConfig = VariationalConfig()
    gradient: GradientConfig = GradientConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def what(self) -> Method:
        """What the method has, whatever its name."""
        return METHODS[self.method]

    @property
    def digest(self) -> str:
        """SHA-256 of the resolved settings."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def load_config(
    name_or_file: str, overrides: list[str] | None = None, *, method: str | None = None, seed: int | None = None
) -> Config:
    """A preset's name or a YAML file, with overrides `a.b=value` (YAML values) laid over it.

    Raises:
        ConfigError: No such preset or file, a key that does not exist (the nearest one is named), or a bad value.
    """
    path = Path(name_or_file)
    if path.suffix not in {".yaml", ".yml"}:
        path = PRESETS / f"{name_or_file}.yaml"
    if not path.is_file():
        known = sorted(preset.stem for preset in PRESETS.glob("*.yaml"))
        near = difflib.get_close_matches(name_or_file, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        if Path(name_or_file).is_file():
            raise ConfigError(f"{name_or_file}: expected a YAML file, whose name ends in .yaml or .yml")
        raise ConfigError(f"no config {name_or_file!r}{hint}; give a YAML file or one of: {', '.join(known)}")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}{_place(error)}: not valid YAML in UTF-8: {_reason(error)}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, got {type(tree).__name__}")
    own = tree.get("method")
    if method is not None:
        tree["method"] = method
    if seed is not None:
        tree["seed"] = seed
    _lay_method_over(tree, overrides or [], own)
    for override in overrides or []:
        _lay_over(tree, override)
    return parse_config(tree, where=" --set ".join([name_or_file, *(overrides or [])]))


def _place(error: Exception) -> str:
    """Where a text is no YAML, `:LINE:COLUMN`, where that is known."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return "" if mark is None else f":{mark.line + 1}:{mark.column + 1}"


def _reason(error: Exception) -> str:
    problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else None
    return problem or str(error).splitlines()[0]


def parse_config(tree: dict[str, Any], where: str) -> Config:
    """The settings of a mapping; `where` begins the message when one is wrong.

    Raises:
        ConfigError: As in `load_config`.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        unknown = next((found for found in error.errors() if found["type"] == "extra_forbidden"), None)
        if unknown is not None:
            key = ".".join(str(part) for part in unknown["loc"])
            near = difflib.get_close_matches(key, _keys(Config), n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{where}: unknown setting {key!r}{hint}") from error
        raise ConfigError(f"{where}: {told(error)}") from error


def changed_settings(before: Config, after: Config) -> dict[str, str]:
    """What differs, by dotted name, in words: `policy.discount was 0.9, is 0.95`."""
    old, new = (flat_settings(config.model_dump(mode="json")) for config in (before, after))
    return {name: f"{name} was {old[name]}, is {value}" for name, value in new.items() if value != old[name]}


def _lay_method_over(tree: dict[str, Any], overrides: list[str], own: object) -> None:
    """Lay the settings of the method over the preset's, or under those of a file that is written for it.

    Args:
        tree: Settings of the file, and the method that is asked for.
        overrides: The method itself may come from one.
        own: The method that the file names.
    """
    asked = copy.deepcopy(tree)
    for override in overrides:
        _lay_over(asked, override)
    method = str(asked.get("method", "ccm"))
    if method not in METHODS:
        return  # refused when the settings are parsed
    for group, settings in METHODS[method].settings.items():
        given = tree.setdefault(group, {})
        if isinstance(given, dict):  # anything else is refused when the settings are parsed
            tree[group] = {**settings, **given} if method == own else {**given, **settings}


def _lay_over(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override!r}: expected key=value, for instance --set policy.discount=0.9")
    *parents, leaf = key.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a value, not a group of settings")
    try:
        node[leaf] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: {text!r} is not a YAML value") from error


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _keys(field.annotation, f"{prefix}{name}.")
    return keys
