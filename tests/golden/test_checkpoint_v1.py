"""A run that an earlier version saved (checkpoint format 1) is read, and goes on."""

import json
import shutil
from pathlib import Path

import yaml

from ccm_training.checkpoint import load_agent, parameter_hash
from ccm_training.config import parse_config
from ccm_training.train import train

RUN = Path(__file__).parent / "checkpoint-v1"


def test_a_checkpoint_of_format_1_is_read():
    counters = load_agent(RUN).counters
    assert (2, 384, 50, 4) == (counters.iteration, counters.env_steps, counters.pretrain_updates, counters.updates)
    assert (1, True) == (counters.warmup_trials, counters.pretrained)
    assert parameter_hash(RUN) == "69b81e2d77a48281c93aee6f1ad38800be648c68931bc1f97256c507f570ae77"


def test_a_run_of_format_1_goes_on(tmp_path):
    shutil.copytree(RUN, tmp_path, dirs_exist_ok=True)
    settings = yaml.safe_load((RUN / "config.yaml").read_text())
    settings["collect"]["iterations"] = 3
    train(parse_config(settings, where="golden"), tmp_path, device="cpu", resume=True, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(1, 256), (2, 384), (3, 512)] == [(line["iteration"], line["env_steps"]) for line in lines]
    assert 50 == load_agent(tmp_path).counters.pretrain_updates
