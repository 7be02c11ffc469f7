"""What a gradient step makes of more episodes is asked of methods that take one; of others it is refused in words."""

import sys
from pathlib import Path

import pytest
from tiny_run import tiny_experiment

from ccm_training.checkpoint import save_checkpoint

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

import gradient_steps


def test_a_run_that_takes_no_gradient_step_is_refused(tmp_path):
    save_checkpoint(tiny_experiment(), tmp_path)
    with pytest.raises(SystemExit, match="takes no gradient step; name runs of maml or promp"):
        gradient_steps.tried(tmp_path)
