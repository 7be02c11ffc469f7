"""The runs of a sweep on Ray: each an ordinary run in one of Ray's worker processes, begun anew if the worker dies.

A worker trains in its own process, so that nothing goes on training once Ray has given it up; a run is claimed by who
trains it, and goes on from its last checkpoint. What comes out is thus what an undisturbed run gives.
"""

import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ccm_runtime.errors import CcmError, ConfigError, ServerUnreachableError
from ccm_training.checkpoint import parameter_hash
from ccm_training.config import Config, parse_config
from ccm_training.run_folder import CONFIG, summarize
from ccm_training.stopping import stop_on_signals
from ccm_training.sweep import Outcome, Planned
from ccm_training.train import train

RETRIES = 10
"""How often a run is begun anew after its worker died: enough for machines that come and go, and an end for a run that
takes its worker down every time."""

_LOOK_S = 1.0
_MEMORY_BYTES = 100 << 20  # of the object store: nothing but scores travels
# Ray's own: no usage statistics, nothing but loopback, a token for whoever connects, no word about accelerators.
_LOCAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True)
class Cluster:
    """Where a sweep runs.

    Attributes:
        address: `local`: a cluster of its own on this machine, gone with the sweep; `auto`, `HOST:PORT` or
            `ray://HOST:PORT`: one that runs.
        workers: Runs at a time; `None`: as many as there are processors for.
        gpus: Share of a GPU that a run takes; 0: it trains on the processor.
    """

    address: str = "local"
    workers: int | None = None
    gpus: float = 0.0


Watch = Callable[[Mapping[str, Outcome], Collection[Planned]], None]


class RunStoppedError(Exception):
    """SIGTERM stopped a run, which has saved itself; Ray begins it anew and it goes on."""


def check_installed() -> None:
    """Refuse to begin without Ray (ModuleNotFoundError); it is not imported yet, as it reads variables then."""
    if find_spec("ray") is None:
        raise ModuleNotFoundError("No module named 'ray'", name="ray")


def run_sweep(
    planned: Sequence[Planned], out: Path, cluster: Cluster, watch: Watch, *, wandb: str | None = None
) -> tuple[dict[str, Outcome], signal.Signals | None]:
    """Do every run of a sweep; SIGINT and SIGTERM let those under way save themselves, and stop.

    A run that fails ends by itself. One that came to its end before is not done again.

    Args:
        planned: The runs.
        out: Their folders are in here; on a cluster of several machines, a path that all share.
        cluster: Where.
        watch: Is told about once a second what has ended, by name, and what is under way.
        wandb: Project at Weights & Biases that hears what the runs say; `None`: none does.

    Returns:
        How each ended, by name, and the signal that stopped the sweep.

    Raises:
        ServerUnreachableError: There is no cluster at that address.
        ConfigError: That is no address, or it will never have the processors or GPUs that a run asks for.
    """
    threads = max(one.config.threads for one in planned)
    ended: dict[str, Outcome] = {}
    with _connected(cluster, threads) as ray, stop_on_signals() as stop:
        task = ray.remote(max_retries=RETRIES, retry_exceptions=[RunStoppedError], num_gpus=cluster.gpus)(train_one)
        waiting, running = deque(planned), dict[Any, Planned]()
        at_once = cluster.workers or len(planned)
        cancelled = False
        while waiting or running:
            while waiting and len(running) < at_once:
                one = waiting.popleft()
                asked = task.options(name=one.name, num_cpus=one.config.threads)
                running[asked.remote(one.config, out / one.name, "cuda" if cluster.gpus else "cpu", wandb)] = one
            for reference in ray.wait(list(running), timeout=_LOOK_S)[0]:
                one = running.pop(reference)
                ended[one.name] = _as_far_as_it_came(_outcome(ray, reference), out / one.name)
            if stop.asked_by is not None and not cancelled:
                cancelled = True
                waiting.clear()
                for reference in running:
                    ray.cancel(reference)
            watch(ended, running.values())
        return ended, stop.asked_by


def train_one(config: Config, run_dir: Path, device: str, wandb: str | None = None) -> Outcome:
    """Begin a run, or go on with it, to its end: in a worker.

    Raises:
        RunStoppedError: SIGTERM stopped it.
        KeyboardInterrupt: The sweep was stopped.
    """
    try:
        if not _is_finished(run_dir, config):
            _go_on(config, run_dir, device, wandb)
        found = summarize(run_dir)
        return Outcome(
            "finished",
            found.score,
            found.env_steps,
            found.time_s / 60.0,
            parameter_hash(run_dir),
            task_scores=found.task_scores,
        )
    except RunStoppedError:
        raise
    except CcmError as error:
        return Outcome("failed", error=str(error), exit_code=error.exit_code)
    except Exception as error:  # whatever it is, it must not end the other runs
        return Outcome("failed", error=f"unexpected {type(error).__name__}: {error}", exit_code=1)


def _go_on(config: Config, run_dir: Path, device: str, wandb: str | None) -> None:
    resume = (run_dir / CONFIG).is_file()
    stopped_by = train(config, run_dir, device=device, resume=resume, progress=False, wandb=wandb).stopped_by
    if stopped_by is not None:
        raise KeyboardInterrupt if stopped_by == signal.SIGINT else RunStoppedError


def _is_finished(run_dir: Path, config: Config) -> bool:
    if not (run_dir / CONFIG).is_file():
        return False
    found = summarize(run_dir)
    return found.state == "finished" and parse_config(dict(found.config), where=str(run_dir)) == config


def _outcome(ray: Any, reference: Any) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return Outcome("stopped")
    except ray.exceptions.RayError as error:
        return Outcome(
            "failed", error=f"its worker died {RETRIES + 1} times: {str(error).splitlines()[0]}", exit_code=1
        )
    return outcome


def _as_far_as_it_came(outcome: Outcome, run_dir: Path) -> Outcome:
    """What a run has spent that did not finish."""
    if outcome.state == "finished" or not (run_dir / CONFIG).is_file():
        return outcome
    found = summarize(run_dir)
    return replace(outcome, env_steps=found.env_steps, minutes=found.time_s / 60.0)


@contextmanager
def _connected(cluster: Cluster, threads: int) -> Iterator[Any]:
    """Ray, with a cluster of our own or another's."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if cluster.address == "local":
        for name, value in _LOCAL.items():
            os.environ[name] = value
    import ray  # noqa: PLC0415 (an extra; it reads the variables when it is imported)

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        if cluster.address == "local":
            cores = threads * (cluster.workers or max(1, len(os.sched_getaffinity(0)) // threads))
            ray.init("local", num_cpus=cores, include_dashboard=False, object_store_memory=_MEMORY_BYTES, **quiet)
        else:
            _check_answers(cluster.address)
            ray.init(cluster.address, **quiet)
    except Exception as error:
        if type(error) not in {ConnectionError, Exception}:  # the latter is of a machine too busy to begin
            raise
        raise ServerUnreachableError(
            f"no Ray cluster at {cluster.address!r} ({str(error).splitlines()[0]}); try again, start one with "
            "`ray start --head`, or leave --address out for one on this machine"
        ) from error
    with redirect_stdout(sys.stderr):  # where Ray tells of workers that died; standard output is for results
        try:
            _check_resources(ray.cluster_resources(), threads, cluster.gpus)
            yield ray
        finally:
            ray.shutdown()


def _check_answers(address: str) -> None:
    """Knock at a cluster's door: Ray itself would go on trying for minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise ConfigError(f"--address {address}: expected local, auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()
    except OSError as error:
        raise ConnectionError(str(error)) from error


def _check_resources(there: Mapping[str, float], threads: int, gpus: float) -> None:
    for name, asked, how in (("CPU", threads, "--set threads=1"), ("GPU", gpus, "--gpus 0")):
        if there.get(name, 0.0) < asked:
            raise ConfigError(f"a run asks for {asked:g} {name}, the cluster has {there.get(name, 0.0):g}; try {how}")
