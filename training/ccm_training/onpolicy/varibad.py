"""VariBAD (Zintgraf et al., 2020): the memory learns to predict a trial's rewards, the policy to act on it."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ccm_runtime.manifest import Adaptation
from ccm_training.config import Config
from ccm_training.envs.family import Family
from ccm_training.nets import Mlp
from ccm_training.onpolicy import elbo
from ccm_training.onpolicy.memory import MemoryAgent, MemoryPolicy, Posterior, build_memory_agent, fit_scales
from ccm_training.onpolicy.recurrent_ppo import RecurrentPpo, RunningStatistics, anneal, moments
from ccm_training.onpolicy.seam import Metrics, OnPolicyLearner, OnPolicyRun
from ccm_training.replay import Replay, Rows
from ccm_training.settings import VariationalConfig
from ccm_training.updates import begin


class Decoder(nn.Module):
    """Predicts from a latent what a transition pays and where it leads, in normalized units."""

    def __init__(self, latent: int, seen: int, actions: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.seen = seen
        self.reward = Mlp((latent + 2 * seen + actions, *hidden, 1))
        self.change = Mlp((latent + seen + actions, *hidden, seen))


class VariBad:
    """A belief learned by the ELBO, and a policy that PPO teaches to act on it; PPO's gradient stops at the belief."""

    def agent(self, config: Config, family: Family) -> MemoryAgent:
        """The networks, decoders among them."""
        latent = config.networks.latent
        agent = build_memory_agent(config, family, Posterior(config.on_policy.memory, latent))
        # What the decoders are told has no previous reward in it: they would copy it.
        agent.decoder = Decoder(latent, family.observation.size, family.action.size, config.variational.decoder_hidden)
        return agent

    def policy(self, agent: MemoryAgent, config: Config, adaptation: Adaptation) -> MemoryPolicy:
        """The fold."""
        del config
        return MemoryPolicy(agent, adaptation)

    def learner(self, agent: MemoryAgent, config: Config, adaptation: Adaptation, num_tasks: int) -> OnPolicyLearner:
        """PPO for the policy, the ELBO for the memory."""
        device = agent.action_reach.device
        replay = Replay(
            tasks=num_tasks,
            capacity=config.collect.capacity,
            episodes=adaptation.episodes,
            horizon=adaptation.horizon,
            observation=len(agent.observation_norm.mean),
            action=len(agent.action_reach),
            device=device,
        )
        return VariBadLearner(agent, config, replay)


class VariBadLearner:
    """Policy and value learn from PPO's loss on fresh trials, memory and decoders from the ELBO of stored ones."""

    def __init__(self, agent: MemoryAgent, config: Config, replay: Replay) -> None:
        self.agent, self.settings, self.replay = agent, config.variational, replay
        self._decay_from = config.decay_from
        acting = [*agent.actor.parameters(), *agent.value.parameters()]
        self._ppo = RecurrentPpo(agent, config, acting, recall=False)
        parts: list[nn.Module] = [agent.embed, agent.cell, agent.readout, decoder_of(agent)]
        remembering = [parameter for part in parts for parameter in part.parameters()]
        self._optimizer = torch.optim.Adam(remembering, lr=self.settings.learning_rate, fused=True)
        begin(self._optimizer)
        self._latents = RunningStatistics(len(agent.latent_norm.mean)).to(agent.action_reach.device)

    def warm_up(self, trials: Rows) -> None:
        """Fix the scales, and store the trials."""
        fit_scales(self.agent, trials)
        for trial in zip(*(field.unbind(1) for field in trials), strict=True):
            self.replay.add(torch.arange(len(trials.reward), device=trials.reward.device), Rows(*trial))

    def iterate(self, run: OnPolicyRun) -> Iterator[Metrics]:
        """Collect whole trials, teach the policy by them, then the memory by stored ones; and store these."""
        tasks, trials, latents = yield from self._ppo.iterate(run)
        anneal(self._optimizer, self.settings.learning_rate, self._decay_from, run)
        for _ in range(self.settings.updates):
            yield self._teach_memory(run.streams.learn)
        self.replay.add(tasks, trials)
        self._latents.see(latents)  # the policy's scales change between iterations only: it is held to what it did
        self.agent.latent_norm.mean.copy_(self._latents.mean)
        self.agent.latent_norm.scale.copy_(self._latents.spread)

    def tensors(self) -> dict[str, Tensor]:
        """What both optimizers remember, and the stored trials."""
        stored = {f"replay.{name}": value for name, value in self.replay.rows._asdict().items()}
        stored["replay.written"] = self.replay.written
        seen = {f"latents.{name}": value for name, value in self._latents.state_dict().items()}
        return self._ppo.tensors() | moments("memory", self._optimizer) | seen | stored

    def _teach_memory(self, stream: torch.Generator) -> Metrics:
        """One step on some stored trials."""
        device, num = stream.device, self.settings.trials
        tasks = torch.randint(len(self.replay.written), (num,), generator=stream, device=device)
        chance = torch.rand(num, 1, generator=stream, device=device)
        rows = Rows(*(field[:, 0].flatten(1, 2) for field in self.replay.sample_trials(tasks, chance)))
        loss, metrics = variational_loss(self.agent, rows, self.settings, stream)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return metrics


def decoder_of(agent: MemoryAgent) -> Decoder:
    """VariBAD's decoders."""
    assert isinstance(agent.decoder, Decoder)  # noqa: S101 (our own invariant)
    return agent.decoder


def variational_loss(
    agent: MemoryAgent, rows: Rows, settings: VariationalConfig, stream: torch.Generator
) -> tuple[Tensor, Metrics]:
    """The negative ELBO of trials `[n, steps, ...]`: after each step, all steps of the trial are to be predicted.

    Of the posteriors and of the steps, at most `settings.sampled` each are drawn; the sums are over all.
    """
    decoder, steps = decoder_of(agent), rows.reward.shape[1]
    mean, log_variance = agent.readout(agent.unroll(rows)).mean.chunk(2, -1)
    divergence = elbo.successive_divergences(mean, log_variance).sum(1).mean()
    times = torch.randperm(steps + 1, generator=stream, device=stream.device)[: settings.sampled]
    told = torch.randperm(steps, generator=stream, device=stream.device)[: settings.sampled]
    noise = torch.randn(len(mean), len(times), mean.shape[-1], generator=stream, device=stream.device)
    sample = mean[:, times] + (0.5 * log_variance[:, times]).exp() * noise
    share = len(times) * len(told) / ((steps + 1) * steps)

    some = Rows(*(field[:, told] for field in rows))
    before, after = (agent.observation_norm(field)[..., : decoder.seen] for field in (some[0], some[3]))
    change = agent.motion_norm(some.next_observation - some.observation)[..., : decoder.seen]
    action = agent.scale_action(some.action)

    def predict(model: nn.Module, *known: Tensor) -> Tensor:
        about = torch.cat(known, -1)[:, None].expand(-1, len(times), -1, -1)
        told_of = sample[:, :, None].expand(-1, -1, len(told), -1)
        predicted: Tensor = model(torch.cat([told_of, about], -1))
        return predicted

    reward_loss = elbo.reconstruction_loss(
        predict(decoder.reward, before, action, after), agent.reward_norm(some.reward), some.valid, share
    )
    loss = settings.reward_weight * reward_loss + settings.divergence_weight * divergence
    metrics = {"memory/reward_loss": reward_loss.detach(), "memory/divergence": divergence.detach()}
    if settings.change_weight > 0.0:
        change_loss = elbo.reconstruction_loss(predict(decoder.change, before, action), change, some.valid, share)
        loss = loss + settings.change_weight * change_loss
        metrics["memory/change_loss"] = change_loss.detach()
    return loss, metrics
