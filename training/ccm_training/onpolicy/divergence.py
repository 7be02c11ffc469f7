"""Looking for numbers that are not finite in a run of an on-policy method."""

import json
import math
from pathlib import Path

from ccm_runtime.durable import write_whole
from ccm_runtime.errors import DivergenceError
from ccm_training.onpolicy.seam import OnPolicyRun
from ccm_training.run_folder import DIVERGENCE


def check_finite(run: OnPolicyRun, run_dir: Path) -> None:
    """Look at the iteration's metrics and at the parameters, once for all updates.

    Raises:
        DivergenceError: One is not finite; the message names the file that says which.
    """
    series, state = run.tally.series(), run.agent.state_dict()
    parameters = [name for name, value in state.items() if not bool(value.isfinite().all())]
    bad = {name: ~values.isfinite() for name, values in series.items()}
    broken = [name for name, flags in bad.items() if bool(flags.any())]
    if not parameters and not broken:
        return
    at = min((int(bad[name].int().argmax()) for name in broken), default=len(run.tally) - 1)
    metrics = {name: float(values[at]) for name, values in series.items() if at < len(values)}
    named = [name for name in broken if not math.isfinite(metrics.get(name, 0.0))] or parameters
    found = {
        "iteration": run.counters.iteration,
        "env_steps": run.counters.env_steps,
        "update": at,
        "metrics": {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()},
        "parameters": parameters,
        "config": run.config.model_dump(mode="json"),
    }
    write_whole(run_dir / DIVERGENCE, json.dumps(found, indent=2))
    raise DivergenceError(
        f"iteration {run.counters.iteration + 1}, update {at + 1}: {', '.join(named)} stopped being finite; what there "
        f"is to say of it is in {run_dir / DIVERGENCE}, and the last checkpoint is from before. Lower the learning "
        "rates, or look at the family's rewards and observations"
    )
