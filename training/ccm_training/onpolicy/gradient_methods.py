"""MAML and ProMP as on-policy methods: collect before and after the inner step, then take the outer one."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ccm_runtime.errors import ConfigError
from ccm_runtime.manifest import Adaptation
from ccm_training.config import Config
from ccm_training.envs.family import Family
from ccm_training.experiment import entries_seen
from ccm_training.onpolicy.gaussian import Parameters, parameters_of
from ccm_training.onpolicy.gradient_agent import GradientAgent, sample_lesson
from ccm_training.onpolicy.gradient_policy import GradientPolicy
from ccm_training.onpolicy.inner_step import InnerLoss, InnerStep, Lesson, likelihood_loss, ratio_loss
from ccm_training.onpolicy.maml import maml_step
from ccm_training.onpolicy.promp import promp_loss
from ccm_training.onpolicy.recurrent_ppo import moments
from ccm_training.onpolicy.seam import Metrics, OnPolicyLearner, OnPolicyRun
from ccm_training.replay import Rows
from ccm_training.updates import begin


@dataclass(frozen=True)
class Maml:
    """Model-agnostic meta-learning with a trust region (Finn et al., 2017)."""

    loss: InnerLoss = likelihood_loss

    def agent(self, config: Config, family: Family) -> GradientAgent:
        """The policy from which every task begins."""
        settings = config.gradient
        return GradientAgent(
            observations=entries_seen(config, family),
            action_low=torch.from_numpy(family.action.low_array),
            action_high=torch.from_numpy(family.action.high_array),
            hidden=settings.hidden,
            inner=InnerStep(self.loss, settings.inner_rate, settings.discount, settings.trace),
        )

    def policy(self, agent: GradientAgent, config: Config, adaptation: Adaptation) -> GradientPolicy:
        """How it goes through a trial; what it draws while it explores is the same every time."""
        return GradientPolicy(agent, adaptation, torch.Generator(agent.action_reach.device).manual_seed(config.seed))

    def learner(self, agent: GradientAgent, config: Config, adaptation: Adaptation, num_tasks: int) -> OnPolicyLearner:
        """Takes one outer step an iteration."""
        del adaptation, num_tasks
        return MamlLearner(agent, config)


@dataclass(frozen=True)
class ProMp(Maml):
    """Proximal meta-policy search (Rothfuss et al., 2019)."""

    loss: InnerLoss = ratio_loss

    def learner(self, agent: GradientAgent, config: Config, adaptation: Adaptation, num_tasks: int) -> OnPolicyLearner:
        """Takes some outer steps an iteration."""
        del adaptation, num_tasks
        return ProMpLearner(agent, config)


class MamlLearner:
    """One trust-region step an iteration."""

    def __init__(self, agent: GradientAgent, config: Config) -> None:
        _check_trials(config)
        self._agent, self._settings = agent, config.gradient

    def warm_up(self, trials: Rows) -> None:
        """Nothing to take: the policy sees observations as they are."""

    def iterate(self, run: OnPolicyRun) -> Iterator[Metrics]:
        """Collect, and take the outer step."""
        before, after, returns = collect(run, self._agent)
        policy, settings = self._agent.policy, self._settings
        parameters, stepped = maml_step(
            policy, parameters_of(policy), before, after, rate=settings.inner_rate, radius=settings.radius
        )
        policy.load_state_dict(parameters)
        yield returns | {
            "outer/loss": stepped.loss,
            "outer/improvement": stepped.improvement,
            "outer/divergence": stepped.divergence,
            "outer/share": torch.full_like(stepped.loss, stepped.share),
        }

    def tensors(self) -> dict[str, Tensor]:
        """It remembers nothing but the agent."""
        return {}


class ProMpLearner:
    """Some steps of Adam an iteration, on the same episodes; its learning rate stays what it is, as published."""

    def __init__(self, agent: GradientAgent, config: Config) -> None:
        _check_trials(config)
        self._agent, self._settings = agent, config.gradient
        self._optimizer = torch.optim.Adam(agent.policy.parameters(), lr=self._settings.learning_rate)
        begin(self._optimizer)

    def warm_up(self, trials: Rows) -> None:
        """Nothing to take: the policy sees observations as they are."""

    def iterate(self, run: OnPolicyRun) -> Iterator[Metrics]:
        """Collect, and take the outer steps."""
        before, after, returns = collect(run, self._agent)
        policy, settings = self._agent.policy, self._settings
        parameters: Parameters = dict(policy.named_parameters())
        for _ in range(settings.epochs):
            found = promp_loss(
                policy,
                parameters,
                before,
                after,
                rate=settings.inner_rate,
                clip=settings.clip,
                weight=settings.divergence_weight,
            )
            gradients = torch.autograd.grad(found.loss, list(parameters.values()))
            for value, gradient in zip(parameters.values(), gradients, strict=True):
                value.grad = gradient
            self._optimizer.step()
            yield returns | {
                "outer/loss": found.loss.detach(),
                "outer/surrogate": found.surrogate.detach(),
                "outer/divergence": found.divergence.detach(),
            }

    def tensors(self) -> dict[str, Tensor]:
        """Adam's moments."""
        return moments("outer", self._optimizer)


def collect(run: OnPolicyRun, agent: GradientAgent) -> tuple[Lesson, Lesson, Metrics]:
    """Episodes of some tasks before and after the inner step, and the mean return of either."""
    first, tasks = parameters_of(agent.policy), run.tasks[run.some_tasks()]
    before, earned = _sample(
        run, agent, tasks, {name: value.expand(len(tasks), *value.shape) for name, value in first.items()}
    )
    with torch.no_grad():
        adapted = agent.adapted(first, before)
    after, earned_after = _sample(run, agent, tasks, adapted)
    return before, after, {"return/before_step": earned, "return/after_step": earned_after}


def _sample(run: OnPolicyRun, agent: GradientAgent, tasks: Tensor, parameters: Parameters) -> tuple[Lesson, Tensor]:
    """Episodes of each task under its own parameters, and their mean return."""
    lesson, rows = sample_lesson(
        run.simulations(tasks.repeat_interleave(run.config.gradient.rollouts, 0)),
        agent,
        parameters,
        horizon=run.family.horizon,
        observe_reward=run.config.trial.observe_reward,
        generator=run.streams.collect,
    )
    run.count(rows)
    return lesson, (rows.reward * rows.valid).sum((1, 2)).mean()


def _check_trials(config: Config) -> None:
    """Refuse trials that would adapt at another time than after the last exploration episode (ConfigError)."""
    trial = config.trial
    if trial.latent != "mean" or trial.while_executing or trial.certain_at is not None:
        raise ConfigError(
            f"method {config.method!r} adapts once, after the last exploration episode: expected trial.latent=mean, "
            f"trial.while_executing=false and trial.certain_at=null, got {trial.latent}, "
            f"{str(trial.while_executing).lower()} and {'null' if trial.certain_at is None else trial.certain_at}"
        )
