"""The page of a report, from values to HTML text; it refers to nothing outside itself."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccm_training import figures
from ccm_training.evaluation import ReportTrials
from ccm_training.filming import Strip
from ccm_training.page_parts import card, figure, fill, section

NUM_MAPS = 6


@dataclass(frozen=True)
class Report:
    """Everything that the page shows.

    Attributes:
        scores: Fields of `Scores`.
        served: Whether the scores were measured through a server.
        metrics: Lines of `metrics.jsonl`.
        config: Resolved settings.
        provenance: What else there is to say of the run, by name.
        written_at: When the page was made.
        trials: Trials on held-out tasks; `None`: no pictures of them.
        goals: Goals of these tasks on the plane, `[tasks, goals, (x, y, radius)]`; `None` where there are none.
        parameters: Name of each entry of a task.
        strips: Pictures of one of the trials; none where there is a map, or nothing can be drawn.
        filmed_task: The task of that trial, in words.
        context: Fields of `ContextQuality`; `None`: not known.
    """

    scores: Mapping[str, Any]
    served: bool
    metrics: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any]
    provenance: Mapping[str, str]
    written_at: datetime
    trials: ReportTrials | None = None
    goals: NDArray[np.float32] | None = None
    parameters: Sequence[str] = ()
    strips: Sequence[Strip] = ()
    filmed_task: str = ""
    context: Mapping[str, Any] | None = None


def render_page(report: Report) -> str:
    """Return the page; it refers to nothing outside itself."""
    scores = report.scores
    heading = f"{scores['family']} · {scores['method']} · seed {report.config.get('seed', '?')}"
    how = "served over gRPC and stepped by a client" if report.served else "run in process"
    episodes = "1 episode" if scores["explore_episodes"] == 1 else f"{scores['explore_episodes']} episodes"
    lead = (
        f"An agent that explores an unseen task for {episodes} and then executes. "
        f"Measured on {scores.get('trials', '?')} held-out tasks, {how}, with no gradient step."
    )
    return fill(heading, lead, cards=_cards(report), sections=_sections(report), written_at=report.written_at)


def _cards(report: Report) -> Iterable[str]:
    scores = report.scores
    score, interval = scores["adaptation_score"], scores.get("interval")
    between = "" if interval is None else f"95 % interval {interval[0]:.3f} to {interval[1]:.3f}"
    if score is not None:
        yield card("Adaptation score", f"{score:.3f}", between, kind="main")
    episode = min(scores["explore_episodes"], len(scores["returns"]) - 1)
    first, kind = f"{scores['returns'][episode]:.1f}", "main" if score is None else ""
    yield card("First executor episode", first, "mean return over tasks", kind=kind)
    ceiling, floor = scores["ceiling"], scores["floor"]
    yield card("Ceiling", "unknown" if ceiling is None else f"{ceiling:.1f}", "best policy that knows the task")
    yield card("Floor", "unknown" if floor is None else f"{floor:.1f}", "random actions")


def _sections(report: Report) -> Iterable[str]:
    yield _adaptation_section(report)
    if report.metrics:
        yield _learning_section(report)
    if report.trials is not None:
        if report.goals is not None:
            yield _paths_section(report, report.trials, report.goals)
        elif report.strips:
            yield _strips_section(report)
        if np.ptp(report.trials.latents) > 0.0:
            yield _beliefs_section(report, report.trials)
    yield _provenance_section(report)
    yield _config_section(report.config)


def _adaptation_section(report: Report) -> str:
    scores = report.scores
    returns, explore = scores["returns"], scores["explore_episodes"]
    each = None if report.trials is None else report.trials.rewards.sum(-1)
    if each is not None and each.shape[1] != len(returns):
        each = None
    picture = figures.adaptation_curve(returns, explore, ceiling=scores["ceiling"], floor=scores["floor"], each=each)
    told = ", ".join(f"{value:.1f}" for value in returns)
    small = "" if each is None else f" Small dots: {len(each)} single tasks, tried in process for this page."
    rows = "".join(
        f'<tr><td>{index + 1}</td><td class="{phase}">{phase}</td><td class="number">{value:.1f}</td></tr>'
        for index, value in enumerate(returns)
        for phase in ["explore" if index < explore else "execute"]
    )
    table = (
        '<div class="scroll"><table><thead><tr><th>episode</th><th>phase</th><th>mean return</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    return section(
        "Adaptation curve",
        "What one trial brings on a task that was never trained on. The belief is carried from episode to episode; "
        "nothing is reset in between but the robot.",
        figure(
            picture,
            f"Mean return by episode of the trial: {told}; the first {explore} are the explorer's.",
            "Large dots: mean over tasks." + small,
        )
        + f"<details><summary>As a table</summary>{table}</details>",
    )


def _learning_section(report: Report) -> str:
    ceiling, floor = report.scores["ceiling"], report.scores["floor"]
    ceiling = None if report.scores["adaptation_score"] is None else ceiling
    base = 0.0 if floor is None else min(floor, 0.0)
    picture = figures.learning_curve(
        report.metrics,
        scored=ceiling is not None,
        floor=floor if ceiling is None or floor is None else (floor - base) / (ceiling - base),
        chance=1.0 / report.config["meta_batch"] if report.config.get("meta_batch") else None,
    )
    what = "return of the first executor episode" + ("" if ceiling is None else " as a share of the ceiling")
    tried = [line["score"] for line in report.metrics if line.get("score") is not None]
    last = f"; the last of {len(tried)} is {tried[-1]:.3f}" if tried else ""
    return section(
        "Learning curve",
        f"While training: {what}.",
        figure(
            picture,
            f"{what.capitalize()}, encoder accuracy and losses over {report.metrics[-1]['env_steps']:,} environment "
            f"steps and {report.metrics[-1]['updates']:,} updates{last}.",
            "Environment steps include the explorer's. Losses are on a logarithmic scale.",
        ),
    )


def _paths_section(report: Report, trials: ReportTrials, goals: NDArray[np.float32]) -> str:
    chosen = spread(trials.tasks, NUM_MAPS)
    explore = report.scores["explore_episodes"]
    picture = figures.trajectory_map(
        trials.observations[chosen], explore, goals[chosen], returns=trials.rewards[chosen].sum(-1)
    )
    return section(
        "Trajectories on held-out tasks",
        "How the explorer looks for what the task is, and what the executor makes of it.",
        figure(
            picture,
            f"Paths on {len(chosen)} tasks from the origin: {explore} episodes of the explorer and the first of the "
            "executor, over the goals with the radius within which they pay.",
            "Orange: the explorer, darker with each episode. Blue: the first executor episode, with its return.",
        ),
    )


def _strips_section(report: Report) -> str:
    told = ", ".join(
        f"episode {strip.episode + 1} ({strip.phase.value}, return {strip.total:.1f})" for strip in report.strips
    )
    return section(
        "A trial in pictures",
        f"One trial on a held-out task: {report.filmed_task}.",
        figure(
            figures.film_strip(report.strips),
            f"Pictures from one trial on the task {report.filmed_task}: {told}.",
            "A row is an episode, from its first step to its last. `ccm record` makes a video of such a trial.",
        ),
    )


def _beliefs_section(report: Report, trials: ReportTrials) -> str:
    tasks, names = coloured_by(trials.tasks, report.parameters)
    return section(
        "Beliefs of held-out tasks",
        "Where the context encoder ends up after a trial. A good encoder puts like tasks side by side.",
        figure(
            figures.belief_map(trials.latents, tasks, names),
            f"Beliefs of {len(tasks)} held-out tasks on two principal axes, coloured by {' and by '.join(names)}.",
            "Each dot is the belief about one task after the whole trial; a line leads there over the episodes.",
        )
        + ("" if report.context is None else _context_table(report.context)),
    )


def _context_table(context: Mapping[str, Any]) -> str:
    """What the beliefs are worth by themselves, beside what guessing would be."""
    chance = f"{context['chance']:.2f}"
    rows = [
        ("task found by the nearest centroid", f"{context['retrieval']:.2f}", f"chance {chance}, at most 1"),
        ("silhouette of tasks", f"{context['silhouette']:.2f}", "-1 to 1"),
        ("effective rank of the latents", f"{context['effective_rank']:.1f}", "directions"),
        ("90 % of the last certainty", f"after episode {context['certain_after']}", f"of {len(context['certainty'])}"),
    ]
    if context["accuracy"] is not None:
        told = f"{context['information']:.2f} nats"
        rows = [
            ("task found by its key (InfoNCE)", f"{context['accuracy']:.2f}", f"chance {chance}, at most 1"),
            ("information about the task, at least", told, f"it can show at most log M, {context['bound']:.2f}"),
            *rows,
        ]
    cells = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{escape(value)}</td><td>{escape(note)}</td></tr>'
        for name, value, note in rows
    )
    caption = f"Contexts of {context['tasks']} held-out tasks, {context['trials']} noisy trials each"
    return f'<div class="scroll"><table><caption>{caption}</caption><tbody>{cells}</tbody></table></div>'


def _provenance_section(report: Report) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td><code>{escape(value)}</code></td></tr>"
        for name, value in report.provenance.items()
    )
    return section("Provenance", "", f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>')


def _config_section(config: Mapping[str, Any]) -> str:
    groups: dict[str, Mapping[str, Any]] = {
        "run": {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    }
    groups |= {name: value for name, value in config.items() if isinstance(value, Mapping)}
    tables = "".join(
        f"<table><caption>{escape(group)}</caption><tbody>"
        + "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(json.dumps(value))}</td></tr>" for name, value in rows.items()
        )
        + "</tbody></table>"
        for group, rows in groups.items()
    )
    summary = "<summary><h2>Settings</h2></summary>"
    return f'<section><details open>{summary}<div class="groups">{tables}</div></details></section>'


def coloured_by(tasks: NDArray[np.float32], names: Sequence[str]) -> tuple[NDArray[np.float32], Sequence[str]]:
    """Parameters of tasks, `[n, params]`, that a map of beliefs is coloured by: one alone if all say the same."""
    alike = tasks.shape[1] > 1 and np.allclose(tasks, tasks[:, :1])
    return (tasks[:, :1], names[:1]) if alike else (tasks, names)


def spread(tasks: NDArray[np.float32], num: int) -> NDArray[np.int64]:
    """Return the rows of at most `num` of tasks, `[n, params]`, evenly spread over the order of the first parameter."""
    order = np.argsort(tasks[:, 0], kind="stable")
    places = (np.arange(min(num, len(order))) + 0.5) * len(order) / min(num, len(order))
    return order[places.astype(np.int64)]
