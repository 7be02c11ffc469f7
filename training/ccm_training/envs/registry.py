"""The families by name: ours, and users' own."""

import difflib

from ccm_runtime.errors import FamilyUnknownError
from ccm_training.envs.family import Family
from ccm_training.envs.mujoco.ant import ANT_FAMILIES
from ccm_training.envs.mujoco.cheetah import CHEETAH_FAMILIES
from ccm_training.envs.mujoco.humanoid import HUMANOID_FAMILIES
from ccm_training.envs.mujoco.walker import WALKER_FAMILIES
from ccm_training.envs.point_robot import HardPointRobot, SparsePointRobot
from ccm_training.envs.signpost import SignpostRobot
from ccm_training.envs.user_family import import_family, is_reference

_FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        SparsePointRobot(),
        HardPointRobot("hard-point-robot", aligned=False),
        HardPointRobot("hard-point-robot-aligned", aligned=True),
        SignpostRobot(),
        *CHEETAH_FAMILIES,
        *WALKER_FAMILIES,
        *ANT_FAMILIES,
        *HUMANOID_FAMILIES,
    )
}


def list_families() -> tuple[Family, ...]:
    """All families, in the order in which they are documented."""
    return tuple(_FAMILIES.values())


def get_family(name: str) -> Family:
    """The family of that name, or the one that `package.module:Family` names, which is imported.

    Only for names that the user gave, by a flag or in a config: to import is to run. `get_listed_family` takes others.

    Raises:
        FamilyUnknownError: There is none; the message names the nearest.
        FamilyError: A user's own family cannot be used.
    """
    if is_reference(name):
        return import_family(name)
    if name in _FAMILIES:
        return _FAMILIES[name]
    near = difflib.get_close_matches(name, _FAMILIES, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise FamilyUnknownError(
        f"no task family {name!r}{hint}; known: {', '.join(_FAMILIES)}; one of your own is named package.module:Family"
    )


def get_listed_family(name: str, *, origin: str) -> Family:
    """The family that a bundle or a server names: one of ours, for nothing is imported because they say so.

    Args:
        name: What it says.
        origin: Who says so, for the message.

    Raises:
        FamilyUnknownError: It is none of ours.
    """
    if is_reference(name):
        raise FamilyUnknownError(
            f"{origin} names the family {name!r}, which is not part of ccm and is not imported unasked; if you have "
            f"it and trust it, add --family {name}"
        )
    return get_family(name)
