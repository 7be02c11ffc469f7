"""Where a cohort lives: an ordinary run folder for each seed, and which of their checkpoints belong together.

FOLDER/cohort.json       seeds, and the names of the checkpoints that were saved together, newest first
FOLDER/seed-3/           the run of seed 3, as `ccm train --seed 3` would leave it

A cohort is saved when `cohort.json` names its checkpoints: a crash before that goes on from those that were named. The
folder of a single run is a cohort's without any of this.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccm_runtime.crash_points import reach
from ccm_runtime.durable import write_whole
from ccm_runtime.errors import CheckpointCorruptError, CheckpointMissingError, ConfigError, RunError
from ccm_training.checkpoint import (
    FOLDER,
    check_begun,
    check_begun_with,
    checkpoint_name,
    is_whole,
    keep_checkpoints,
    progress_of,
    restore,
    restore_at,
    save_checkpoint,
    write_checkpoint,
    write_config,
)
from ccm_training.cohort import Cohort
from ccm_training.lock import trained_by_us_alone
from ccm_training.run_files import CohortShape, read_json
from ccm_training.run_folder import CONFIG

MARKER = "cohort.json"


@dataclass(frozen=True)
class CohortFolder:
    """Folders of the runs of a cohort.

    Attributes:
        runs: Of each run, in the order of the cohort.
        root: Holds them; `None`: a single run.
    """

    runs: tuple[Path, ...]
    root: Path | None = None

    @classmethod
    def of_seeds(cls, root: Path, seeds: Sequence[int]) -> "CohortFolder":
        """ROOT/seed-N for each of these."""
        return cls(tuple(root / f"seed-{seed}" for seed in seeds), root)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold all its runs while inside.

        Raises:
            RunError: Another process trains one of them.
        """
        with ExitStack() as held:
            for run_dir in self.runs:
                held.enter_context(trained_by_us_alone(run_dir))
            yield

    def check_free(self) -> None:
        """Refuse a folder that holds a run already.

        Raises:
            RunError: It does.
        """
        for path in (*self.runs, *([self.root] if self.root else [])):
            if (path / FOLDER).is_dir() or (path / MARKER).is_file():
                raise RunError(f"{path} holds a run already; go on with --resume, or choose another --run-dir")

    def check_begun(self) -> None:
        """Refuse a folder that holds nothing to go on with.

        Raises:
            CheckpointMissingError: There is no such run or cohort.
            CheckpointCorruptError: What there is of a cohort cannot be read.
        """
        if self.root is None:
            check_begun(self.runs[0])
        else:
            self._marked()

    def begin(self, cohort: Cohort) -> None:
        """Write the settings of every run; from then on the folder holds the cohort."""
        if self.root is not None and not (self.root / MARKER).is_file():
            self._mark(cohort, [])
        for run, run_dir in zip(cohort.runs, self.runs, strict=True):
            write_config(run.config, run_dir)

    def save(self, cohort: Cohort) -> list[str]:
        """Save every run as it stands; the names of the checkpoints."""
        if self.root is None:
            return [save_checkpoint(cohort.first, self.runs[0]).name]
        saved = self._saved()
        names = [checkpoint_name(run) for run in cohort.runs]
        for place, (run, run_dir) in enumerate(zip(cohort.runs, self.runs, strict=True)):
            named = any(names[place] == before[place] for before in saved)
            if not (named and (run_dir / FOLDER / names[place]).is_dir()):  # a run that waits is where it was
                write_checkpoint(run, run_dir)
        kept = [names, *(before for before in saved if before != names)][: cohort.first.config.checkpoints_kept]
        reach("cohort.saved")
        self._mark(cohort, kept)
        reach("cohort.named")
        for place, run_dir in enumerate(self.runs):
            keep_checkpoints(run_dir, {before[place] for before in kept})
        return names

    def restore(self, cohort: Cohort) -> list[str] | None:
        """Put every run back to where they were last saved together, in place.

        Returns:
            Names of the checkpoints; `None` if the cohort was killed before it was first saved: it begins again.

        Raises:
            CheckpointCorruptError: No checkpoints that belong together are whole.
            ConfigError: It was begun with other seeds or settings.
        """
        if self.root is None:
            path = restore(cohort.first, self.runs[0])
            return None if path is None else [path.name]
        self._check_seeds(cohort)
        saved = self._saved()
        if not saved:
            for run, run_dir in zip(cohort.runs, self.runs, strict=True):
                if (run_dir / CONFIG).is_file():
                    check_begun_with(run.config, run_dir)
            warnings.warn(f"{self.root}: stopped before its first checkpoint; the runs begin again", stacklevel=2)
            return None
        for names in saved:
            whole = [is_whole(run_dir, name) for run_dir, name in zip(self.runs, names, strict=True)]
            if all(whole):
                # What they share, as how many steps Adam took, is that of the last: one that waited is behind.
                for place, name in sorted(enumerate(names), key=lambda one: progress_of(one[1])):
                    restore_at(cohort.runs[place], self.runs[place], name)
                cohort.took(max(run.counters.time_s for run in cohort.runs))
                return names
        raise CheckpointCorruptError(
            f"{self.root}: of no checkpoints that were saved together all are whole and there; go on with each seed by "
            f"itself: ccm train --seed N --run-dir {self.root}/seed-N --resume"
        )

    def _check_seeds(self, cohort: Cohort) -> None:
        begun_with = self._marked()["seeds"]
        seeds = [run.config.seed for run in cohort.runs]
        if seeds != begun_with:
            was, now = (",".join(map(str, some)) for some in (begun_with, seeds))
            raise ConfigError(f"{self.root} was begun with --seeds {was}, got {now}; resume with those it has")

    def _marker(self) -> Path:
        return (self.root or self.runs[0]) / MARKER

    def _marked(self) -> dict[str, Any]:
        found = read_json(self._marker(), CohortShape)
        if found is None:
            raise CheckpointMissingError(
                f"{self.root}: no cohort there; expected {self._marker()}, as `ccm train --seeds` writes"
            )
        return found

    def _saved(self) -> list[list[str]]:
        found: list[list[str]] = self._marked()["saved"]
        return found

    def _mark(self, cohort: Cohort, saved: list[list[str]]) -> None:
        seeds = [run.config.seed for run in cohort.runs]
        write_whole(self._marker(), json.dumps({"seeds": seeds, "saved": saved}, indent=2) + "\n")
