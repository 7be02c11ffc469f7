"""Meta-train an agent with CCM and its relatives. Importing this lets `gymnasium.make` know the task families."""

from ccm_training.envs.registration import register_envs

register_envs()
