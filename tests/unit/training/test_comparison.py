"""Runs that differ by the seed alone are put together, and a page of several says what sets them apart."""

import json
import re

import numpy as np
import pytest
import yaml
from tiny_run import tiny_experiment

from ccm_runtime.errors import CheckpointMissingError
from ccm_training.checkpoint import parameter_hash, save_checkpoint
from ccm_training.comparison import label_groups, read_comparison
from ccm_training.comparison_figures import mean_curve
from ccm_training.comparison_page import render_comparison, write_comparison
from ccm_training.standing import BETTER, OVER_SEEDS, OVER_SEEDS_AND_TASKS


def settings(method="ccm", family="sparse-point-robot", **policy):
    return {"family": family, "method": method, "seed": None, "policy": {"discount": 0.9, "rows": 32} | policy}


@pytest.mark.parametrize(
    ("configs", "labels"),
    [
        ([settings()], ["sparse-point-robot ccm"]),
        ([settings("ccm"), settings("pearl", rows=64)], ["ccm", "pearl"]),
        ([settings(discount=0.9), settings(discount=0.95)], ["policy.discount=0.9", "policy.discount=0.95"]),
        (
            [settings("ccm"), settings("ccm", rows=[1]), settings("pearl")],
            ["ccm, policy.rows=32", "ccm, policy.rows=[1]", "pearl, policy.rows=32"],
        ),
        (
            [settings(family="a", discount=1), settings(family="b", discount=2)],
            ["a", "b"],
        ),
    ],
)
def test_a_label_is_what_sets_runs_apart_and_no_more(configs, labels):
    assert labels == label_groups(configs)


def test_a_mean_over_seeds_covers_what_every_run_has_come_to():
    steps, scores = mean_curve([(np.array([0.0, 10.0]), np.array([0.0, 1.0])), (np.array([2.0, 6.0]), np.ones(2))])
    assert (steps[0], steps[-1], scores.shape) == (2.0, 6.0, (2, len(steps)))
    assert scores[0] == pytest.approx(steps / 10.0)
    assert scores[1] == pytest.approx(1.0)


def write_run(run_dir, *, seed, score, checkpoint=True, **changes):
    run = tiny_experiment(seed=seed, **changes)
    run_dir.mkdir()
    (run_dir / "config.yaml").write_text(yaml.safe_dump(run.config.model_dump(mode="json")))
    if checkpoint:
        save_checkpoint(run, run_dir)
    if score is not None:
        lines = [
            {"iteration": i, "env_steps": 100 * i, "updates": i, "time_s": 60.0 * i, "score": score * i / 2}
            | {"returns": [1.0, 2.0, 3.0, 4.0 + seed]}
            for i in (1, 2)
        ]
        (run_dir / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return run_dir


def older_than_a_setting(run_dir):
    path = run_dir / "config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["collect"]["simulation_limit_s"]
    path.write_text(yaml.safe_dump(config))
    return run_dir


@pytest.fixture(scope="module")
def run_dirs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    low, high = {"policy": {"discount": 0.9}}, {"policy": {"discount": 0.95}}
    return [
        write_run(folder / "b", seed=1, score=0.6, **low),
        older_than_a_setting(write_run(folder / "a", seed=0, score=0.4, **low)),
        write_run(folder / "c<b>", seed=0, score=0.9, **high),
        write_run(folder / "d", seed=1, score=None, checkpoint=False, **high),
    ]


@pytest.fixture(scope="module")
def comparison(run_dirs):
    return read_comparison(run_dirs)


def test_runs_that_differ_by_the_seed_alone_are_put_together(run_dirs, comparison):
    low, high = comparison.groups
    assert (low.label, high.label) == ("policy.discount=0.9", "policy.discount=0.95")
    assert [one.summary.run_dir for one in low.members] == [run_dirs[1], run_dirs[0]]
    assert [one.parameters for one in high.members] == [parameter_hash(run_dirs[2]), None]
    assert comparison.differences == {"policy.discount": [0.9, 0.95]}


def test_the_page_shows_curves_beliefs_differences_and_where_each_comes_from(run_dirs, comparison):
    page = render_comparison(comparison)
    for words in (
        "0.500",
        "0.400 to 0.600</td>",
        OVER_SEEDS,
        "policy.discount=0.95",
        parameter_hash(run_dirs[1])[:12],
        "0.900",
    ):
        assert words in page
    assert page.count("<img") == 2 + 2
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "c&lt;b&gt;" in page
    assert "c<b>" not in page


def finished(run_dir, tasks):
    """The run, with an evaluation that keeps its tasks' scores."""
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    config["collect"]["iterations"] = 2  # as the metrics have come to
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    scores = {"returns": [1.0], "explore_episodes": 0, "adaptation_score": sum(tasks) / len(tasks), "interval": None}
    (run_dir / "evaluation.json").write_text(json.dumps(scores | {"task_scores": tasks}))
    return run_dir


def several(folder, seeds, scores, **changes):
    return [
        finished(write_run(folder / f"{scores[0]}-{seed}", seed=seed, score=0.5, **changes), scores) for seed in seeds
    ]


LOW, HIGH = [0.1, 0.3, 0.5, 0.7], [0.2, 0.4, 0.6, 0.8]


def test_runs_that_keep_their_tasks_scores_are_compared_over_seeds_and_tasks(tmp_path):
    low = several(tmp_path, (0, 1), LOW, policy={"discount": 0.9})
    high = several(tmp_path, (0, 1), HIGH, policy={"discount": 0.95})
    page = render_comparison(read_comparison([*low, *high]))
    for words in (OVER_SEEDS_AND_TASKS, BETTER, '<th class="number">mean</th>', "1.00 [1.00, 1.00]"):
        assert words in page
    assert "(tasks alone)" not in page


def test_a_run_against_a_run_has_intervals_that_are_said_to_cover_tasks_alone_and_no_chance(tmp_path):
    low = several(tmp_path, (0,), LOW, policy={"discount": 0.9})
    page = render_comparison(read_comparison(low + several(tmp_path, (0,), HIGH, policy={"discount": 0.95})))
    assert page.count("(tasks alone)</td>") == 2
    assert BETTER not in page


def test_tasks_that_were_drawn_otherwise_are_not_the_same_ones(tmp_path):
    low = several(tmp_path, (0, 1), LOW)
    page = render_comparison(read_comparison(low + several(tmp_path, (0, 1), HIGH, tasks={"seed": 5})))
    assert OVER_SEEDS_AND_TASKS in page
    assert BETTER not in page


def test_beliefs_are_those_of_the_seed_that_they_are_said_to_be_of(tmp_path):
    first = write_run(tmp_path / "killed", seed=3, score=None, checkpoint=False)
    second = write_run(tmp_path / "trained", seed=4, score=0.5)
    (group,) = read_comparison([first, second]).groups
    assert (group.tried, [one.summary.config["seed"] for one in group.members]) == (4, [3, 4])
    page = render_comparison(read_comparison([first, second]))
    assert "seed 4</h3>" in page
    assert "seed 3</h3>" not in page


def test_one_page_is_written_for_several_runs(run_dirs, tmp_path):
    written = write_comparison(run_dirs[:2], tmp_path / "out" / "comparison.html")
    assert "2 runs compared" in written.read_text(encoding="utf-8")
    with pytest.raises(CheckpointMissingError, match="no run there"):
        write_comparison([*run_dirs, tmp_path], tmp_path / "comparison.html")
