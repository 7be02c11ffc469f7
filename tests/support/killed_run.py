"""Training in a process of its own that a signal ends at a chosen moment, counted in calls and not in seconds."""

import importlib
import multiprocessing
import os
import sys
import warnings
from pathlib import Path

import torch._dynamo  # noqa: F401  (the optimizers load it when they are made: seconds, in every process)
from tiny_run import tiny_config

from ccm_runtime import crash_points
from ccm_training.cohort_folder import MARKER
from ccm_training.config import Config
from ccm_training.run_folder import CONFIG
from ccm_training.train import train, train_seeds

ITERATIONS = 3
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["killed_run", "pytest"])


def config(method: str = "ccm"):
    """A run through every stage, with a checkpoint and an evaluation in each iteration."""
    return tiny_config(
        method,
        tasks={"num_train": 4, "num_test": 2},
        trial={"explore_episodes": 1, "execute_episodes": 1},
        networks={"latent": 2, "hidden": [4], "encoder_hidden": [4]},
        collect={"capacity": 2, "warmup_trials": 2, "iterations": ITERATIONS, "tasks": 3},
        meta_batch=2,
        updates_per_iteration=4,
        encoder={"pretrain_updates": 50},
        on_policy={"memory": 4, "minibatches": 2},
        variational={"trials": 2},
        evaluation={"every": 1, "tasks": 2},
        checkpoint_every=1,
        threads=1,
    )


def go_on(
    run_dir: Path,
    *,
    method: str = "ccm",
    seeds: tuple[int, ...] = (),
    signal: int = 0,
    at_call: int = 0,
    crash_at: str = "",
) -> tuple[int, int]:
    """Begin or resume the run until it ends or is killed: the exit code (as `Process.exitcode`), and calls made.

    Args:
        run_dir: Where it lives.
        method: What is trained.
        seeds: Several runs in one process; none: one run.
        signal: What the process sends itself,
        at_call: at this call of a function, counted from the beginning of this attempt; 0: never.
        crash_at: As `CCM_CRASH_AT`.
    """
    calls = _PROCESSES.Value("q", 0)
    process = _PROCESSES.Process(
        target=_train,
        args=(run_dir, config(method), seeds, (signal, at_call)),
        kwargs={"crash_at": crash_at, "calls": calls},
    )
    process.start()
    process.join()
    return process.exitcode, calls.value


def _train(
    run_dir: Path, settings: Config, seeds: tuple[int, ...], ended: tuple[int, int], *, crash_at: str, calls
) -> None:
    warnings.simplefilter("ignore")
    os.environ[crash_points.VARIABLE] = crash_at
    importlib.reload(crash_points)
    made, (signal, at_call) = 0, ended

    def count(frame, event, argument) -> None:
        nonlocal made
        if event.endswith("call"):
            made += 1
            if made == at_call:
                os.kill(os.getpid(), signal)

    resume = (run_dir / CONFIG).is_file() or (run_dir / MARKER).is_file()
    sys.setprofile(count)
    options = {"device": "cpu", "resume": resume, "progress": False}
    result = train_seeds(settings, seeds, run_dir, **options)[0] if seeds else train(settings, run_dir, **options)
    sys.setprofile(None)
    calls.value = made
    sys.exit(0 if result.stopped_by is None else 128 + result.stopped_by)
