"""One update of the whole method: the only place where optimizers step.

All losses are summed once and every parameter steps once. The update reads and writes fixed tensors, asks the device
for nothing in between and has no data-dependent shape, so that the same function runs eagerly and captured.
"""

import torch
from torch import Tensor

from ccm_training.agent import Agent
from ccm_training.batch import Batch, Draws
from ccm_training.config import Config
from ccm_training.objective import Losses, Metrics, Objective
from ccm_training.stack import Agents


class Learner:
    """Optimizers and the update of a method, for one seed or for all of a cohort at once.

    Args:
        agents: What is trained.
        config: How.
        explore_episodes: K.
        device: Where.
    """

    def __init__(self, agents: Agents, config: Config, explore_episodes: int, device: torch.device) -> None:
        self.agents, self.config, agent = agents, config, agents.agent
        self._explore_episodes = explore_episodes
        cuda = device.type == "cuda"
        actor_critics = [agent.executor] + ([agent.explorer] if config.what.explorer else [])
        encoder: list[Tensor] = [
            *agent.encoder.parameters(),
            agent.bilinear,
            *agent.forward_model.parameters(),
            *agent.backward_model.parameters(),
        ]
        if config.what.told:
            encoder = []
        self._encoder = encoder
        critics: list[Tensor] = [p for ac in actor_critics for p in ac.critics.parameters()]
        actors: list[Tensor] = [p for ac in actor_critics for p in ac.actor.parameters()]
        temperatures: list[Tensor] = [ac.log_temperature for ac in actor_critics]
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
                group["lr"] = torch.tensor(group["lr"], device=device)
        self.encoder_optimizer = torch.optim.Adam(
            encoder or critics, lr=config.encoder.learning_rate, fused=True, capturable=cuda
        )
        self._momentum: tuple[list[Tensor], list[Tensor]] = (
            list(agent.momentum_encoder.parameters()),
            list(agent.encoder.parameters()),
        )
        self._targets: tuple[list[Tensor], list[Tensor]] = (
            [p for ac in actor_critics for p in ac.target_critics.parameters()],
            critics,
        )
        for optimizer in (self.optimizer, self.encoder_optimizer):
            begin(optimizer)

    def moments(self, place: int) -> dict[str, Tensor]:
        """What the optimizers remember of one seed, by name; how many steps they took is the same for all."""
        alone = self.agents.seeds == 1
        return {
            f"{name}.{index}.{moment}": value if alone or moment == "step" else value[place]
            for name, optimizer in (("all", self.optimizer), ("encoder", self.encoder_optimizer))
            for index, state in enumerate(optimizer.state.values())
            for moment, value in state.items()
        }

    def pretrain(self, batch: Batch, draws: Draws) -> Metrics:
        """One update of the encoder alone."""
        loss, metrics = self.agents(self._of_encoder, batch, draws)
        _assign(self._encoder, torch.autograd.grad(_total(loss), self._encoder, allow_unused=True))
        self.encoder_optimizer.step()
        _follow(*self._momentum, self.config.encoder.momentum)
        return {name: value.detach() for name, value in metrics.items()}

    def anneal(self, progress: float) -> None:
        """Set the learning rates for this share of the run, 0..1: constant, then falling linearly to a tenth."""
        share = annealed(progress, self.config.decay_from)
        for group, first in zip(self.optimizer.param_groups, self._rates, strict=True):
            rate = first * share
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def update(self, batch: Batch, draws: Draws) -> Metrics:
        """One update of encoder, executor and explorer."""
        (critic, actor, temperature), metrics = self.agents(self._of_update, batch, draws)
        _assign(self._estimated, torch.autograd.grad(_total(critic), self._estimated, allow_unused=True))
        _assign(self._improved, torch.autograd.grad(_total(actor), self._improved))
        _assign(self._temperatures, torch.autograd.grad(_total(temperature), self._temperatures))
        self.optimizer.step()
        _follow(*self._targets, self.config.policy.target_rate)
        _follow(*self._momentum, self.config.encoder.momentum)
        return {name: value.detach() for name, value in metrics.items()}

    def _of_update(self, agent: Agent, batch: Batch, draws: Draws) -> tuple[Losses, Metrics]:
        objective = Objective(self.config, self._explore_episodes, agent, batch, draws)
        return objective.of_update(), objective.metrics

    def _of_encoder(self, agent: Agent, batch: Batch, draws: Draws) -> tuple[Tensor, Metrics]:
        objective = Objective(self.config, self._explore_episodes, agent, batch, draws)
        return objective.of_encoder(), objective.metrics


def annealed(progress: float, decay_from: float) -> float:
    """Share of its first value that a learning rate has at this share of a run: 1, then falling linearly to a tenth."""
    fallen = max(progress - decay_from, 0.0) / max(1.0 - decay_from, 1e-9)
    return 1.0 - 0.9 * fallen


def begin(optimizer: torch.optim.Adam) -> None:
    """Give an optimizer what it remembers before its first step: it can be restored, and a graph finds it there."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


def _total(losses: Tensor) -> Tensor:
    """One loss, or those of several seeds, `[seeds]`, summed: no seed's gradient knows of another's."""
    return losses.sum() if losses.ndim else losses


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
