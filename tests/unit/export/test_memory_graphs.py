"""A policy with a memory in its bundle: a loop over a chunk's transitions, and nothing that differs from one by one."""

import sys

import numpy as np
import onnx
import pytest
import torch

from ccm_export.experience import run_trials
from ccm_export.graphs import build_graphs, strip
from ccm_export.memory_graphs import torch_scan
from ccm_export.probes import initial_beliefs, made_up_transitions
from ccm_runtime.adapt import Adapter
from ccm_runtime.belief import certainty
from ccm_runtime.errors import DependencyMissingError
from ccm_runtime.manifest import CONTEXT_ENCODER, GRAPHS
from ccm_training.evaluation import trials_of
from ccm_training.replay import Rows


def test_torch_has_the_scan_under_the_name_that_we_ask_for():
    try:
        torch_scan()
    except DependencyMissingError as error:
        pytest.fail(
            f"{error}. If this is a new torch: look for Control Flow - Scan in its documentation, and change "
            "torch_scan() in export/ccm_export/memory_graphs.py; torch.while_loop gives a Loop of the same numbers"
        )


def test_a_torch_without_scan_exports_agents_that_have_no_memory(ccm, rl2, monkeypatch):
    monkeypatch.delattr("torch._higher_order_ops.scan")
    monkeypatch.setitem(sys.modules, "torch._higher_order_ops.scan", None)
    with pytest.raises(DependencyMissingError, match=r"has no torch._higher_order_ops.scan, .*: pip install 'torch>="):
        build_graphs(rl2.run.agent, rl2.manifest)
    assert ccm.bundle.graphs == build_graphs(ccm.run.agent, ccm.manifest)


@pytest.fixture(params=["rl2", "varibad"])
def remembering(request):
    return request.getfixturevalue(request.param)


def test_the_manifest_says_that_beliefs_do_not_add_up(remembering):
    belief = remembering.manifest.belief
    assert ("gru", False, 8) == (belief.kind, belief.additive, belief.size)
    assert (0.0,) * 8 == belief.initial
    plan = remembering.manifest.adaptation
    assert ("latent", "mean", True) == (plan.explore_with, plan.latent, plan.while_executing)


def test_a_chunk_of_any_length_gives_what_torch_gives_step_by_step(remembering):
    policy, torch_policy = remembering.onnx_policy, remembering.torch_policy
    for num, steps in ((1, 1), (3, 40), (5, 7)):
        chunk = made_up_transitions(policy, (num, steps), 1.0, np.random.default_rng(steps))
        folded = policy.fold(initial_beliefs(policy, num), chunk)
        fields = [chunk.observation, chunk.action, chunk.reward, chunk.next_observation, chunk.valid, chunk.valid]
        belief = torch_policy.initial_belief(num)
        with torch.no_grad():
            for row in zip(*(torch.from_numpy(field).unbind(1) for field in fields), strict=True):
                belief = torch_policy.fold(belief, Rows(*row))
            latent = torch_policy.read(belief)
        np.testing.assert_allclose(folded.belief, belief.numpy(), atol=1e-5)
        np.testing.assert_allclose(folded.latent_mean, latent.mean.numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(folded.latent_std, latent.std.numpy(), rtol=1e-4, atol=1e-5)


def test_what_follows_padding_counts_and_padding_does_not(remembering):
    policy = remembering.onnx_policy
    chunk = made_up_transitions(policy, (4, 9), 1.0, np.random.default_rng(0))
    chunk.valid[:] = 1.0
    chunk.valid[:, 3:5] = 0.0
    start = initial_beliefs(policy, 4)
    with_padding = policy.fold(start, chunk).belief
    for field in (chunk.observation, chunk.action, chunk.reward, chunk.next_observation):
        field[:, 3:5] = 7.0
    np.testing.assert_array_equal(with_padding, policy.fold(start, chunk).belief)
    chunk.observation[:, 5] += 1.0
    assert np.abs(with_padding - policy.fold(start, chunk).belief).max() > 1e-3


def test_rl2_never_claims_to_be_certain_and_varibad_as_much_as_its_posterior_is_narrow(rl2, varibad):
    chunk = made_up_transitions(rl2.onnx_policy, (4, 9), 1.0, np.random.default_rng(0))
    for exported in (rl2, varibad):
        policy = exported.onnx_policy
        folded = policy.fold(initial_beliefs(policy, 4), chunk)
        if exported is rl2:
            np.testing.assert_array_equal(np.zeros(4), certainty(folded.latent_std))
            continue
        variance = np.minimum(np.exp(folded.latent_mean[:, 3:]), 1.0)  # mean and log variance stand side by side
        np.testing.assert_allclose(1.0 - variance.mean(1), certainty(folded.latent_std), rtol=1e-4, atol=1e-6)


def test_a_served_trial_is_the_evaluated_trial(remembering):
    family = remembering.run.family
    tasks = family.sample_tasks("test", 6, 1)
    served = run_trials(Adapter.of(remembering.onnx_policy), family, tasks)
    evaluated = trials_of(remembering.torch_policy, family, torch.from_numpy(tasks))
    actions = served.transitions[..., 2:4].reshape(evaluated.rows.action.shape)
    np.testing.assert_allclose(evaluated.rows.action.numpy(), actions, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(evaluated.returns.numpy(), served.returns, rtol=1e-3, atol=1e-3)
    assert np.unique(actions.round(3)).size > 20  # it does not do the same all the time


def test_nothing_in_a_loop_tells_where_it_was_made(remembering):
    for name in GRAPHS:
        assert b"/ccm_training/" not in remembering.bundle.graphs[name]
    model = onnx.load_from_string(remembering.bundle.graphs[CONTEXT_ENCODER])
    (loop,) = [node for node in model.graph.node if node.op_type == "Scan"]
    (body,) = [attribute.g for attribute in loop.attribute if attribute.name == "body"]
    assert not any(part.doc_string or part.metadata_props for part in (body, *body.node, *body.value_info))
    body.node[0].doc_string = "/home/someone"
    strip(model)
    assert not body.node[0].doc_string
