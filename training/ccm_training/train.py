"""Meta-training, top to bottom: warm up, teach the encoder, then collect and update."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ccm_runtime.errors import DivergenceError, RunError
from ccm_training.checkpoint import FOLDER, restore, save_checkpoint, write_config
from ccm_training.config import Config
from ccm_training.evaluation import evaluate, evaluate_path
from ccm_training.experiment import Experiment, build, resolve_device
from ccm_training.replay import Rows
from ccm_training.rollout import Noise, run_trials, wander
from ccm_training.runlog import RunLog
from ccm_training.scores import Evaluation
from ccm_training.updates import sample_batch


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
        RunError: `run_dir` holds a run already and `resume` was not asked for.
        DivergenceError: A loss or a parameter stopped being finite.
    """
    if (run_dir / FOLDER).is_dir() and not resume:
        raise RunError(f"{run_dir} holds a run already; go on with --resume, or choose another --run-dir")
    torch.set_num_threads(config.threads)
    run = build(config, resolve_device(device))
    if resume:
        restore(run, run_dir)
    write_config(config, run_dir)
    clock = time.perf_counter() - run.counters.time_s
    with (
        RunLog(run_dir, total=config.collect.iterations, start=run.counters.iteration, progress=progress) as log,
        _stop_signals() as stop,
    ):
        if run.counters.env_steps == 0:
            warm_up(run)
            pretrain(run, log)
        while run.counters.iteration < config.collect.iterations and not stop and config.method != "random":
            collect(run)
            run.learner.anneal(run.counters.iteration / config.collect.iterations)
            for _ in range(config.updates_per_iteration):
                log.collect(run.learner.update(sample_batch(run.replay, run.features, config, run.streams.learn)))
            run.counters.updates += config.updates_per_iteration
            run.counters.iteration += 1
            run.counters.time_s = time.perf_counter() - clock
            means = log.report(run.counters, _scores(run) if _due(run, config.evaluation.every) else None)
            _check_finite(run, means)
            if _due(run, config.checkpoint_every):
                save_checkpoint(run, run_dir)
        save_checkpoint(run, run_dir)
    if stop:
        return TrainResult(run_dir, None, stop[0])
    evaluation = evaluate_path(run_dir, tasks="test")
    (run_dir / "evaluation.json").write_text(evaluation.model_dump_json(indent=2), encoding="utf-8")
    return TrainResult(run_dir, evaluation)


def warm_up(run: Experiment) -> None:
    """Fill the replay with trials under held directions, and fix the scales of the networks' inputs."""
    config, family = run.config, run.family
    everyone = torch.arange(len(run.tasks), device=run.device)
    for _ in range(config.collect.warmup_trials):
        rows = wander(
            family.make(run.tasks, run.env_seed),
            run.wanderer,
            episodes=run.adaptation.episodes,
            horizon=family.horizon,
            observe_reward=config.trial.observe_reward,
        )
        run.replay.add(everyone, rows)
        run.counters.env_steps += int(rows.valid.sum())
    stored = Rows(*(field[:, : config.collect.warmup_trials].flatten(0, 3) for field in run.replay.rows))
    whole = stored.valid[:, 0] > 0.0
    run.agent.fit_normalizers(Rows(*(field[whole] for field in stored)))


def pretrain(run: Experiment, log: RunLog) -> None:
    """Teach the encoder alone, until its accuracy saturates or the budget is spent."""
    settings = run.config.encoder
    if run.config.method != "ccm" or settings.contrastive_weight == 0.0:
        return
    best, best_at, block = 0.0, 0, 50
    while run.counters.pretrain_updates < settings.pretrain_updates:
        found = [
            run.learner.pretrain(sample_batch(run.replay, run.features, run.config, run.streams.learn))
            for _ in range(block)
        ]
        run.counters.pretrain_updates += block
        accuracy = float(torch.stack([metrics["encoder/accuracy"] for metrics in found]).mean())
        log.say("teach the encoder", accuracy=accuracy, updates=run.counters.pretrain_updates)
        if accuracy > best:
            best, best_at = accuracy, run.counters.pretrain_updates
        if run.counters.pretrain_updates - best_at >= settings.pretrain_patience:
            return


def collect(run: Experiment) -> None:
    """One trial on each of some training tasks: K episodes of the explorer, then the executor."""
    config, stream = run.config, run.streams.collect
    num = min(config.collect.tasks, len(run.tasks))
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


def _scores(run: Experiment) -> dict[str, Any]:
    """Score on held-out tasks as the run stands."""
    num = run.config.evaluation.tasks
    tasks = torch.from_numpy(run.family.sample_tasks("test", num, run.config.tasks.seed)).to(run.device)
    found = evaluate(run.policy_for(tasks), run.family, tasks, method=run.config.method, split="test")
    score = found.adaptation_score if found.adaptation_score is not None else found.returns[found.explore_episodes]
    return {"score": score, "returns": found.returns, "certainty": found.certainty}


def _due(run: Experiment, every: int) -> bool:
    return every > 0 and (
        run.counters.iteration % every == 0 or run.counters.iteration == run.config.collect.iterations
    )


def _check_finite(run: Experiment, means: dict[str, float]) -> None:
    bad = [name for name, value in means.items() if not torch.isfinite(torch.tensor(value))]
    if bad:
        raise DivergenceError(
            f"iteration {run.counters.iteration}: {', '.join(bad)} stopped being finite; "
            "the last checkpoint is from before. Lower policy.learning_rate or encoder.learning_rate"
        )


@contextmanager
def _stop_signals() -> Iterator[list[signal.Signals]]:
    """A list that SIGINT or SIGTERM writes itself into; a second one interrupts at once."""
    received: list[signal.Signals] = []

    def remember(number: int, _frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
