"""The families' ids in Gymnasium."""

from importlib.util import find_spec

from ccm_training.envs.registry import list_families


def gymnasium_id(family_name: str) -> str:
    """Return a family's id for `gymnasium.make`, e.g. `ccm/SparsePointRobot-v0` of `sparse-point-robot`."""
    words = "".join(word.capitalize() for word in family_name.split("-"))
    return f"ccm/{words}-v0"


def register_envs() -> None:
    """Make `gymnasium.make` know every family; does nothing where Gymnasium is not installed or knows them already.

    `import ccm_training` calls this.
    """
    if find_spec("gymnasium") is None:
        return
    from gymnasium.envs.registration import register, registry  # noqa: PLC0415 (an optional extra)

    for family in list_families():
        if gymnasium_id(family.name) not in registry:
            register(
                gymnasium_id(family.name),
                entry_point="ccm_training.envs.gymnasium_env:TaskEnv",
                kwargs={"family": family.name},
            )
