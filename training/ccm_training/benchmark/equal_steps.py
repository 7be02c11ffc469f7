"""How many iterations give methods that collect differently the same environment steps."""

from ccm_training.config import Config
from ccm_training.envs.registry import get_family
from ccm_training.experiment import adaptation_of


def env_steps(config: Config) -> int:
    """Environment steps of a whole training, if no episode ends before its horizon."""
    return _of_warm_up(config) + config.collect.iterations * _of_iteration(config)


def iterations_like(config: Config, like: Config) -> int:
    """As many iterations of `config` as come nearest to the environment steps of `like`."""
    return max(1, round((env_steps(like) - _of_warm_up(config)) / _of_iteration(config)))


def _of_warm_up(config: Config) -> int:
    return config.collect.warmup_trials * config.tasks.num_train * _of_trial(config)


def _of_iteration(config: Config) -> int:
    """A trial on each task; for methods that adapt by a gradient step, episodes before it and as many after it."""
    tasks = min(config.collect.tasks, config.tasks.num_train)
    if config.what.gradient:
        return tasks * 2 * config.gradient.rollouts * get_family(config.family).horizon
    return tasks * _of_trial(config)


def _of_trial(config: Config) -> int:
    adaptation = adaptation_of(config, get_family(config.family))
    return adaptation.episodes * adaptation.horizon
