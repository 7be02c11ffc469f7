"""The full figures of what a training run survives; the tests run the same campaigns in short.

    python benchmarks/reliability_training.py --out benchmarks/results/reliability

Each campaign writes one file: what was done, how often, and what must be 0 or empty. It ends with 1 if anything is not.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from campaigns import Result, run_campaigns

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import saves


def kills_during_a_save(seed: int) -> Result:
    """E30: kill a run 50 times while it saves itself."""
    with tempfile.TemporaryDirectory() as folder:
        found = saves.campaign(Path(folder) / "run", 50, seed)
    return {
        "what": "kill -9 of a run that saves checkpoint after checkpoint; then its last checkpoint is loaded",
        "kills": found["kills"],
        "saves": found["saves"],
        "killed_in_the_middle_of_a_save": found["killed_in_the_middle"],
        "must_be_none": {name: found[name] for name in ("not_loaded", "lost")},
    }


CAMPAIGNS: dict[str, Callable[[int], Result]] = {"kills_during_a_save": kills_during_a_save}

if __name__ == "__main__":
    run_campaigns(__doc__, CAMPAIGNS, "torch", "safetensors")
