"""What is told of a run is what its files say, without torch."""

import json
import subprocess
import sys

import pytest
import yaml
from rich.console import Console
from tiny_run import tiny_config

from ccm_runtime.commands import runs as runs_command
from ccm_runtime.commands.runs import runs
from ccm_runtime.errors import CheckpointCorruptError, CheckpointMissingError
from ccm_training.lock import trained_by_us_alone
from ccm_training.run_folder import differing, find_runs, flat_settings, read_metrics, summarize

LINE = {"iteration": 1, "env_steps": 100, "updates": 4, "time_s": 2.5}
EVALUATION = {"returns": [1.0, 3.0, 4.0], "explore_episodes": 1, "adaptation_score": 0.8, "interval": [0.7, 0.9]}


def write_run(run_dir, *, lines=(), evaluation=None, divergence=None, **changes):
    run_dir.mkdir(parents=True)
    config = tiny_config(collect={"iterations": 2}, **changes)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    (run_dir / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for name, content in (("evaluation", evaluation), ("divergence", divergence)):
        if content is not None:
            (run_dir / f"{name}.json").write_text(json.dumps(content))
    return run_dir


SECOND = {**LINE, "iteration": 2, "env_steps": 200}


@pytest.mark.parametrize(
    ("state", "content"),
    [
        ("stopped", {}),
        ("stopped", {"lines": [LINE]}),
        ("stopped", {"lines": [LINE, SECOND]}),  # not evaluated yet
        ("stopped", {"lines": [LINE], "evaluation": EVALUATION}),  # it was made longer since
        ("finished", {"lines": [LINE, SECOND], "evaluation": EVALUATION}),
        ("finished", {"evaluation": EVALUATION, "method": "random"}),  # there is nothing to train
        ("diverged", {"lines": [LINE], "divergence": {"iteration": 1}}),
        ("stopped", {"lines": [LINE, SECOND], "divergence": {"iteration": 1}}),  # it went on, and got past that
    ],
)
def test_the_state_of_a_run_is_what_its_files_say(tmp_path, state, content):
    assert state == summarize(write_run(tmp_path / "run", **content)).state


def test_a_run_is_running_while_a_process_trains_it(tmp_path):
    run_dir = write_run(tmp_path / "run", lines=[LINE])
    with trained_by_us_alone(run_dir):
        assert summarize(run_dir).state == "running"
    assert summarize(run_dir).state == "stopped"


def test_a_finished_run_has_the_score_of_its_end_and_another_the_last_while_training(tmp_path):
    tried = LINE | {"score": 0.25, "returns": [1.0, 2.0]}
    stopped = summarize(write_run(tmp_path / "stopped", lines=[tried, SECOND]))
    assert (stopped.score, stopped.interval, stopped.returns) == (0.25, None, (1.0, 2.0))
    assert (stopped.iteration, stopped.iterations, stopped.env_steps, stopped.time_s) == (2, 2, 200, 2.5)
    finished = summarize(write_run(tmp_path / "finished", lines=[tried, SECOND], evaluation=EVALUATION))
    assert (finished.score, finished.interval, finished.returns) == (0.8, (0.7, 0.9), (1.0, 3.0, 4.0))


def test_a_finished_run_keeps_its_tasks_scores_unless_it_is_of_before(tmp_path):
    lines, kept = [LINE, SECOND], EVALUATION | {"task_scores": [0.7, 0.9]}
    assert (0.7, 0.9) == summarize(write_run(tmp_path / "new", lines=lines, evaluation=kept)).task_scores
    assert () == summarize(write_run(tmp_path / "before", lines=lines, evaluation=EVALUATION)).task_scores
    assert () == summarize(write_run(tmp_path / "longer", lines=[LINE], evaluation=kept)).task_scores


def test_without_a_ceiling_the_first_executor_episode_s_return_is_the_score(tmp_path):
    found = EVALUATION | {"adaptation_score": None, "interval": None}
    assert summarize(write_run(tmp_path / "run", lines=[LINE, SECOND], evaluation=found)).score == 3.0


def test_a_line_that_was_cut_off_or_damaged_is_passed_over(tmp_path):
    run_dir = write_run(tmp_path / "run", lines=[LINE])
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('[1]\n{"iteration": "x"}\n{"iteration": 2, "env_')
    assert summarize(run_dir).iteration == 1
    assert read_metrics(run_dir / "metrics.jsonl") == [LINE]


def test_runs_are_found_below_a_folder_and_nothing_else_is_taken_for_one(tmp_path):
    runs = [write_run(tmp_path / name) for name in ("b", "a/y", "a/x")]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.yaml").write_text("theme: dark\n")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "config.yaml").write_bytes(b"\xff\x00: [")
    assert sorted(runs) == find_runs(tmp_path)


def test_what_is_no_run_is_said_to_be_none(tmp_path):
    with pytest.raises(CheckpointMissingError, match=r"no run there; expected .*config\.yaml"):
        summarize(tmp_path)


def torn(run_dir, name, content):
    """A run one of whose files is not what was written."""
    (write_run(run_dir, lines=[LINE, SECOND], evaluation=EVALUATION) / name).write_bytes(content)
    return run_dir


DAMAGED = [
    ("config.yaml", b"family: [", "it is no YAML"),
    ("config.yaml", b"\xff\x00", "no text in UTF-8"),
    ("config.yaml", b"theme: dark", "not what `ccm train` writes: family: expected a value, got none"),
    ("config.yaml", b"- theme", "not what `ccm train` writes: expected a group of settings, got "),
    (
        "config.yaml",
        b"{family: a, seed: 0, method: [ccm], collect: {iterations: 2}}",
        "method: expected 'ccm', ",
    ),
    (
        "config.yaml",
        b"{family: a, seed: 0, method: ccm, collect: {iterations: x}}",
        "collect.iterations: expected an integer, got 'x'",
    ),
    ("evaluation.json", b'{"returns": [1.0', "it is no JSON"),
    ("evaluation.json", b"[]", "not what `ccm train` writes"),
    ("evaluation.json", json.dumps(EVALUATION | {"returns": 1.0}).encode(), "returns: expected a list, for instance"),
    (
        "evaluation.json",
        json.dumps(EVALUATION | {"task_scores": [float("nan")]}).encode(),
        "task_scores.0: expected a finite number, got nan",
    ),
    ("divergence.json", b'{"iteration": "x"}', "iteration: expected an integer, got 'x'"),
    ("metrics.jsonl", b"\xff\xff", "no text in UTF-8"),
]


@pytest.mark.parametrize(("name", "content", "why"), DAMAGED)
def test_a_run_that_cannot_be_read_is_named_with_the_reason_and_the_others_are_listed(
    tmp_path, capsys, name, content, why
):
    torn(tmp_path / "bad", name, content)
    with pytest.raises(CheckpointCorruptError, match=f"bad/{name}.*{why}"):
        runs([tmp_path], sort="name", as_json=True)
    write_run(tmp_path / "good", lines=[LINE])
    with pytest.warns(UserWarning, match=f"bad/{name}.*{why}"):
        runs([tmp_path], sort="name", as_json=True)
    assert [str(tmp_path / "good")] == [run["run_dir"] for run in json.loads(capsys.readouterr().out)]
    with pytest.raises(CheckpointCorruptError, match=f"bad/{name}"):
        runs([tmp_path / "good", tmp_path / "bad"], sort="name", as_json=True)


def test_settings_that_the_system_does_not_give_are_named(tmp_path):
    config = write_run(tmp_path / "run", lines=[LINE]) / "config.yaml"
    config.unlink()
    config.symlink_to(config)
    with pytest.raises(CheckpointCorruptError, match=r"cannot read .*config\.yaml: Too many levels"):
        runs([tmp_path], sort="name", as_json=False)


def test_settings_that_differ_are_named_with_their_value_in_each():
    configs = [tiny_config(seed=seed, policy={"discount": discount}) for seed, discount in ((0, 0.9), (1, 0.95))]
    trees = [config.model_dump(mode="json") for config in configs]
    assert differing(trees) == {"seed": [0, 1], "policy.discount": [0.9, 0.95]}
    del trees[1]["policy"]
    assert differing(trees)["policy.discount"] == [0.9, None]
    assert flat_settings(trees[0])["collect.capacity"] == 2


def test_a_list_of_runs_that_no_terminal_shows_holds_every_name_whole(tmp_path, capsys):
    name = "sweep/point_robot_debug,policy.discount=0.95,seed=0"
    for run_dir, family in ((tmp_path / name, "hard-point-robot-aligned"), (tmp_path / "b", "hard-point-robot")):
        write_run(run_dir, lines=[LINE], family=family, seed=len(family))
    runs([tmp_path], sort="name", as_json=False)
    assert name in capsys.readouterr().out


def test_a_narrow_terminal_folds_the_names_of_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs_command, "table_console", lambda: Console(width=80))
    for run_dir, family in ((tmp_path / ("a" * 30), "hard-point-robot-aligned"), (tmp_path / "b", "hard-point-robot")):
        write_run(run_dir, lines=[LINE], family=family, seed=len(family))
    runs([tmp_path], sort="name", as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert 30 == sum(line.split()[0].count("a") for line in lines if line.startswith("a"))


def test_looking_at_runs_needs_no_torch():
    script = "import sys\nsys.modules['torch'] = None\nimport ccm_runtime.commands.runs"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (finished.returncode, finished.stderr) == (0, "")
