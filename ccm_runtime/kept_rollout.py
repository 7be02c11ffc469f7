"""A rollout as an agent's folder keeps it, so that it outlives the server: `AGENTS/AGENT/rollout.json`.

The link `current` says which version is current; this says the rest, and for which current version it holds. The link
is switched first: where the two disagree, a change was cut short or made by hand, and the link is right.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ccm_runtime.durable import write_whole
from ccm_runtime.errors import ConfigError
from ccm_runtime.wording import told

NAME = "rollout.json"
_MAX_BYTES = 64 << 10
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class KeptVersion(_Strict):
    """A version by its name, and the bundle that it was."""

    name: str
    digest: _Digest


class KeptRollout(_Strict):
    """What there is to open sessions with, as `versions.Rollout` has it.

    Attributes:
        moving: Digests of bundles whose sessions go on with the current version when their episode ends.
    """

    schema_version: Literal[1] = 1
    current: KeptVersion
    previous: KeptVersion | None = None
    candidate: KeptVersion | None = None
    share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    moving: tuple[_Digest, ...] = ()

    def under(self, current: str, digest: str) -> "KeptRollout":
        """Return what holds of it where the link leads to a version: without a candidate, if it is another one.

        A change that was cut short after the link was switched is thereby whole; one that went back stays back. Another
        bundle under the same name is another version, and leaves nothing of the one that it was put in place of.
        """
        now = KeptVersion(name=current, digest=digest)
        if now == self.current:
            return self
        if current == self.current.name:
            return KeptRollout(current=now, previous=self.previous)
        back = self.previous is not None and self.previous.name == current
        return KeptRollout(current=now, previous=None if back else self.current)


def write(folder: Path, kept: KeptRollout) -> None:
    """Keep an agent's rollout in its folder, all or nothing; once this returns, it outlives the machine.

    Raises:
        ConfigError: The folder cannot be written to.
    """
    try:
        write_whole(folder / NAME, kept.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise ConfigError(
            f"cannot keep the rollout of {folder.name}: {folder} cannot be written to ({error.strerror})"
        ) from None


def read(folder: Path, say: Callable[[str], None]) -> KeptRollout | None:
    """Return the rollout that an agent's folder keeps; `None`: none, or none that can be read.

    Args:
        folder: The agent's.
        say: Is told, in one line, of a file that is damaged; it is set aside.
    """
    path = folder / NAME
    try:
        with path.open("rb") as file:
            return KeptRollout.model_validate_json(file.read(_MAX_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        say(f"{path} cannot be read ({error.strerror}): no candidate, and no version to go back to")
    except ValidationError as error:
        aside = path.with_name(f"{NAME}.damaged")
        try:
            path.replace(aside)
            kept_as = f"is kept as {aside.name}"
        except OSError:
            kept_as = "stays where it is"
        say(
            f"{path} is damaged ({told(error)}) and {kept_as}: no candidate, and no version to go back to; "
            "load them again"
        )
    return None
