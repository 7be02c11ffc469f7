"""Training on-policy, top to bottom: warm up, then collect, learn and forget, iteration by iteration.

A checkpoint holds whole iterations: what is stopped in the middle of one is put back to its beginning.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ccm_training.call_watch import CallWatch
from ccm_training.checkpoint import checkpoint_name, restore, save_checkpoint, write_config
from ccm_training.milestones import HeldOut, due
from ccm_training.onpolicy.divergence import check_finite
from ccm_training.onpolicy.seam import OnPolicyRun
from ccm_training.replay import Rows
from ccm_training.rollout import Wanderer, wander
from ccm_training.runlog import CohortLog
from ccm_training.stopping import Stop, StopAskedError, stop_on_signals
from ccm_training.watched import watched


def go_on(run: OnPolicyRun, run_dir: Path, *, resume: bool, progress: bool, wandb: str | None) -> signal.Signals | None:
    """Train to the end, or until a signal, which is returned; its folder is held by who calls."""
    saved = restore(run, run_dir) if resume else None
    name = None if saved is None else saved.name
    write_config(run.config, run_dir)
    config = run.config
    clock = time.perf_counter() - run.counters.time_s
    with (
        CohortLog([run], [run_dir], total=config.collect.iterations, progress=progress, wandb=wandb) as log,
        stop_on_signals() as stop,
        CallWatch(stop, config.collect.simulation_limit_s, run_dir) as watch,
    ):
        judged = replace(run, family=watched(run.family, Stop(), watch))  # an evaluation is short, and is not stopped
        held_out = HeldOut(judged)
        run.family = watched(run.family, stop, watch)
        try:
            warm_up(run)
            while run.counters.iteration < config.collect.iterations:
                iterate(run, stop)
                check_finite(run, run_dir)
                scores = _scores_of(held_out, judged) if due(run, config.evaluation.every) else None
                save = due(run, config.checkpoint_every)
                run.counters.iteration += 1
                run.counters.time_s = time.perf_counter() - clock
                log.report(scores)
                if save:
                    log.sync()
                    name = save_checkpoint(run, run_dir).name
        except StopAskedError:
            run.counters.time_s = time.perf_counter() - clock
        if name != checkpoint_name(run):
            log.sync()
            save_checkpoint(run, run_dir)
    return stop.asked_by


def warm_up(run: OnPolicyRun) -> None:
    """Trials of every training task under held directions, for the learner to look at."""
    config = run.config
    if run.counters.warmup_trials == config.collect.warmup_trials:
        return
    with _put_back_if_stopped(run):
        wanderer = Wanderer.within(
            run.family.action,
            turn_probability=config.collect.turn_probability,
            generator=run.streams.collect,
            device=run.device,
        )
        trials = []
        for _ in range(config.collect.warmup_trials):
            trials.append(
                wander(
                    run.simulations(run.tasks),
                    wanderer,
                    episodes=run.adaptation.episodes,
                    horizon=run.family.horizon,
                    observe_reward=config.trial.observe_reward,
                )
            )
            run.count(trials[-1])
        run.learner.warm_up(Rows(*(torch.stack(field, 1) for field in zip(*trials, strict=True))))
        run.counters.warmup_trials = config.collect.warmup_trials


def iterate(run: OnPolicyRun, stop: Stop) -> None:
    """One iteration: all of it, or nothing."""
    with _put_back_if_stopped(run):
        stop.check()
        mark = run.streams.learn.get_state()
        for metrics in run.learner.iterate(run):
            run.tally.note(metrics, mark)
            run.counters.updates += 1
            mark = run.streams.learn.get_state()
            stop.check()


def _scores_of(held_out: HeldOut, run: OnPolicyRun) -> list[dict[str, Any]] | None:
    """Scores as the run stands; `None`: it is to stop, and its simulation hangs."""
    try:
        return [held_out.scores_of(run)]
    except StopAskedError:
        return None


@contextmanager
def _put_back_if_stopped(run: OnPolicyRun) -> Iterator[None]:
    """Make the run what it was if it is stopped inside; `replay.` is written last, which nothing can stop."""
    tensors = {name: value for name, value in run.tensors().items() if not name.startswith("replay.")}
    before = {name: value.clone() for name, value in tensors.items()}
    counters = replace(run.counters)
    streams = {name: stream.get_state() for name, stream in run.streams.named().items()}
    try:
        yield
    except StopAskedError:
        for name, value in tensors.items():
            value.copy_(before[name])
        for name, stream in run.streams.named().items():
            stream.set_state(streams[name])
        run.counters = counters
        run.tally.clear()
        raise
