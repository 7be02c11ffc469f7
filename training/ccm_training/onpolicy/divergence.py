"""Looking for numbers that are not finite in a run of an on-policy method, which keeps no batch of them."""

import json
from pathlib import Path

from ccm_runtime.durable import write_whole
from ccm_runtime.errors import DivergenceError
from ccm_training.checkpoint import what_is_saved
from ccm_training.divergence import find_broken, record_of
from ccm_training.onpolicy.seam import OnPolicyRun
from ccm_training.run_folder import DIVERGENCE


def check_finite(run: OnPolicyRun, run_dir: Path) -> None:
    """Look at the iteration's metrics and at the parameters, once for all updates.

    Raises:
        DivergenceError: One is not finite; the message names the file that says which.
    """
    found = find_broken(run)
    if found is None:
        return
    write_whole(run_dir / DIVERGENCE, json.dumps(record_of(run, found), indent=2))
    raise DivergenceError(
        f"iteration {run.counters.iteration + 1}, update {found.update + 1}: {', '.join(found.named)} stopped being "
        f"finite; what there is to say of it is in {run_dir / DIVERGENCE}, and {what_is_saved(run_dir)}. "
        "Lower the learning rates, or look at the family's rewards and observations"
    )
