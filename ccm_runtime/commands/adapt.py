"""`ccm adapt`: trials on simulated tasks against a server, many at once."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc
import numpy as np
import typer
from numpy.typing import NDArray

from ccm_runtime.async_client import AsyncClient
from ccm_runtime.commands.server_process import server_process
from ccm_runtime.commands.show import show_evaluation
from ccm_runtime.config import read_file, read_pem
from ccm_runtime.drive import drive_async
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.errors import ConfigError
from ccm_training.envs.family import Family, Split, Table
from ccm_training.envs.registry import get_family, get_listed_family
from ccm_training.envs.simulated import SimulatedTask
from ccm_training.scores import Evaluation, evaluation_of

_AT_ONCE = 16
_TIMEOUT_S = 60.0  # of a call: many sessions at once on a busy machine


@dataclass(frozen=True)
class Access:
    """What a guarded server asks of its clients.

    Attributes:
        token_file: File with its token.
        tls_ca: Certificates to trust, PEM; `None`: plain text.
    """

    token_file: Path | None = None
    tls_ca: Path | None = None

    def client(self, target: str) -> AsyncClient:
        """A client of the server at `target`.

        Raises:
            ConfigError: A file cannot be used, or the target is no address.
        """
        host, _, port = target.rpartition(":")
        if not (host and port.isdigit()):
            raise ConfigError(f"--server {target}: expected HOST:PORT, for instance 127.0.0.1:7070")
        token = None if self.token_file is None else read_file(self.token_file).decode(errors="replace").strip()
        credentials = (
            None if self.tls_ca is None else grpc.ssl_channel_credentials(read_pem(self.tls_ca, "CERTIFICATE"))
        )
        return AsyncClient(target, timeout_s=_TIMEOUT_S, token=token, credentials=credentials)


def adapt(
    server: str | None, *, access: Access, family: str | None, tasks: str, trials: int, seed: int, as_json: bool
) -> None:
    """Run the trials, against a server of our own where none is named, and print what they came to."""
    if family is not None:
        get_family(family)  # an unknown name is told before a server is started or called
    with _server(server) as target:
        evaluation = run_trials(target, access=access, family=family, tasks=tasks, trials=trials, seed=seed)
    if as_json:
        typer.echo(evaluation.model_dump_json())
    else:
        show_evaluation(evaluation.model_dump())


def run_trials(
    target: str, *, family: str | None, tasks: str, trials: int, seed: int, access: Access = Access()
) -> Evaluation:
    """Run one trial on each of `trials` tasks against the server at `target`.

    Args:
        target: `HOST:PORT`.
        family: The simulated family; `None`: the one that the server's agent was trained on.
        tasks: Which of its tasks.
        trials: How many.
        seed: What they are drawn with.
        access: What the server asks of its clients.
    """
    return asyncio.run(_run_trials(access.client(target), family, cast("Split", tasks), trials, seed))


async def _run_trials(client: AsyncClient, family_name: str | None, split: Split, num: int, seed: int) -> Evaluation:
    async with client:
        agent = await client.describe()
        family = (
            get_listed_family(agent.family, origin="the server") if family_name is None else get_family(family_name)
        )
        tasks = family.sample_tasks(split, num, seed)
        started = time.perf_counter()
        trials = await _all_trials(client, family, tasks, seed)
        seconds = time.perf_counter() - started
    return evaluation_of(
        trials[..., 0],
        trials[..., 1],
        family,
        tasks,
        method=agent.method,
        split=split,
        explore_episodes=agent.explore_episodes,
        seed=seed,
        seconds=seconds,
    )


async def _all_trials(client: AsyncClient, family: Family, tasks: Table, seed: int) -> NDArray[np.float64]:
    """Return and certainty after each episode of each trial, `[tasks, episodes, 2]`."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def trial(index: int) -> list[tuple[float, float]]:
        env = SimulatedTask(family, tasks[index], seed + index)
        async with turns, client.open_session(seed=seed + index, expected_family=family.name) as session:
            episodes = range(session.agent.episodes)
            return [((await drive_async(env, session, episodes=1))[0], session.certainty) for _ in episodes]

    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(trial(index)) for index in range(len(tasks))]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return np.array([task.result() for task in running])


@contextlib.contextmanager
def _server(target: str | None) -> Iterator[str]:
    if target is not None:
        yield target
        return
    with server_process(embedded_bundle()) as own:
        yield own
