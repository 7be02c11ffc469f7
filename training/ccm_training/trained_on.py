"""Which family an agent belongs to."""

from pathlib import Path

from ccm_runtime.errors import ConfigError
from ccm_training.envs.family import Family
from ccm_training.envs.registry import get_family, get_listed_family


def family_of_bundle(bundle: Path, name: str, given: str | None) -> Family:
    """The family of a bundle: one of ours, or the user's own that was given.

    Args:
        bundle: Where it is.
        name: What its manifest says.
        given: What the user says; `None`: nothing.

    Raises:
        FamilyUnknownError: It is a user's own, and was not given.
        ConfigError: Another one was given.
    """
    check_trained_on(bundle, name, given)
    return get_listed_family(name, origin=f"the bundle {bundle}") if given is None else get_family(given)


def check_trained_on(path: Path, trained_on: str, given: str | None) -> None:
    """Refuse another family than the one that a run or a bundle was trained on (ConfigError)."""
    if given not in {None, trained_on}:
        raise ConfigError(f"{path} was trained on {trained_on}; it does not know --family {given}")
