"""A bundle appears whole or not at all, tells where its agent comes from, and takes the place of nothing else."""

import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from importlib import metadata
from itertools import count
from pathlib import Path

import pytest

from ccm_export import bundle_writer
from ccm_export.bundle_writer import export_agent, export_run, write_bundle
from ccm_runtime import crash_points, inference, machine
from ccm_runtime.bundle import load_bundle
from ccm_runtime.errors import (
    BundleMissingError,
    BundleSchemaError,
    CheckpointMissingError,
    ConfigError,
    DependencyMissingError,
)
from ccm_runtime.manifest import GRAPHS
from ccm_runtime.signing import SIGNATURE


def test_what_is_returned_is_what_was_written(ccm):
    assert ccm.manifest == ccm.bundle.manifest.model_copy(update={"manifest_sha256": ""})


def test_every_other_file_is_listed_with_its_digest(ccm):
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in ccm.path.iterdir()
        if path.name != "manifest.json"
    }
    assert {name: digest.sha256 for name, digest in ccm.manifest.files.items()} == found


def test_the_manifest_tells_where_the_agent_comes_from(ccm):
    source = ccm.manifest.provenance
    assert ("ccm", 0, 1234) == (source.method, source.seed, source.env_steps)
    assert ccm.run.config.digest == source.config_sha256
    assert ccm.run.config.model_dump(mode="json") == source.config
    assert 0.875 == source.scores["adaptation_score"]
    assert "task_scores" not in source.scores  # as many as there were tasks; the run keeps them
    assert datetime.fromisoformat("2026-01-02T00:00:00+00:00") == datetime.fromisoformat(source.created_at)
    assert {"torch", "onnx", "onnxruntime", "ccm"} <= set(source.versions)


def test_the_manifest_tells_the_build_of_onnxruntime_that_is_installed(monkeypatch):
    def version(package):
        if package == "onnxruntime":
            raise metadata.PackageNotFoundError(package)
        return "1.2.3"

    monkeypatch.setattr(machine.metadata, "version", version)
    versions = bundle_writer._versions()
    assert "1.2.3" == versions["onnxruntime-gpu"]
    assert "onnxruntime" not in versions


def test_who_has_no_onnxruntime_is_told_what_to_install_before_any_trial_is_run(ccm, tmp_path, monkeypatch):
    def nothing_installed(_):
        raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")

    monkeypatch.setattr(inference, "import_module", nothing_installed)
    monkeypatch.setattr(bundle_writer, "run_training_trials", lambda _: pytest.fail("trials were run"))
    with pytest.raises(DependencyMissingError, match=r"a bundle runs on onnxruntime: pip install 'ccm\[serve\]'"):
        export_agent(ccm.run, tmp_path / "bundle")


def test_the_card_tells_a_person(ccm):
    card = (ccm.path / "MODEL_CARD.md").read_text()
    for part in ("hard-point-robot-aligned", "**0.875**", "1,234 environment steps", "| dx | m | -0.1 | 0.1 |"):
        assert part in card


def test_an_older_bundle_is_replaced_with_its_signature(ccm, tmp_path):
    out = shutil.copytree(ccm.path, tmp_path / "bundle")
    (out / GRAPHS[0]).write_bytes(b"damaged")
    (out / SIGNATURE).write_bytes(b"of the older manifest")
    write_bundle(out, ccm.manifest, ccm.bundle.graphs)
    assert load_bundle(out).graphs == ccm.bundle.graphs
    assert not (out / SIGNATURE).exists()
    assert [out] == list(tmp_path.iterdir())


def test_an_empty_folder_is_filled(ccm, tmp_path):
    (tmp_path / "bundle").mkdir()
    write_bundle(tmp_path / "bundle", ccm.manifest, ccm.bundle.graphs)
    load_bundle(tmp_path / "bundle")


def test_whatever_is_not_a_bundle_is_left_alone(ccm, tmp_path):
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter.tex").write_text("years of work")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(ccm.path)
    for out in (precious, tmp_path / "file", tmp_path / "link"):
        with pytest.raises(ConfigError, match="exists and is not a bundle; name another --out"):
            export_agent(ccm.run, out)
    assert "years of work" == (precious / "chapter.tex").read_text()


def test_a_place_that_cannot_be_written_is_named(ccm, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="no bundle can be written there"):
        write_bundle(tmp_path / "file" / "bundle", ccm.manifest, ccm.bundle.graphs)


def test_a_bundle_that_does_not_verify_never_appears(ccm, tmp_path):
    swapped = {**ccm.bundle.graphs, GRAPHS[0]: ccm.bundle.graphs[GRAPHS[2]]}
    with pytest.raises(BundleSchemaError):
        write_bundle(tmp_path / "bundle", ccm.manifest, swapped)
    assert [] == list(tmp_path.iterdir())


def test_the_older_bundle_comes_back_when_the_move_fails(ccm, tmp_path):
    out = shutil.copytree(ccm.path, tmp_path / "bundle")
    with pytest.raises(OSError, match="nowhere"):
        bundle_writer._put(tmp_path / "nowhere", out, aside=tmp_path / "old")
    load_bundle(out)


def no_exchange(one, other):
    raise OSError(errno.EINVAL, "no such step here")


@pytest.mark.parametrize("step", [1, 2])
def test_an_interrupt_after_either_of_two_steps_leaves_a_whole_bundle(ccm, tmp_path, monkeypatch, step):
    out, rename, steps = shutil.copytree(ccm.path, tmp_path / "bundle"), Path.rename, count(1)

    def interrupted(path, target):
        rename(path, target)
        if step == next(steps):
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    monkeypatch.setattr(bundle_writer, "exchange", no_exchange)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(out, ccm.manifest, ccm.bundle.graphs)
    load_bundle(out)
    assert [out] == list(tmp_path.iterdir())


EXPORT_AGAIN = """
import errno, sys
from ccm_export import bundle_writer
from ccm_runtime.bundle import load_bundle

def no_exchange(one, other):
    raise OSError(errno.EINVAL, "no such step here")

if sys.argv[3] == "two steps":
    bundle_writer.exchange = no_exchange
new = load_bundle(sys.argv[1])
bundle_writer.write_bundle(bundle_writer.Path(sys.argv[2]), new.manifest, new.graphs)
"""


@pytest.mark.parametrize(
    ("how", "point", "left"),
    [
        ("one step", "export.written", "old"),
        ("one step", "export.put", "new"),
        ("two steps", "export.aside", "told"),
        ("two steps", "export.put", "new"),
    ],
)
def test_an_export_that_is_killed_leaves_the_old_bundle_or_the_new_one(ccm, tmp_path, how, point, left):
    out = shutil.copytree(ccm.path, tmp_path / "bundle")
    (out / SIGNATURE).write_bytes(b"of the older manifest")
    command = [sys.executable, "-c", EXPORT_AGAIN, str(ccm.path), str(out), how]
    killed = subprocess.run(command, env=os.environ | {crash_points.VARIABLE: point}, check=False, timeout=200)
    assert -signal.SIGKILL == killed.returncode
    if left == "told":
        with pytest.raises(BundleMissingError, match="an export that was killed was replacing") as told:
            load_bundle(out)
        older = Path(re.findall(r"or move (.*) there", str(told.value))[0])
        assert (older / SIGNATURE).exists()
        load_bundle(older)
    else:
        load_bundle(out)
        assert (left == "old") == (out / SIGNATURE).exists()
    write_bundle(out, ccm.manifest, ccm.bundle.graphs)
    load_bundle(out)
    assert not (out / SIGNATURE).exists()


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("oracle", "method 'oracle' does not adapt"),
        ("random", "method 'random' does not adapt"),
        ("maml", "method 'maml' adapts by a gradient step, and there is no gradient step in the field"),
        ("promp", "method 'promp' adapts by a gradient step, and there is no gradient step in the field"),
    ],
)
def test_an_agent_that_does_not_adapt_by_looking_is_not_exported(ccm, tmp_path, method, why):
    config = ccm.run.config.model_copy(update={"method": method})
    run = type(ccm.run)(config, ccm.run.family, ccm.run.adaptation, ccm.run.agent, ccm.run.counters, None)
    with pytest.raises(ConfigError, match=f"{why}.*train one of: ccm, "):
        export_agent(run, tmp_path / "bundle")


def test_a_run_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointMissingError):
        export_run(tmp_path, tmp_path / "bundle")
