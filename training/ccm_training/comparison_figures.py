"""The pictures of several runs side by side, as SVG text. Pure functions over arrays."""

import itertools
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from ccm_training.benchmark.pictures import band_of
from ccm_training.comparison import Array, Group
from ccm_training.figures import CEILING, EXECUTOR, EXPLORER, STYLE, svg_of

_COLOURS = (EXECUTOR, EXPLORER, "#7c3aed", "#be123c", "#4b5563", "#0891b2", "#a16207", "#db2777")
_POINTS = 80


def learning_curves(groups: Sequence[Group]) -> str:
    """Draw the score over environment steps, a panel a family: single runs thin, their mean with its interval.

    A band is the 95 % bootstrap interval of the mean over seeds, where there are at least two.
    """
    with mpl.rc_context(STYLE):
        figure, panels = _panels(groups, height=4.0)
        for axes, (family, members) in panels:
            for group, colour in members:
                _learning(axes, group, colour)
            scored = members[0][0].ceiling is not None
            if scored:
                axes.axhline(1.0, color=CEILING, linewidth=1, linestyle="--", label="ceiling")
                axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]), top=max(1.05, axes.get_ylim()[1]))
            axes.set_title(f"{family}: {'adaptation score' if scored else 'return of the first executor episode'}")
            axes.set_xlabel("environment steps")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        _legend(figure, panels)
        return svg_of(figure)


def adaptation_curves(groups: Sequence[Group]) -> str:
    """Draw the return by episode of a trial, a panel a family: mean over seeds, and from the worst to the best.

    Hollow: episodes of the explorer.
    """
    with mpl.rc_context(STYLE):
        figure, panels = _panels(groups, height=3.6)
        for axes, (family, members) in panels:
            for place, (group, colour) in enumerate(members):
                _adaptation(axes, group, colour, aside=0.06 * (place - (len(members) - 1) / 2))
            ceiling = members[0][0].ceiling
            if ceiling is not None:
                axes.axhline(ceiling, color=CEILING, linewidth=1, linestyle="--", label="ceiling")
            axes.set_title(f"{family}: return")
            axes.set_xlabel("episode of the trial")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(visible=False, axis="x")
        _legend(figure, panels)
        return svg_of(figure)


def mean_curve(curves: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Scores over common environment steps.

    Args:
        curves: Environment steps and scores of each run, `[points]` each; at least one point.

    Returns:
        Steps that every run has come to, `[points]`, and scores there, `[runs, points]`.
    """
    begins, ends = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    common = np.linspace(begins, max(begins, ends), _POINTS)
    return common, np.stack([np.interp(common, steps, scores) for steps, scores in curves])


_Panels = list[tuple[Axes, tuple[str, list[tuple[Group, str]]]]]


def _panels(groups: Sequence[Group], height: float) -> tuple[Figure, _Panels]:
    """A panel for each family, and its groups with their colours."""
    by_family: dict[str, list[tuple[Group, str]]] = {}
    for group, colour in zip(groups, itertools.cycle(_COLOURS), strict=False):
        by_family.setdefault(group.family, []).append((group, colour))
    columns = min(2, len(by_family))
    rows = -(-len(by_family) // columns)
    legend = 0.25 * -(-(len(groups) + 1) // 2)
    figure = Figure(figsize=(9.2, height * rows + legend), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(by_family) :]:
        axes.set_axis_off()
    return figure, list(zip(grid, by_family.items(), strict=False))


def _learning(axes: Axes, group: Group, colour: str) -> None:
    curves = [(one.steps, one.scores) for one in group.members if len(one.steps)]
    if not curves:
        axes.plot([], [], color=colour, label=f"{group.label} (no score yet)")
        return
    steps, scores = mean_curve(curves)
    seeds = "1 seed" if len(curves) == 1 else f"{len(curves)} seeds"
    if len(curves) > 1:
        for each in curves:
            axes.plot(*each, color=colour, linewidth=0.6, alpha=0.5)
        axes.fill_between(steps, *band_of(scores), color=colour, alpha=0.15, linewidth=0)
    marker = "o" if steps[0] == steps[-1] else ""
    axes.plot(steps, scores.mean(0), color=colour, linewidth=2.0, marker=marker, label=f"{group.label} ({seeds})")


def _adaptation(axes: Axes, group: Group, colour: str, aside: float) -> None:
    found = [one.summary.returns for one in group.members if one.summary.returns]
    if not found:
        axes.plot([], [], color=colour, label=group.label)
        return
    returns = np.array(found)
    episode, mean = np.arange(1, returns.shape[1] + 1) + aside, returns.mean(0)
    axes.plot(episode, mean, color=colour, linewidth=1.2, alpha=0.6)
    axes.vlines(episode, returns.min(0), returns.max(0), color=colour, linewidth=1.4, alpha=0.5)
    executing = np.arange(returns.shape[1]) >= group.explore_episodes
    axes.scatter(episode, mean, s=42, edgecolors=colour, facecolors=np.where(executing, colour, "white"), zorder=3)
    axes.plot([], [], color=colour, marker="o", label=group.label)


def _legend(figure: Figure, panels: _Panels) -> None:
    """One legend for all panels, above them."""
    found: dict[str, Artist] = {}
    for axes, _ in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    figure.legend(list(found.values()), list(found), loc="outside upper left", ncols=2)
