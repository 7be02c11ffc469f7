"""PPO for a policy with a memory: collect whole trials, learn from them for a few epochs, forget them."""

from collections.abc import Generator, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ccm_runtime.errors import ConfigError
from ccm_training.config import Config
from ccm_training.onpolicy import ppo
from ccm_training.onpolicy.memory import MemoryAgent
from ccm_training.onpolicy.seam import Metrics, OnPolicyRun
from ccm_training.replay import Rows
from ccm_training.rollout import run_trials
from ccm_training.updates import annealed, begin


class Lesson(NamedTuple):
    """Trials of an iteration as PPO learns from them, fields `[n, steps, ...]`.

    Attributes:
        rows: Transitions.
        latent: What the policy was given.
        action: As it was drawn, in -1..1 where it is within the bounds.
        log_prob: Of the action, as the policy was.
        value: As it was expected.
        advantage: Standardized.
        target: Of the value.
    """

    rows: Rows
    latent: Tensor
    action: Tensor
    log_prob: Tensor
    value: Tensor
    advantage: Tensor
    target: Tensor


class FreshNoise:
    """Independent standard normal noise, kept: with it, the densities of the actions can be told afterwards."""

    def __init__(self, num: int, size: int, generator: torch.Generator) -> None:
        self._shape, self._generator = (num, size), generator
        self._drawn: list[Tensor] = []

    def restart(self) -> None:
        """Begin an episode."""

    def draw(self) -> Tensor:
        """Noise for one step, `[n, act]`."""
        self._drawn.append(torch.randn(self._shape, generator=self._generator, device=self._generator.device))
        return self._drawn[-1]

    def disturb(self, action: Tensor) -> Tensor:
        """The actions as they are."""
        return action

    def drawn(self) -> Tensor:
        """All of it, `[n, steps, act]`."""
        return torch.stack(self._drawn, 1)


class RunningStatistics(nn.Module):
    """Mean and spread of everything seen so far (Welford's, merged)."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))

    def see(self, rows: Tensor) -> None:
        """Take in `[n, size]`."""
        count, mean = self.count + len(rows), rows.double().mean(0)
        apart = mean - self.mean
        self.squares += (rows - mean).square().sum(0) + apart.square() * self.count * len(rows) / count
        self.mean += apart * len(rows) / count
        self.count.copy_(count)

    @property
    def spread(self) -> Tensor:
        """Standard deviation of each entry, `[size]`; 1 where nothing has varied."""
        found = (self.squares / self.count.clamp(min=1.0)).sqrt().float()
        return torch.where(found > 1e-6, found, torch.ones_like(found))


class RecurrentPpo:
    """Teaches policy and value and, through time, the memory where it is among `parameters`."""

    def __init__(self, agent: MemoryAgent, config: Config, parameters: Iterable[nn.Parameter], *, recall: bool) -> None:
        """Make the optimizer.

        Args:
            agent: Whose policy.
            config: Its group `on_policy` says how.
            parameters: What learns.
            recall: Send the gradient through the memory, which is thus run anew in every update.

        Raises:
            ConfigError: Trials would act on something else than the memory at each step, which it learns from.
        """
        if config.trial.latent != "mean" or not config.trial.while_executing:
            raise ConfigError(
                f"method {config.method!r} acts on all that it remembers, at every step: expected trial.latent=mean "
                f"and trial.while_executing=true, got {config.trial.latent} and "
                f"{str(config.trial.while_executing).lower()}"
            )
        self.agent, self.settings, self.decay_from = agent, config.on_policy, config.decay_from
        self._parameters, self._recall = list(parameters), recall
        self.returns = RunningStatistics(1).to(agent.action_reach.device)
        self.optimizer = torch.optim.Adam(self._parameters, lr=self.settings.learning_rate, fused=True)
        begin(self.optimizer)

    def tensors(self) -> dict[str, Tensor]:
        """What the optimizer remembers, and the spread of discounted returns that scales rewards, by name."""
        return moments("policy", self.optimizer) | {f"returns.{k}": v for k, v in self.returns.state_dict().items()}

    def iterate(self, run: OnPolicyRun) -> Generator[Metrics, None, tuple[Tensor, Rows, Tensor]]:
        """Collect and learn.

        Returns:
            The tasks (rows of the run's), their trials `[n, episodes, horizon, ...]`, and the latents acted on,
            `[rows, latent]`.
        """
        chosen = run.some_tasks()
        noise = FreshNoise(len(chosen), len(self.agent.action_reach), run.streams.collect)
        trials = run_trials(
            run.simulations(run.tasks[chosen]),
            run.policy_for(run.tasks[chosen]),
            episodes=run.adaptation.episodes,
            noise=noise,
            generator=run.streams.collect,
        )
        run.count(trials.rows)
        anneal(self.optimizer, self.settings.learning_rate, self.decay_from, run)
        lesson = self.lesson(Rows(*(field.flatten(1, 2) for field in trials.rows)), noise.drawn())
        for _ in range(self.settings.epochs):
            order = torch.randperm(len(chosen), generator=run.streams.learn, device=run.device)
            for picked in order.chunk(self.settings.minibatches):
                yield self.update(pick(lesson, picked))
        return chosen, trials.rows, lesson.latent[lesson.rows.valid[..., 0] > 0.0]

    @torch.no_grad()
    def lesson(self, rows: Rows, noise: Tensor) -> Lesson:
        """What the policy as it stands did and expected in trials `[n, steps, ...]` that it drew `noise` in."""
        valid, paid = rows.valid[..., 0], rows.reward[..., 0]
        self.returns.see(ppo.discounted_so_far(paid, valid, self.settings.discount)[valid > 0.0][:, None])
        latent = self._latents(rows)
        inputs = self.agent.policy_inputs(rows.observation, latent)
        acts = self.agent.actor(inputs)
        action, value = acts.sample(noise), self.agent.value(inputs)[..., 0]
        advantage = ppo.trial_advantages(
            paid / self.returns.spread, value, valid, discount=self.settings.discount, trace=self.settings.trace
        )
        return Lesson(
            rows,
            latent,
            action,
            acts.log_prob(action),
            value,
            ppo.standardized(advantage, valid),
            advantage + value,
        )

    def update(self, lesson: Lesson) -> Metrics:
        """One step of the optimizer."""
        settings, valid = self.settings, lesson.rows.valid[..., 0]
        latent = self._latents(lesson.rows) if self._recall else lesson.latent
        inputs = self.agent.policy_inputs(lesson.rows.observation, latent)
        acts, value = self.agent.actor(inputs), self.agent.value(inputs)[..., 0]
        log_prob = acts.log_prob(lesson.action)
        policy_loss = ppo.surrogate_loss(log_prob, lesson.log_prob, lesson.advantage, valid, settings.clip)
        value_loss = ppo.value_loss(value, lesson.value, lesson.target, valid, settings.clip)
        entropy = acts.entropy().mean()
        loss = policy_loss + settings.value_weight * value_loss - settings.entropy_weight * entropy
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._parameters, settings.max_gradient)
        self.optimizer.step()
        with torch.no_grad():
            changed = ppo.mean_over(lesson.log_prob - log_prob, valid)
        return {
            "policy/loss": policy_loss.detach(),
            "policy/value_loss": value_loss.detach(),
            "policy/entropy": entropy.detach(),
            "policy/divergence": changed,
            "policy/gradient": norm,
        }

    def _latents(self, rows: Rows) -> Tensor:
        """What the policy is given before each step of trials `[n, steps, ...]`."""
        latents: Tensor = self.agent.readout(self.agent.unroll(rows)[:, :-1]).mean
        return latents


def pick(lesson: Lesson, trials: Tensor) -> Lesson:
    """Some of the trials."""
    return Lesson(Rows(*(field[trials] for field in lesson.rows)), *(field[trials] for field in lesson[1:]))


def moments(label: str, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """What an optimizer remembers, by name."""
    return {
        f"optimizer.{label}.{index}.{name}": value
        for index, state in enumerate(optimizer.state.values())
        for name, value in state.items()
    }


def anneal(optimizer: torch.optim.Adam, first: float, decay_from: float, run: OnPolicyRun) -> None:
    """Set the learning rate: constant, then falling linearly to a tenth at the end of the run."""
    share = annealed(run.counters.iteration / run.config.collect.iterations, decay_from)
    for group in optimizer.param_groups:
        group["lr"] = first * share
