"""One update of the whole method: the only place where optimizers step.

All losses are summed once and every parameter steps once. The update reads and writes fixed tensors, asks the device
for nothing in between and has no data-dependent shape, so that the same function runs eagerly and captured.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ccm_training import belief as beliefs
from ccm_training import losses
from ccm_training.agent import Agent, SoftActorCritic
from ccm_training.config import Config
from ccm_training.replay import Replay, Rows
from ccm_training.rewards import information_gain


class Batch(NamedTuple):
    """What one update learns from, for M distinct tasks.

    Attributes:
        trials: One whole trial of each task, fields `[M, episodes, horizon, ...]`: queries, contexts and the
            explorer's transitions.
        keys: Transitions of many trials of each task, `[M, key_rows, ...]`.
        rows: Transitions of each task for the executor, `[M, rows, ...]`.
        features: The tasks as an oracle is told of them, `[M, features]`.
    """

    trials: Rows
    keys: Rows
    rows: Rows
    features: Tensor


class Context(NamedTuple):
    """The encoder's view of a batch.

    Attributes:
        prefixes: Beliefs before and after every transition of the trials, `[M, steps + 1, belief]`.
        keys: Momentum latents, `[M, latent]`.
    """

    prefixes: Tensor
    keys: Tensor


class Losses(NamedTuple):
    """What the update descends, each a scalar.

    Attributes:
        critic: Of critics and encoder.
        actor: Of actors.
        temperature: Of temperatures.
    """

    critic: Tensor
    actor: Tensor
    temperature: Tensor


def sample_batch(replay: Replay, features: Tensor, config: Config, generator: torch.Generator) -> Batch:
    """Draw a meta-batch of distinct tasks and what the update needs of each."""
    tasks = _shuffled(len(features), generator)[: config.meta_batch]
    trials = replay.sample_trials(tasks, 1, generator)
    return Batch(
        trials=Rows(*(field[:, 0] for field in trials)),
        keys=replay.sample_rows(tasks, config.encoder.key_rows, generator),
        rows=replay.sample_rows(tasks, config.policy.rows, generator),
        features=features[tasks],
    )


class Learner:
    """Networks, optimizers and the update of a method."""

    def __init__(self, agent: Agent, config: Config, explore_episodes: int, generator: torch.Generator) -> None:
        self.agent, self.config = agent, config
        self.explore_episodes = explore_episodes
        self.generator = generator
        cuda = generator.device.type == "cuda"
        self.actor_critics = [agent.executor] + ([agent.explorer] if config.what.explorer else [])
        encoder: list[Tensor] = [
            *agent.encoder.parameters(),
            agent.bilinear,
            *agent.forward_model.parameters(),
            *agent.backward_model.parameters(),
        ]
        if config.what.told:
            encoder = []
        self._encoder = encoder
        critics: list[Tensor] = [p for ac in self.actor_critics for p in ac.critics.parameters()]
        actors: list[Tensor] = [p for ac in self.actor_critics for p in ac.actor.parameters()]
        temperatures: list[Tensor] = [ac.log_temperature for ac in self.actor_critics]
        policy_rate = config.policy.learning_rate
        groups = [
            {"params": encoder, "lr": config.encoder.learning_rate},
            {"params": critics, "lr": policy_rate},
            {"params": actors, "lr": policy_rate},
            {"params": temperatures, "lr": config.policy.temperature_rate},
        ]
        self._estimated, self._improved = encoder + critics, actors
        self._temperatures = temperatures
        self.optimizer = torch.optim.Adam([g for g in groups if g["params"]], fused=True, capturable=cuda)
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        if cuda:  # a graph would freeze numbers
            for group in self.optimizer.param_groups:
                group["lr"] = torch.tensor(group["lr"], device=generator.device)
        self.encoder_optimizer = torch.optim.Adam(
            encoder or critics, lr=config.encoder.learning_rate, fused=True, capturable=cuda
        )
        self._momentum: tuple[list[Tensor], list[Tensor]] = (
            list(agent.momentum_encoder.parameters()),
            list(agent.encoder.parameters()),
        )
        self._targets: tuple[list[Tensor], list[Tensor]] = (
            [p for ac in self.actor_critics for p in ac.target_critics.parameters()],
            critics,
        )

    # -- the encoder ------------------------------------------------------------------------------------------------

    def encode(self, batch: Batch) -> Context:
        """Beliefs of every prefix of the trials, and the momentum keys."""
        steps = Rows(*(field.flatten(1, 2) for field in batch.trials))
        factors = self.agent.factors(steps)
        prefixes = beliefs.prefixes(factors, torch.zeros_like(factors[:, 0]))
        with torch.no_grad():
            keys = self.agent.factors(batch.keys, self.agent.momentum_encoder).sum(1)
        return Context(prefixes, beliefs.read(keys).mean)

    def encoder_loss(self, batch: Batch, context: Context, metrics: dict[str, Tensor]) -> Tensor:
        """InfoNCE on random prefixes (eq. 3), the KL of whole trials' beliefs to the prior, and prediction (DP)."""
        settings = self.config.encoder
        tasks, length, _ = context.prefixes.shape
        at = self._uniform(tasks, settings.queries).mul(length - 1).long() + 1
        asked = _take(context.prefixes, at)
        queries = self._given(asked) if settings.contrastive_weight > 0.0 else beliefs.read(asked).mean
        divergence = losses.prior_divergence(beliefs.read(context.prefixes[:, -1]))
        contrast = losses.contrastive_loss(queries, context.keys, self.agent.bilinear)
        metrics["encoder/contrastive_loss"] = contrast.loss
        metrics["encoder/accuracy"] = contrast.accuracy
        metrics["encoder/divergence"] = divergence
        loss = settings.contrastive_weight * contrast.loss + settings.divergence_weight * divergence
        if settings.prediction_weight > 0.0:
            at = self._uniform(*batch.rows.reward.shape[:2]).mul(length).long()
            latent = self._given(_take(context.prefixes, at))
            prediction = (self.agent.prediction_errors(batch.rows, latent) * batch.rows.valid[..., 0]).mean()
            metrics["encoder/prediction_loss"] = prediction
            loss = loss + settings.prediction_weight * prediction
        return loss

    def pretrain(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the encoder alone."""
        metrics: dict[str, Tensor] = {}
        loss = self.encoder_loss(batch, self.encode(batch), metrics)
        _assign(self._encoder, torch.autograd.grad(loss, self._encoder, allow_unused=True))
        self.encoder_optimizer.step()
        _follow(*self._momentum, self.config.encoder.momentum)
        return {name: value.detach() for name, value in metrics.items()}

    def anneal(self, progress: float) -> None:
        """Set the learning rates for this share of the run, 0..1: constant, then falling linearly to a tenth."""
        start = self.config.decay_from
        fallen = max(progress - start, 0.0) / max(1.0 - start, 1e-9)
        for group, first in zip(self.optimizer.param_groups, self._rates, strict=True):
            rate = first * (1.0 - 0.9 * fallen)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    # -- the update -------------------------------------------------------------------------------------------------

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One update of encoder, executor and explorer."""
        metrics: dict[str, Tensor] = {}
        if self.config.what.told:
            parts = self._executor_losses(batch, batch.features[:, None], metrics)
        else:
            context = self.encode(batch)
            parts = self._executor_losses(batch, self._executor_latents(batch, context), metrics)
            if self.config.what.explorer:
                explorer = self._explorer_losses(batch, context, metrics)
                parts = Losses(*(one + other for one, other in zip(parts, explorer, strict=True)))
            parts = parts._replace(critic=parts.critic + self.encoder_loss(batch, context, metrics))
        _assign(self._estimated, torch.autograd.grad(parts.critic, self._estimated, allow_unused=True))
        _assign(self._improved, torch.autograd.grad(parts.actor, self._improved))
        _assign(self._temperatures, torch.autograd.grad(parts.temperature, self._temperatures))
        self.optimizer.step()
        _follow(*self._targets, self.config.policy.target_rate)
        _follow(*self._momentum, self.config.encoder.momentum)
        return {name: value.detach() for name, value in metrics.items()}

    def _executor_losses(self, batch: Batch, latent: Tensor, metrics: dict[str, Tensor]) -> Losses:
        """SAC on (s, z); z is of the same task, and the critic may teach the encoder through it (RV).

        Args:
            batch: What to learn from.
            latent: z of every row, `[M, rows or 1, latent]`.
            metrics: Where to note what happened.
        """
        num = batch.rows.reward.shape[1]
        rows = Rows(*(field.flatten(0, 1) for field in batch.rows))
        latent = latent.expand(-1, num, -1).flatten(0, 1)
        known = latent.detach()
        return self._actor_critic_losses(
            self.agent.executor,
            inputs=self.agent.executor_inputs(rows.observation, latent),
            actor_inputs=self.agent.executor_inputs(rows.observation, known),
            next_inputs=self.agent.executor_inputs(rows.next_observation, known),
            rows=rows,
            reward=rows.reward[:, 0],
            metrics=metrics,
            name="executor",
        )

    def _executor_latents(self, batch: Batch, context: Context) -> Tensor:
        """Latents of prefixes of the trials, half of them of all lengths and half past the exploration."""
        tasks, num = batch.rows.reward.shape[:2]
        length = context.prefixes.shape[1]
        explored = self.explore_episodes * batch.trials.reward.shape[2]
        anywhere = self._uniform(tasks, num).mul(length).long()
        after = explored + self._uniform(tasks, num).mul(length - explored).long()
        at = torch.where(self._uniform(tasks, num) < 0.5, anywhere, after)
        latent = self._given(_take(context.prefixes, at))
        weight = self.config.encoder.value_weight
        return weight * latent + (1.0 - weight) * latent.detach()

    def _given(self, belief: Tensor) -> Tensor:
        """Latents as the executor is given them, so that the encoder learns to narrow what that samples."""
        mean, std = beliefs.read(belief)
        return mean + std * self._normal(mean) if self.config.trial.latent == "sample" else mean

    def _explorer_losses(self, batch: Batch, context: Context, metrics: dict[str, Tensor]) -> Losses:
        """SAC on (s, belief) with r_exp = r_env + alpha r_aux, from today's encoder.

        It learns from whole trials: what the executor met with a belief is experience of that belief too.
        """
        steps = Rows(*(field.flatten(1, 2) for field in batch.trials))
        tasks, length = steps.reward.shape[:2]
        trail = context.prefixes.detach()
        logits = losses.similarity(beliefs.read(trail).mean, context.keys, self.agent.bilinear.detach())
        own_task = torch.arange(tasks, device=logits.device)[:, None, None]
        gain = information_gain(logits, own_task, self.config.policy.exploration_reward)
        at = self._uniform(tasks, self.config.policy.explorer_rows).mul(length).long()
        rows = Rows(*(_take(field, at).flatten(0, 1) for field in steps))
        before = self.agent.explorer_inputs(rows.observation, _take(trail, at).flatten(0, 1))
        after = self.agent.explorer_inputs(rows.next_observation, _take(trail, at + 1).flatten(0, 1))
        told = _take(gain[..., None], at).flatten()
        metrics["explorer/information_gain"] = gain.mean()
        metrics["explorer/gain_of_a_trial"] = gain.sum(-1).mean()
        return self._actor_critic_losses(
            self.agent.explorer,
            inputs=before,
            actor_inputs=before,
            next_inputs=after,
            rows=rows,
            reward=rows.reward[:, 0] + self.config.policy.information_weight * told,
            metrics=metrics,
            name="explorer",
        )

    def _actor_critic_losses(
        self,
        actor_critic: SoftActorCritic,
        *,
        inputs: Tensor,
        actor_inputs: Tensor,
        next_inputs: Tensor,
        rows: Rows,
        reward: Tensor,
        metrics: dict[str, Tensor],
        name: str,
    ) -> Losses:
        """The three losses of one soft actor-critic; gradients reach the inputs through the critics alone."""
        settings = self.config.policy
        temperature = actor_critic.log_temperature.detach().exp()
        scale = settings.reward_scale or 1.0 / self.agent.reward_norm.scale
        with torch.no_grad():
            ahead = actor_critic.actor(next_inputs, self._normal(rows.action))
            target = losses.bellman_target(
                reward=reward * scale,
                terminated=rows.terminated[:, 0],
                next_values=actor_critic.target_critics(next_inputs, ahead.action),
                next_log_prob=ahead.log_prob,
                temperature=temperature,
                discount=settings.discount,
            )
        values = actor_critic.critics(inputs, self.agent.scale_action(rows.action))
        valid = rows.valid[:, 0]
        critic = losses.critic_loss(values * valid, target * valid)
        sampled = actor_critic.actor(actor_inputs, self._normal(rows.action))
        actor = losses.actor_loss(
            actor_critic.critics(actor_inputs.detach(), sampled.action) * valid, sampled.log_prob * valid, temperature
        )
        entropy = settings.target_entropy * rows.action.shape[-1]
        log_prob = sampled.log_prob * valid / valid.mean().clamp(min=1e-6)  # its mean is that of the valid rows
        tempered = losses.temperature_loss(actor_critic.log_temperature, log_prob, entropy)
        metrics[f"{name}/critic_loss"] = critic
        metrics[f"{name}/value"] = values.mean()
        metrics[f"{name}/entropy"] = -log_prob.mean()
        metrics[f"{name}/temperature"] = temperature
        return Losses(critic, actor, tempered)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device)

    def _normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, device=self.generator.device)


def _take(values: Tensor, at: Tensor) -> Tensor:
    """Rows of `values`, `[M, length, ...]`, at `at`, `[M, k]`, as `[M, k, ...]`."""
    return values.gather(1, at[..., None].expand(*at.shape, values.shape[-1]))


@torch.no_grad()
def _follow(copies: list[Tensor], originals: list[Tensor], rate: float) -> None:
    """Move slow copies towards their originals; outside autograd, or the copies would carry every update's graph."""
    torch._foreach_lerp_(copies, originals, rate)


def _assign(parameters: list[Tensor], gradients: tuple[Tensor | None, ...]) -> None:
    """Write gradients into fixed buffers, so that a captured step finds them where they were."""
    given: tuple[list[Tensor], list[Tensor]] = ([], [])
    missing = []
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if gradient is None:
            missing.append(parameter.grad)
        else:
            given[0].append(parameter.grad)
            given[1].append(gradient)
    torch._foreach_copy_(*given)
    if missing:
        torch._foreach_zero_(missing)


def _shuffled(num: int, generator: torch.Generator) -> Tensor:
    """The numbers below `num` in random order; on a GPU by sorting, which a graph can capture for certain."""
    device = generator.device
    if device.type == "cuda":
        return torch.rand(num, generator=generator, device=device).argsort()
    return torch.randperm(num, generator=generator, device=device)
