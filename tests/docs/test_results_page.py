"""The results page says what the committed results say, and nobody edits it by hand."""

from pathlib import Path

import numpy as np
import pytest

from ccm_training.benchmark.page import results_page
from ccm_training.benchmark.plan import FIGURES
from ccm_training.benchmark.result import results_in
from ccm_training.benchmark.summary import Summary, scores_of, summarize
from ccm_training.envs.registry import get_family
from ccm_training.scores import floor_of, score_of

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
SUMMARIES = sorted(path.relative_to(RESULTS) for figure in FIGURES for path in (RESULTS / figure).glob("*.json"))


def test_the_page_is_written_from_the_committed_results():
    """Write it anew with: ccm benchmark figure4 --draw-only --page docs/results.md."""
    assert results_page(RESULTS, ROOT / "docs") == (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SUMMARIES, ids=str)
def test_a_summary_is_what_the_committed_runs_come_to(path):
    """Write it anew with: ccm benchmark FIGURE --budget BUDGET --draw-only."""
    figure, budget = path.parent.name, path.stem
    committed = Summary.model_validate_json((RESULTS / path).read_text(encoding="utf-8"))
    assert summarize(figure, budget, results_in(RESULTS, budget)) == committed
    assert (RESULTS / path.with_suffix(".svg")).is_file()


@pytest.mark.parametrize("family", ["sparse-point-robot", "hard-point-robot", "signpost-robot"])
def test_the_mean_of_each_tasks_share_is_the_adaptation_score_within_two_hundredths(family):
    known = get_family(family)
    floor = floor_of(known, known.sample_tasks("test", 100, 0))
    kept = [run for run in results_in(RESULTS, "cpu") if run.family == family]
    assert kept
    for run in kept:
        first = np.asarray(run.returns)[:, run.scored]
        told = score_of(first, float(np.mean(run.ceilings)), floor)
        assert told.value == pytest.approx(scores_of(run)[:, run.scored].mean(), abs=0.02)
