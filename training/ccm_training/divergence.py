"""Looking for numbers that are not finite, and keeping the batch that they came with."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from ccm_runtime.durable import write_whole
from ccm_runtime.errors import DivergenceError
from ccm_training.batch import Batch, sample_batch
from ccm_training.checkpoint import what_is_saved
from ccm_training.experiment import Experiment, Run
from ccm_training.run_folder import DIVERGENCE

TENSORS = "divergence.safetensors"


class Broken(NamedTuple):
    """Numbers that are not finite.

    Attributes:
        update: The first update with one, since the last report.
        metrics: What that update said.
        parameters: The parameters that are not finite, by name.
    """

    update: int
    metrics: dict[str, float]
    parameters: list[str]

    @property
    def named(self) -> list[str]:
        """What is not finite: metrics or, if they are, parameters."""
        return [name for name, value in self.metrics.items() if not math.isfinite(value)] or self.parameters


def find_broken(run: Run) -> Broken | None:
    """Look at the metrics and at the parameters; the device is waited for once where all is well."""
    series, state = run.tally.series(), run.agent.state_dict()
    if bool(torch.stack([value.isfinite().all() for value in (*series.values(), *state.values())]).all()):
        return None
    broken = [name for name, values in series.items() if not values.isfinite().all()]
    parameters = [name for name, value in state.items() if not value.isfinite().all()]
    at = min((_first_bad(series[name]) for name in broken), default=len(run.tally) - 1)
    return Broken(at, {name: float(values[at]) for name, values in series.items() if 0 <= at < len(values)}, parameters)


def record_of(run: Run, found: Broken) -> dict[str, Any]:
    """What there is to say of it, for a file."""
    return {
        "iteration": run.counters.iteration,
        "env_steps": run.counters.env_steps,
        "update": found.update,
        "metrics": {name: value if math.isfinite(value) else str(value) for name, value in found.metrics.items()},
        "parameters": found.parameters,
        "config": run.config.model_dump(mode="json"),
    }


def check_finite(run: Experiment, run_dir: Path) -> None:
    """Look at the updates of the tally and at the parameters; done once for many updates, as it waits for the device.

    The first update whose metrics are not finite is looked for only then. Its batch, and the batch before it (whose
    step may have been the harmful one), are drawn once more, by the states that their random stream was in.

    Raises:
        DivergenceError: A metric or a parameter is not finite; the message names the files that hold the batches.
    """
    found = find_broken(run)
    if found is None:
        return
    at = found.update
    batches = {
        name: _draw_again(run, mark)
        for name, mark in (("batch", run.tally.mark(at)), ("before", run.tally.mark(at - 1)))
        if mark is not None
    }
    guilty = _entries_not_finite(batches)
    _dump(run_dir, batches)
    write_whole(run_dir / DIVERGENCE, json.dumps(record_of(run, found) | {"entries": guilty}, indent=2))
    cause = (
        f"the batch itself holds what is no number ({', '.join(guilty)}): look at the family's rewards and observations"
        if guilty
        else "lower policy.learning_rate or encoder.learning_rate"
    )
    raise DivergenceError(
        f"iteration {run.counters.iteration + 1}, update {at + 1}: {', '.join(found.named)} stopped being finite; "
        f"its batch is in {run_dir / TENSORS}, what there is to say of it in {run_dir / DIVERGENCE}, "
        f"and {what_is_saved(run_dir)}. As to the cause: {cause}"
    )


def _first_bad(values: Tensor) -> int:
    return int((~values.isfinite()).int().argmax())


def _draw_again(run: Experiment, mark: Tensor) -> Batch:
    generator = torch.Generator(run.device)
    generator.set_state(mark)
    return sample_batch(run.replay, run.features, run.config, generator)


def _named(batch: Batch) -> dict[str, Tensor]:
    """The batch's tensors by name: `trials.reward`, `keys.action`, `features`."""
    named: dict[str, Tensor] = {"features": batch.features}
    for part in ("trials", "keys", "rows"):
        named |= {f"{part}.{field}": value for field, value in getattr(batch, part)._asdict().items()}
    return named


def _entries_not_finite(batches: dict[str, Batch]) -> dict[str, int]:
    """How many entries of each tensor are no number."""
    counts = {
        f"{name}.{field}": int((~value.isfinite()).sum())
        for name, batch in batches.items()
        for field, value in _named(batch).items()
    }
    return {name: count for name, count in counts.items() if count}


def _dump(run_dir: Path, batches: dict[str, Batch]) -> None:
    tensors = {
        f"{name}.{field}": value.detach().cpu().contiguous()
        for name, batch in batches.items()
        for field, value in _named(batch).items()
    }
    write_whole(run_dir / TENSORS, save_tensors(tensors))
