"""Whether a family still is what a run was trained on, as far as the tensors of its checkpoint tell."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ccm_runtime.errors import ConfigError
from ccm_training.config import Config

_READ_BY = ("agent.observation_norm.mean", "agent.policy.mean.0.weight")
"""What has a column for each entry of an observation as the agent sees it, whatever the method."""


def check_same_family(config: Config, run_dir: Path, own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Refuse a family that has changed since a run was trained on it.

    Args:
        config: Settings of the run.
        run_dir: Where it lives.
        own: What is to be read from its checkpoint, by name, as the family asks for it now.
        saved: Tensors of its checkpoint.

    Raises:
        ConfigError: Observations, actions or their bounds, episodes or trials are no longer what they were.
    """
    before, now = (_told(config, {name: some[name] for name in own if name in saved}) for some in (saved, own))
    for what, value in now.items():
        if before.get(what, value) != value:
            raise ConfigError(
                f"{run_dir} was trained on {config.family} with {what.format(before[what])}; it now has {value}; "
                "train anew, or put the family back"
            )


def _told(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """What tensors tell of a family: a value for each phrase, those that explain others first."""
    read_by = next(name for name in _READ_BY if name in tensors)
    told = {"observations of size {}": str(tensors[read_by].shape[-1] - int(config.trial.observe_reward))}
    middle, reach = tensors["agent.action_middle"], tensors["agent.action_reach"]
    told["actions of size {}"] = str(len(middle))
    for entry, (low, high) in enumerate(zip((middle - reach).tolist(), (middle + reach).tolist(), strict=True)):
        told[f"entry {entry} of actions in {{}}"] = f"{low:.6g} to {high:.6g}"
    if "replay.observation" in tensors:
        _, _, episodes, horizon, _ = tensors["replay.observation"].shape
        told |= {"episodes of {} steps": str(horizon), "trials of {} episodes": str(episodes)}
    agents = {name: value for name, value in tensors.items() if name.startswith("agent.")}
    return told | {f"{name} of shape {{}}": str(list(value.shape)) for name, value in agents.items()}
