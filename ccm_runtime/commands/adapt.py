"""`ccm adapt`: trials on simulated tasks against a server, many at once."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from ccm_runtime.async_client import AsyncClient
from ccm_runtime.commands.access import Access
from ccm_runtime.commands.server_process import server_process
from ccm_runtime.commands.show import show_evaluation
from ccm_runtime.connection import check_target
from ccm_runtime.drive import drive_async
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.errors import ConfigError
from ccm_training.envs.family import Family, Split, Table
from ccm_training.envs.registry import get_family, get_listed_family
from ccm_training.envs.simulated import SimulatedTask
from ccm_training.scores import Evaluation, evaluation_of

_AT_ONCE = 16
_OPEN = Access()  # a server that asks nothing
_TIMEOUT_S = 60.0  # of a call: many sessions at once on a busy machine


def _client(access: Access, target: str) -> AsyncClient:
    """A client of the server at `target`; raises ConfigError where a file cannot be used, or it is no address."""
    return AsyncClient(
        check_target(target, "--server"), timeout_s=_TIMEOUT_S, token=access.token(), credentials=access.credentials()
    )


def adapt(
    server: str | None,
    *,
    agent: str | None,
    access: Access,
    family: str | None,
    tasks: str,
    trials: int,
    seed: int,
    as_json: bool,
) -> None:
    """Run the trials, against a server of our own where none is named, and print what they came to.

    Raises:
        ConfigError: An agent is named, and no server that could have it.
    """
    if agent is not None and server is None:
        raise ConfigError(
            f"--agent {agent}: a server of our own has one agent; name a running server by --server HOST:PORT"
        )
    if family is not None:
        get_family(family)  # an unknown name is told before a server is started or called
    console = Console(stderr=True)
    with (
        _server(server) as target,
        Progress(console=console, transient=True, disable=as_json or not console.is_terminal) as display,
    ):
        bar = display.add_task("adapt", total=trials)
        evaluation = run_trials(
            target,
            agent=agent or "",
            access=access,
            family=family,
            tasks=tasks,
            trials=trials,
            seed=seed,
            ended=lambda: display.advance(bar),
        )
    if as_json:
        typer.echo(evaluation.model_dump_json())
    else:
        show_evaluation(evaluation.model_dump())


def run_trials(
    target: str,
    *,
    family: str | None,
    tasks: str,
    trials: int,
    seed: int,
    agent: str = "",
    access: Access = _OPEN,
    ended: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Run one trial on each of `trials` tasks against the server at `target`.

    Args:
        target: `HOST:PORT`.
        family: The simulated family; `None`: the one that the agent was trained on.
        tasks: Which of its tasks.
        trials: How many.
        seed: What they are drawn with.
        agent: Name of the server's agent; empty: its default one.
        access: What the server asks of its clients.
        ended: Called after each.
    """
    client = _client(access, target)
    return asyncio.run(_run_trials(client, family, cast("Split", tasks), trials, seed, name=agent, ended=ended))


async def _run_trials(
    client: AsyncClient,
    family_name: str | None,
    split: Split,
    num: int,
    seed: int,
    *,
    name: str,
    ended: Callable[[], None],
) -> Evaluation:
    async with client:
        agent = await client.describe(name)
        family = (
            get_listed_family(agent.family, origin="the server") if family_name is None else get_family(family_name)
        )
        tasks = family.sample_tasks(split, num, seed)
        started = time.perf_counter()
        trials = await _all_trials(client, family, tasks, seed, name=name, ended=ended)
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


async def _all_trials(
    client: AsyncClient, family: Family, tasks: Table, seed: int, *, name: str, ended: Callable[[], None]
) -> NDArray[np.float64]:
    """Return and certainty after each episode of each trial, `[tasks, episodes, 2]`."""
    told: list[list[tuple[float, float]]] = [[] for _ in tasks]
    left = iter(range(len(tasks)))

    async def trial(index: int) -> list[tuple[float, float]]:
        env = SimulatedTask(family, tasks[index], seed + index)
        async with client.open_session(seed=seed + index, expected_family=family.name, agent=name) as session:
            episodes = range(session.agent.episodes)
            return [((await drive_async(env, session, episodes=1))[0], session.certainty) for _ in episodes]

    async def robot() -> None:
        for index in left:
            told[index] = await trial(index)
            ended()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(tasks))):
                group.create_task(robot())
    except ExceptionGroup as failed:
        first = failed.exceptions[0]
        raise first from first.__cause__
    return np.array(told)


@contextlib.contextmanager
def _server(target: str | None) -> Iterator[str]:
    if target is not None:
        yield target
        return
    with server_process(embedded_bundle()) as own:
        yield own
