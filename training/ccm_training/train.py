"""Meta-training, top to bottom: warm up, teach the encoder, then collect and update."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ccm_runtime.errors import RunError
from ccm_training.batch import Batch, Draws, draw, sample_batch
from ccm_training.capture import Step
from ccm_training.checkpoint import FOLDER, checkpoint_name, load_agent, restore, save_checkpoint, write_config
from ccm_training.config import Config
from ccm_training.context_quality import quality_of_context
from ccm_training.divergence import check_finite
from ccm_training.durable import write_whole
from ccm_training.evaluation import evaluate, evaluate_run
from ccm_training.experiment import Experiment, build, resolve_device
from ccm_training.lock import trained_by_us_alone
from ccm_training.replay import Rows
from ccm_training.rollout import Noise, run_trials, wander
from ccm_training.runlog import RunLog
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
    config: Config, run_dir: Path, *, device: str = "auto", resume: bool = False, progress: bool = True
) -> TrainResult:
    """Train one run; SIGINT and SIGTERM save a checkpoint and stop cleanly.

    Args:
        config: The settings.
        run_dir: Where config, metrics and checkpoints go.
        device: `auto`, `cpu` or `cuda`.
        resume: Go on from the last checkpoint of `run_dir`.
        progress: Draw a progress display on standard error.

    Raises:
        RunError: `run_dir` holds a run already and `resume` was not asked for, or another process trains it.
        DivergenceError: A loss or a parameter stopped being finite.
        SimulationError: A simulation failed.
    """
    if (run_dir / FOLDER).is_dir() and not resume:
        raise RunError(f"{run_dir} holds a run already; go on with --resume, or choose another --run-dir")
    torch.set_num_threads(config.threads)
    run = build(config, resolve_device(device))
    with trained_by_us_alone(run_dir):
        return _train(run, run_dir, resume=resume, progress=progress)


def _train(run: Experiment, run_dir: Path, *, resume: bool, progress: bool) -> TrainResult:
    config = run.config
    saved = restore(run, run_dir) if resume else None
    write_config(config, run_dir)
    counters = run.counters
    clock = time.perf_counter() - counters.time_s
    with (
        RunLog(run_dir, counters, total=config.collect.iterations, progress=progress) as log,
        stop_on_signals() as stop,
    ):
        run.family = watched(run.family, stop)
        update = _captured(run, run.learner.update)
        try:
            warm_up(run)
            pretrain(run, run_dir, log, stop)
            while counters.iteration < config.collect.iterations and config.what.learns:
                if run.updates_done == 0:
                    collect(run)
                run.learner.anneal(counters.iteration / config.collect.iterations)
                while run.updates_done < config.updates_per_iteration:
                    mark = run.streams.learn.get_state()
                    run.tally.note(update(), mark)
                    counters.updates += 1
                    stop.check()
                check_finite(run, run_dir)
                scores = _scores(run) if _due(run, config.evaluation.every) else None
                save = _due(run, config.checkpoint_every)
                counters.iteration += 1
                counters.time_s = time.perf_counter() - clock
                log.report(counters, run.tally.means(), scores)
                run.tally.clear()
                if save:
                    log.sync()
                    saved = save_checkpoint(run, run_dir)
        except StopAskedError:
            check_finite(run, run_dir)
            counters.time_s = time.perf_counter() - clock
        if saved is None or saved.name != checkpoint_name(run):
            log.sync()
            save_checkpoint(run, run_dir)
    if stop.asked_by is not None:
        return TrainResult(run_dir, None, stop.asked_by)
    finished = load_agent(run_dir)
    evaluation = evaluate_run(finished)
    if config.what.encoder:
        evaluation = evaluation.model_copy(update={"context": quality_of_context(finished)})
    write_whole(run_dir / "evaluation.json", evaluation.model_dump_json(indent=2))
    return TrainResult(run_dir, evaluation)


def warm_up(run: Experiment) -> None:
    """Fill the replay with trials under held directions, and fix the scales of the networks' inputs."""
    config, family, counters = run.config, run.family, run.counters
    everyone = torch.arange(len(run.tasks), device=run.device)
    while counters.warmup_trials < config.collect.warmup_trials:
        with drawn_again_if_stopped(run.streams.collect):
            rows = wander(
                family.make(run.tasks, run.env_seed),
                run.wanderer,
                episodes=run.adaptation.episodes,
                horizon=family.horizon,
                observe_reward=config.trial.observe_reward,
            )
        run.replay.add(everyone, rows)
        counters.env_steps += int(rows.valid.sum())
        counters.warmup_trials += 1
        if counters.warmup_trials == config.collect.warmup_trials:
            stored = Rows(*(field[:, : counters.warmup_trials].flatten(0, 3) for field in run.replay.rows))
            whole = stored.valid[:, 0] > 0.0
            run.agent.fit_normalizers(Rows(*(field[whole] for field in stored)))


def pretrain(run: Experiment, run_dir: Path, log: RunLog, stop: Stop) -> None:
    """Teach the encoder alone, until its accuracy saturates or the budget is spent."""
    settings, counters = run.config.encoder, run.counters
    if not run.config.what.encoder or settings.contrastive_weight == 0.0 or settings.pretrain_updates == 0:
        return
    update = _captured(run, run.learner.pretrain, encoder_alone=True)
    while not counters.pretrained:
        mark = run.streams.learn.get_state()
        run.tally.note(update(), mark)
        counters.pretrain_updates += 1
        if counters.pretrain_updates % _PRETRAIN_BLOCK == 0:
            check_finite(run, run_dir)
            accuracy = run.tally.means()["encoder/accuracy"]
            run.tally.clear()
            log.say("teach the encoder", accuracy=accuracy, updates=counters.pretrain_updates)
            if accuracy > counters.pretrain_best:
                counters.pretrain_best, counters.pretrain_best_at = accuracy, counters.pretrain_updates
            in_vain = counters.pretrain_updates - counters.pretrain_best_at
            counters.pretrained = (
                counters.pretrain_updates >= settings.pretrain_updates or in_vain >= settings.pretrain_patience
            )
        stop.check()


def collect(run: Experiment) -> None:
    """One trial on each of some training tasks: K episodes of the explorer, then the executor."""
    config, stream = run.config, run.streams.collect
    num = min(config.collect.tasks, len(run.tasks))
    with drawn_again_if_stopped(stream):
        chosen = torch.randperm(len(run.tasks), generator=stream, device=run.device)[:num]
        tasks = run.tasks[chosen]
        noise = Noise(
            num,
            run.wanderer,
            size=run.family.action.size,
            correlation=config.collect.noise_correlation,
            stroll_probability=config.collect.stroll_probability,
            generator=stream,
        )
        trials = run_trials(
            run.family.make(tasks, run.env_seed),
            run.policy_for(tasks),
            episodes=run.adaptation.episodes,
            noise=noise,
            generator=stream,
        )
    run.replay.add(chosen, trials.rows)
    run.counters.env_steps += int(trials.rows.valid.sum())


def _captured(
    run: Experiment, learn: Callable[[Batch, Draws], dict[str, Tensor]], *, encoder_alone: bool = False
) -> Step:
    """Drawing a batch and learning from it, as one step."""
    stream, actions = run.streams.learn, run.family.action.size

    def step() -> dict[str, Tensor]:
        batch = sample_batch(run.replay, run.features, run.config, stream)
        return learn(batch, draw(run.config, actions, stream, encoder_alone=encoder_alone))

    return Step(step, streams=[stream], device=run.device)


def _scores(run: Experiment) -> dict[str, Any]:
    """Score on held-out tasks as the run stands."""
    num = run.config.evaluation.tasks
    tasks = torch.from_numpy(run.family.sample_tasks("test", num, run.config.tasks.seed)).to(run.device)
    found = evaluate(run.policy_for(tasks), run.family, tasks, method=run.config.method, split="test")
    score = found.adaptation_score if found.adaptation_score is not None else found.returns[found.explore_episodes]
    return {"score": score, "returns": found.returns, "certainty": found.certainty}


def _due(run: Experiment, every: int) -> bool:
    """Whether the iteration under way ends with what is done every so many."""
    number = run.counters.iteration + 1
    return every > 0 and (number % every == 0 or number == run.config.collect.iterations)
