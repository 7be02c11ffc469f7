"""The ablation of the explorer: who explores is exchanged, and nothing else."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import tiny_experiment

from ccm_training.checkpoint import load_agent, save_checkpoint

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))

import explorer_ablation as ablation  # noqa: E402


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    save_checkpoint(tiny_experiment(), run_dir)
    return load_agent(run_dir)


def test_the_page_shows_the_committed_results():
    made = json.loads((ROOT / "benchmarks" / "results" / "explorer" / "results.json").read_text(encoding="utf-8"))
    assert ablation.page(made) == (ROOT / "docs" / "results-explorer.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("explorer", ablation.EXPLORERS)
def test_executor_and_encoder_are_the_runs_own_whoever_explores(run, explorer):
    policy = ablation.Explored(run, explorer, seed=0)
    observation, latent, noise = torch.ones(3, 3), torch.ones(3, 3), torch.zeros(3, 2)
    expected = ablation.AgentPolicy(run.agent, run.adaptation).execute(observation, latent, noise)
    assert torch.equal(expected, policy.execute(observation, latent, noise))
    assert policy.adaptation.explore_episodes == (0 if explorer == "nobody" else run.adaptation.explore_episodes)


def test_the_executor_explores_on_a_sample_that_it_holds_for_an_episode(run):
    policy = ablation.Explored(run, "executor", seed=0)
    observation, noise = torch.ones(3, 3), torch.zeros(3, 2)
    belief = policy.initial_belief(3)
    actions = [policy.explore(observation, belief, noise) for _ in range(2 * run.family.horizon)]
    first, second = actions[: run.family.horizon], actions[run.family.horizon :]
    assert all(torch.equal(first[0], action) for action in first)
    assert all(torch.equal(second[0], action) for action in second)
    assert not torch.equal(first[0], second[0])


def test_random_actions_fill_the_bounds_and_are_a_function_of_the_seed(run):
    observation, belief, noise = torch.ones(500, 3), torch.zeros(500, 6), torch.zeros(500, 2)
    one, same, other = (ablation.Explored(run, "random", s).explore(observation, belief, noise) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert 0.095 < one.abs().max() <= 0.1


def test_every_context_is_scored_on_the_same_tasks_and_shown(run, monkeypatch):
    monkeypatch.setattr(ablation, "TASKS", 4)
    found = ablation.score([run, run])
    assert list(found) == list(ablation.EXPLORERS)
    assert found["explorer"]["probability_that_the_explorer_is_better"] is None
    assert found["nobody"]["certainty"] == 0.0
    for data in found.values():
        assert len(data["seed_means"]) == 2
        assert np.isfinite(data["seed_means"]).all()
    made = {"command": "python x", "date": "2026-01-02", "machine": "one, 2 cores"}
    shown = ablation.table({"made": made, "tasks": 4, "results": {run.family.name: found}})
    assert shown.count(f"| `{run.family.name}` |") == 4
    assert "Made by `python x` on 2026-01-02, one, 2 cores; 4 held-out tasks a run." in shown
