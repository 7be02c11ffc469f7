"""RL2 (Duan et al., 2016; Wang et al., 2016): what to remember is learned by the reward of whole trials alone."""

from collections.abc import Iterator

from torch import Tensor

from ccm_runtime.manifest import Adaptation
from ccm_training.config import Config
from ccm_training.envs.family import Family
from ccm_training.onpolicy.memory import MemoryAgent, MemoryPolicy, Readout, build_memory_agent, fit_scales
from ccm_training.onpolicy.recurrent_ppo import RecurrentPpo
from ccm_training.onpolicy.seam import Metrics, OnPolicyLearner, OnPolicyRun
from ccm_training.replay import Rows


class Rl2:
    """A recurrent policy; PPO's gradient goes through the memory, from the end of a trial to its beginning."""

    def agent(self, config: Config, family: Family) -> MemoryAgent:
        """The networks."""
        return build_memory_agent(config, family, Readout(config.on_policy.memory))

    def policy(self, agent: MemoryAgent, config: Config, adaptation: Adaptation) -> MemoryPolicy:
        """The fold."""
        del config
        return MemoryPolicy(agent, adaptation)

    def learner(self, agent: MemoryAgent, config: Config, adaptation: Adaptation, num_tasks: int) -> OnPolicyLearner:
        """PPO."""
        del adaptation, num_tasks
        return Rl2Learner(agent, config)


class Rl2Learner:
    """Everything learns from PPO's loss."""

    def __init__(self, agent: MemoryAgent, config: Config) -> None:
        self.agent = agent
        self._ppo = RecurrentPpo(agent, config, agent.parameters(), recall=True)

    def warm_up(self, trials: Rows) -> None:
        """Fix the scales."""
        fit_scales(self.agent, trials)

    def iterate(self, run: OnPolicyRun) -> Iterator[Metrics]:
        """Collect whole trials and learn from them."""
        yield from self._ppo.iterate(run)

    def tensors(self) -> dict[str, Tensor]:
        """What PPO remembers."""
        return self._ppo.tensors()
