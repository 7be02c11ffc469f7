"""Say which extra is missing instead of showing a failed import."""

from collections.abc import Iterator
from contextlib import contextmanager

from ccm_runtime.errors import DependencyMissingError

_OURS = ("ccm_runtime", "ccm_training", "ccm_export")


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a failed import of a third-party package into advice to install `extra`.

    Raises:
        DependencyMissingError: A package is missing; the message holds the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "a package").partition(".")[0]
        if package in _OURS:
            raise
        raise DependencyMissingError(
            f"this command needs {package}, which is not installed; install it with: pip install 'ccm[{extra}]'"
        ) from error
