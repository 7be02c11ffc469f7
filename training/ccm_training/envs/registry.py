"""The families by name."""

import difflib

from ccm_runtime.errors import FamilyUnknownError
from ccm_training.envs.family import Family
from ccm_training.envs.point_robot import HardPointRobot, SparsePointRobot

_FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        SparsePointRobot(),
        HardPointRobot("hard-point-robot", aligned=False),
        HardPointRobot("hard-point-robot-aligned", aligned=True),
    )
}


def list_families() -> tuple[Family, ...]:
    """All families, in the order in which they are documented."""
    return tuple(_FAMILIES.values())


def get_family(name: str) -> Family:
    """The family of that name.

    Raises:
        FamilyUnknownError: There is none; the message names the nearest.
    """
    if name in _FAMILIES:
        return _FAMILIES[name]
    near = difflib.get_close_matches(name, _FAMILIES, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise FamilyUnknownError(f"no task family {name!r}{hint}; known: {', '.join(_FAMILIES)}")
