"""The graphs take any batch and chunk, keep actions within bounds, and tell nothing of where they were made."""

import numpy as np
import onnx
import pytest
import torch

from ccm_export import graphs
from ccm_export.graphs import OPSET, ExecutionGraph, MeanExplorationGraph, to_onnx
from ccm_export.probes import answer, made_up
from ccm_runtime.manifest import EXECUTION_POLICY, EXPLORATION_POLICY, GRAPHS
from ccm_runtime.signatures import signatures
from ccm_training import belief as beliefs


@pytest.mark.parametrize("num", [1, 3, 17])
@pytest.mark.parametrize("steps", [1, 2, 40])
def test_the_graphs_take_any_batch_and_any_chunk(ccm, num, steps):
    policy = ccm.onnx_policy
    answers = answer(policy, made_up(policy, "random", scale=1.0, rng=np.random.default_rng(0), num=num, steps=steps))
    assert (num, 2) == answers[EXPLORATION_POLICY]["action"].shape == answers[EXECUTION_POLICY]["action"].shape
    assert (num, 6) == answers["context_encoder.onnx"]["next_belief"].shape


def test_the_graphs_read_the_previous_reward_too(ccm):
    assert ccm.manifest.observation.size + 1 == ccm.manifest.input_size
    model = onnx.load_from_string(ccm.bundle.graphs[EXPLORATION_POLICY])
    assert 3 == model.graph.input[0].type.tensor_type.shape.dim[1].dim_value


def test_the_graphs_are_of_one_opset_and_named_by_their_slot(ccm):
    for name in GRAPHS:
        model = onnx.load_from_string(ccm.bundle.graphs[name])
        assert [("", OPSET)] == [(imported.domain, imported.version) for imported in model.opset_import]
        assert name == f"{model.graph.name}.onnx"


def test_nothing_in_a_graph_tells_where_it_was_made(ccm):
    for name in GRAPHS:
        model = onnx.load_from_string(ccm.bundle.graphs[name])
        parts = [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]
        assert not any(part.doc_string or part.metadata_props for part in parts)
        names = [text for node in model.graph.node for text in (node.name, *node.input, *node.output)]
        assert not any("/" in text or ".py" in text for text in names)


def test_the_same_agent_gives_the_same_bytes(ccm):
    bounds = (torch.from_numpy(ccm.manifest.action.low_array), torch.from_numpy(ccm.manifest.action.high_array))
    graph = ExecutionGraph(ccm.run.agent, *bounds).eval()
    again = to_onnx(graph, signatures(ccm.manifest)[EXECUTION_POLICY], EXECUTION_POLICY)
    assert ccm.bundle.graphs[EXECUTION_POLICY] == again


def test_an_agent_that_samples_posteriors_explores_in_its_slot_with_the_executor_on_the_beliefs_mean(pearl):
    low, high = torch.full((2,), -0.1), torch.full((2,), 0.1)
    generator = torch.Generator().manual_seed(0)
    observation, noise = torch.randn(5, 3, generator=generator), torch.randn(5, 2, generator=generator)
    belief = torch.rand(5, 6, generator=generator)
    explored = MeanExplorationGraph(pearl.run.agent, low, high)(observation, belief, noise)
    executed = pearl.torch_policy.execute(observation, beliefs.read(belief).mean, noise)
    torch.testing.assert_close(executed, explored)
    assert "latent" == pearl.manifest.adaptation.explore_with


def test_no_action_leaves_the_bounds_by_rounding():

    low, high = torch.tensor([-0.1, -0.3]), torch.tensor([0.1, 0.7])

    beyond = torch.nextafter(high, torch.tensor(torch.inf))[None]
    assert bool((graphs._Bounds(low, high)(beyond) <= high).all())
