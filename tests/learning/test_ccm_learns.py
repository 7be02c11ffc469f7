"""A minute of training: enough to leave the floor behind, not enough to be good."""

import pytest

from ccm_training.config import load_config
from ccm_training.train import train

pytestmark = [pytest.mark.learning, pytest.mark.timeout(1200)]


def evaluation(run_dir, *settings, method="ccm"):
    config = load_config("point_robot_debug", [*settings, "evaluation.every=0", "threads=1"], method=method, seed=0)
    return train(config, run_dir, device="cpu", progress=False).evaluation


def test_a_small_run_leaves_the_floor_and_the_untrained_agent_behind(tmp_path):
    untrained = evaluation(tmp_path / "untrained", "collect.iterations=1", "updates_per_iteration=1")
    trained = evaluation(tmp_path / "trained", "collect.iterations=60")
    scored = trained.explore_episodes
    assert trained.returns[scored] > trained.floor + 0.05 * trained.ceiling
    assert trained.returns[scored] > untrained.returns[scored]


def test_the_information_gain_leads_the_explorer_to_a_sign_that_pays_nothing(tmp_path):
    def score(run_dir, *settings):
        config = load_config("signpost_robot", [*settings, "evaluation.every=0"], seed=0)
        return train(config, run_dir, device="cpu", progress=False).evaluation.adaptation_score

    assert score(tmp_path / "gain") > 0.9
    assert score(tmp_path / "none", "policy.information_weight=0") < 0.3


def test_an_oracle_learns_to_go_where_it_is_told(tmp_path):
    found = evaluation(tmp_path / "oracle", "collect.iterations=60", method="oracle")
    assert found.adaptation_score > 0.3
