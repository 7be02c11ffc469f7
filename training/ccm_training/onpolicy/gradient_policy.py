"""An agent that adapts by a gradient step, behind the fold interface: what the rollout and the evaluation drive.

A belief is everything that the exploration episodes showed; to read it is to take the inner step, and the latent is
the adapted policy's parameters.
"""

import torch
from torch import Tensor

from ccm_runtime.manifest import Adaptation
from ccm_training.belief import Latent
from ccm_training.onpolicy.gaussian import call, call_each, from_vector, parameters_of, to_vector
from ccm_training.onpolicy.gradient_agent import GradientAgent
from ccm_training.onpolicy.inner_step import Lesson
from ccm_training.replay import Rows
from ccm_training.sources import Source, normal

_ADAPTATION = {"explore_with": "belief", "latent": "mean", "while_executing": False, "certain_at": None}
"""There is one inner step, after the last exploration episode."""
_CLOSE = 1e-4  # float32, of scaled actions


class GradientPolicy:
    """Explores with the policy before the inner step, drawing its actions; executes with each task's own.

    Args:
        agent: Whose policy.
        adaptation: Shape of its trials.
        generator: Draws what it does while it explores: a gradient needs actions that differ.
    """

    def __init__(self, agent: GradientAgent, adaptation: Adaptation, generator: Source) -> None:
        self.agent = agent
        self.adaptation = adaptation.model_copy(update=_ADAPTATION)
        self.action_size = len(agent.action_reach)
        self._generator = generator
        self._parameters = parameters_of(agent.policy)
        self._steps = adaptation.explore_episodes * adaptation.horizon
        self._observations = agent.policy.observations
        self._drawn: Tensor | None = None

    def initial_belief(self, num: int) -> Tensor:
        """Nothing seen yet: the number of steps and room for each of them, `[num, 1 + steps * row]`."""
        row = self._observations + self.action_size + 2
        return self.agent.action_reach.new_zeros(num, 1 + self._steps * row)

    def explore(self, observation: Tensor, belief: Tensor, noise: Tensor) -> Tensor:
        """Actions drawn from the policy before the inner step, `[n, act]` in environment units."""
        del belief, noise
        now = call(self.agent.policy, self._parameters, observation)
        self._drawn = now.sample(normal(self._generator, *now.mean.shape))
        return self.agent.unscale_action(self._drawn)

    def execute(self, observation: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """Actions of each task's own policy, `[n, act]` in environment units."""
        now = call_each(self.agent.policy, from_vector(latent, self._parameters), observation)
        return self.agent.unscale_action(now.sample(noise))

    def fold(self, belief: Tensor, rows: Rows) -> Tensor:
        """Beliefs that also hold this step; after the exploration episodes, nothing more enters."""
        if self._steps == 0:
            return belief
        num, taken = len(belief), belief[:, :1].long()
        step = torch.cat([rows.observation, self._as_drawn(rows.action), rows.reward, rows.valid], -1)
        room = belief[:, 1:].reshape(num, self._steps, -1)
        here = torch.arange(self._steps, device=belief.device) == taken
        room = torch.where(here[..., None], step[:, None], room)
        return torch.cat([(taken + 1).clamp(max=self._steps).to(belief), room.flatten(1)], -1)

    def read(self, belief: Tensor) -> Latent:
        """The parameters that each task executes with, `[..., parameters]`; they say nothing of certainty."""
        rows, first = belief.flatten(0, -2), to_vector(self._parameters)
        full = rows[:, :1] == self._steps
        if self._steps == 0 or not bool(full.any()):
            mean = first.expand(len(rows), -1)
        else:
            adapted = self.agent.adapted(self._parameters, self._lessons(rows))
            mean = torch.where(full, torch.cat([value.flatten(1) for value in adapted.values()], -1), first)
        mean = mean.reshape(*belief.shape[:-1], -1)
        return Latent(mean, torch.ones_like(mean))

    def _as_drawn(self, action: Tensor) -> Tensor:
        """Scaled actions; those that were clipped as they were drawn, for their density is asked for."""
        scaled, drawn = self.agent.scale_action(action), self._drawn
        if drawn is None or drawn.shape != scaled.shape:
            return scaled
        return torch.where((drawn.clamp(-1.0, 1.0) - scaled).abs() < _CLOSE, drawn, scaled)

    def _lessons(self, belief: Tensor) -> Lesson:
        """What full beliefs hold, to learn from."""
        plan = self.adaptation
        room = belief[:, 1:].reshape(len(belief), plan.explore_episodes, plan.horizon, -1)
        observation, action, reward, valid = torch.split(room, [self._observations, self.action_size, 1, 1], -1)
        return Lesson(
            observation=observation,
            action=action,
            advantage=self.agent.advantages(observation, reward[..., 0], valid[..., 0]),
            valid=valid[..., 0],
            acted=call(self.agent.policy, self._parameters, observation),
        )
