"""A bundle that breaks a law is refused, and a lawful one passes, without torch."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from tiny_bundle import tiny_graphs, write_bundle

from ccm_export import verify
from ccm_export.verify import verify_bundle
from ccm_runtime.belief import Folded
from ccm_runtime.errors import BundleCorruptError, BundleMissingError, BundleSchemaError, ParityError
from ccm_runtime.manifest import CONTEXT_ENCODER, GRAPHS
from ccm_runtime.testing import ScriptedPolicy, manifest_of


def test_an_exported_bundle_verifies(exported):
    report = verify_bundle(exported.path)
    assert {"digests", "signatures", "sane answers", "golden answers"} <= set(report.checks)
    assert len(report.checks) == len(str(report).splitlines())


def test_a_bundle_without_golden_answers_verifies(tiny_bundle):
    assert "none stored" == verify_bundle(tiny_bundle).checks["golden answers"]


def test_verifying_needs_no_torch(ccm):
    blocked = "import sys; sys.modules['torch'] = None; from ccm_export.verify import verify_bundle; "
    code = f"{blocked}print(verify_bundle({str(ccm.path)!r}))"
    assert "digests" in subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_no_bundle_and_a_damaged_one_are_told_apart(tiny_bundle, tmp_path):
    with pytest.raises(BundleMissingError):
        verify_bundle(tmp_path / "nowhere")
    (tiny_bundle / GRAPHS[0]).write_bytes(b"")
    with pytest.raises(BundleCorruptError):
        verify_bundle(tiny_bundle)


def test_a_bundle_whose_deviations_are_negative_is_refused(tmp_path):
    manifest = manifest_of(ScriptedPolicy())
    graphs = tiny_graphs(manifest)
    encoder = onnx.load_from_string(graphs[CONTEXT_ENCODER])
    encoder.graph.node[-1].op_type = "Neg"
    broken = write_bundle(tmp_path / "bundle", manifest, graphs | {CONTEXT_ENCODER: encoder.SerializeToString()})
    with pytest.raises(BundleSchemaError, match=r"context_encoder\.onnx: latent_std is negative on inputs of size 0"):
        verify_bundle(broken)


class Leaky(ScriptedPolicy):
    def explore(self, observation, belief, noise):
        return super().explore(observation - observation.mean(0), belief, noise)


class Unbounded(ScriptedPolicy):
    def execute(self, observation, latent, noise):
        return 2 * super().execute(observation, latent, noise)


class Fragile(ScriptedPolicy):
    def explore(self, observation, belief, noise):
        return np.where(np.abs(observation) > 1e5, np.nan, super().explore(observation, belief, noise))


class Averaging(ScriptedPolicy):
    def fold(self, belief, transitions):
        folded = super().fold(belief, transitions)
        mean = belief + (folded.belief - belief) / transitions.valid.shape[1]
        return Folded(mean, folded.latent_mean, folded.latent_std)


class CountsPadding(ScriptedPolicy):
    def fold(self, belief, transitions):
        return super().fold(belief, replace(transitions, valid=np.ones_like(transitions.valid)))


class Forgetful(ScriptedPolicy):
    """A recurrent belief: it may be, but must not call itself additive."""

    def fold(self, belief, transitions):
        for at in range(transitions.valid.shape[1]):
            step = verify._steps(transitions, slice(at, at + 1))
            counts = step.valid[:, 0]
            folded = super().fold(np.where(counts > 0, np.float32(0.9) * belief, belief), step)
            belief = folded.belief
        return folded


@pytest.mark.parametrize(
    ("check", "policy", "message"),
    [
        (verify._independent_rows, Leaky(), "exploration_policy.onnx: action of one row depends on the others"),
        (verify._sane_answers, Unbounded(), "execution_policy.onnx: an action leaves its bounds"),
        (verify._sane_answers, Fragile(), "exploration_policy.onnx: action is not finite on inputs of size 1e"),
        (verify._fold_in_chunks, Averaging(), "cut into chunks"),
        (verify._padding, CountsPadding(), "padding changes the belief"),
        (verify._any_order, Forgetful(), "depends on the order"),
    ],
)
def test_an_agent_that_breaks_a_law_is_refused(check, policy, message):
    with pytest.raises(BundleSchemaError, match=message):
        check(policy)


@pytest.mark.parametrize("check", verify._CHECKS)
def test_a_lawful_agent_passes(check):
    assert check(ScriptedPolicy())


def test_a_recurrent_belief_passes_where_it_claims_no_order():
    class Recurrent(Forgetful):
        @property
        def belief(self):
            return super().belief.model_copy(update={"additive": False})

    assert "not claimed" in verify._any_order(Recurrent())


def test_golden_answers_that_do_not_come_out_again_are_reported(ccm):
    sample = ccm.manifest.golden[GRAPHS[0]]
    wrong = sample.outputs["action"].model_copy(update={"values": (0.05,) * 6})
    golden = {**ccm.manifest.golden, GRAPHS[0]: sample.model_copy(update={"outputs": {"action": wrong}})}
    with pytest.raises(ParityError, match=r"exploration_policy\.onnx: action differs by .* from what it was at export"):
        verify._golden(ccm.onnx_policy, _bundle_with(ccm, golden))


def test_golden_answers_that_do_not_fit_are_refused(ccm):
    with pytest.raises(BundleSchemaError, match="golden answers of"):
        verify._golden(ccm.onnx_policy, _bundle_with(ccm, {GRAPHS[0]: ccm.manifest.golden[GRAPHS[0]]}))
    sample = ccm.manifest.golden[GRAPHS[2]]
    short = {**ccm.manifest.golden, GRAPHS[2]: sample.model_copy(update={"inputs": {}})}
    with pytest.raises(BundleSchemaError, match="do not fit the graphs"):
        verify._golden(ccm.onnx_policy, _bundle_with(ccm, short))


def _bundle_with(exported, golden):
    return replace(exported.bundle, manifest=exported.manifest.model_copy(update={"golden": golden}))
