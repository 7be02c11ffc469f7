"""`ccm record`."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from ccm_runtime.commands.extras import needs
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.errors import ConfigError, SpecError
from ccm_training.captions import Captions
from ccm_training.envs.family import Picture, Split
from ccm_training.envs.simulated import SimulatedTask
from ccm_training.filming import Actor, Moment, find_actor, moments, task_in_words
from ccm_training.video import check_target, write_video

_HOLD_S = 0.6  # an episode's last picture, so that its return can be read


def record(
    path: Path | None,
    out: Path,
    *,
    family: str | None,
    tasks: str,
    task: str | None,
    seed: int,
    fps: int,
    overwrite: bool,
) -> None:
    """Write the video of one trial and say what came of it.

    Raises:
        ConfigError: The file cannot be written so.
        SpecError: `task` does not fit the family.
        RenderingError: The family cannot be drawn here.
    """
    check_target(out, overwrite=overwrite)
    with needs("train"):  # for a run
        actor = find_actor(path or embedded_bundle(), family)
    chosen = _chosen(actor, cast("Split", tasks), task, seed)
    adapter = actor.adapter(chosen)
    env = SimulatedTask(actor.family, chosen, seed)
    plan = adapter.policy.adaptation
    ceiling = actor.family.ceiling(chosen[None])
    captions = Captions(
        title=f"{actor.family.name} · {actor.method}",
        task=task_in_words(actor.family, chosen),
        episodes=plan.episodes,
        explore_episodes=plan.explore_episodes,
        ceiling=None if ceiling is None else float(ceiling[0]),
    )
    told: list[Moment] = []
    hold = max(1, round(_HOLD_S * fps))

    def pictures() -> Iterator[Picture]:
        for moment in moments(adapter, env, seed=seed):
            picture = captions.draw(env.frame(), moment)
            yield from [picture] * (hold if moment.episode_over else 1)
            told.append(moment)

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # what is half written is removed
    length = plan.episodes * (plan.horizon + hold)
    console = Console(stderr=True)
    shown = track(pictures(), f"record {out}", total=length, console=console, transient=True)
    write_video(shown if console.is_terminal else pictures(), out, fps=fps)
    returns = ", ".join(f"{value:.1f}" for value in told[-1].returns)
    typer.echo(f"{out}: {captions.title}, {captions.task}; returns {returns}")


def _chosen(actor: Actor, split: Split, task: str | None, seed: int) -> NDArray[np.float32]:
    """The task that was given, or the one that the seed draws; of those for training, it draws from them."""
    family = actor.family
    if task is None:
        if split != "train":
            drawn: NDArray[np.float32] = family.sample_tasks(split, 1, seed)[0]
            return drawn
        if actor.trained_on is None:
            raise ConfigError(
                "--tasks train: the bundle does not say which tasks it was trained on; name one by --task"
            )
        own: NDArray[np.float32] = family.sample_tasks("train", *actor.trained_on)
        row: NDArray[np.float32] = own[seed % len(own)]
        return row
    try:
        values = np.array([float(value) for value in task.split(",")], np.float32)
    except ValueError:
        names = ", ".join(family.task.labels)
        raise ConfigError(f"--task {task}: expected numbers with commas between them, for {names}") from None
    try:
        return family.task.validate_array(values, bounded=True)
    except SpecError as error:
        raise SpecError(f"--task {task}: {error}") from error
