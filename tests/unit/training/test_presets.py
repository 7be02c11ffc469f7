"""Every preset that ships trains, and leaves a run that is evaluated on held-out tasks."""

import math

import pytest

from ccm_training.config import PRESETS, load_config
from ccm_training.train import train

BRIEFLY = (
    "meta_batch=4",
    "updates_per_iteration=1",
    "threads=1",
    "tasks.num_train=4",
    "tasks.num_test=2",
    "collect.iterations=1",
    "collect.tasks=4",
    "collect.warmup_trials=1",
    "encoder.pretrain_updates=1",
    "evaluation.tasks=2",
)


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_a_shipped_preset_trains(tmp_path, name):
    config = load_config(name, list(BRIEFLY))
    found = train(config, tmp_path / "run", device="cpu", progress=False).evaluation
    assert (config.family, 2) == (found.family, found.trials)
    assert len(found.returns) == found.explore_episodes + config.trial.execute_episodes
    assert all(map(math.isfinite, found.returns))
