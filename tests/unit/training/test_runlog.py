"""A run's lines reach the terminal, TensorBoard and Weights & Biases alike, or one is told what to install."""

import re
import shutil
import sys
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tiny_run import short_config

from ccm_runtime.errors import CheckpointCorruptError, ConfigError, DependencyMissingError
from ccm_training.run_folder import METRICS, read_metrics
from ccm_training.runlog import LAYOUT, CohortLog
from ccm_training.train import train


def config(**changes):
    return short_config(**({"evaluation": {"every": 1, "tasks": 2}} | changes))


class Wandb:
    """Records what is asked of wandb."""

    def __init__(self) -> None:
        self.begun, self.lines, self.ended = [], [], 0

    def init(self, **how):
        self.begun.append(how)
        return SimpleNamespace(log=lambda line, step: self.lines.append((step, line)), finish=self.finish)

    def finish(self):
        self.ended += 1


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """A run, and what Weights & Biases would have heard of it."""
    run_dir = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "wandb", wandb := Wandb())
        shown = []
        patch.setattr(CohortLog, "say", lambda *_, **__: None)
        update = CohortLog.report
        patch.setattr(CohortLog, "report", lambda log, scores: (update(log, scores), shown.append(note_of(log)))[0])
        train(config(), run_dir, device="cpu", progress=False, wandb="robots")
    return run_dir, wandb, shown


def note_of(log):
    return log._display.tasks[0].fields["note"]


def test_weights_and_biases_hears_every_line_of_a_run(heard):
    run_dir, wandb, _ = heard
    (begun,) = wandb.begun
    assert (begun["project"], begun["name"], begun["resume"], begun["dir"]) == ("robots", "tiny", "allow", run_dir)
    assert begun["config"] == config().model_dump(mode="json")
    lines = read_metrics(run_dir / METRICS)
    assert [(line["iteration"], line["score"]) for line in lines] == [
        (step, said["score"]) for step, said in wandb.lines
    ]
    assert [line["returns"][2] for line in lines] == [said["returns/3"] for _, said in wandb.lines]
    assert wandb.ended == 1


def known_as(monkeypatch, run_dir, **how):
    """Train, and tell the id under which Weights & Biases would know the run."""
    monkeypatch.setitem(sys.modules, "wandb", wandb := Wandb())
    train(config(), run_dir, device="cpu", progress=False, wandb="robots", **how)
    (begun,) = wandb.begun
    return begun["id"]


def test_a_run_is_known_by_the_same_name_when_it_goes_on_wherever_its_folder_then_lies(heard, tmp_path, monkeypatch):
    run_dir, before, _ = heard
    shutil.copytree(run_dir, tmp_path / "moved")
    assert before.begun[0]["id"] == known_as(monkeypatch, tmp_path / "moved", resume=True)


def test_a_run_that_begins_where_another_was_is_a_run_of_its_own(tmp_path, monkeypatch):
    first = known_as(monkeypatch, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    second = known_as(monkeypatch, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    train(config(), tmp_path, device="cpu", progress=False)
    third = known_as(monkeypatch, tmp_path, resume=True)
    assert len({first, second, third}) == 3


def test_a_run_that_nobody_heard_before_is_heard_from_where_it_goes_on(tmp_path, monkeypatch):
    train(config(), tmp_path, device="cpu", progress=False)
    assert known_as(monkeypatch, tmp_path, resume=True) == known_as(monkeypatch, tmp_path, resume=True)


def test_a_damaged_name_is_told_with_its_file(tmp_path, monkeypatch):
    known_as(monkeypatch, tmp_path)
    (tmp_path / "wandb.json").write_text("{}")
    with pytest.raises(CheckpointCorruptError, match=r"wandb\.json is not what `ccm train` writes: id"):
        known_as(monkeypatch, tmp_path, resume=True)


def test_what_is_no_terminal_is_told_of_each_evaluation_in_a_line(tmp_path, capsys):
    train(config(), tmp_path / "run", device="cpu", progress=True)
    lines = capsys.readouterr().err.splitlines()
    total = config().collect.iterations
    assert [f"train {number}/{total}" for number in range(1, total + 1)] == [line.partition("  ")[0] for line in lines]
    assert all("  score " in line and "env steps/s" in line for line in lines)


@pytest.mark.parametrize(
    ("error", "words"),
    [(RuntimeError("No API key\nconfigured"), "No API key configured"), (TimeoutError(), "TimeoutError")],
)
def test_wandb_that_does_not_begin_is_told_in_its_words_and_the_run_goes_on_without_it(
    tmp_path, monkeypatch, error, words
):
    def init(**_):
        raise error

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    with pytest.raises(ConfigError, match=rf"does not begin: {words}; .*WANDB_MODE=offline.* --resume"):
        train(config(), tmp_path / "run", device="cpu", progress=False, wandb="robots")
    with pytest.warns(UserWarning, match="begins again"):
        assert train(config(), tmp_path / "run", device="cpu", progress=False, resume=True).evaluation


def test_without_wandb_one_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(DependencyMissingError, match=r"pip install 'ccm\[wandb\]'"):
        train(config(), tmp_path / "run", device="cpu", progress=False, wandb="robots")
    assert not (tmp_path / "run").exists()


def test_tensorboard_s_layout_shows_every_metric_and_nothing_that_there_is_not(heard):
    board = EventAccumulator(str(heard[0] / "tensorboard"))
    board.Reload()
    layout = layout_pb2.Layout.FromString(board.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    patterns = [pattern for group in layout.category for chart in group.chart for pattern in chart.multiline.tag]
    assert [group.title for group in layout.category] == list(LAYOUT)
    tags = board.Tags()["scalars"]
    assert [tag for tag in tags if not any(re.search(pattern, tag) for pattern in patterns)] == []
    optional = {"^encoder/prediction_loss$"}  # only where its weight is not 0
    unused = {pattern for pattern in patterns if not any(re.search(pattern, tag) for tag in tags)}
    assert unused == optional


def test_the_display_tells_score_certainty_accuracy_losses_and_rates(heard):
    last = heard[2][-1]
    number = r"[\d,.\-]+"
    words = ("score", "certainty", "accuracy", "InfoNCE", "critics", "explorer's")
    assert re.fullmatch(
        "".join(rf"{word} {number}  " for word in words) + rf"{number} env steps/s  {number} updates/s", last
    )
