"""The groups of settings that a run has: frozen, strict, each documented where it is."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ccm_training.rewards import ExplorationReward

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0.0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Frozen(BaseModel):
    """Settings that are what they were when they were read."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskConfig(Frozen):
    """How many tasks of each split."""

    num_train: Positive = 100
    num_test: Positive = 40
    seed: Seed = 0


class TrialConfig(Frozen):
    """Shape of a trial.

    Attributes:
        explore_episodes: K; `None` takes the family's.
        execute_episodes: Executor episodes that follow.
        while_executing: Keep folding into the executor's latent while it acts.
        observe_reward: Append the previous step's reward to the observation (0 when an episode begins). What a
            family hides but pays for (the stage of `hard-point-robot`) is then known to the agent.
        latent: Give the executor the posterior mean, or a sample held for the episode.
        certain_at: Stop exploring once the belief's certainty reaches this; `None`: never.
    """

    explore_episodes: int | None = Field(default=None, ge=0)
    execute_episodes: Positive = 2
    while_executing: bool = True
    observe_reward: bool = True
    latent: Literal["mean", "sample"] = "mean"
    certain_at: Share | None = None


class NetworkConfig(Frozen):
    """Sizes of the networks."""

    latent: Positive = 8
    hidden: tuple[Positive, ...] = Field(default=(128, 128), min_length=1)
    encoder_hidden: tuple[Positive, ...] = (128, 128)


class CollectConfig(Frozen):
    """How data comes in.

    Attributes:
        warmup_trials: Trials of each training task under random directions that are held for several steps.
        turn_probability: Chance of a new direction at each step of the warm-up.
        iterations: Rounds of collecting and updating.
        tasks: Tasks that run one trial each, every iteration.
        noise_correlation: Of the policies' noise from one step to the next; correlated noise covers more ground.
        stroll_probability: Chance at each step to begin a stroll: one random action, held for 5 steps on average.
        capacity: Trials kept of each task.
        simulation_limit_s: Most seconds that one call of the simulation may take, of all tasks at once: one that hangs
            ends the run.
    """

    warmup_trials: Positive = 8
    turn_probability: Share = 0.1
    iterations: Positive = 100
    tasks: Positive = 20
    noise_correlation: Share = 0.9
    stroll_probability: Share = 0.0
    capacity: Positive = 64
    simulation_limit_s: Rate = 600.0


class EncoderConfig(Frozen):
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


class PolicyConfig(Frozen):
    """How executor and explorer learn (soft actor-critic).

    Attributes:
        learning_rate: Adam's, for actors and critics.
        discount: Per step.
        target_rate: Share of the critics that enters their slow copies at every update.
        temperature: At the start.
        temperature_rate: Adam's learning rate for the log temperature; 0 keeps it fixed.
        target_entropy: Per action entry, of the scaled action.
        reward_scale: Multiplies rewards; `None`: one over their spread in the warm-up, or 1 if they did not vary.
        rows: Transitions of each task for the executor.
        explorer_rows: Transitions of each task for the explorer.
        own_rows: Share of the executor's transitions that are of its own episodes; the others are of whole trials. Of
            methods with an explorer; without one all episodes are the executor's.
        early_contexts: Share of the executor's contexts that end anywhere in a trial; the others end past exploration.
            Of methods with an explorer; without one it is a half.
        information_weight: alpha of r_exp = r_env + alpha r_aux (eq. 13).
        exploration_reward: Which form of r_aux.
    """

    learning_rate: Rate = 1e-3
    discount: Share = 0.95
    target_rate: Share = 0.01
    temperature: Rate = 0.1
    temperature_rate: float = Field(default=3e-3, ge=0.0)
    target_entropy: float = -1.0
    reward_scale: Rate | None = None
    rows: Positive = 32
    explorer_rows: Positive = 32
    own_rows: Share = 0.0
    early_contexts: Share = 0.5
    information_weight: float = Field(default=1.0, ge=0.0)
    exploration_reward: ExplorationReward = ExplorationReward.TELESCOPING


class OnPolicyConfig(Frozen):
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


class VariationalConfig(Frozen):
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


class GradientConfig(Frozen):
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


class EvaluationConfig(Frozen):
    """How often held-out tasks are tried while training (in iterations; 0: only at the end)."""

    every: int = Field(default=10, ge=0)
    tasks: Positive = 40
