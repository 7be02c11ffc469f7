"""Files that a setting or a flag names."""

from pathlib import Path
from typing import Literal

from ccm_runtime.errors import ConfigError


def read_file(path: Path) -> bytes:
    """Return what is in a file that a setting names.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def read_pem(path: Path, kind: Literal["CERTIFICATE", "PRIVATE KEY", "PUBLIC KEY"]) -> bytes:
    """Return a PEM file that a setting names.

    Raises:
        ConfigError: It cannot be read, or holds nothing of that kind.
    """
    content = read_file(path)
    if f"{kind}-----".encode() not in content:
        raise ConfigError(f"{path} holds no {kind.lower()} in PEM form (a text with '-----BEGIN {kind}-----')")
    return content
