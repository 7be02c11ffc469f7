"""A bundle holds where the beliefs of training tasks lie, and what its agent met there under its limits."""

from dataclasses import replace

import numpy as np
import pytest

from ccm_export.experience import NUM_POINTS, belief_map, experience, run_trials
from ccm_runtime.adapt import Adapter
from ccm_runtime.bundle import load_bundle
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.manifest import SafetyLimits
from ccm_training.envs.registry import get_family


def test_tasks_that_differ_lie_apart_on_the_map():
    """Latents on a line through a cloud of noise: the first axis is the line, the points keep the tasks' order."""
    rng = np.random.default_rng(0)
    tasks = np.linspace(0.0, 1.0, 200)[:, None]
    direction = np.array([0.6, 0.0, 0.8])
    latents = 5.0 + 10.0 * tasks * direction + rng.normal(0.0, 0.01, (200, 3))
    plane = belief_map(latents, tasks, ["speed"])
    assert NUM_POINTS == len(plane.points)
    assert ("speed",) == plane.labels
    along = np.array(plane.points)[:, 0]
    assert 1.0 == pytest.approx(np.corrcoef(along, np.array(plane.tasks)[:, 0])[0, 1], abs=1e-3)
    np.testing.assert_allclose(plane.place(latents[:NUM_POINTS].tolist()), plane.points, atol=1e-3)


def test_a_latent_of_one_entry_has_a_map_too():
    plane = belief_map(np.array([[0.0], [1.0], [2.0]]), np.zeros((3, 1)), ["goal"])
    np.testing.assert_allclose(plane.points, [(-1.0, 0.0), (0.0, 0.0), (1.0, 0.0)])


def test_experience_is_that_of_the_agent_under_its_limits():
    """Who may hardly change its action within an episode walks straight on, and does not meet the second goal."""
    policy, family = OnnxPolicy(load_bundle(embedded_bundle())), get_family("hard-point-robot-aligned")
    straight, _ = experience(policy, family, SafetyLimits(max_rate=(1e-6, 1e-6)), num_tasks=4)
    free, _ = experience(policy, family, SafetyLimits(), num_tasks=4)
    assert straight.typical_return < 0.9 * free.typical_return


def test_each_trial_draws_latents_of_its_own_where_they_are_sampled(pearl):
    """On one task, as often as there are rows: who samples goes its own way each time, who does not goes one way."""
    family = get_family("hard-point-robot-aligned")
    task = np.repeat(family.sample_tasks("train", 1, 0), 8, 0)

    def ways(latent):
        adaptation = pearl.manifest.adaptation.model_copy(update={"latent": latent})
        manifest = pearl.bundle.manifest.model_copy(update={"adaptation": adaptation})
        return run_trials(Adapter.of(OnnxPolicy(replace(pearl.bundle, manifest=manifest))), family, task).transitions

    one, own = ways("mean"), ways("sample")
    np.testing.assert_allclose(one, np.broadcast_to(one[:1], one.shape), atol=1e-4)
    assert 8 == len(np.unique(own[:, 0], axis=0))
