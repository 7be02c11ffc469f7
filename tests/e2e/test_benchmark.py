"""`ccm benchmark` from nothing to a page, in real processes, with a family's budget cut to seconds."""

import json
import os
import signal

import pytest
import typer
from kept import run_of

from ccm_runtime.commands.benchmark import benchmark
from ccm_runtime.errors import RunError
from ccm_training.benchmark import budgets, launch
from ccm_training.benchmark.campaign import Folders
from ccm_training.benchmark.result import path_of, read_result
from ccm_training.checkpoint import parameter_hash
from ccm_training.evaluation import evaluate_path
from ccm_training.lock import trained_by_us_alone

PRESET = """
family: sparse-point-robot
meta_batch: 4
updates_per_iteration: 2
threads: 1
tasks: {num_train: 6, num_test: 5}
networks: {latent: 2, hidden: [8], encoder_hidden: [8]}
trial: {execute_episodes: 1}
collect: {warmup_trials: 2, iterations: 3, tasks: 4, capacity: 4}
encoder: {pretrain_updates: 0, queries: 2, key_rows: 8}
policy: {rows: 4, explorer_rows: 4}
evaluation: {every: 1, tasks: 2}
"""


@pytest.fixture
def folders(tmp_path, monkeypatch):
    preset = tmp_path / "tiny.yaml"
    preset.write_text(PRESET)
    cpu = budgets.BUDGETS["cpu"]
    monkeypatch.setitem(
        budgets.BUDGETS, "cpu", cpu._replace(families={"sparse-point-robot": budgets.Amount(str(preset))})
    )
    return Folders(tmp_path / "runs", tmp_path / "results", tmp_path / "page.md")


def figure4(folders, *methods, **changes):
    options = {"jobs": 2, "train": True, "take": True, "as_json": True} | changes
    chosen = {"families": ["sparse-point-robot"], "methods": list(methods), "seeds": [0]}
    benchmark("figure4", budget="cpu", folders=folders, **chosen, **options)


def test_a_figure_from_nothing_to_its_page_and_a_second_time_nothing_is_trained(folders, capsys, monkeypatch):
    figure4(folders, "ccm", "pearl")
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert ["ccm", "pearl"] == [row["arm"] for row in summary["rows"]]
    assert ["CCM"] == [one["better"] for one in summary["odds"]]
    assert "ccm train --config" in folders.page.read_text()

    kept = read_result(path_of(run_of("ccm", 0), folders.results))
    run_dir = folders.runs / "sparse-point-robot-ccm-0"
    tried = evaluate_path(run_dir)
    assert pytest.approx(tried.returns, rel=1e-3, abs=1e-4) == [
        sum(column) / 5 for column in zip(*kept.returns, strict=True)
    ]
    assert parameter_hash(run_dir) == kept.parameters
    assert ((3, 6), 3, (5, 3)) == (
        (len(kept.curve.env_steps), kept.updates),
        len(kept.curve.returns[0]),
        shape(kept.returns),
    )
    assert (4, 8, 2) == (*shape(kept.beliefs), len(kept.beliefs[0][0]))
    assert kept.context is not None

    monkeypatch.setattr(launch, "_start", None)  # nothing can be trained from here on
    before = folders.page.read_text()
    figure4(folders, "ccm", "pearl")
    figure4(folders, "ccm", "pearl", take=False)
    assert before == folders.page.read_text()

    path_of(run_of("ccm", 0), folders.results).unlink()
    figure4(folders, "ccm", "pearl", train=False)
    assert kept.returns == read_result(path_of(run_of("ccm", 0), folders.results)).returns


def test_what_another_process_trains_is_left_to_it_and_what_fails_is_said(folders, capsys):
    (folders.runs / "sparse-point-robot-pearl-0" / "checkpoints").mkdir(parents=True)  # a run that cannot go on
    with (
        trained_by_us_alone(folders.runs / "sparse-point-robot-ccm-0"),
        pytest.raises(RunError, match=r"2 runs have no result, for one of them failed: .*holds a run already"),
    ):
        figure4(folders, "ccm", "pearl")
    said = capsys.readouterr().err
    assert "trained by another process: sparse-point-robot-ccm-0" in said
    assert "failed: sparse-point-robot-pearl-0: ccm: error: " in said


def test_a_benchmark_that_is_stopped_lets_its_runs_save_a_checkpoint(folders, monkeypatch):
    """The signal comes while the first run is looked at; its checkpoint is there when the command ends."""

    def look(_display, _bar, metrics):
        if metrics.is_file() and metrics.stat().st_size > 0:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(launch, "_show", look)
    text = PRESET.replace("iterations: 3", "iterations: 100000").replace("every: 1", "every: 0")
    (folders.page.parent / "tiny.yaml").write_text(text)
    with pytest.raises(typer.Exit) as ended:
        figure4(folders, "pearl")
    assert ended.value.exit_code == 128 + signal.SIGTERM
    run_dir = folders.runs / "sparse-point-robot-pearl-0"
    assert list((run_dir / "checkpoints").glob("[0-9]*"))
    with trained_by_us_alone(run_dir):
        pass


def shape(table):
    return len(table), len(table[0])
