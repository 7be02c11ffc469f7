"""What MAML and ProMP train: one Gaussian policy, from which every task begins; and the lessons that it learns from."""

import torch
from torch import Tensor

from ccm_training.envs.family import BatchedEnv
from ccm_training.onpolicy.advantages import advantages
from ccm_training.onpolicy.gaussian import Gaussian, GaussianPolicy, Parameters, call_each
from ccm_training.onpolicy.inner_step import InnerStep, Lesson, adapt_each
from ccm_training.replay import Rows
from ccm_training.rollout import Episode, stack
from ccm_training.scales import ScaledActions
from ccm_training.sources import Source, normal


class GradientAgent(ScaledActions):
    """A policy over scaled actions, the scale, and how it adapts."""

    def __init__(
        self, *, observations: int, action_low: Tensor, action_high: Tensor, hidden: tuple[int, ...], inner: InnerStep
    ) -> None:
        super().__init__(action_low, action_high)
        self.inner = inner
        self.policy = GaussianPolicy(observations, len(action_low), hidden)

    def advantages(self, observation: Tensor, reward: Tensor, valid: Tensor) -> Tensor:
        """Of steps `[tasks, episodes, steps, ...]`, as both steps use them."""
        return advantages(observation, reward, valid, discount=self.inner.discount, trace=self.inner.trace)

    def adapted(self, parameters: Parameters, lessons: Lesson) -> Parameters:
        """Each task's parameters after the inner step from the same ones, `[tasks, ...]`."""
        return adapt_each(self.inner.loss, self.policy, parameters, lessons, self.inner.rate)

    def unscale_action(self, action: Tensor) -> Tensor:
        """To environment units; what lies beyond the bounds is clipped."""
        return super().unscale_action(action.clamp(-1.0, 1.0))


@torch.no_grad()
def sample_lesson(
    env: BatchedEnv,
    agent: GradientAgent,
    parameters: Parameters,
    *,
    horizon: int,
    observe_reward: bool,
    generator: Source,
) -> tuple[Lesson, Rows]:
    """One episode on every simulation, all in lock-step, acted by the policy of the simulation's task.

    Args:
        env: Simulations; those of the first task come first, as many of each.
        agent: Whose policy.
        parameters: Of each task, `[tasks, ...]`.
        horizon: Steps of an episode.
        observe_reward: Append the previous reward to observations.
        generator: Draws the actions.

    Returns:
        The lesson, and the transitions that it is made of, fields `[n, horizon, ...]`.
    """
    shape = (len(next(iter(parameters.values()))), -1)
    episode, steps, raw, acted = Episode(env, observe_reward=observe_reward), [], [], []
    for _ in range(horizon):
        now = call_each(agent.policy, parameters, episode.observation.view(*shape, episode.observation.shape[-1]))
        action = now.sample(normal(generator, env.num_envs, now.mean.shape[-1]).view_as(now.mean))
        steps.append(episode.step(agent.unscale_action(action).flatten(0, 1)))
        raw.append(action)
        acted.append(now)
    rows = stack(steps)
    observation = rows.observation.view(*shape, *rows.observation.shape[1:])
    reward, valid = (field.view(*shape, horizon) for field in (rows.reward, rows.valid))
    lesson = Lesson(
        observation=observation,
        action=torch.stack(raw, 2),
        advantage=agent.advantages(observation, reward, valid),
        valid=valid,
        acted=Gaussian(*(torch.stack(field, 2) for field in zip(*acted, strict=True))),
    )
    return lesson, rows
