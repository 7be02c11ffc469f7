"""`ccm benchmark`."""

import os
import sys

import typer
from rich.console import Console
from rich.table import Table

from ccm_runtime.errors import ConfigError, RunError
from ccm_runtime.specs import counted
from ccm_training.benchmark.budgets import BUDGETS, BudgetName
from ccm_training.benchmark.campaign import Campaign, Folders, draw_figure
from ccm_training.benchmark.page import sentence_of
from ccm_training.benchmark.plan import FigureName, Run, runs_of
from ccm_training.benchmark.summary import Summary
from ccm_training.experiment import resolve_device
from ccm_training.provenance import Provenance, provenance
from ccm_training.stopping import StopAskedError, stop_on_signals


def benchmark(
    figure: FigureName,
    *,
    budget: BudgetName,
    families: list[str] | None,
    methods: list[str] | None,
    seeds: list[int] | None,
    folders: Folders,
    jobs: int | None,
    train: bool,
    take: bool,
    as_json: bool,
) -> None:
    """Train what is missing, take in what is finished, draw what there is.

    Raises:
        ConfigError: A family or method that the figure does not have.
        RunError: Some run failed; the others were taken in and drawn all the same.
    """
    wanted = runs_of(figure, budget, families=families, methods=methods, seeds=seeds)
    campaign = Campaign(wanted, folders, _made(), lambda text: typer.echo(text, err=True))
    left = _take(campaign, jobs or jobs_of(budget), train=train) if take else ([], "")
    summary = draw_figure(figure, budget, folders)
    if as_json:
        typer.echo(summary.model_dump_json())
    else:
        show(summary)
    _say_what_is_left(*left)


def jobs_of(budget: BudgetName) -> int:
    """How many runs are trained at a time where nobody says it."""
    on_gpu = resolve_device("auto").type == "cuda"
    return (BUDGETS[budget].jobs if on_gpu else None) or os.cpu_count() or 1


def _take(campaign: Campaign, jobs: int, *, train: bool) -> tuple[list[Run], str]:
    """Return what has no result after all, and the last words of a run that failed."""
    left = campaign.take_finished()
    if not train or not left:
        return left, ""
    with stop_on_signals() as stop:
        try:
            launched = campaign.train(jobs, stop)
        except StopAskedError:
            assert stop.asked_by is not None  # noqa: S101  (it was asked)
            typer.echo("stopped; every run has saved a checkpoint: the same command goes on", err=True)
            raise typer.Exit(128 + stop.asked_by) from None
    if launched.elsewhere:
        typer.echo(f"trained by another process: {', '.join(run.name for run in launched.elsewhere)}", err=True)
    for run, words in launched.failed.items():
        typer.echo(f"failed: {run.name}: {words}", err=True)
    return campaign.missing(), next(iter(launched.failed.values()), "")


def _without(left: list[Run]) -> str:
    return f"{counted(len(left), 'run')} {'has' if len(left) == 1 else 'have'}"


def _say_what_is_left(left: list[Run], failed: str) -> None:
    if failed:
        raise RunError(f"{_without(left)} no result, for one of them failed: {failed}")
    if left:
        names = ", ".join(run.name for run in left[:4]) + (", ..." if len(left) > 4 else "")
        typer.echo(f"{_without(left)} no result yet ({names}); the same command takes them in", err=True)


def _made() -> Provenance:
    return provenance(["ccm", *sys.argv[1:]], "torch", "numpy", "mujoco")


def show(summary: Summary) -> None:
    """Print what a figure's results come to."""
    beliefs = summary.figure == "figure6"
    head = ("retrieval", "95 %", "silhouette") if beliefs else ("score", "95 %", "env steps")
    table = Table("family", "method", "seeds", *head, box=None, pad_edge=False)
    for row in summary.rows:
        digits = ".3f" if summary.of_ceiling[row.family] or beliefs else ".0f"
        value, low, high = (f"{each:{digits}}" for each in (row.context["retrieval"] if beliefs else row.score))
        last = f"{row.context['silhouette'].value:.3f}" if beliefs else f"{row.env_steps:,}"
        table.add_row(row.family, row.label, str(len(row.seeds)), value, f"{low} to {high}", last)
    console = Console()
    console.print(table)
    for one in summary.odds:
        console.print(f"{one.family}: {sentence_of(one)}", highlight=False)


def words_of(text: str | None) -> list[str] | None:
    """Names with commas between them.

    Raises:
        ConfigError: There is none between two commas.
    """
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ConfigError(f"expected names with commas between them, got {text!r}")
    return names
