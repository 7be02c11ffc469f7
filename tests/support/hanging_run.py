"""`ccm train` in a process of its own, whose simulation does not return from one of its steps."""

import ctypes
import itertools
import multiprocessing
import os
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import yaml
from killed_run import config as settings_of

from ccm_runtime import cli
from ccm_training import call_watch, checkpoint, cohort
from ccm_training import train as training
from ccm_training.config import Config, parse_config
from ccm_training.envs.registry import get_family

LIMIT_S = 60.0
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["hanging_run", "killed_run", "pytest"])


def config(method: str, **collect: float) -> Config:
    """As in `killed_run`, with less to learn."""
    settings = settings_of(method).model_dump(mode="json")
    settings["collect"] |= collect
    settings["encoder"]["pretrain_updates"] = 0
    return parse_config(settings | {"updates_per_iteration": 1}, where="hanging")


class Ended(NamedTuple):
    """How the command ended.

    Attributes:
        code: Its exit code; negative: the signal that killed it.
        said: On standard error.
    """

    code: int
    said: str


def train(
    run_dir: Path,
    *,
    method: str = "ccm",
    at_step: int = 0,
    way: str = "sleeps",
    signal: int = 0,
    simulation_limit_s: float = 600.0,
) -> Ended:
    """Begin or resume a run until it ends.

    Args:
        run_dir: Where it lives.
        method: What is trained.
        at_step: The step of the simulations that hangs, counted from the beginning of this attempt; 0: none.
        way: What it does: `sleeps`, `catches` every error and sleeps again, or `blocks` in code of C's.
        signal: What the process is sent once it hangs; 0: nothing.
        simulation_limit_s: The setting.
    """
    run_dir.mkdir(exist_ok=True)
    hangs = _PROCESSES.Event()
    settings = config(method, simulation_limit_s=simulation_limit_s)
    process = _PROCESSES.Process(target=_train, args=(run_dir, settings, at_step, way, hangs))
    process.start()
    try:
        if signal:
            assert hangs.wait(LIMIT_S), "it came to the step that hangs"
            os.kill(process.pid, signal)
        process.join(LIMIT_S)
        assert process.exitcode is not None, "it ended"
    finally:
        process.kill()
        process.join()
    return Ended(process.exitcode, (run_dir / "stderr").read_text())


def _train(run_dir: Path, settings: Config, at_step: int, way: str, hangs) -> None:
    with (run_dir / "stderr").open("wb") as stderr:
        os.dup2(stderr.fileno(), 2)
    sys.stderr = os.fdopen(2, "w")
    call_watch.TICK_S, call_watch.STOP_PATIENCE_S, call_watch.LAST_RESORT_S = 0.05, 0.3, 0.5
    family = _Hanging(get_family(settings.family), at_step, _WAYS[way], hangs)
    for module in (training, cohort, checkpoint):
        module.get_family = lambda _: family
    (run_dir / "asked.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    sys.argv = ["ccm", "train", "--config", f"{run_dir}/asked.yaml", "--run-dir", f"{run_dir}/run", "--device", "cpu"]
    if (run_dir / "run").exists():
        sys.argv.append("--resume")
    cli.main()


class _Hanging:
    """A family one of whose simulations' steps, counted over all, does not return."""

    def __init__(self, family, at_step, hang, hangs) -> None:
        self._family, self._at_step, self._hang, self._hangs = family, at_step, hang, hangs
        self._steps = itertools.count(1)

    def __getattr__(self, name):
        return getattr(self._family, name)

    def make(self, tasks, seed=0):
        return self._hanging(self._family.make(tasks, seed))

    def simulate(self, tasks, seed=0):
        return self._hanging(self._family.simulate(tasks, seed))

    def _hanging(self, env):
        step = env.step

        def perhaps(action):
            if next(self._steps) == self._at_step:
                self._hang(self._hangs.set)
            return step(action)

        env.step = perhaps
        return env


def _sleeps(tell) -> None:
    tell()
    threading.Event().wait()


def _catches(tell) -> None:
    while True:
        try:
            _sleeps(tell)
        except Exception:  # noqa: S112 (as simulations do that try again for ever)
            continue


def _blocks(tell) -> None:
    """Wait in C for a lock that is held: a signal does not wake it."""
    wait_for, lock = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
    wait_for(lock)
    stuck = threading.Event()
    threading.Thread(target=lambda: (stuck.wait(), tell()), daemon=True).start()
    sys.setswitchinterval(1e3)  # from here on, other threads run only once this one waits in C
    stuck.set()
    wait_for(lock)


_WAYS = {"sleeps": _sleeps, "catches": _catches, "blocks": _blocks}
