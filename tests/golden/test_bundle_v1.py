"""A bundle of schema 1, as it was once written, is read and acts as it did.

Rewrite it with CCM_UPDATE_GOLDEN=1 only while no release has schema 1.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

from tiny_run import tiny_experiment

from ccm_export.bundle_writer import export_run
from ccm_export.verify import verify_bundle
from ccm_runtime.bundle import load_bundle
from ccm_training.checkpoint import save_checkpoint

BUNDLE = Path(__file__).parent / "bundle-v1"


def test_a_bundle_of_schema_1_is_read_and_answers_as_it_did(tmp_path):
    if os.environ.get("CCM_UPDATE_GOLDEN") == "1":
        save_checkpoint(tiny_experiment(), tmp_path)
        export_run(tmp_path, BUNDLE, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert verify_bundle(BUNDLE).checks["golden answers"].startswith("as recorded at export")


def test_what_it_says_is_still_understood():
    manifest = load_bundle(BUNDLE).manifest
    assert (1, "hard-point-robot-aligned", 2, 4, 32) == (
        manifest.schema_version,
        manifest.family,
        manifest.adaptation.explore_episodes,
        manifest.adaptation.episodes,
        manifest.adaptation.horizon,
    )
    assert ("gaussian-product", True, 6, 3) == (
        manifest.belief.kind,
        manifest.belief.additive,
        manifest.belief.size,
        manifest.belief.latent_size,
    )
