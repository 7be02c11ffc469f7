"""The networks run on the device that was asked for, or not at all; a graph that breaks the manifest is refused."""

import numpy as np
import onnxruntime
import pytest
from failing_gpu import have_failing_gpu
from tiny_bundle import tiny_graphs, write_bundle

from ccm_runtime import inference
from ccm_runtime.belief import Transitions
from ccm_runtime.bundle import load_bundle
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import (
    BundleSchemaError,
    ConfigError,
    DependencyMissingError,
    DeviceLostError,
    ProviderUnavailableError,
)
from ccm_runtime.hosting import Hosting, ServedAgent
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.manifest import CONTEXT_ENCODER, EXECUTION_POLICY, EXPLORATION_POLICY
from ccm_runtime.messages import BeginEpisode, SessionOptions
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy, manifest_of


@pytest.fixture
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


def test_a_graph_that_does_not_follow_the_manifest_is_refused(tmp_path):
    manifest = manifest_of(ScriptedPolicy())
    graphs = tiny_graphs(manifest_of(ScriptedPolicy(size=3)))
    with pytest.raises(BundleSchemaError, match=r"observation is tensor\(float\)"):
        OnnxPolicy(load_bundle(write_bundle(tmp_path / "bundle", manifest, graphs)))


def test_a_graph_in_another_slot_is_refused(tmp_path):
    manifest = manifest_of(ScriptedPolicy())
    graphs = tiny_graphs(manifest)
    graphs[EXPLORATION_POLICY] = graphs[EXECUTION_POLICY]
    with pytest.raises(BundleSchemaError, match=r"has the inputs .*latent.*expected .*belief"):
        OnnxPolicy(load_bundle(write_bundle(tmp_path / "bundle", manifest, graphs)))


def test_a_file_that_is_no_graph_is_refused(tmp_path):
    manifest = manifest_of(ScriptedPolicy())
    graphs = {**tiny_graphs(manifest), CONTEXT_ENCODER: b""}
    with pytest.raises(BundleSchemaError, match=r"cannot open context_encoder\.onnx"):
        OnnxPolicy(load_bundle(write_bundle(tmp_path / "bundle", manifest, graphs)))


@pytest.mark.parametrize("active", [["CPUExecutionProvider"], ["CPUExecutionProvider", "CUDAExecutionProvider"]])
def test_cuda_is_refused_where_it_cannot_work(bundle, monkeypatch, active):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: active)
    monkeypatch.setattr(inference.ctypes, "CDLL", _no_driver)
    with pytest.raises(ProviderUnavailableError, match="--device cuda"):
        OnnxPolicy(bundle, "cuda")


def test_a_silent_fall_back_is_refused(bundle, monkeypatch):
    monkeypatch.setattr(inference, "_why_no_cuda", lambda _: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", _SessionOnCpu)
    with pytest.raises(ProviderUnavailableError, match="fell back to CPUExecutionProvider"):
        OnnxPolicy(bundle, "cuda")


def test_auto_falls_back_and_says_so(bundle, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert OnnxPolicy(bundle, "auto").device == "cpu"


def test_two_builds_of_onnxruntime_are_refused(bundle, monkeypatch):
    monkeypatch.setattr(inference, "installed_version", lambda _: "1.0")
    with pytest.raises(ConfigError, match="both installed"):
        OnnxPolicy(bundle)


def test_a_missing_onnxruntime_says_what_to_install(bundle, monkeypatch):
    monkeypatch.setattr(inference, "import_module", _nothing_installed)
    with pytest.raises(DependencyMissingError, match=r"pip install 'ccm\[serve\]'"):
        OnnxPolicy(bundle)


@pytest.fixture
def failing_gpu(monkeypatch):
    return have_failing_gpu(monkeypatch)


def acts(policy):
    """What a policy explores with, folds and executes."""
    vector, reward = np.full((1, 2), 0.5, np.float32), np.ones((1, 1, 1), np.float32)
    belief = np.asarray(policy.belief.initial, np.float32)[None]
    explored = policy.explore(vector, belief, vector)
    folded = policy.fold(belief, Transitions(vector[:, None], vector[:, None], reward, vector[:, None], reward))
    return explored, *folded, policy.execute(vector, folded.latent_mean, vector)


def test_a_gpu_that_fails_hands_over_to_the_cpu_where_that_is_allowed(bundle, failing_gpu):
    policy = OnnxPolicy(bundle, "auto")
    before = acts(policy)
    assert "cuda" == policy.device
    failing_gpu.fails = True
    for _ in range(2):
        assert all(np.array_equal(old, new) for old, new in zip(before, acts(policy), strict=True))
    assert "cpu" == policy.device


def test_a_gpu_that_fails_answers_nothing_more_where_only_it_is_allowed(bundle, failing_gpu):
    policy = OnnxPolicy(bundle, "cuda")
    acts(policy)
    failing_gpu.fails = True
    for _ in range(2):
        with pytest.raises(ProviderUnavailableError, match="the GPU failed: CUDA failure 2: out of memory"):
            acts(policy)
    assert "lost" == policy.device


def test_a_gpu_that_fails_where_the_cpu_cannot_stand_in_is_not_tried_again(bundle, failing_gpu):
    policy, told = OnnxPolicy(bundle, "auto"), []
    policy.on_failure = lambda: told.append(policy.device)
    failing_gpu.fails = failing_gpu.alone = True
    for _ in range(2):
        with pytest.raises(DeviceLostError, match=r"out of memory.*and on the CPU onnxruntime cannot open .*no memory"):
            acts(policy)
    assert ["lost"] == told


async def test_a_server_whose_gpu_fails_gives_no_action_keeps_its_sessions_and_is_not_ready(bundle, failing_gpu):
    agent = ServedAgent(OnnxPolicy(bundle, "cuda"), bundle.manifest, bundle.digest)
    hosting = Hosting(agent, SessionTable(10, 60.0), ServerConfig(log_level="error"))
    opened = await hosting.open(SessionOptions())
    begin = BeginEpisode(np.zeros(2, np.float32))
    for fails in (True, False):  # once is enough: what it says afterwards moves no robot
        failing_gpu.fails = fails
        with pytest.raises(DeviceLostError):
            await hosting.step(opened.session_id, 1, begin)
        assert not hosting.metrics.condition().ready
    assert 1 == hosting.table.find(opened.session_id).next_sequence


class _SessionOnCpu:
    def __init__(self, *_, **__):
        pass

    def get_providers(self):
        return ["CPUExecutionProvider"]


def _no_driver(_):
    raise OSError


def _nothing_installed(_):
    raise ImportError
