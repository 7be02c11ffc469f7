"""Meta-training, top to bottom: warm up, teach the encoder, then collect and update.

Everything is done for all the seeds of a cohort at once; a single run is a cohort of one.
"""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ccm_runtime.errors import ConfigError
from ccm_training import wandb_log
from ccm_training.batch import Batch, Draws
from ccm_training.call_watch import CallWatch
from ccm_training.capture import Step
from ccm_training.checkpoint import checkpoint_name
from ccm_training.cohort import Cohort, Kept, build_cohort
from ccm_training.cohort_folder import CohortFolder
from ccm_training.collecting import Collector
from ccm_training.config import Config
from ccm_training.divergence import check_finite
from ccm_training.envs.registry import get_family
from ccm_training.experiment import Experiment, resolve_device
from ccm_training.memory import keep_what_is_freed
from ccm_training.milestones import HeldOut, due, evaluated
from ccm_training.onpolicy import course
from ccm_training.onpolicy.registry import ON_POLICY
from ccm_training.onpolicy.seam import build_on_policy
from ccm_training.replay import Rows
from ccm_training.rollout import wander
from ccm_training.runlog import CohortLog
from ccm_training.scores import Evaluation
from ccm_training.stopping import Stop, StopAskedError, drawn_again_if_stopped, stop_on_signals
from ccm_training.watched import watched

_PRETRAIN_BLOCK = 50


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        run_dir: Where it lives.
        evaluation: Scores on held-out tasks; `None` when it was stopped before its end.
        stopped_by: The signal that stopped it; `None` when it came to its end.
    """

    run_dir: Path
    evaluation: Evaluation | None
    stopped_by: signal.Signals | None = None


def train(
    config: Config,
    run_dir: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: bool = True,
    wandb: str | None = None,
) -> TrainResult:
    """Train one run; SIGINT and SIGTERM save a checkpoint and stop cleanly.

    Args:
        config: The settings.
        run_dir: Where config, metrics and checkpoints go.
        device: `auto`, `cpu` or `cuda`.
        resume: Go on from the last checkpoint of `run_dir`.
        progress: Draw a progress display on standard error.
        wandb: Project at Weights & Biases that hears what the run says; `None`: none does.

    Raises:
        RunError: `run_dir` holds a run already and `resume` was not asked for, or another process trains it.
        DependencyMissingError: `wandb` is asked for and not installed.
        ConfigError: It is there and does not begin.
        DivergenceError: A loss or a parameter stopped being finite.
        SimulationError: A simulation failed, or hangs: only in the main thread is there an end to that, and do signals
            save a checkpoint.
    """
    folder = CohortFolder((run_dir,))
    return _train([config], folder, device=device, resume=resume, progress=progress, wandb=wandb)[0]


def train_seeds(
    config: Config,
    seeds: Sequence[int],
    run_dir: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: bool = True,
    wandb: str | None = None,
) -> list[TrainResult]:
    """Train a run for each seed, all in this process, as `RUN_DIR/seed-N`; otherwise as `train`.

    What stops one stops all: a signal, or a number that is not finite.
    """
    configs = [config.model_copy(update={"seed": seed}) for seed in seeds]
    folder = CohortFolder.of_seeds(run_dir, seeds)
    return _train(configs, folder, device=device, resume=resume, progress=progress, wandb=wandb)


def _train(
    configs: Sequence[Config],
    folder: CohortFolder,
    *,
    device: str,
    resume: bool,
    progress: bool,
    wandb: str | None,
) -> list[TrainResult]:
    if resume:
        folder.check_begun()
    else:
        folder.check_free()
    if wandb is not None:
        wandb_log.client()  # say that it is missing before anything is written
    torch.set_num_threads(configs[0].threads)
    keep_what_is_freed()
    go_on = _prepared(configs, folder, resolve_device(device))
    with folder.held():
        if not resume:
            folder.check_free()  # another process may have trained it meanwhile
        stopped_by = go_on(resume=resume, progress=progress, wandb=wandb)
        if stopped_by is not None:
            return [TrainResult(run_dir, None, stopped_by) for run_dir in folder.runs]
        return [TrainResult(run_dir, evaluated(run_dir)) for run_dir in folder.runs]


def _prepared(
    configs: Sequence[Config], folder: CohortFolder, device: torch.device
) -> Callable[..., signal.Signals | None]:
    """What trains runs with these settings.

    Raises:
        ConfigError: The settings contradict each other.
    """
    config = configs[0]
    if not config.what.on_policy:
        return partial(_go_on, build_cohort(configs, device), folder)
    if folder.root is not None:
        raise ConfigError(
            f"--seeds: method {config.method!r} learns on-policy, one seed in a process; give --seed N, "
            "or run several with ccm sweep"
        )
    run = build_on_policy(config, ON_POLICY[config.method], get_family(config.family), device)
    return partial(course.go_on, run, folder.runs[0])


def _go_on(
    cohort: Cohort, folder: CohortFolder, *, resume: bool, progress: bool, wandb: str | None
) -> signal.Signals | None:
    """Train to the end, or until a signal, which is returned."""
    saved = folder.restore(cohort) if resume else None
    folder.begin(cohort)
    config, learner, runs = cohort.first.config, cohort.learner, cohort.runs
    iterations = config.collect.iterations
    clock = time.perf_counter() - cohort.time_s
    with (
        CohortLog(runs, folder.runs, total=iterations, progress=progress, wandb=wandb) as log,
        stop_on_signals() as stop,
        CallWatch(stop, config.collect.simulation_limit_s, folder.runs[0]) as watch,
    ):
        for run in runs:
            run.family = watched(run.family, stop, watch)
        update, collect = _captured(cohort, learner.update), Collector(cohort)
        held_out = HeldOut(cohort.first)
        try:
            warm_up(cohort)
            pretrain(cohort, folder, log, stop)
            while cohort.iteration < iterations and config.what.learns:
                if cohort.updates_done == 0:
                    collect()
                learner.anneal(cohort.iteration / iterations)
                while cohort.updates_done < config.updates_per_iteration:
                    _learn(runs, update)
                    cohort.advance(updates=1)
                    stop.check()
                _check_finite(runs, folder)
                tried = due(cohort.first, config.evaluation.every)
                scores = [held_out.scores_of(run) for run in runs] if tried else None
                save = due(cohort.first, config.checkpoint_every)
                cohort.advance(iteration=1)
                cohort.took(time.perf_counter() - clock)
                log.report(scores)
                if save:
                    log.sync()
                    saved = folder.save(cohort)
        except StopAskedError:
            _check_finite(runs, folder)
            cohort.took(time.perf_counter() - clock)
        if saved != [checkpoint_name(run) for run in runs]:
            log.sync()
            folder.save(cohort)
    return stop.asked_by


def warm_up(cohort: Cohort) -> None:
    """Fill the replay with trials under held directions, and fix the scales of the networks' inputs."""
    first, runs = cohort.first, cohort.runs
    everyone = torch.arange(len(runs) * len(first.tasks), device=first.device)
    while first.counters.warmup_trials < first.config.collect.warmup_trials:
        with drawn_again_if_stopped(*cohort.collecting):
            rows = wander(
                cohort.simulations([run.tasks for run in runs]),
                cohort.wanderer,
                episodes=first.adaptation.episodes,
                horizon=first.family.horizon,
                observe_reward=first.config.trial.observe_reward,
            )
        cohort.replay.add(everyone, rows)
        cohort.count(rows)
        for run in runs:
            run.counters.warmup_trials += 1
            if run.counters.warmup_trials == run.config.collect.warmup_trials:
                _fit_normalizers(run)


def pretrain(cohort: Cohort, folder: CohortFolder, log: CohortLog, stop: Stop) -> None:
    """Teach the encoders alone, each until its accuracy saturates or the budget is spent.

    They are taught together until the last has finished; one that finishes before waits, and is put back to then.
    """
    settings, what = cohort.first.config.encoder, cohort.first.config.what
    if not what.encoder or settings.contrastive_weight == 0.0 or settings.pretrain_updates == 0:
        return
    update = _captured(cohort, cohort.learner.pretrain, encoder_alone=True)
    waiting = [Kept(run) for run in cohort.runs if run.counters.pretrained]
    try:
        while pupils := [run for run in cohort.runs if not run.counters.pretrained]:
            _learn(pupils, update)
            for run in pupils:
                run.counters.pretrain_updates += 1
            taken = pupils[0].counters.pretrain_updates
            if taken % _PRETRAIN_BLOCK == 0 or taken == settings.pretrain_updates:
                _check_finite(pupils, folder)
                accuracy = sum(_judge_pretraining(run) for run in pupils) / len(pupils)
                log.say("teach the encoder", accuracy=accuracy, updates=taken)
                waiting += [Kept(run) for run in pupils if run.counters.pretrained]
            stop.check()
    finally:
        for kept in waiting:
            kept.put_back()


def _fit_normalizers(run: Experiment) -> None:
    """Fix the scales of a run's networks from all that it has stored."""
    stored = Rows(*(field[:, : run.counters.warmup_trials].flatten(0, 3) for field in run.replay.rows))
    whole = stored.valid[:, 0] > 0.0
    run.agent.fit_normalizers(Rows(*(field[whole] for field in stored)))


def _judge_pretraining(run: Experiment) -> float:
    """Note how good the encoder has become, and whether that is enough; the accuracy over the last updates."""
    settings, counters = run.config.encoder, run.counters
    accuracy = run.tally.means()["encoder/accuracy"]
    run.tally.clear()
    if accuracy > counters.pretrain_best:
        counters.pretrain_best, counters.pretrain_best_at = accuracy, counters.pretrain_updates
    in_vain = counters.pretrain_updates - counters.pretrain_best_at
    counters.pretrained = (
        counters.pretrain_updates >= settings.pretrain_updates or in_vain >= settings.pretrain_patience
    )
    return accuracy


def _captured(
    cohort: Cohort, learn: Callable[[Batch, Draws], dict[str, Tensor]], *, encoder_alone: bool = False
) -> Step:
    """Drawing a batch and learning from it, as one step."""
    return Step(
        lambda: learn(*cohort.lesson(encoder_alone=encoder_alone)),
        streams=cohort.learning,
        device=cohort.first.device,
    )


def _learn(runs: Sequence[Experiment], step: Step) -> None:
    """Take a step of all seeds, and keep what it says of these."""
    marks = [run.streams.learn.get_state() for run in runs]
    metrics = step()
    for run, mark in zip(runs, marks, strict=True):
        run.tally.note({name: values.view(-1)[run.place] for name, values in metrics.items()}, mark)


def _check_finite(runs: Sequence[Experiment], folder: CohortFolder) -> None:
    """Stop everything where a number of one of these runs is not finite."""
    for run in runs:
        check_finite(run, folder.runs[run.place])
