"""PEARL as its released code schedules it, from a description of that scheme: what our learner is timed against.

Scalar loops over tasks, a `Normal` object for each task, replay in numpy that is sampled task by task, separate
backward passes and optimizers for critics, value, policy and encoder, one environment and one step at a time.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from point_robot_one_by_one import PlainPointRobot
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F  # noqa: N812

Array = NDArray[np.float64]
FIELDS = ("observation", "action", "reward", "next_observation", "terminated")


@dataclass(frozen=True)
class Sizes:
    """Of networks and batches."""

    observation: int = 20
    action: int = 6
    latent: int = 5
    hidden: tuple[int, ...] = (300, 300, 300)
    encoder_hidden: tuple[int, ...] = (200, 200, 200)
    tasks: int = 16
    rows: int = 256
    context: int = 100


class TaskReplay:
    """Transitions of one task: an array for each field."""

    def __init__(self, sizes: Sizes, capacity: int) -> None:
        widths = (sizes.observation, sizes.action, 1, sizes.observation, 1)
        self._fields = {name: np.zeros((capacity, width)) for name, width in zip(FIELDS, widths, strict=True)}
        self._capacity, self._top, self.size = capacity, 0, 0

    def add(self, **transition: Array | float) -> None:
        """Store one transition."""
        for name, value in transition.items():
            self._fields[name][self._top] = value
        self._top = (self._top + 1) % self._capacity
        self.size = min(self.size + 1, self._capacity)

    def sample(self, num: int, rng: np.random.Generator) -> dict[str, Array]:
        """`num` transitions, each field `[num, ...]`."""
        at = rng.integers(0, self.size, num)
        return {name: values[at] for name, values in self._fields.items()}


def sample_tasks(replays: list[TaskReplay], tasks: list[int], num: int, rng: np.random.Generator) -> list[Tensor]:
    """`num` transitions of each task, fields `[tasks, num, ...]`, drawn and converted one task after another."""
    drawn = [replays[task].sample(num, rng) for task in tasks]
    each = [[torch.from_numpy(part[name]).float()[None] for name in FIELDS] for part in drawn]
    return [torch.cat([fields[index] for fields in each], 0) for index in range(len(FIELDS))]


def network(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class Pearl:
    """SAC with a value network, on latents of a product of Gaussians."""

    def __init__(self, sizes: Sizes) -> None:
        obs, act, latent = sizes.observation, sizes.action, sizes.latent
        self.sizes = sizes
        self.encoder = network((obs + act + 1, *sizes.encoder_hidden, 2 * latent))
        self.first = network((obs + act + latent, *sizes.hidden, 1))
        self.second = network((obs + act + latent, *sizes.hidden, 1))
        self.value = network((obs + latent, *sizes.hidden, 1))
        self.slow_value = network((obs + latent, *sizes.hidden, 1))
        self.policy = network((obs + latent, *sizes.hidden, 2 * act))
        self._optimizers = {
            name: torch.optim.Adam(getattr(self, name).parameters(), lr=3e-4)
            for name in ("encoder", "first", "second", "value", "policy")
        }

    def infer(self, context: list[Tensor]) -> list[Normal]:
        """Posterior of each task from its transitions, fields `[tasks, n, ...]`: one task after another."""
        told = self.encoder(torch.cat(context[:3], -1))
        posteriors = []
        for mean, raw in zip(*told.chunk(2, -1), strict=True):
            variance = F.softplus(raw).clamp(min=1e-7)
            together = 1.0 / torch.sum(torch.reciprocal(variance), 0)
            posteriors.append(Normal(together * torch.sum(mean / variance, 0), together.sqrt()))
        return posteriors

    def act(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Actions with their log-probabilities `[n, 1]`, means and log deviations."""
        mean, log_std = self.policy(inputs).chunk(2, -1)
        log_std = log_std.clamp(-20.0, 2.0)
        before = Normal(mean, log_std.exp())
        drawn = before.rsample()
        action = torch.tanh(drawn)
        log_prob = before.log_prob(drawn) - torch.log(1.0 - action * action + 1e-6)
        return action, log_prob.sum(1, keepdim=True), mean, log_std

    def update(self, context: list[Tensor], rows: list[Tensor]) -> Tensor:
        """One update of everything, in five backward passes."""
        posteriors = self.infer(context)
        latents = torch.stack([posterior.rsample() for posterior in posteriors])
        num = rows[0].shape[1]
        latent = torch.cat([each.repeat(num, 1) for each in latents], 0)
        observation, action, reward, after, terminated = (field.flatten(0, 1) for field in rows)
        known = latent.detach()
        fresh, log_prob, mean, log_std = self.act(torch.cat([observation, known], 1))
        first = self.first(torch.cat([observation, action, latent], 1))
        second = self.second(torch.cat([observation, action, latent], 1))
        value = self.value(torch.cat([observation, known], 1))
        with torch.no_grad():
            ahead = self.slow_value(torch.cat([after, known], 1))

        self._optimizers["encoder"].zero_grad()
        prior = Normal(torch.zeros(self.sizes.latent), torch.ones(self.sizes.latent))
        divergence = torch.sum(torch.stack([kl_divergence(posterior, prior).sum() for posterior in posteriors]))
        (0.1 * divergence).backward(retain_graph=True)
        self._optimizers["first"].zero_grad()
        self._optimizers["second"].zero_grad()
        target = 5.0 * reward + (1.0 - terminated) * 0.99 * ahead
        critic = torch.mean((first - target) ** 2) + torch.mean((second - target) ** 2)
        critic.backward()
        for name in ("first", "second", "encoder"):
            self._optimizers[name].step()

        best = torch.min(
            self.first(torch.cat([observation, fresh, known], 1)),
            self.second(torch.cat([observation, fresh, known], 1)),
        )
        self._optimizers["value"].zero_grad()
        F.mse_loss(value, (best - log_prob).detach()).backward()
        self._optimizers["value"].step()
        for slow, quick in zip(self.slow_value.parameters(), self.value.parameters(), strict=True):
            slow.data.copy_(slow.data * 0.995 + quick.data * 0.005)

        self._optimizers["policy"].zero_grad()
        improvement = (log_prob - best).mean() + 1e-3 * (mean**2).mean() + 1e-3 * (log_std**2).mean()
        improvement.backward()
        self._optimizers["policy"].step()
        return critic.detach()


class Collector:
    """Trials on one plain point robot at a time; the posterior is inferred after each episode."""

    def __init__(self, agent: Pearl, robot: PlainPointRobot, replay: TaskReplay, horizon: int) -> None:
        self._agent, self._robot, self._replay, self._horizon = agent, robot, replay, horizon
        self._rng = np.random.default_rng(0)

    def trial(self, goals: Array, episodes: int) -> int:
        """Some episodes on one task; returns their steps."""
        sizes = self._agent.sizes
        posterior = Normal(torch.zeros(sizes.latent), torch.ones(sizes.latent))
        for _ in range(episodes):
            latent = posterior.sample()[None]
            seen = self._robot.reset(goals)
            for _ in range(self._horizon):
                with torch.no_grad():
                    inputs = torch.cat([torch.from_numpy(seen).float()[None], latent], 1)
                    action = self._agent.act(inputs)[0][0].numpy()
                after, reward, terminated, _ = self._robot.step(0.1 * action)
                self._replay.add(
                    observation=seen, action=action, reward=reward, next_observation=after, terminated=float(terminated)
                )
                seen = after
            with torch.no_grad():
                posterior = self._agent.infer(sample_tasks([self._replay], [0], sizes.context, self._rng))[0]
        return episodes * self._horizon
