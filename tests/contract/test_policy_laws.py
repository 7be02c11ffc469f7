"""Laws of every policy, whatever runs it."""

import numpy as np
import pytest

from ccm_runtime.belief import Transitions
from ccm_runtime.bundle import load_bundle
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.testing import ScriptedPolicy


@pytest.fixture(params=["scripted", "onnx"])
def policy(request):
    if request.param == "scripted":
        return ScriptedPolicy()
    return OnnxPolicy(load_bundle(request.getfixturevalue("tiny_bundle")))


@pytest.fixture
def draw():
    generator = np.random.default_rng(0)
    return lambda *shape: generator.standard_normal(shape).astype(np.float32)


class PolicyLaws:
    """What a server relies on; also for a user's own policy."""

    def test_sizes_are_those_of_the_specs(self, policy, draw):
        for n in (1, 2, 7):
            inputs = self.inputs(policy, draw, n)
            assert (n, policy.action.size) == policy.explore(
                inputs["observation"], inputs["belief"], inputs["noise"]
            ).shape
            assert (n, policy.action.size) == policy.execute(
                inputs["observation"], inputs["latent"], inputs["noise"]
            ).shape
            folded = policy.fold(inputs["belief"], self.transitions(policy, draw, n, 3))
            assert (n, policy.belief.size) == folded.belief.shape
            assert (n, policy.belief.latent_size) == folded.latent_mean.shape == folded.latent_std.shape

    def test_answers_are_float32_and_finite(self, policy, draw):
        inputs = self.inputs(policy, draw, 4)
        folded = policy.fold(inputs["belief"], self.transitions(policy, draw, 4, 2))
        actions = [
            policy.explore(inputs["observation"], inputs["belief"], inputs["noise"]),
            policy.execute(inputs["observation"], inputs["latent"], inputs["noise"]),
        ]
        for array in (*actions, folded.belief, folded.latent_mean, folded.latent_std):
            assert np.float32 == array.dtype
            assert np.isfinite(array).all()

    def test_no_row_sees_another(self, policy, draw):
        inputs = self.inputs(policy, draw, 5)
        chunk = self.transitions(policy, draw, 5, 2)
        together = policy.explore(inputs["observation"], inputs["belief"], inputs["noise"])
        folded = policy.fold(inputs["belief"], chunk)
        for row in range(5):
            one = {name: array[row : row + 1] for name, array in inputs.items()}
            alone = policy.explore(one["observation"], one["belief"], one["noise"])
            np.testing.assert_allclose(together[row], alone[0], rtol=1e-5, atol=1e-6)
            fields = (chunk.observation, chunk.action, chunk.reward, chunk.next_observation, chunk.valid)
            single = policy.fold(one["belief"], Transitions(*(field[row : row + 1] for field in fields)))
            np.testing.assert_allclose(folded.belief[row], single.belief[0], rtol=1e-5, atol=1e-6)

    def test_the_same_question_gets_the_same_answer(self, policy, draw):
        inputs = self.inputs(policy, draw, 3)
        first, second = (policy.execute(inputs["observation"], inputs["latent"], inputs["noise"]) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_padding_changes_nothing(self, policy, draw):
        belief = self.inputs(policy, draw, 2)["belief"]
        chunk = self.transitions(policy, draw, 2, 3)
        chunk.valid[:] = 0.0
        np.testing.assert_allclose(belief, policy.fold(belief, chunk).belief, rtol=1e-6, atol=1e-6)

    def test_folding_at_once_or_one_by_one_gives_one_belief(self, policy, draw):
        belief = self.inputs(policy, draw, 2)["belief"]
        chunk = self.transitions(policy, draw, 2, 4)
        at_once = policy.fold(belief, chunk).belief
        for step in range(4):
            fields = (chunk.observation, chunk.action, chunk.reward, chunk.next_observation, chunk.valid)
            belief = policy.fold(belief, Transitions(*(field[:, step : step + 1] for field in fields))).belief
        np.testing.assert_allclose(at_once, belief, rtol=1e-5, atol=1e-5)

    def inputs(self, policy, draw, n):
        """Return random inputs of `n` rows, around the initial belief."""
        initial = np.asarray(policy.belief.initial, np.float32)
        return {
            "observation": draw(n, policy.observation.size),
            "belief": np.tile(initial, (n, 1)),
            "latent": draw(n, policy.belief.latent_size),
            "noise": draw(n, policy.action.size),
        }

    def transitions(self, policy, draw, n, t):
        """Return random transitions, `[n, t, .]`."""
        obs, act = policy.observation.size, policy.action.size
        return Transitions(
            draw(n, t, obs), draw(n, t, act), draw(n, t, 1), draw(n, t, obs), np.ones((n, t, 1), np.float32)
        )


class TestPolicyLaws(PolicyLaws):
    """The laws, over both policies of the runtime."""


def test_the_tiny_bundle_computes_what_the_scripted_agent_does(tiny_bundle, draw):
    laws, scripted = PolicyLaws(), ScriptedPolicy()
    onnx = OnnxPolicy(load_bundle(tiny_bundle))
    inputs, chunk = laws.inputs(scripted, draw, 6), laws.transitions(scripted, draw, 6, 3)
    for one, other in (
        (scripted.fold(inputs["belief"], chunk).latent_mean, onnx.fold(inputs["belief"], chunk).latent_mean),
        (scripted.fold(inputs["belief"], chunk).latent_std, onnx.fold(inputs["belief"], chunk).latent_std),
        (
            scripted.explore(inputs["observation"], inputs["belief"], inputs["noise"]),
            onnx.explore(inputs["observation"], inputs["belief"], inputs["noise"]),
        ),
        (
            scripted.execute(inputs["observation"], inputs["latent"], inputs["noise"]),
            onnx.execute(inputs["observation"], inputs["latent"], inputs["noise"]),
        ),
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
