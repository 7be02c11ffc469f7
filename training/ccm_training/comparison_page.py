"""The page of several runs, from values to HTML text; it refers to nothing outside itself."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from ccm_training import comparison_figures, figures
from ccm_training.comparison import Comparison, Group, read_comparison
from ccm_training.methods import METHODS
from ccm_training.page import coloured_by
from ccm_training.page_parts import card, figure, fill, section, table
from ccm_training.standing import (
    BETTER,
    OVER_SEEDS,
    OVER_SEEDS_AND_TASKS,
    Standing,
    chances_over_first,
    keep_tasks,
    show_interval,
    standings,
)
from ccm_training.statistics import Estimate
from ccm_training.sweep import show_value


def write_comparison(run_dirs: Sequence[Path], out_html: Path) -> Path:
    """Write the page of several runs.

    Args:
        run_dirs: What `ccm train` or `ccm sweep` wrote.
        out_html: Where the page goes; folders are made.

    Raises:
        CheckpointMissingError: One of the folders holds no run.
    """
    page = render_comparison(read_comparison(run_dirs))
    out_html.parent.mkdir(parents=True, exist_ok=True)
    out_html.write_text(page, encoding="utf-8")
    return out_html


def render_comparison(comparison: Comparison) -> str:
    """Return the page."""
    groups = comparison.groups
    runs = sum(len(group.members) for group in groups)
    families = list(dict.fromkeys(group.family for group in groups))
    found = standings([group.scores for group in groups])
    return fill(
        f"{' · '.join(families)}: {_count(runs, 'run')} compared",
        f"{_count(len(groups), 'choice')} of settings, each with its seeds. Scores are those on held-out tasks at the "
        "end of a run, or its last while training where it has not come to its end.",
        cards=_cards(groups, found),
        sections=_sections(comparison, found),
        written_at=comparison.written_at,
    )


def _cards(groups: Sequence[Group], standing: Sequence[Standing | None]) -> Iterable[str]:
    pairs = zip(groups, standing, strict=True)
    adaptive = [pair for pair in pairs if METHODS[pair[0].members[0].summary.config["method"]].encoder]
    found = [(one.score.value, group.label) for group, one in adaptive if one is not None]
    if found and len({(group.family, group.ceiling is None) for group, _ in adaptive}) == 1:
        best, label = max(found)
        yield card("Best score (IQM)", f"{best:.3f}", label, kind="main")
    members = [one for group in groups for one in group.members]
    finished = sum(one.summary.state == "finished" for one in members)
    yield card("Runs", str(len(members)), f"{finished} of them finished")
    yield card("Environment steps", f"{sum(one.summary.env_steps for one in members):,}", "of all runs")
    yield card("Training time", f"{sum(one.summary.time_s for one in members) / 60:,.0f} min", "of all runs together")


def _sections(comparison: Comparison, found: Sequence[Standing | None]) -> Iterable[str]:
    groups = comparison.groups
    yield _scores(groups, found)
    if any(len(one.steps) for group in groups for one in group.members):
        yield section(
            "Learning curves",
            "What held-out tasks bring while training.",
            figure(
                comparison_figures.learning_curves(groups),
                f"Score over environment steps of {', '.join(group.label for group in groups)}.",
                "Thick: mean over seeds, with its 95 % bootstrap interval over seeds alone. Thin: single runs. The "
                "mean ends where the run that has come least far ends.",
            ),
        )
    if any(one.summary.returns for group in groups for one in group.members):
        yield section(
            "Adaptation curves",
            "What one trial brings on a task that was never trained on, episode by episode.",
            figure(
                comparison_figures.adaptation_curves(groups),
                f"Return by episode of a trial of {', '.join(group.label for group in groups)}.",
                "Dots: mean over seeds, hollow while the explorer acts. Lines: from the worst seed to the best.",
            ),
        )
    yield from _beliefs(groups)
    if comparison.differences:
        rows = ([name, *map(show_value, values)] for name, values in comparison.differences.items())
        yield section(
            "What differs",
            "Every setting that is not the same in all runs, but the seed.",
            table(["setting", *(group.label for group in groups)], rows),
        )
    yield _provenance(comparison)


def _scores(groups: Sequence[Group], found: Sequence[Standing | None]) -> str:
    scores = [group.scores for group in groups]
    by_task = keep_tasks(scores)
    same = [group.scores if group.held_out == groups[0].held_out else [] for group in groups]
    chances = chances_over_first(same) if by_task else []
    said = OVER_SEEDS_AND_TASKS if by_task else OVER_SEEDS
    columns = {"settings": [group.label for group in groups], "seeds": [str(len(group.members)) for group in groups]}
    if by_task:
        columns["mean"] = ["-" if one is None else f"{one.mean:.3f}" for one in found]
    columns["score (IQM)"] = ["-" if one is None else f"{one.score.value:.3f}" for one in found]
    columns["95 % over seeds and tasks" if by_task else "95 % over seeds"] = [
        "-" if one is None else show_interval(one.interval, one.over) for one in found
    ]
    if any(chances):
        said = f"{said} {BETTER}"
        columns["better than the first"] = [_chance(chance) for chance in chances]
    summaries = [[one.summary for one in group.members] for group in groups]
    columns["env steps a run"] = [f"{np.mean([run.env_steps for run in runs]):,.0f}" for runs in summaries]
    columns["minutes a run"] = [f"{np.mean([run.time_s for run in runs]) / 60:.1f}" for runs in summaries]
    rows = zip(*columns.values(), strict=True)
    return section("Scores", said, table(list(columns), rows, numbers=len(columns) - 1))


def _chance(chance: Estimate | None) -> str:
    return "-" if chance is None else f"{chance.value:.2f} [{chance.low:.2f}, {chance.high:.2f}]"


def _beliefs(groups: Sequence[Group]) -> Iterable[str]:
    shown = [
        f"<h3>{escape(group.label)}, seed {group.tried}</h3>"
        + figure(
            figures.belief_map(trials.latents, *coloured_by(trials.tasks, group.parameters)),
            f"Beliefs of {len(trials.tasks)} held-out tasks on two principal axes.",
            "Each dot is the belief about one task after the whole trial; a line leads there over the episodes.",
        )
        for group in groups
        if (trials := group.trials) is not None and np.ptp(trials.latents) > 0.0
    ]
    if shown:
        yield section(
            "Beliefs of held-out tasks",
            "Where the context encoder ends up after a trial, for one run of each choice of settings. A good "
            "encoder puts like tasks side by side.",
            "".join(shown),
        )


def _provenance(comparison: Comparison) -> str:
    rows = [
        [
            str(one.summary.run_dir),
            group.label,
            str(one.summary.config["seed"]),
            one.summary.state,
            "-" if one.summary.score is None else f"{one.summary.score:.3f}",
            f"{one.summary.env_steps:,}",
            f"{one.summary.updates:,}",
            f"{one.summary.time_s:,.0f}",
            "-" if one.parameters is None else one.parameters[:12],
        ]
        for group in comparison.groups
        for one in group.members
    ]
    head = ["run", "settings", "seed", "state", "score", "env steps", "updates", "seconds", "parameters"]
    return section("Provenance", f"Written with {comparison.versions}.", table(head, rows))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
