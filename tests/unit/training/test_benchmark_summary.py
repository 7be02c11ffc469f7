"""What results come to: numbers against those of a hand, tables, pictures, the page."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest
from kept import MADE, quality, result

from ccm_training.benchmark.campaign import Folders, draw_figure
from ccm_training.benchmark.page import once_for_all_seeds, results_page
from ccm_training.benchmark.pictures import band_of, colours_of, curve_of, draw, num_shown
from ccm_training.benchmark.plan import FIGURES
from ccm_training.benchmark.result import Curve, write_result
from ccm_training.benchmark.summary import groups_of, summarize

GOOD, FAIR = (0.9, 0.8, 1.0, 0.7), (0.5, 0.6, 0.4, 0.9)


def some_results():
    return [
        result("ccm", 0, GOOD),
        result("ccm", 1, (0.9, 0.9, 0.1, 1.0)),
        result("pearl", 0, FAIR),
        result("oracle", 0, (1.0,) * 4),
        result("random", 0, (0.0,) * 4),
    ]


def test_a_row_is_what_a_hand_computes():
    rows = {row.arm: row for row in summarize("figure4", "cpu", some_results()).rows}
    ccm = rows["ccm"]
    assert ccm.score.value == pytest.approx((0.8 + 0.9 + 0.9 + 0.9) / 4)  # the middle half of eight
    assert ccm.score.low <= ccm.score.value <= ccm.score.high
    assert [0.85, 0.725] == ccm.seed_means
    assert ccm.mean_return == pytest.approx(10.0 * (0.85 + 0.725) / 2)
    assert [0.05, 0.05, 0.7875, 0.2] == ccm.by_episode
    assert (0.5, (0.9 + 1.0 + 0.9 + 0.1) / 4) == (ccm.met, ccm.score_if_met)
    assert (rows["oracle"].met, rows["oracle"].score_if_met) == (None, None)
    assert ([0, 1], 4, (1.0, 2.0), 3001) == (ccm.seeds, ccm.tasks, ccm.minutes, ccm.env_steps)
    assert ["ccm", "pearl", "oracle", "random"] == list(rows)
    assert rows["oracle"].score == (1.0, 1.0, 1.0)
    assert rows["oracle"].context == {}


def test_where_acting_costs_something_returns_do_not_tell_whether_a_reward_was_met():
    kept = [*some_results()[:-1], result("random", 0, (-0.1,) * 4)]
    assert [(None, None)] * 4 == [(row.met, row.score_if_met) for row in summarize("figure4", "cpu", kept).rows]


def test_the_chance_is_that_of_the_first_against_the_second():
    odds = {(one.better, one.worse): one.chance for one in summarize("figure4", "cpu", some_results()).odds}
    wins = [1, 1, 1, 0, 1, 1, 0, 1]  # of each run of CCM over PEARL's, task by task
    assert {("CCM", "PEARL"), ("CCM", "oracle")} == set(odds)
    assert odds["CCM", "PEARL"].value == np.mean(wins)
    assert odds["CCM", "PEARL"].low < np.mean(wins) < odds["CCM", "PEARL"].high
    assert odds["CCM", "oracle"].value == pytest.approx(2 * 0.5 / 8)  # two ties, no win


def test_a_family_without_a_ceiling_is_told_in_returns():
    kept = [result(arm, 0, GOOD, family="ant-mass", figure="figure3", ceilings=None) for arm in ("pearl", "pearl-cl")]
    summary = summarize("figure3", "cpu", kept)
    assert {"ant-mass": False} == summary.of_ceiling
    assert [8.5, 8.5] == [row.score.value for row in summary.rows]
    assert [0.5] == [one.chance.value for one in summary.odds]


def test_beliefs_are_told_as_means_over_runs():
    kept = [
        result("ccm", 0, GOOD, context=quality(retrieval=0.5)),
        result("ccm", 1, GOOD, context=quality(retrieval=1.0)),
        result("pearl", 0, GOOD, context=quality(accuracy=None)),
    ]
    ccm, pearl = summarize("figure6", "cpu", kept).rows
    assert ccm.context["retrieval"] == (0.75, 0.5, 1.0)
    assert ("accuracy" in ccm.context, "accuracy" in pearl.context) == (True, False)


@pytest.mark.parametrize("other", ["pearl", "oracle"])
def test_a_family_is_shown_once_an_arm_that_learns_can_be_compared(other):
    lonely = [result("ccm", 0, GOOD), result("random", 0, GOOD)]
    assert groups_of("figure4", lonely) == {}
    assert draw("figure4", lonely) is None
    assert list(groups_of("figure4", [*lonely, result(other, 0, GOOD)])) == ["sparse-point-robot"]


def test_a_family_is_not_shown_where_nobody_learns_or_nothing_is_to_be_compared():
    assert groups_of("figure4", [result("oracle", 0, GOOD), result("random", 0, GOOD)]) == {}
    assert groups_of("figure5", some_results()) == {}  # of its arms, only the method as it is


def test_who_trained_and_who_recorded_is_told_once():
    elsewhere = MADE.model_copy(update={"command": "ccm benchmark figure4 --seeds 1", "commit": "abc"})
    kept = [result("ccm", 0, GOOD), result("ccm", 1, GOOD, recorded=elsewhere), result("pearl", 0, FAIR)]
    row = summarize("figure4", "cpu", kept).rows[0]
    assert row.trained == (
        "ccm train --config sparse_point_robot --method ccm --seed SEED --device cpu "
        "--run-dir runs/cpu/sparse-point-robot-ccm-SEED"
    )
    assert ["ccm benchmark figure4", "ccm benchmark figure4 --seeds 1"] == row.recorded
    assert (["abc"], ("2026-01-01", "2026-01-02")) == (row.commits, row.dates)


def test_commands_that_differ_by_their_seeds_alone_are_told_as_one():
    told = ["a --seeds 0 --jobs 1", "b", "a --seeds 1,2 --jobs 1", "a --jobs 1", "b", "a --seeds 0 --jobs 2"]
    assert ["a --seeds 0,1,2 --jobs 1", "b", "a --jobs 1", "a --seeds 0 --jobs 2"] == once_for_all_seeds(told)


def test_a_learning_curve_is_that_of_the_scored_episode_over_steps_that_all_seeds_have():
    steps, lines = curve_of([result("ccm", 0, GOOD), result("ccm", 1, GOOD)])
    assert ((1000.0, 3000.0), (2, len(steps))) == ((steps[0], steps[-1]), lines.shape)
    assert pytest.approx([1.0, 8.0]) == lines[0, [0, -1]]
    assert lines[1, -1] == pytest.approx(4 + 4 * 1000 / 1001)
    low, high = band_of(np.array([[1.0, 1.0], [3.0, 1.0]]))
    assert ([1.0, 1.0], [3.0, 1.0]) == (low.tolist(), high.tolist())


def test_a_run_that_was_not_tried_while_it_was_trained_has_no_curve():
    never = Curve(env_steps=[], returns=[])
    kept = [one.model_copy(update={"curve": never}) if one.seed == 0 else one for one in some_results()]
    assert draw("figure4", kept) is not None  # one run of CCM has a curve, none of PEARL's
    (arms,) = groups_of("figure4", kept).values()
    assert {"ccm": 1, "pearl": 0, "oracle": 1, "random": 1} == {arm.name: num_shown(arm, arms[arm]) for arm in arms}


def test_whoever_learns_has_a_curve_in_a_colour_of_its_own():
    everyone = [result(arm.method, 0, GOOD) for arm in FIGURES["figure4"].arms]
    colours = colours_of(groups_of("figure4", everyone))
    assert {arm.label for arm in FIGURES["figure4"].arms} - {"oracle", "random actions"} == set(colours)
    assert len(set(colours.values())) == len(colours)


@pytest.mark.parametrize("figure", ["figure4", "figure6"])
def test_a_picture_is_a_function_of_the_results(figure):
    kept = some_results()
    picture = draw(figure, kept)
    ET.fromstring(picture)  # noqa: S314 (our own picture)
    assert picture == draw(figure, kept)


def test_everything_is_drawn_from_what_is_kept_alone_and_the_page_tells_every_command(tmp_path):
    results, page = tmp_path / "results", tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    for one in some_results():
        write_result(one, results / "runs" / "cpu" / f"{one.arm}-{one.seed}.json")
    summary = draw_figure("figure4", "cpu", Folders(tmp_path / "no-runs", results, page))
    text = page.read_text()
    assert text == results_page(results, page.parent)
    assert "](../results/figure4/cpu.svg)" in text
    assert (results / "figure4" / "cpu.svg").is_file()
    assert "| CCM | 0.875 [" in text
    assert f"- CCM better than PEARL: {summary.odds[0].chance.value:.2f} [" in text
    for row in summary.rows:
        assert f"{row.trained}   # SEED: {', '.join(map(str, row.seeds))}\n" in text
    assert "\nccm benchmark figure4\n" in text


def test_the_page_changes_with_a_result(tmp_path):
    for one in some_results():
        write_result(one, tmp_path / "runs" / "cpu" / f"{one.arm}-{one.seed}.json")
    draw_figure("figure4", "cpu", Folders(tmp_path, tmp_path))
    before = results_page(tmp_path, tmp_path)
    write_result(result("ccm", 0, FAIR), tmp_path / "runs" / "cpu" / "ccm-0.json")
    draw_figure("figure4", "cpu", Folders(tmp_path, tmp_path))
    assert before != results_page(tmp_path, tmp_path)
