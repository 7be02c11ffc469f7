"""The pictures of the paper's figures, as SVG text, from results alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from ccm_training.benchmark.plan import Arm, FigureName
from ccm_training.benchmark.result import RunResult
from ccm_training.benchmark.summary import Groups, groups_of
from ccm_training.figures import CEILING, EXECUTOR, EXPLORER, FLOOR, STYLE, svg_of
from ccm_training.statistics import estimate

_COLOURS = (EXPLORER, EXECUTOR, "#7c3aed", "#be123c", "#0891b2", "#65a30d", "#475569")
_POINTS = 60

Line = NDArray[np.float64]


def draw(figure: FigureName, results: Sequence[RunResult]) -> str | None:
    """The picture of a figure; `None` where there are too few results for one."""
    groups = groups_of(figure, results)
    if not groups:
        return None
    return belief_panels(groups) if figure == "figure6" else learning_panels(groups)


def learning_panels(groups: Groups) -> str:
    """One panel a family: return of the first executor episode over environment steps.

    A line is the mean over seeds, with the 95 % bootstrap band of that mean over seeds; dashed: where the oracle ends;
    dotted: random actions.
    """
    colours = colours_of(groups)
    columns = 2 if len(groups) == 4 else min(len(groups), 3)
    rows = -(-len(groups) // columns)
    with mpl.rc_context(STYLE):
        picture = Figure(figsize=(4.4 * columns, 3.4 * rows + 0.6), layout="constrained")
        grid = picture.subplots(rows, columns, squeeze=False).ravel()
        for axes, (family, arms) in zip(grid, groups.items(), strict=False):
            _panel(axes, arms, colours)
            axes.set_title(family)
        for axes in grid[len(groups) :]:
            axes.set_axis_off()
        for axes in grid[: len(groups)]:
            axes.set_xlabel("environment steps")
        grid[0].set_ylabel("return")
        across = 1 if columns == 1 else 2 * columns  # two names are wider than one panel
        picture.legend(handles=_legend(groups, colours), loc="outside upper center", ncols=across)
        return svg_of(picture)


def colours_of(groups: Groups) -> dict[str, str]:
    """A colour for each arm that has a learning curve, by its label."""
    labels = dict.fromkeys(arm.label for arms in groups.values() for arm in arms if arm.learns)
    return dict(zip(labels, _COLOURS[: len(labels)], strict=True))


def curve_of(runs: Sequence[RunResult]) -> tuple[Line, Line]:
    """Return of the scored episode of each run over common environment steps: `[points]`, `[seeds, points]`."""
    begins = max(run.curve.env_steps[0] for run in runs)
    ends = min(run.curve.env_steps[-1] for run in runs)
    steps = np.linspace(begins, ends, _POINTS)
    lines = [np.interp(steps, run.curve.env_steps, np.asarray(run.curve.returns)[:, run.scored]) for run in runs]
    return steps, np.stack(lines)


def band_of(lines: Line) -> tuple[Line, Line]:
    """95 % bootstrap interval of the mean over seeds, at each point; `lines` is `[seeds, points]`."""
    found = [estimate(point[:, None], np.mean, num_resamples=500) for point in lines.T]
    return np.array([each.low for each in found]), np.array([each.high for each in found])


def _panel(axes: Axes, arms: Mapping[Arm, Sequence[RunResult]], colours: Mapping[str, str]) -> None:
    for arm, runs in arms.items():
        if arm.label in colours:
            tried = [run for run in runs if run.curve.env_steps]
            if not tried:
                continue
            steps, lines = curve_of(tried)
            axes.plot(steps, lines.mean(0), color=colours[arm.label], linewidth=1.8)
            if len(lines) > 1:
                axes.fill_between(steps, *band_of(lines), color=colours[arm.label], alpha=0.18, linewidth=0)
        else:
            ended = np.mean([np.asarray(run.returns)[:, run.scored].mean() for run in runs])
            axes.axhline(ended, **_level(arm))
    axes.margins(x=0.02)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _level(arm: Arm) -> dict[str, Any]:
    known = arm.method == "oracle"
    return {"color": CEILING if known else FLOOR, "linestyle": "--" if known else ":", "linewidth": 1.4}


def num_shown(arm: Arm, runs: Sequence[RunResult]) -> int:
    """Of how many runs the picture says something: a curve has none that was not tried while it was trained."""
    return sum(bool(run.curve.env_steps) for run in runs) if arm.learns else len(runs)


def _legend(groups: Groups, colours: Mapping[str, str]) -> list[Line2D]:
    """What each line is, with how many seeds it is the mean of, where that is the same in all panels."""
    handles = []
    for arm in dict.fromkeys(arm for arms in groups.values() for arm in arms):
        counts = sorted({num_shown(arm, arms[arm]) for arms in groups.values() if arm in arms})
        ends = " to ".join(str(count) for count in sorted({counts[0], counts[-1]}))
        seeds = "1 seed" if ends == "1" else f"{ends} seeds"
        style: dict[str, Any] = {"color": colours[arm.label], "linewidth": 1.8} if arm.label in colours else _level(arm)
        handles.append(Line2D([], [], label=f"{arm.label} ({seeds})", **style))
    return handles


def belief_panels(groups: Groups) -> str:
    """One row a family, one panel an arm: t-SNE of the latents after trials of ten held-out tasks, a colour each."""
    columns = max(len(arms) for arms in groups.values())
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        picture = Figure(figsize=(3.4 * columns, 3.5 * len(groups)), layout="constrained")
        grid = picture.subplots(len(groups), columns, squeeze=False)
        for row, (family, arms) in zip(grid, groups.items(), strict=True):
            for axes in row[len(arms) :]:
                axes.set_axis_off()
            for axes, (arm, runs) in zip(row, arms.items(), strict=False):
                _beliefs(axes, arm, runs[0])
            row[0].set_ylabel(family)
        return svg_of(picture)


def _beliefs(axes: Axes, arm: Arm, run: RunResult) -> None:
    latents = np.asarray(run.beliefs, np.float64)
    dots = embed(latents)
    for task, colour in zip(dots, mpl.colormaps["tab10"].colors, strict=False):  # type: ignore[attr-defined]
        axes.scatter(task[:, 0], task[:, 1], s=22, color=colour, edgecolors="white", linewidths=0.4)
    if run.context is not None:
        said = f"retrieval {run.context.retrieval:.2f}, silhouette {run.context.silhouette:.2f}"
        axes.set_title(f"{arm.label}, seed {run.seed}\n{said}")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")


def embed(latents: Line) -> Line:
    """t-SNE (van der Maaten and Hinton, 2008) of `[tasks, trials, latent]` on the plane, `[tasks, trials, 2]`."""
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]  # noqa: PLC0415  (seconds)

    flat = latents.reshape(-1, latents.shape[-1])
    perplexity = min(15.0, (len(flat) - 1) / 3.0)
    placed = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(flat)
    return np.asarray(placed, np.float64).reshape(*latents.shape[:2], 2)
