"""The commands of docs/how-to/record-a-trial.md, and what they refuse."""

import re
from pathlib import Path

import pytest
from command import ccm, fails
from tiny_bundle import tiny_graphs, write_bundle

from ccm_runtime.manifest import Adaptation
from ccm_runtime.testing import ScriptedPolicy, manifest_of
from ccm_training.envs.registry import get_family
from ccm_training.filming import task_in_words

FAMILY = get_family("hard-point-robot-aligned")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "record-a-trial.md"
COMMANDS = re.findall(r"^ccm record (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def bundle_of(folder, config=None, family="hard-point-robot-aligned"):
    manifest = manifest_of(ScriptedPolicy(Adaptation(explore_episodes=1, episodes=2, horizon=3)), family=family)
    source = manifest.provenance.model_copy(update={"config": config or {}})
    manifest = manifest.model_copy(update={"provenance": source})
    return write_bundle(folder, manifest, tiny_graphs(manifest))


@pytest.mark.parametrize("words", COMMANDS)
def test_the_how_to_s_commands_write_videos(words, tmp_path):
    own = bundle_of(tmp_path / "bundle")
    arguments = [own if word in {"runs/first", "first-bundle"} else word for word in words.split()]
    if arguments[0] == "--out":
        arguments = [own, *arguments]  # the embedded agent's trial is longer
    out = tmp_path / arguments[arguments.index("--out") + 1]
    arguments[arguments.index("--out") + 1] = out
    finished = ccm("record", *arguments)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(f"{out}: hard-point-robot-aligned · scripted, angle of the first goal ")
    assert out.read_bytes()[:8].startswith(b"GIF89a" if out.suffix == ".gif" else b"\0\0\0")


def test_a_training_task_is_one_of_those_that_it_was_trained_on(tmp_path):
    own = task_in_words(FAMILY, FAMILY.sample_tasks("train", 6, 5)[9 % 6])
    bundle = bundle_of(tmp_path / "bundle", {"tasks": {"num_train": 6, "num_test": 1, "seed": 5}})
    words = ("--out", tmp_path / "trial.gif", "--tasks", "train", "--seed", 9)
    assert own in ccm("record", bundle, *words).stdout
    silent = bundle_of(tmp_path / "silent")
    assert fails(ccm("record", silent, *words, "--force"), 2, "does not say which tasks it was trained on; name one")


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    bundle = bundle_of(tmp_path / "bundle")
    for words, code, told in (
        (["--out", tmp_path / "trial.avi"], 2, "ends in .mp4 or .gif"),
        (["--out", tmp_path / "a.gif", "--task", "north"], 2, "expected numbers with commas between them"),
        (["--out", tmp_path / "a.gif", "--task", "0.1"], 4, "expected 2 values"),
        (["--out", tmp_path / "a.gif", "--task", "0.1,9"], 4, "outside [0.0, 3.14"),
    ):
        assert fails(ccm("record", bundle, *words), code, told)
    assert fails(ccm("record", tmp_path, "--out", tmp_path / "a.gif"), 5, "neither a run")
    assert [bundle] == list(tmp_path.iterdir())


def test_a_user_s_family_is_imported_only_when_it_is_named(tmp_path):
    bundle = bundle_of(tmp_path / "bundle", family="robots:Arms")
    assert fails(ccm("record", bundle, "--out", tmp_path / "a.gif"), 2, "add --family robots:Arms")
