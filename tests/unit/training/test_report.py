"""A run's page is whole by itself, shows what is known and nothing else, and lets no text become markup."""

import base64
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from tiny_run import tiny_experiment

from ccm_runtime.errors import CheckpointMissingError, RenderingError
from ccm_runtime.trial import Phase
from ccm_training import figures
from ccm_training.checkpoint import save_checkpoint
from ccm_training.config import load_config
from ccm_training.diagnostics import ContextQuality
from ccm_training.envs.registry import get_family
from ccm_training.evaluation import ReportTrials
from ccm_training.filming import Strip
from ccm_training.page import Report, render_page, spread
from ccm_training.report import read_report, write_report
from ccm_training.train import train

EPISODES, EXPLORE = 6, 4


class Reader(HTMLParser):
    """Images, headings and whether every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        elif tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def report(**changes) -> Report:
    rng = np.random.default_rng(0)
    family = get_family("hard-point-robot")
    tasks = family.sample_tasks("test", 12, 0)
    steps = rng.uniform(-0.1, 0.1, (12, EPISODES, family.horizon + 1, 2))
    trials = ReportTrials(
        tasks=tasks,
        observations=steps.cumsum(2).astype(np.float32),
        rewards=rng.random((12, EPISODES, family.horizon), np.float32),
        latents=rng.normal(size=(12, EPISODES, 5)).astype(np.float32),
    )
    scores = {
        "family": family.name,
        "method": "ccm",
        "trials": 12,
        "explore_episodes": EXPLORE,
        "returns": [10.0, 20.0, 30.0, 40.0, 120.0, 125.5],
        "adaptation_score": 0.8125,
        "interval": (0.75, 0.875),
        "ceiling": 148.0,
        "floor": 3.0,
    }
    metrics = [
        {"iteration": i, "env_steps": 1000 * i, "updates": 30 * i, "encoder/accuracy": 0.1, "executor/critic_loss": 1.0}
        | ({"score": i / 20} if i % 5 == 0 else {})
        for i in range(1, 21)
    ]
    made = Report(
        scores=scores,
        served=True,
        metrics=metrics,
        config={"seed": 3, "meta_batch": 16, "policy": {"discount": 0.9}},
        provenance={"updates": "600"},
        written_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        trials=trials,
        goals=np.concatenate([family.goals(tasks), np.full((12, 2, 1), 0.3, np.float32)], -1),
        parameters=family.task.labels,
    )
    return replace(made, **changes)


@pytest.fixture(scope="module")
def page() -> str:
    return render_page(report())


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_shows_score_ceiling_floor_and_four_pictures(page):
    for text in ("0.812", "0.750 to 0.875", "148.0", "3.0", "seed 3", "served over gRPC", "2026-01-02 03:04 UTC"):
        assert text in page
    assert len(read(page).images) == 4


def test_every_picture_is_inside_the_page_is_whole_and_is_described(page):
    for image in read(page).images:
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/svg+xml;base64"
        ET.fromstring(base64.b64decode(data))  # noqa: S314 (our own picture)
        assert len(image["alt"]) > 30


def test_the_page_refers_to_nothing_outside_itself(page):
    assert re.findall(r"(?:https?:)?//[a-z]|<script|<link|@import|url\(", page) == []


def test_the_same_report_makes_the_same_page(page):
    assert page == render_page(report())


@pytest.mark.parametrize(("episodes", "words"), [(1, "for 1 episode and then"), (4, "for 4 episodes and then")])
def test_the_page_counts_episodes_as_people_do(episodes, words):
    assert words in render_page(report(scores=report().scores | {"explore_episodes": episodes}))


def test_what_is_not_known_is_left_out():
    scores = report().scores | {"adaptation_score": None, "interval": None, "ceiling": None}
    page = render_page(report(scores=scores, served=False, metrics=[], trials=None, goals=None))
    assert "unknown" in page
    assert "in process" in page
    assert len(read(page).images) == 1


def test_without_a_ceiling_the_learning_curve_is_one_of_returns():
    metrics = [line | {"score": -100.0 * line["score"]} for line in report().metrics if "score" in line]
    scores = report().scores | {"adaptation_score": None, "interval": None, "ceiling": None, "floor": -300.0}
    told = render_page(report(scores=scores, metrics=metrics, goals=None))
    assert "share of the ceiling" not in told
    assert "While training: return of the first executor episode." in told
    assert len(read(told).images) == 3


def test_with_an_oracle_no_better_than_random_actions_the_learning_curve_is_one_of_returns():
    scores = report().scores | {"adaptation_score": None, "interval": None, "ceiling": -640.0, "floor": -570.0}
    page = render_page(report(scores=scores, goals=None))
    assert "While training: return of the first executor episode." in page
    assert "-640.0" in page


@pytest.mark.parametrize(("scored", "floor", "values"), [(True, 0.1, (0.0, 1.1)), (False, -300.0, (-300.0, -10.0))])
def test_the_learning_curve_shows_its_levels_and_points(monkeypatch, scored, floor, values):
    seen = []
    monkeypatch.setattr(figures, "svg_of", lambda figure: seen.append(figure.axes[0].get_ylim()))
    lines = [{"env_steps": step, "updates": step, "score": value} for step, value in enumerate([-10.0, -20.0], 1)]
    if scored:
        lines = [line | {"score": line["score"] / -20.0} for line in lines]
    figures.learning_curve(lines, scored=scored, floor=floor, chance=None)
    low, high = seen[0]
    assert low <= values[0]
    assert values[1] <= high <= max(values[1], 0.0) + 50.0


def test_a_return_without_a_ceiling_is_what_the_page_shows_first():
    scores = report().scores | {"adaptation_score": None, "interval": None, "ceiling": None}
    page = render_page(report(scores=scores, metrics=[], trials=None, goals=None))
    first = re.search(r'<div class="card main"><dt>(.*?)</dt><dd>(.*?)<', page)
    assert first.groups() == ("First executor episode", "120.0")


def strips(num=6):
    picture = np.zeros((36, 48, 3), np.uint8)
    steps = tuple(range(0, 5 * num, 5))
    phases = (Phase.EXPLORE, Phase.EXECUTE)
    return [Strip(phase, row, 12.5 + row, steps, (picture,) * num) for row, phase in enumerate(phases)]


def test_a_family_that_is_not_on_the_plane_is_shown_in_pictures():
    page = render_page(report(goals=None, metrics=[], strips=strips(), filmed_task="target velocity 1.5 m/s"))
    assert "One trial on a held-out task: target velocity 1.5 m/s." in page
    assert "episode 1 (explore, return 12.5), episode 2 (execute, return 13.5)" in page
    drawn = [base64.b64decode(image["src"].partition(",")[2]).count(b"<image") for image in read(page).images]
    assert 12 in drawn


def test_where_nothing_can_be_drawn_there_are_no_pictures(tmp_path, monkeypatch):
    save_checkpoint(tiny_experiment(), tmp_path)
    monkeypatch.setattr("ccm_training.report._goals", lambda *_: None)
    asked = {"adaptation": SimpleNamespace(model_dump=lambda: report().scores), "written_at": datetime(2026, 1, 2)}
    shown = read_report(tmp_path, **asked).strips
    assert [(Phase.EXPLORE, 0, 6), (Phase.EXECUTE, 2, 6)] == [(s.phase, s.episode, len(s.pictures)) for s in shown]

    def blind(_):
        raise RenderingError("no OpenGL")

    monkeypatch.setattr("ccm_training.envs.simulated.SimulatedTask.frame", blind)
    assert read_report(tmp_path, **asked).strips == []


CONTEXT = ContextQuality(
    tasks=16,
    trials=8,
    accuracy=0.625,
    information=1.5,
    chance=1 / 16,
    bound=2.7726,
    retrieval=0.75,
    silhouette=0.25,
    effective_rank=3.25,
    certainty=[0.5, 0.75, 0.9, 0.95, 0.97, 0.98],
    certain_after=3,
)


def test_the_worth_of_the_beliefs_stands_beside_their_map():
    page = render_page(report(context=CONTEXT.model_dump()))
    cells = re.findall(r'<td>([^<]*)</td><td class="number">([^<]*)</td><td>([^<]*)</td>', page)
    assert cells[0] == ("task found by its key (InfoNCE)", "0.62", "chance 0.06, at most 1")
    assert ("information about the task, at least", "1.50 nats", "it can show at most log M, 2.77") in cells
    assert ("90 % of the last certainty", "after episode 3", "of 6") in cells
    assert "Contexts of 16 held-out tasks, 8 noisy trials each" in page


def test_without_contrast_the_page_tells_no_accuracy():
    page = render_page(report(context=CONTEXT.model_dump() | {"accuracy": None, "information": None}))
    assert "InfoNCE" not in page
    assert "task found by the nearest centroid" in page


def test_beliefs_that_never_change_are_not_drawn():
    trials = report().trials._replace(latents=np.zeros((12, EPISODES, 5), np.float32))
    assert "Beliefs" not in render_page(report(trials=trials))


def test_text_cannot_become_markup():
    bare = report(metrics=[], trials=None, goals=None)
    page = render_page(replace(bare, config={"seed": "<script>alert(1)</script>"}, provenance={"<b>": "<i>"}))
    assert "<script>" not in page
    assert "<i>" not in page


def test_metrics_of_a_method_without_an_encoder_are_drawn():
    lines = [{"iteration": 1, "env_steps": 10, "updates": 0}]
    ET.fromstring(figures.learning_curve(lines, scored=True, floor=None, chance=None))  # noqa: S314


def test_an_executor_alone_has_a_curve_and_a_map():
    trials, goals = report().trials, report().goals
    assert "<svg" in figures.adaptation_curve([1.0, 2.0], 0, ceiling=None, floor=None)
    assert "<svg" in figures.trajectory_map(trials.observations[:2], 0, goals[:2])


def test_principal_axes_keep_distances_within_a_plane():
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.normal(size=(5, 2)))[0]
    latents = (rng.normal(size=(9, 3, 2)) @ basis.T).astype(np.float32)
    found = figures.principal_axes(latents)
    apart = np.linalg.norm(latents[0, -1] - latents[1, 0])
    assert np.linalg.norm(found[0, -1] - found[1, 0]) == pytest.approx(apart, rel=1e-4)
    assert figures.principal_axes(latents[..., :1]).shape == (9, 3, 2)


def test_maps_are_spread_over_the_tasks():
    tasks = np.array([[5.0], [1.0], [4.0], [2.0], [3.0], [0.0]], np.float32)
    assert tasks[spread(tasks, 3), 0].tolist() == [1.0, 3.0, 5.0]
    assert sorted(spread(tasks, 10)) == list(range(6))


def test_a_run_becomes_a_page(tmp_path):
    few = ["iterations=2", "warmup_trials=1", "tasks=8", "capacity=4"]
    settings = ["updates_per_iteration=1", "evaluation.every=1", "encoder.pretrain_updates=0", "threads=1"]
    config = load_config("point_robot_debug", [*settings, "meta_batch=4", *(f"collect.{setting}" for setting in few)])
    train(config, tmp_path / "run", device="cpu", progress=False)
    page = write_report(tmp_path / "run", tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    scores = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert f"{scores['adaptation_score']:.3f}" in page
    assert len(read(page).images) == 4


def test_a_folder_without_a_run_has_no_page(tmp_path):
    with pytest.raises(CheckpointMissingError, match="no checkpoint there"):
        write_report(tmp_path, tmp_path / "report.html")
