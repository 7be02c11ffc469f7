"""The results page in Markdown, from what is kept alone: the figures' summaries."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ccm_training.benchmark.budgets import BUDGETS
from ccm_training.benchmark.plan import FIGURES
from ccm_training.benchmark.summary import Odds, Row, Summary

_SEEDS = re.compile(r"--seeds (\S+)")

_BEGINNING = """\
# Results

Written by `ccm benchmark` from [what is kept]({results}): a file for each run in `runs/BUDGET`, and what they come to
in a folder for each figure. Do not edit this page: [how to make it](how-to/reproduce-the-figures.md).

The score is the return of the first execution episode on held-out tasks, with deterministic policies; where the best
return is known, as a share of it (the ceiling of `cheetah-sparse` and `walker-sparse` is 2 a step, which nobody
reaches). IQM is the interquartile mean over seeds and tasks, the interval a 95 % stratified bootstrap over seeds and
tasks within them. The chance that one is better than another is that of a run of it scoring above a run of the other
on the same task, ties counting half; its interval resamples seeds and tasks. All methods see the sparse reward only,
and all observe the previous reward. The oracle is told the task; it needs no exploration, hence fewer steps. Minutes
are of the clock, on cores that did other work too. In pictures a line is the mean over seeds, with the 95 % bootstrap
interval of that mean, of the mean return on 40 held-out tasks; dashed: where the oracle ends; dotted: random actions.
Where rewards are sparse, the tables also say how often a trial met any while it explored, and what it scored then.

What the explorer is worth by itself is [measured apart](results-explorer.md).
"""


def results_page(results: Path, beside: Path) -> str:
    """The whole page.

    Args:
        results: Folder of what is kept.
        beside: Folder of the page, from which its links lead.
    """
    folder = Path(os.path.relpath(results, beside)).as_posix()
    parts = [_BEGINNING.format(results=folder)]
    for figure in FIGURES:
        for budget in BUDGETS:
            path = results / figure / f"{budget}.json"
            if path.is_file():
                parts += _figure(Summary.model_validate_json(path.read_text(encoding="utf-8")), folder)
    return "\n".join(parts)


def _figure(summary: Summary, folder: str) -> list[str]:
    figure = FIGURES[summary.figure]
    parts = [
        f"## {figure.title}, budget {summary.budget}",
        "",
        f"![{figure.title}]({folder}/{summary.figure}/{summary.budget}.svg)",
        "",
    ]
    for family in dict.fromkeys(row.family for row in summary.rows):
        rows = [row for row in summary.rows if row.family == family]
        odds = [one for one in summary.odds if one.family == family]
        parts += [f"### {family}: {summary.figure}", ""]
        parts += context_table(rows) if summary.figure == "figure6" else score_table(rows, summary.of_ceiling[family])
        parts += ["", *(f"- {sentence_of(one)}" for one in odds), *([""] if odds else [])]
        parts += made_by(rows)
    return parts


def score_table(rows: list[Row], of_ceiling: bool) -> list[str]:  # noqa: FBT001
    """What each arm scores."""
    score = "score, IQM [95 %]" if of_ceiling else "return, IQM [95 %]"
    head = ["method", score, "mean of each seed", "by episode", "met a reward exploring", "mean score then"]
    head += ["mean return", "env steps", "minutes a run"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        seeds = ", ".join(_number(mean, of_ceiling) for mean in row.seed_means)
        episodes = ", ".join(_number(mean, of_ceiling) for mean in row.by_episode)
        low, high = row.minutes
        lines.append(
            f"| {row.label} | {_interval(row.score, of_ceiling)} | {seeds} | {episodes} | {_share(row.met)} "
            f"| {_share(row.score_if_met)} | {row.mean_return:.1f} | {row.env_steps:,} | {low:g} to {high:g} |"
        )
    return lines


def context_table(rows: list[Row]) -> list[str]:
    """What the beliefs of each arm are worth."""
    names = {
        "retrieval": "retrieval",
        "silhouette": "silhouette",
        "accuracy": "InfoNCE accuracy",
        "information": "information (nats)",
        "effective_rank": "effective rank",
        "certain_after": "certain after (episodes)",
    }
    lines = [f"| method | seeds | {' | '.join(names.values())} |", f"|{'---|' * (len(names) + 2)}"]
    for row in rows:
        cells = [_interval(row.context[name]) if name in row.context else "-" for name in names]
        lines.append(f"| {row.label} | {len(row.seeds)} | {' | '.join(cells)} |")
    return lines


def sentence_of(odds: Odds) -> str:
    """The chance that one is better than another, in words."""
    return f"{odds.better} better than {odds.worse}: {_interval(odds.chance, two=True)}."


def made_by(rows: list[Row]) -> list[str]:
    """Every command that these rows come from."""
    recorded = once_for_all_seeds([command for row in rows for command in row.recorded])
    commits = ", ".join(dict.fromkeys(commit for row in rows for commit in row.commits))
    machines = "; ".join(dict.fromkeys(machine for row in rows for machine in row.machines))
    first, last = min(row.dates[0] for row in rows), max(row.dates[1] for row in rows)
    days = first if first == last else f"{first} to {last}"
    return [
        f"Runs of {days}, {machines}; {rows[0].tasks} held-out tasks a run. Taken in (at {commits or 'no commit'}) by",
        "",
        "```console",
        *recorded,
        "```",
        "",
        "and each trained, for its seeds, by",
        "",
        "```console",
        *(f"{row.trained}   # SEED: {', '.join(map(str, row.seeds))}" for row in rows),
        "```",
        "",
    ]


def once_for_all_seeds(commands: Iterable[str]) -> list[str]:
    """Commands, in order; those that differ by their seeds alone are one, with all of these."""
    seeds: dict[str, list[str]] = {}
    for command in commands:
        given = _SEEDS.search(command)
        seeds.setdefault(_SEEDS.sub("--seeds SEEDS", command), []).extend(given[1].split(",") if given else [])
    return [
        command.replace("--seeds SEEDS", f"--seeds {','.join(dict.fromkeys(known))}")
        for command, known in seeds.items()
    ]


def _interval(found: tuple[float, float, float], of_ceiling: bool = True, *, two: bool = False) -> str:  # noqa: FBT001, FBT002
    value, low, high = (f"{each:.2f}" if two else _number(each, of_ceiling) for each in found)
    return f"{value} [{low}, {high}]"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _number(value: float, of_ceiling: bool) -> str:  # noqa: FBT001
    return f"{value:.3f}" if of_ceiling else f"{value:.0f}"
