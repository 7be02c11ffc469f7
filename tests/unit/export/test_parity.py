"""No bundle is written whose graphs compute anything else than the agent, however little."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ccm_export import bundle_writer
from ccm_export.bundle_writer import export_agent
from ccm_export.parity import TOLERANCE, measure_parity, synthetic_probes
from ccm_export.training_trials import run_training_trials
from ccm_runtime.errors import ParityError
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.manifest import GRAPHS


def tamper(graph: bytes, change: float) -> bytes:
    """Move one weight: the first bias of the last layer, which no dead unit hides."""
    model = onnx.load_from_string(graph)
    bias = max((t for t in model.graph.initializer if t.name.endswith("bias")), key=lambda tensor: tensor.name)
    array = numpy_helper.to_array(bias).copy()
    array[0] += change
    bias.CopyFrom(numpy_helper.from_array(array, bias.name))
    return model.SerializeToString()


def policy_with(exported, name, change):
    graphs = {**exported.bundle.graphs, name: tamper(exported.bundle.graphs[name], change)}
    return OnnxPolicy(replace(exported.bundle, graphs=graphs))


def probes_for(exported):
    return [run_training_trials(exported.run).probe, *synthetic_probes(exported.onnx_policy, np.random.default_rng(0))]


def test_the_graphs_compute_what_the_agent_computes(exported):
    report = measure_parity(exported.torch_policy, exported.onnx_policy, probes_for(exported))
    assert TOLERANCE == report.tolerance == 1e-5
    assert set(GRAPHS) == set(report.max_abs_difference)
    assert {"random", "recorded", "extreme"} == set(report.num_inputs)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_with_one_weight_changed_is_refused_by_name(ccm, name):
    with pytest.raises(ParityError, match=rf"{name}: \w+ differs on \w+ inputs: torch says .*, onnxruntime"):
        measure_parity(ccm.torch_policy, policy_with(ccm, name, 1e-3), probes_for(ccm))


@pytest.mark.parametrize("kind", ["random", "recorded"])
@pytest.mark.parametrize("name", GRAPHS)
def test_either_kind_of_input_alone_would_catch_it(ccm, name, kind):
    probes = [probe for probe in probes_for(ccm) if probe.kind == kind]
    with pytest.raises(ParityError):
        measure_parity(ccm.torch_policy, policy_with(ccm, name, 1e-3), probes)


def test_a_graph_that_is_not_finite_is_refused(ccm):
    with pytest.raises(ParityError, match="onnxruntime nan"):
        measure_parity(ccm.torch_policy, policy_with(ccm, GRAPHS[0], np.nan), probes_for(ccm))


def test_nothing_is_written_when_the_graphs_disagree(ccm, tmp_path, monkeypatch):
    tampered = {**ccm.bundle.graphs, GRAPHS[2]: tamper(ccm.bundle.graphs[GRAPHS[2]], 0.1)}
    monkeypatch.setattr(bundle_writer, "build_graphs", lambda *_: tampered)
    with pytest.raises(ParityError, match="nothing was written"):
        export_agent(ccm.run, tmp_path / "bundle")
    assert [] == list(tmp_path.iterdir())
