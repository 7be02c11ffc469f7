"""One figure from beginning to end: train what is missing, keep its results, draw what there is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ccm_runtime.durable import write_whole
from ccm_training.benchmark.budgets import BudgetName
from ccm_training.benchmark.launch import Launched, train_all
from ccm_training.benchmark.page import results_page
from ccm_training.benchmark.pictures import draw
from ccm_training.benchmark.plan import FigureName, Run
from ccm_training.benchmark.result import has_result, is_finished, path_of, result_of, results_in, write_result
from ccm_training.benchmark.summary import Summary, summarize
from ccm_training.provenance import Provenance
from ccm_training.stopping import Stop


@dataclass(frozen=True)
class Folders:
    """Where things are.

    Attributes:
        runs: Folder of the run folders.
        results: Folder of what is kept.
        page: Markdown page of all figures; `None`: none is written.
    """

    runs: Path
    results: Path
    page: Path | None = None


class Campaign:
    """Runs of a figure, on their way to results.

    Args:
        runs: What the figure needs.
        folders: Where things are.
        made: How results say that they were recorded.
        say: Told of what a person wants to know meanwhile.
    """

    def __init__(self, runs: list[Run], folders: Folders, made: Provenance, say: Callable[[str], None]) -> None:
        self._runs, self._folders, self._made, self._say = runs, folders, made, say

    def missing(self) -> list[Run]:
        """Runs that have no result yet.

        Raises:
            RunError: A result was made with other settings.
        """
        return [run for run in self._runs if not has_result(run, self._folders.results)]

    def take(self, run: Run) -> None:
        """Keep the result of a finished run."""
        result = result_of(run, self._folders.runs / run.name, self._made)
        path = path_of(run, self._folders.results)
        write_result(result, path)
        self._say(f"recorded {path}")

    def take_finished(self) -> list[Run]:
        """Keep the results of runs that are finished; the others."""
        left = []
        for run in self.missing():
            if is_finished(self._folders.runs / run.name):
                self.take(run)
            else:
                left.append(run)
        return left

    def train(self, jobs: int, stop: Stop) -> Launched:
        """Train what is missing, and keep each result as soon as there is one."""
        return train_all(self.missing(), self._folders.runs, jobs=jobs, finished=self.take, stop=stop)


def draw_figure(figure: FigureName, budget: BudgetName, folders: Folders) -> Summary:
    """Write what a figure's results come to: numbers, picture and, if asked, the page; from results alone."""
    kept = results_in(folders.results, budget)
    summary = summarize(figure, budget, kept)
    picture = draw(figure, kept)
    if picture is not None:
        folder = folders.results / figure
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{budget}.json", summary.model_dump_json(indent=1) + "\n")
        write_whole(folder / f"{budget}.svg", picture)
    if folders.page is not None:
        write_whole(folders.page, results_page(folders.results, folders.page.parent))
    return summary
