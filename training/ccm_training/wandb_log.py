"""A run's lines at Weights & Biases, beside those in its folder; `WANDB_MODE=offline` keeps them on this machine."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccm_runtime.durable import write_whole
from ccm_runtime.errors import ConfigError, DependencyMissingError
from ccm_training.config import Config
from ccm_training.run_files import WandbShape, read_json
from ccm_training.run_folder import WANDB


def client() -> Any:
    """The package wandb.

    Raises:
        DependencyMissingError: It is not installed.
    """
    try:
        import wandb  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError as error:
        raise DependencyMissingError(
            "--wandb needs wandb, which is not installed; install it with: pip install 'ccm[wandb]'"
        ) from error
    return wandb


class WandbLog:
    """One run there; when the run goes on, so does that, and when it begins again, so does another.

    Args:
        project: Where it belongs.
        run_dir: Where the run lives; its last part is the name there.
        config: Its settings.

    Raises:
        DependencyMissingError: wandb is not installed.
        ConfigError: It cannot begin: nobody is logged in, or nobody answers.
        CheckpointCorruptError: The id that the run had cannot be read.
    """

    def __init__(self, project: str, run_dir: Path, config: Config) -> None:
        wandb, identity = client(), _identity(run_dir)
        try:
            self._run = wandb.init(
                project=project,
                name=run_dir.name,
                id=identity,
                resume="allow",
                dir=run_dir,
                config=config.model_dump(mode="json"),
            )
        except Exception as error:  # of whatever kind: it is theirs
            why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise ConfigError(
                f"--wandb: Weights & Biases does not begin: {why}; mend that, or keep its lines on this machine "
                "(WANDB_MODE=offline), then go on with --resume"
            ) from error

    def report(self, line: Mapping[str, Any]) -> None:
        """Send a line of the metrics; a list's entries are numbered from 1."""
        numbers = {name: value for name, value in line.items() if not isinstance(value, list)}
        for name, values in line.items():
            if isinstance(values, list):
                numbers |= {f"{name}/{place}": value for place, value in enumerate(values, 1)}
        self._run.log(numbers, step=line["iteration"])

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


def _identity(run_dir: Path) -> str:
    """The run's id there: drawn once, and kept in its folder."""
    found = read_json(run_dir / WANDB, WandbShape)
    if found is None:
        found = {"id": secrets.token_hex(8)}
        write_whole(run_dir / WANDB, json.dumps(found) + "\n")
    identity: str = found["id"]
    return identity
