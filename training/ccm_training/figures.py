"""The pictures of a report, as SVG text. Pure functions over arrays: no file, no clock, no network."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import EngFormatter, LogLocator, MultipleLocator, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from ccm_runtime.trial import Phase
from ccm_training.filming import Strip

Array = NDArray[np.float32]

EXPLORER, EXECUTOR, CEILING, FLOOR = "#d97706", "#2563eb", "#047857", "#9ca3af"
_INK, _GREY, _GRID = "#1f2937", "#6b7280", "#e5e7eb"
_GOALS = ("#f59e0b", "#3b82f6")
_EPISODES = LinearSegmentedColormap.from_list("episodes", ["#fcd9a4", "#b45309"])
_COLUMNS = 3  # maps in a row
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _GREY,
    "axes.edgecolor": _GRID,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "ccm",
}


def learning_curve(
    metrics: Sequence[Mapping[str, Any]], *, scored: bool, floor: float | None, chance: float | None
) -> str:
    """Draw what held-out tasks bring, the encoder's accuracy and the losses over environment steps and updates.

    Args:
        metrics: Lines of `metrics.jsonl`: `env_steps`, `updates`, `score` where evaluated, and the losses.
        scored: Whether `score` is a share of the ceiling; else it is the first executor episode's return.
        floor: What random actions bring, as `score`; `None`: unknown.
        chance: InfoNCE accuracy of guessing.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 6.6), layout="constrained")
        score, accuracy, losses = figure.subplots(3, 1, sharex=True, height_ratios=(2.2, 1, 1.3))
        _line(score, metrics, "score", EXECUTOR, marker="o", markersize=3.5)
        if scored:
            _level(score, 1.0, "ceiling", colour=CEILING, ink=CEILING)
            score.set_ylim(bottom=min(0.0, score.get_ylim()[0]), top=max(1.1, score.get_ylim()[1]))
        if floor is not None:
            _level(score, floor, "random actions", colour=FLOOR, ink=_GREY)
        what = "Adaptation score" if scored else "Return of the first executor episode"
        score.set_title(f"{what} on held-out tasks")
        _line(accuracy, metrics, "encoder/accuracy", EXPLORER)
        if chance is not None:
            accuracy.axhline(chance, color=FLOOR, linewidth=1, linestyle="--")
        accuracy.set_ylim(0.0, 1.05)
        accuracy.set_title("Context encoder: share of queries that find their own task (dashed: chance)")
        _losses(losses, metrics)
        losses.set_xlabel("environment steps")
        losses.xaxis.set_major_formatter(EngFormatter(sep=""))
        _updates_axis(score, metrics)
        return svg_of(figure)


def adaptation_curve(
    returns: Sequence[float],
    explore_episodes: int,
    *,
    ceiling: float | None,
    floor: float | None,
    each: Array | None = None,
) -> str:
    """Draw the return of every episode of a trial.

    Args:
        returns: Mean over tasks, one an episode.
        explore_episodes: K; the episodes from there on are the executor's.
        ceiling: Mean return of the best policy that knows the task.
        floor: Mean return of random actions.
        each: Returns of single tasks, `[tasks, episodes]`, drawn as dots.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.6), layout="constrained")
        axes = figure.subplots()
        episode = np.arange(1, len(returns) + 1)
        if each is not None:
            aside = np.linspace(-0.14, 0.14, len(each))[:, None]
            colours = [EXPLORER if number <= explore_episodes else EXECUTOR for number in episode]
            for column, colour in enumerate(colours[: each.shape[1]]):
                axes.scatter(episode[column] + aside, each[:, column], s=9, color=colour, alpha=0.3, linewidths=0)
        axes.plot(episode, returns, color=_GREY, linewidth=1.2, zorder=2)
        exploring = episode <= explore_episodes
        for chosen, colour, label in ((exploring, EXPLORER, "explorer"), (~exploring, EXECUTOR, "executor")):
            if chosen.any():
                axes.scatter(episode[chosen], np.asarray(returns)[chosen], s=60, color=colour, label=label, zorder=3)
        for value, colour, label in (
            (ceiling, CEILING, "ceiling: the task is known"),
            (floor, FLOOR, "floor: random actions"),
        ):
            if value is not None:
                axes.axhline(value, color=colour, linestyle="--", linewidth=1.2, label=label)
        axes.set_xticks(episode)
        axes.set_xlabel("episode of the trial")
        axes.set_ylabel("return")
        axes.set_xlim(0.6, len(returns) + 0.4)
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside upper left", ncols=4)
        return svg_of(figure)


def trajectory_map(observations: Array, explore_episodes: int, goals: Array, *, returns: Array | None = None) -> str:
    """Draw the paths of each task's trial on the plane: explorer's episodes, then the first executor episode.

    Args:
        observations: `[tasks, episodes, horizon + 1, >= 2]`; the first two entries are x and y in m.
        explore_episodes: K.
        goals: `[tasks, goals, (x, y, radius)]` in m.
        returns: Of each episode, `[tasks, episodes]`.
    """
    tasks, episodes = observations.shape[:2]
    rows = -(-tasks // _COLUMNS)
    low, high = _extent(observations[..., :2], goals)
    height = 9.2 / _COLUMNS * (high[1] - low[1]) / (high[0] - low[0]) + 0.3
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(9.2, height * rows + 0.4), layout="constrained")
        grid = figure.subplots(rows, _COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
        for index, axes in enumerate(grid):
            if index >= tasks:
                axes.set_axis_off()
                continue
            _map(axes, observations[index, ..., :2], explore_episodes, goals[index])
            if returns is not None and explore_episodes < episodes:
                axes.set_title(f"return {returns[index, explore_episodes]:.0f}", color=_GREY)
        grid[0].set_xlim(low[0], high[0])
        grid[0].set_ylim(low[1], high[1])
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=5)
        return svg_of(figure)


def film_strip(strips: Sequence[Strip]) -> str:
    """Draw the pictures of a trial, an episode in a row.

    Args:
        strips: At least one, with a picture at least.
    """
    columns = max(len(strip.pictures) for strip in strips)
    height, width = strips[0].pictures[0].shape[:2]
    with mpl.rc_context(STYLE | {"axes.grid": False, "axes.titlesize": 8}):
        figure = Figure(figsize=(9.2, len(strips) * (9.0 / columns * height / width + 0.3)), layout="constrained")
        grid = figure.subplots(len(strips), columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for row, strip in zip(grid, strips, strict=True):
            colour = EXPLORER if strip.phase is Phase.EXPLORE else EXECUTOR
            for axes, step, picture in zip(row, strip.steps, strip.pictures, strict=False):
                axes.imshow(picture, interpolation="lanczos")
                axes.set_title(f"step {step}", color=_GREY)
            row[0].set_title(f"{strip.phase.value}, return {strip.total:.1f}", color=colour)
        return svg_of(figure, dots_per_inch=160)


def belief_map(latents: Array, tasks: Array, parameters: Sequence[str]) -> str:
    """Draw where the beliefs go in the course of a trial, on their two principal axes.

    A thin line leads from episode to episode to the belief after the last; its dot is coloured by the task. There is
    one map for each parameter.

    Args:
        latents: Latent means after each episode, `[tasks, episodes, latent]`.
        tasks: `[tasks, params]`.
        parameters: Name of each parameter.
    """
    plane = principal_axes(latents)
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(9.2, 4.2), layout="constrained")
        grid = figure.subplots(1, len(parameters), squeeze=False)[0]
        for axes, name, value in zip(grid, parameters, tasks.T, strict=True):
            for trail in plane:
                axes.plot(*trail.T, color=_GRID, linewidth=0.8, zorder=1)
            dots = axes.scatter(
                *plane[:, -1].T, c=value, cmap="viridis", s=42, zorder=2, edgecolors="white", linewidths=0.6
            )
            axes.set_title(f"coloured by {name}")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel("first principal axis")
            axes.spines[:].set_visible(False)
            bar = figure.colorbar(dots, ax=axes, fraction=0.05, pad=0.02)
            bar.outline.set_visible(False)
        return svg_of(figure)


def principal_axes(latents: Array) -> Array:
    """Project latents on the two axes along which the last ones, `latents[:, -1]`, vary most.

    Args:
        latents: `[tasks, episodes, latent]`.

    Returns:
        `[tasks, episodes, 2]`; the second axis is zero where a latent has one entry.
    """
    last = latents[:, -1]
    centred = latents - last.mean(0)
    _, _, axes = np.linalg.svd(last - last.mean(0), full_matrices=False)
    projected = centred @ axes[:2].T
    missing = 2 - projected.shape[-1]
    padded: Array = np.pad(projected, ((0, 0), (0, 0), (0, missing))) if missing else projected
    return padded


def _line(axes: Axes, metrics: Sequence[Mapping[str, Any]], name: str, colour: str, **style: Any) -> None:
    points = [(line["env_steps"], line[name]) for line in metrics if line.get(name) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.5, **style)


def _level(axes: Axes, value: float, label: str, *, colour: str, ink: str) -> None:
    """Draw a dashed line with its name at the right end."""
    axes.axhline(value, color=colour, linewidth=1, linestyle="--")
    axes.annotate(label, (1.0, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=ink)


def _losses(axes: Axes, metrics: Sequence[Mapping[str, Any]]) -> None:
    shown = {
        "encoder/contrastive_loss": ("InfoNCE", EXPLORER),
        "executor/critic_loss": ("executor's critics", EXECUTOR),
        "explorer/critic_loss": ("explorer's critics", "#7c3aed"),
    }
    for name, (label, colour) in shown.items():
        _line(axes, metrics, name, colour, label=label)
    axes.set_title("Losses")
    if axes.lines:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.95), ncols=3, borderaxespad=0.0)


def _updates_axis(axes: Axes, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Number the updates along the top."""
    steps = np.array([line["env_steps"] for line in metrics], np.float64)
    updates = np.array([line["updates"] for line in metrics], np.float64)
    if len(steps) < 2 or not (np.diff(steps) > 0).all() or not (np.diff(updates) > 0).all():
        return
    each = (updates[-1] - updates[0]) / (steps[-1] - steps[0])
    before = updates[0] - each * steps[0]
    top = axes.secondary_xaxis(
        "top", functions=(lambda step: before + each * step, lambda update: (update - before) / each)
    )
    top.set_xlabel("updates")


def _map(axes: Axes, paths: Array, explore_episodes: int, goals: Array) -> None:
    """Draw one task: `paths` is `[episodes, horizon + 1, 2]`, `goals` is `[goals, 3]`."""
    names = ("first goal", "second goal") if len(goals) > 1 else ("goal",)
    for (x, y, radius), colour, named in zip(goals, _GOALS, names, strict=False):
        axes.add_patch(Circle((x, y), radius, facecolor=colour, alpha=0.18, edgecolor="none"))
        axes.add_patch(Circle((x, y), radius, facecolor="none", edgecolor=colour, linewidth=1.0))
        axes.scatter([], [], s=80, color=colour, alpha=0.5, linewidths=0, label=named)
    for episode, path in enumerate(paths[:explore_episodes]):
        share = (episode + 1) / explore_episodes
        label = "explorer, early to late" if episode == explore_episodes - 1 else "_"
        axes.plot(*path.T, color=_EPISODES(share), linewidth=1.3, label=label)
    if explore_episodes < len(paths):
        axes.plot(*paths[explore_episodes].T, color=EXECUTOR, linewidth=2.0, label="executor", marker="o", markersize=2)
    axes.plot(0, 0, marker="o", color=_INK, markersize=4)
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_locator(MultipleLocator(1.0))
    axes.yaxis.set_major_locator(MultipleLocator(1.0))


def _extent(paths: Array, goals: Array) -> tuple[Array, Array]:
    """Lower left and upper right corner around all paths and goals, each `[2]`."""
    centres, radii = goals[..., :2], goals[..., 2:]
    low = np.minimum(paths.min((0, 1, 2)), (centres - radii).min((0, 1)))
    high = np.maximum(paths.max((0, 1, 2)), (centres + radii).max((0, 1)))
    margin = np.float32(0.05 * (high - low).max())
    return low - margin, high + margin


def svg_of(figure: Figure, dots_per_inch: int = 100) -> str:
    """A picture as SVG text, the same for the same picture."""
    text = io.StringIO()
    figure.savefig(text, format="svg", dpi=dots_per_inch, metadata={"Date": None, "Creator": None})
    return text.getvalue()
