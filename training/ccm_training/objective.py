"""What an update descends: the losses of the whole method as functions of an agent, a batch and draws alone.

Nothing here draws, steps, waits for the device or has a data-dependent shape.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ccm_training import belief as beliefs
from ccm_training import losses
from ccm_training.agent import Agent, SoftActorCritic
from ccm_training.batch import Batch, Draws
from ccm_training.config import Config
from ccm_training.replay import Rows
from ccm_training.rewards import information_gain

Metrics = dict[str, Tensor]


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


@dataclass(frozen=True)
class Objective:
    """The losses of one agent on one batch.

    Attributes:
        config: What the method asks for.
        explore_episodes: K.
        agent: Whose losses.
        batch: What to learn from.
        draws: What is left to chance.
        metrics: What happened, each `[]`; filled on the way.
    """

    config: Config
    explore_episodes: int
    agent: Agent
    batch: Batch
    draws: Draws
    metrics: Metrics = field(default_factory=dict)

    def of_update(self) -> Losses:
        """Of encoder, executor and explorer."""
        if self.config.what.told:
            return self._executor_losses(self.batch.features[:, None])
        context = self.encode()
        parts = self._executor_losses(self._executor_latents(context))
        if self.config.what.explorer:
            explorer = self._explorer_losses(context)
            parts = Losses(*(one + other for one, other in zip(parts, explorer, strict=True)))
        return parts._replace(critic=parts.critic + self._encoder_loss(context))

    def of_encoder(self) -> Tensor:
        """Of the encoder alone."""
        return self._encoder_loss(self.encode())

    def encode(self) -> Context:
        """Beliefs of every prefix of the trials, and the momentum keys."""
        steps = Rows(*(field.flatten(1, 2) for field in self.batch.trials))
        factors = self.agent.factors(steps)
        prefixes = beliefs.prefixes(factors, torch.zeros_like(factors[:, 0]))
        with torch.no_grad():
            keys = self.agent.factors(self.batch.keys, self.agent.momentum_encoder).sum(1)
        return Context(prefixes, beliefs.read(keys).mean)

    def _encoder_loss(self, context: Context) -> Tensor:
        """InfoNCE on random prefixes (eq. 3), the KL of whole trials' beliefs to the prior, and prediction (DP)."""
        settings, rows, length = self.config.encoder, self.batch.rows, context.prefixes.shape[1]
        at = self.draws.queries.mul(length - 1).long() + 1
        asked = _take(context.prefixes, at)
        contrasted = settings.contrastive_weight > 0.0
        queries = self._given(asked, self.draws.query_noise) if contrasted else beliefs.read(asked).mean
        divergence = losses.prior_divergence(beliefs.read(context.prefixes[:, -1]))
        contrast = losses.contrastive_loss(queries, context.keys, self.agent.bilinear)
        self.metrics["encoder/contrastive_loss"] = contrast.loss
        self.metrics["encoder/accuracy"] = contrast.accuracy
        self.metrics["encoder/divergence"] = divergence
        loss = settings.contrastive_weight * contrast.loss + settings.divergence_weight * divergence
        if settings.prediction_weight > 0.0:
            at = self.draws.predicted.mul(length).long()
            latent = self._given(_take(context.prefixes, at), self.draws.prediction_noise)
            prediction = (self.agent.prediction_errors(rows, latent) * rows.valid[..., 0]).mean() / _share(rows.valid)
            self.metrics["encoder/prediction_loss"] = prediction
            loss = loss + settings.prediction_weight * prediction
        return loss

    def _executor_losses(self, latent: Tensor) -> Losses:
        """SAC on (s, z); z is of the same task, and the critic may teach the encoder through it (RV).

        Args:
            latent: z of every row, `[M, rows or 1, latent]`.
        """
        num = self.batch.rows.reward.shape[1]
        rows = Rows(*(field.flatten(0, 1) for field in self.batch.rows))
        latent = latent.expand(-1, num, -1).flatten(0, 1)
        known = latent.detach()
        return self._actor_critic_losses(
            self.agent.executor,
            inputs=self.agent.executor_inputs(rows.observation, latent),
            actor_inputs=self.agent.executor_inputs(rows.observation, known),
            next_inputs=self.agent.executor_inputs(rows.next_observation, known),
            rows=rows,
            reward=rows.reward[:, 0],
            noise=self.draws.executor_noise,
            name="executor",
        )

    def _executor_latents(self, context: Context) -> Tensor:
        """Latents of prefixes of the trials, some of them of all lengths and the others past the exploration."""
        length = context.prefixes.shape[1]
        explored = self.explore_episodes * self.batch.trials.reward.shape[2]
        anywhere = self.draws.contexts[0].mul(length).long()
        after = explored + self.draws.contexts[1].mul(length - explored).long()
        early = self.config.policy.early_contexts if self.config.what.explorer else 0.5
        at = torch.where(self.draws.contexts[2] < early, anywhere, after)
        latent = self._given(_take(context.prefixes, at), self.draws.latent_noise)
        weight = self.config.encoder.value_weight
        return weight * latent + (1.0 - weight) * latent.detach()

    def _given(self, belief: Tensor, noise: Tensor) -> Tensor:
        """Latents as the executor is given them, so that the encoder learns to narrow what that samples."""
        mean, std = beliefs.read(belief)
        return mean + std * noise if self.config.trial.latent == "sample" else mean

    def _explorer_losses(self, context: Context) -> Losses:
        """SAC on (s, belief) with r_exp = r_env + alpha r_aux, from today's encoder.

        It learns from whole trials: what the executor met with a belief is experience of that belief too.
        """
        steps = Rows(*(field.flatten(1, 2) for field in self.batch.trials))
        tasks, length = steps.reward.shape[:2]
        trail = context.prefixes.detach()
        logits = losses.similarity(beliefs.read(trail).mean, context.keys, self.agent.bilinear.detach())
        own_task = torch.arange(tasks, device=logits.device)[:, None, None]
        gain = information_gain(logits, own_task, self.config.policy.exploration_reward)
        at = self.draws.explorer_rows.mul(length).long()
        rows = Rows(*(_take(field, at).flatten(0, 1) for field in steps))
        before = self.agent.explorer_inputs(rows.observation, _take(trail, at).flatten(0, 1))
        after = self.agent.explorer_inputs(rows.next_observation, _take(trail, at + 1).flatten(0, 1))
        told = _take(gain[..., None], at).flatten()
        taken = gain * steps.valid[..., 0]
        self.metrics["explorer/information_gain"] = taken.mean() / _share(steps.valid)
        self.metrics["explorer/gain_of_a_trial"] = taken.sum(-1).mean()
        return self._actor_critic_losses(
            self.agent.explorer,
            inputs=before,
            actor_inputs=before,
            next_inputs=after,
            rows=rows,
            reward=rows.reward[:, 0] + self.config.policy.information_weight * told,
            noise=self.draws.explorer_noise,
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
        noise: Tensor,
        name: str,
    ) -> Losses:
        """The three losses of one soft actor-critic; gradients reach the inputs through the critics alone."""
        settings = self.config.policy
        temperature = actor_critic.log_temperature.detach().exp()
        scale = settings.reward_scale or 1.0 / self.agent.reward_norm.scale
        with torch.no_grad():
            ahead = actor_critic.actor(next_inputs, noise[0])
            target = losses.bellman_target(
                reward=reward * scale,
                terminated=rows.terminated[:, 0],
                next_values=actor_critic.target_critics(next_inputs, ahead.action),
                next_log_prob=ahead.log_prob,
                temperature=temperature,
                discount=settings.discount,
            )
        values = actor_critic.critics(inputs, self.agent.scale_action(rows.action))
        valid, share = rows.valid[:, 0], _share(rows.valid)
        critic = losses.critic_loss(values * valid, target * valid) / share
        sampled = actor_critic.actor(actor_inputs, noise[1])
        judged = actor_critic.critics(actor_inputs.detach(), sampled.action, frozen=True)
        log_prob = sampled.log_prob * valid / share  # its mean is that of the valid rows
        actor = losses.actor_loss(judged * valid / share, log_prob, temperature)
        entropy = settings.target_entropy * rows.action.shape[-1]
        tempered = losses.temperature_loss(actor_critic.log_temperature, log_prob, entropy)
        self.metrics[f"{name}/critic_loss"] = critic
        self.metrics[f"{name}/value"] = (values * valid).mean() / share
        self.metrics[f"{name}/entropy"] = -log_prob.mean()
        self.metrics[f"{name}/temperature"] = temperature
        return Losses(critic, actor, tempered)


def _share(valid: Tensor) -> Tensor:
    """Share of the rows that are no padding, `[]`: a mean of what is zero in padding, over it, is of the others."""
    return valid.mean().clamp(min=1e-6)


def _take(values: Tensor, at: Tensor) -> Tensor:
    """Rows of `values`, `[M, length, ...]`, at `at`, `[M, k]`, as `[M, k, ...]`."""
    return values.gather(1, at[..., None].expand(*at.shape, values.shape[-1]))
