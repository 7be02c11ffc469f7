"""Runs of the methods that adapt by a gradient step: trained, stopped, resumed and scored as all others are."""

import json
import shutil
import signal

import pytest
import torch
from tiny_run import short_config

from ccm_runtime.errors import ConfigError, DivergenceError
from ccm_training import train as training
from ccm_training.checkpoint import FOLDER, load_agent, parameter_hash
from ccm_training.config import load_config
from ccm_training.evaluation import evaluate_path, trials_for_report
from ccm_training.onpolicy import gradient_methods
from ccm_training.report import write_report

METHODS = ("maml", "promp")
ITERATIONS, ROLLOUTS, TASKS = 4, 3, 5


def config(method, **changes):
    """The nets are small, and so are the goals' distances: nothing is sparse."""
    return short_config(
        method,
        {"iterations": ITERATIONS, "tasks": TASKS},
        gradient={"hidden": [8], "rollouts": ROLLOUTS},
        evaluation={"every": 2, "tasks": 3},
        checkpoints_kept=ITERATIONS,
        **changes,
    )


def run(run_dir, settings, **options):
    return training.train(settings, run_dir, device="cpu", progress=False, **options)


def lines(run_dir):
    """Lines of the metrics, without what the clock says."""
    found = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "time_s" and not k.startswith("rate/")} for line in found]


@pytest.fixture(scope="module", params=METHODS)
def finished(request, tmp_path_factory):
    method = request.param
    run_dir = tmp_path_factory.mktemp(method) / "run"
    return config(method), run(run_dir, config(method))


def test_a_run_counts_its_steps_and_says_how_it_learns(finished):
    settings, result = finished
    found = lines(result.run_dir)
    per_iteration = 2 * TASKS * ROLLOUTS * 32
    warm_up = 6 * 4 * 32
    assert [warm_up + n * per_iteration for n in range(1, ITERATIONS + 1)] == [line["env_steps"] for line in found]
    updates = settings.gradient.epochs if settings.method == "promp" else 1
    assert ITERATIONS * updates == found[-1]["updates"]
    assert {"return/before_step", "return/after_step", "outer/loss", "outer/divergence"} <= found[-1].keys()


def test_the_outer_step_stays_within_the_trust_region_and_improves_on_it(finished):
    settings, result = finished
    steps = [line for line in lines(result.run_dir) if "outer/share" in line]
    assert (settings.method == "maml") == bool(steps)
    for line in steps:
        assert 0.0 <= line["outer/divergence"] <= settings.gradient.radius
        assert (line["outer/improvement"] > 0.0) == (line["outer/share"] > 0.0)


def test_scores_are_those_of_the_first_episode_after_the_inner_step(finished):
    _, result = finished
    found = result.evaluation
    assert (found.explore_episodes, len(found.returns), found.context) == (2, 4, None)
    assert found.adaptation_score == pytest.approx(found.returns[2] / found.ceiling, rel=1e-4)
    assert found.returns[2] == pytest.approx(found.returns[3])  # nothing is learned, or drawn, after the step
    again = evaluate_path(result.run_dir)
    assert found == again.model_copy(update={"seconds": found.seconds})


def test_a_resumed_run_is_the_unbroken_one(finished, tmp_path):
    settings, unbroken = finished
    broken = shutil.copytree(unbroken.run_dir, tmp_path / "broken")
    for path in sorted((broken / FOLDER).iterdir())[2:]:
        shutil.rmtree(path)
    assert load_agent(broken).counters.iteration == 2
    assert parameter_hash(unbroken.run_dir) != parameter_hash(broken)
    run(broken, settings, resume=True)
    assert parameter_hash(unbroken.run_dir) == parameter_hash(broken)
    assert lines(unbroken.run_dir) == lines(broken)


def test_a_run_that_a_signal_stops_within_an_iteration_goes_on_as_if_nothing_had_been(finished, tmp_path, monkeypatch):
    settings, unbroken = finished
    collect, collected = gradient_methods.collect, []

    def interrupted(*of_run):
        found = collect(*of_run)
        collected.append(found)
        if len(collected) == 2:
            signal.raise_signal(signal.SIGTERM)
        return found

    monkeypatch.setattr(gradient_methods, "collect", interrupted)
    assert run(tmp_path / "run", settings).stopped_by is signal.SIGTERM
    assert load_agent(tmp_path / "run").counters.iteration == 1
    run(tmp_path / "run", settings, resume=True)
    assert parameter_hash(unbroken.run_dir) == parameter_hash(tmp_path / "run")
    assert lines(unbroken.run_dir) == lines(tmp_path / "run")


def test_an_inner_step_that_leads_nowhere_finite_ends_the_run(tmp_path):
    with pytest.raises(DivergenceError, match="stopped being finite"):
        run(tmp_path / "run", config("promp", seed=3).model_copy(update={"gradient": broken_settings()}))


def broken_settings():
    settings = config("promp").gradient
    return settings.model_copy(update={"inner_rate": float(torch.finfo(torch.float32).max)})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("override", "got"),
    [
        ("trial.latent=sample", "sample, false and null"),
        ("trial.while_executing=true", "mean, true and null"),
        ("trial.certain_at=0.9", r"mean, false and 0\.9"),
    ],
)
def test_trials_that_would_adapt_at_another_time_are_refused(tmp_path, method, override, got):
    settings = load_config("point_robot_debug", [override], method=method)
    with pytest.raises(ConfigError, match=rf"method '{method}' adapts once, .*trial\.certain_at=null, got {got}$"):
        run(tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", METHODS)
def test_settings_for_a_method_that_stops_exploring_early_are_those_of_one_that_does_not(tmp_path, method):
    path = tmp_path / "early.yaml"
    path.write_text("{family: sparse-point-robot, trial: {certain_at: 0.9}}")
    assert load_config(str(path), method=method).trial.certain_at is None


def test_a_report_draws_no_beliefs_where_there_are_only_parameters(finished, tmp_path):
    _, result = finished
    trials = trials_for_report(result.run_dir, num_tasks=3)
    assert trials.rewards.shape == (3, 4, 32)
    assert not trials.latents.any()
    page = write_report(result.run_dir, tmp_path / "report.html").read_text()
    assert "Adaptation" in page
    assert "Beliefs of held-out tasks" not in page
