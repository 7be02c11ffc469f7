"""Small runs that were never trained, each with the bundle that was exported from it, once a session."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from tiny_run import tiny_experiment, tiny_on_policy

from ccm_export.bundle_writer import export_run
from ccm_runtime.bundle import Bundle, load_bundle
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.manifest import Manifest
from ccm_training.checkpoint import LoadedRun, load_agent, save_checkpoint
from ccm_training.onpolicy.registry import ON_POLICY

SCORES = {
    "returns": [1.0, 2.5],
    "explore_episodes": 1,
    "adaptation_score": 0.875,
    "interval": None,
    "task_scores": [0.8, 0.95],
}


class Exported(NamedTuple):
    """A run, and the bundle that was exported from it."""

    run: LoadedRun
    path: Path
    manifest: Manifest
    bundle: Bundle

    @property
    def torch_policy(self):
        return self.run.policy_for()

    @property
    def onnx_policy(self):
        return OnnxPolicy(self.bundle)


def _export(folder, method):
    run_dir, out = folder / "run", folder / "bundle"
    save_checkpoint(tiny_on_policy(method) if method in ON_POLICY else tiny_experiment(method), run_dir)
    (run_dir / "evaluation.json").write_text(json.dumps(SCORES))
    manifest = export_run(run_dir, out, created_at=datetime(2026, 1, 2, tzinfo=UTC))
    return Exported(load_agent(run_dir), out, manifest, load_bundle(out))


# Once a session: the exporter takes seconds.
@pytest.fixture(scope="session")
def ccm(tmp_path_factory):
    return _export(tmp_path_factory.mktemp("ccm"), "ccm")


@pytest.fixture(scope="session")
def pearl(tmp_path_factory):
    return _export(tmp_path_factory.mktemp("pearl"), "pearl")


@pytest.fixture(scope="session")
def rl2(tmp_path_factory):
    return _export(tmp_path_factory.mktemp("rl2"), "rl2")


@pytest.fixture(scope="session")
def varibad(tmp_path_factory):
    return _export(tmp_path_factory.mktemp("varibad"), "varibad")


@pytest.fixture(params=["ccm", "pearl", "rl2", "varibad"])
def exported(request):
    return request.getfixturevalue(request.param)
