"""A run that an earlier version saved whole, room for trials and all (checkpoint format 2), is read, and goes on."""

import json
import shutil
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from ccm_training.checkpoint import load_agent, parameter_hash
from ccm_training.config import parse_config
from ccm_training.train import train

RUN = Path(__file__).parent / "checkpoint-v2"


def replay_of(run_dir, checkpoint):
    tensors = load_file(run_dir / "checkpoints" / checkpoint / "tensors.safetensors")
    return {name: values for name, values in tensors.items() if name.startswith("replay.")}


def test_a_checkpoint_of_format_2_is_read():
    counters = load_agent(RUN).counters
    assert (2, 256, 50, 4) == (counters.iteration, counters.env_steps, counters.pretrain_updates, counters.updates)
    assert parameter_hash(RUN) == "68f6f665c8e361df84eab5b92a2b197fe2d6e70a684271335f9d4df787b31ebe"


def test_a_run_of_format_2_goes_on_with_the_trials_that_it_had(tmp_path):
    shutil.copytree(RUN, tmp_path, dirs_exist_ok=True)
    settings = yaml.safe_load((RUN / "config.yaml").read_text())
    settings["collect"]["iterations"] = 3
    train(parse_config(settings, where="golden"), tmp_path, device="cpu", resume=True, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(1, 192), (2, 256), (3, 320)] == [(line["iteration"], line["env_steps"]) for line in lines]
    before, after = replay_of(RUN, "000002"), replay_of(tmp_path, "000003")
    assert before["replay.written"].tolist() == [2, 2]
    for name in before.keys() - {"replay.written"}:
        assert torch.equal(before[name][:, :2], after[name][:, :2])
