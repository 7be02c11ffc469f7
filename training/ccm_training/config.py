"""Settings of a run: frozen, strict, from a YAML preset with `--set` overrides; unknown keys name the nearest known."""

import copy
import difflib
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ccm_runtime.errors import ConfigError
from ccm_training.methods import METHODS, Method, MethodName
from ccm_training.rewards import ExplorationReward

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
PRESETS = Path(__file__).parent / "presets"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskConfig(_Frozen):
    """How many tasks of each split."""

    num_train: Positive = 100
    num_test: Positive = 40
    seed: int = 0


class TrialConfig(_Frozen):
    """Shape of a trial.

    Attributes:
        explore_episodes: K; `None` takes the family's.
        execute_episodes: Executor episodes that follow.
        while_executing: Keep folding into the executor's latent while it acts.
        observe_reward: Append the previous step's reward to the observation (0 when an episode begins). What a
            family hides but pays for (the stage of `hard-point-robot`) is then known to the agent.
        latent: Give the executor the posterior mean, or a sample held for the episode.
        certain_at: Stop exploring once the belief's certainty reaches this.
    """

    explore_episodes: int | None = Field(default=None, ge=0)
    execute_episodes: Positive = 2
    while_executing: bool = True
    observe_reward: bool = True
    latent: Literal["mean", "sample"] = "mean"
    certain_at: float | None = None


class NetworkConfig(_Frozen):
    """Sizes of the networks."""

    latent: Positive = 8
    hidden: tuple[Positive, ...] = (128, 128)
    encoder_hidden: tuple[Positive, ...] = (128, 128)


class CollectConfig(_Frozen):
    """How data comes in.

    Attributes:
        warmup_trials: Trials of each training task under random directions that are held for several steps.
        turn_probability: Chance of a new direction at each step of the warm-up.
        iterations: Rounds of collecting and updating.
        tasks: Tasks that run one trial each, every iteration.
        noise_correlation: Of the policies' noise from one step to the next; correlated noise covers more ground.
        stroll_probability: Chance at each step to begin a stroll: one random action, held for 5 steps on average.
        capacity: Trials kept of each task.
    """

    warmup_trials: Positive = 8
    turn_probability: Share = 0.1
    iterations: Positive = 100
    tasks: Positive = 20
    noise_correlation: Share = 0.9
    stroll_probability: Share = 0.0
    capacity: Positive = 64


class EncoderConfig(_Frozen):
    """What teaches the encoder.

    Attributes:
        pretrain_updates: Most updates of the encoder alone, before any policy is trained.
        pretrain_patience: Stop pre-training after this many updates without a better accuracy.
        learning_rate: Adam's.
        contrastive_weight: Of InfoNCE (eq. 3); 0 leaves it out.
        divergence_weight: Of the KL to the prior (the bottleneck).
        prediction_weight: Of predicting dynamics and reward from the latent (DP); 0 leaves it out.
        value_weight: Of the critic's loss as far as it reaches the encoder (RV). Bellman errors are tens of times
            larger than InfoNCE: at weight 1 they drown it.
        momentum: Share of the online weights that enters the momentum encoder at every update.
        queries: Prefixes of a trial that are asked for their task.
        key_rows: Transitions, over many trials of the task, that make a key.
    """

    pretrain_updates: int = Field(default=500, ge=0)
    pretrain_patience: Positive = 200
    learning_rate: Rate = 1e-3
    contrastive_weight: float = Field(default=1.0, ge=0.0)
    divergence_weight: float = Field(default=1e-3, ge=0.0)
    prediction_weight: float = Field(default=0.0, ge=0.0)
    value_weight: float = Field(default=0.02, ge=0.0)
    momentum: Share = 0.01
    queries: Positive = 8
    key_rows: Positive = 128


class PolicyConfig(_Frozen):
    """How executor and explorer learn (soft actor-critic).

    Attributes:
        learning_rate: Adam's, for actors and critics.
        discount: Per step.
        target_rate: Share of the critics that enters their slow copies at every update.
        temperature: At the start.
        temperature_rate: Adam's learning rate for the log temperature; 0 keeps it fixed.
        target_entropy: Per action entry, of the scaled action.
        reward_scale: Multiplies rewards; `None`: one over their spread in the warm-up.
        rows: Transitions of each task for the executor.
        explorer_rows: Transitions of each task for the explorer.
        information_weight: alpha of r_exp = r_env + alpha r_aux (eq. 13).
        exploration_reward: Which form of r_aux.
    """

    learning_rate: Rate = 1e-3
    discount: Share = 0.95
    target_rate: Share = 0.01
    temperature: Rate = 0.1
    temperature_rate: float = Field(default=3e-3, ge=0.0)
    target_entropy: float = -1.0
    reward_scale: float | None = None
    rows: Positive = 32
    explorer_rows: Positive = 32
    information_weight: float = Field(default=1.0, ge=0.0)
    exploration_reward: ExplorationReward = ExplorationReward.TELESCOPING


class OnPolicyConfig(_Frozen):
    """How a policy with a memory learns: `rl2` and `varibad`, by PPO; as published for sparse rewards.

    Attributes:
        memory: Size of the GRU's hidden state, which is the belief.
        learning_rate: Adam's; for `rl2` of the memory too.
        discount: Per step, over the whole trial.
        trace: lambda of the advantages (GAE).
        epochs: How often an iteration's trials are gone through.
        minibatches: Into which they are cut, whole trials each.
        clip: Probability ratios beyond 1 +- this gain nothing; values too move by this at most.
        entropy_weight: Of the policy's entropy.
        value_weight: Of the value's loss.
        max_gradient: Longest gradient, in norm.
    """

    memory: Positive = 128
    learning_rate: Rate = 7e-4
    discount: Share = 0.99
    trace: Share = 0.9
    epochs: Positive = 2
    minibatches: Positive = 4
    clip: Rate = 0.1
    entropy_weight: float = Field(default=0.001, ge=0.0)
    value_weight: float = Field(default=0.5, ge=0.0)
    max_gradient: Rate = 0.5


class VariationalConfig(_Frozen):
    """What teaches the memory of `varibad`: the ELBO of stored trials (of which `collect.capacity` are kept a task).

    Attributes:
        learning_rate: Adam's.
        updates: After each round of collecting.
        trials: In an update.
        sampled: Most posteriors of a trial, and most of its steps, that an update looks at.
        divergence_weight: Of the KL of each posterior from the one before it.
        reward_weight: Of predicting rewards.
        change_weight: Of predicting how observations change, for families whose dynamics vary; 0 leaves it out.
        decoder_hidden: Sizes of the decoders.
    """

    learning_rate: Rate = 1e-3
    updates: Positive = 10
    trials: Positive = 10
    sampled: Positive = 50
    divergence_weight: float = Field(default=1.0, ge=0.0)
    reward_weight: float = Field(default=1.0, ge=0.0)
    change_weight: float = Field(default=0.0, ge=0.0)
    decoder_hidden: tuple[Positive, ...] = (64, 32)


class GradientConfig(_Frozen):
    """How MAML and ProMP learn, which adapt by a gradient step; as published, for both where they agree.

    Attributes:
        hidden: Of the policy's tanh layers.
        rollouts: Episodes of each task before the inner step, and as many after it. Evaluation has K before it.
        discount: Per step.
        trace: lambda of the advantages (GAE).
        inner_rate: Size of the inner step.
        radius: Most that MAML's outer step may change the adapted policies, as a mean KL.
        learning_rate: Adam's, of ProMP's outer steps.
        epochs: ProMP's outer steps on the same episodes.
        clip: ProMP's: probability ratios beyond 1 +- this gain nothing.
        divergence_weight: ProMP's, of the KL of the policy before adaptation from what it was.
    """

    hidden: tuple[Positive, ...] = (64, 64)
    rollouts: Positive = 20
    discount: Share = 0.99
    trace: Share = 1.0
    inner_rate: Rate = 0.1
    radius: Rate = 0.01
    learning_rate: Rate = 1e-3
    epochs: Positive = 5
    clip: Rate = 0.3
    divergence_weight: float = Field(default=5e-4, ge=0.0)


class EvaluationConfig(_Frozen):
    """How often held-out tasks are tried while training (in iterations; 0: only at the end)."""

    every: int = Field(default=10, ge=0)
    tasks: Positive = 40


class Config(_Frozen):
    """One training run.

    Attributes:
        family: Task family.
        method: What is trained.
        seed: Of everything random, save the tasks.
        meta_batch: M, distinct tasks in an update.
        updates_per_iteration: Updates after each round of collecting.
        decay_from: Share of the iterations after which all learning rates fall linearly, to a tenth at the end.
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
    seed: int = 0
    meta_batch: Positive = 16
    updates_per_iteration: Positive = 30
    decay_from: Share = 0.6
    threads: Positive = 2
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
        raise ConfigError(f"no config {name_or_file!r}{hint}; give a YAML file or one of: {', '.join(known)}")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML in UTF-8: {str(error).splitlines()[0]}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, got {type(tree).__name__}")
    if method is not None:
        tree["method"] = method
    if seed is not None:
        tree["seed"] = seed
    _lay_method_over(tree, overrides or [])
    for override in overrides or []:
        _lay_over(tree, override)
    return parse_config(tree, where=str(path))


def parse_config(tree: dict[str, Any], where: str) -> Config:
    """The settings of a mapping; `where` begins the message when one is wrong.

    Raises:
        ConfigError: As in `load_config`.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, _keys(Config), n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{where}: unknown setting {key!r}{hint}") from error
        raise ConfigError(f"{where}: {key}: {first['msg']}, got {first['input']!r}") from error


def changed_settings(before: Config, after: Config) -> dict[str, str]:
    """What differs, by dotted name, in words: `policy.discount was 0.9, is 0.95`."""
    old, new = _flat(before), _flat(after)
    return {name: f"{name} was {old[name]}, is {value}" for name, value in new.items() if value != old[name]}


def _flat(config: Config) -> dict[str, Any]:
    """Every setting by its dotted name."""
    tree = config.model_dump(mode="json")
    flat = {name: value for name, value in tree.items() if not isinstance(value, dict)}
    groups = ((name, group) for name, group in tree.items() if isinstance(group, dict))
    return flat | {f"{name}.{key}": value for name, group in groups for key, value in group.items()}


def _lay_method_over(tree: dict[str, Any], overrides: list[str]) -> None:
    """Lay the settings of the method over the preset's; the method itself may come from an override."""
    asked = copy.deepcopy(tree)
    for override in overrides:
        _lay_over(asked, override)
    method = str(asked.get("method", "ccm"))
    if method not in METHODS:
        return  # refused when the settings are parsed
    for group, settings in METHODS[method].settings.items():
        if isinstance(tree.setdefault(group, {}), dict):  # anything else is refused when the settings are parsed
            tree[group].update(settings)


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
