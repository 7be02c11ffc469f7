import onnxruntime
import pytest
from tiny_bundle import tiny_graphs, write_bundle

from ccm_runtime import inference
from ccm_runtime.bundle import load_bundle
from ccm_runtime.errors import BundleSchemaError, ConfigError, DependencyMissingError, ProviderUnavailableError
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.manifest import CONTEXT_ENCODER, EXECUTION_POLICY, EXPLORATION_POLICY
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
    monkeypatch.setattr(inference, "version", lambda _: "1.0")
    with pytest.raises(ConfigError, match="both installed"):
        OnnxPolicy(bundle)


def test_a_missing_onnxruntime_says_what_to_install(bundle, monkeypatch):
    monkeypatch.setattr(inference, "import_module", _nothing_installed)
    with pytest.raises(DependencyMissingError, match=r"pip install 'ccm\[serve\]'"):
        OnnxPolicy(bundle)


class _SessionOnCpu:
    def __init__(self, *_, **__):
        pass

    def get_providers(self):
        return ["CPUExecutionProvider"]


def _no_driver(_):
    raise OSError


def _nothing_installed(_):
    raise ImportError
