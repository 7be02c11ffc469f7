"""`ccm adapt`: trials on simulated tasks against a server, many at once."""

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc
import numpy as np
import typer
from numpy.typing import NDArray
from pydantic import BaseModel

from ccm_runtime.async_client import AsyncClient
from ccm_runtime.commands.server_process import server_process
from ccm_runtime.commands.show import show_evaluation
from ccm_runtime.drive import drive_async
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.errors import ConfigError
from ccm_runtime.messages import Agent
from ccm_training.envs.family import Family, Split, Table
from ccm_training.envs.registry import get_family
from ccm_training.envs.simulated import random_return, simulate

_AT_ONCE = 16
_RESAMPLES = 2_000
_TIMEOUT_S = 60.0  # of a call: many sessions at once on a busy machine


class Adaptation(BaseModel):
    """What trials against a server came to.

    Attributes:
        family: Task family.
        method: What trained the agent.
        agent_id: Name of the agent.
        tasks: Which tasks of the family.
        trials: How many, each on a task of its own.
        seed: What the tasks were drawn with.
        explore_episodes: K.
        returns: Return of each episode of the trial, mean over tasks.
        adaptation_score: Return of the first episode after exploring, as a share of the way from the floor (where
            returns can be negative) to the ceiling; `None` without a ceiling.
        interval: 95 % bootstrap interval of the score, over tasks.
        ceiling: Best return when the task is known, mean over tasks.
        floor: Return of random actions, mean over tasks.
        certainty: Mean certainty of the belief after each episode.
        seconds: Wall-clock time of all trials.
        steps_per_second: Environment steps a second, all sessions together.
    """

    family: str
    method: str
    agent_id: str
    tasks: str
    trials: int
    seed: int
    explore_episodes: int
    returns: list[float]
    adaptation_score: float | None
    interval: tuple[float, float] | None
    ceiling: float | None
    floor: float
    certainty: list[float]
    seconds: float
    steps_per_second: float


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
            ConfigError: A file cannot be read.
        """
        token = None if self.token_file is None else _read(self.token_file).decode(errors="replace").strip()
        credentials = None if self.tls_ca is None else grpc.ssl_channel_credentials(_read(self.tls_ca))
        return AsyncClient(target, timeout_s=_TIMEOUT_S, token=token, credentials=credentials)


def adapt(
    server: str | None, *, access: Access, family: str | None, tasks: str, trials: int, seed: int, as_json: bool
) -> None:
    """Run the trials, against a server of our own where none is named, and print what they came to."""
    with _server(server) as target:
        adaptation = run_trials(target, access=access, family=family, tasks=tasks, trials=trials, seed=seed)
    if as_json:
        typer.echo(adaptation.model_dump_json())
    else:
        show_evaluation(adaptation.model_dump())


def run_trials(
    target: str, *, family: str | None, tasks: str, trials: int, seed: int, access: Access = Access()
) -> Adaptation:
    """Run one trial on each of `trials` tasks against the server at `target`.

    Args:
        target: `HOST:PORT`.
        family: The simulated family; `None`: the one that the server's agent was trained on.
        tasks: Which of its tasks.
        trials: How many.
        seed: What they are drawn with.
        access: What the server asks of its clients.
    """
    if family is not None:
        get_family(family)  # an unknown name is told before anything else
    return asyncio.run(_run_trials(access.client(target), family, cast("Split", tasks), trials, seed))


async def _run_trials(client: AsyncClient, family_name: str | None, split: Split, num: int, seed: int) -> Adaptation:
    async with client:
        agent = await client.describe()
        family = get_family(family_name or agent.family)
        tasks = family.sample_tasks(split, num, seed)
        started = time.perf_counter()
        trials = await _all_trials(client, family, tasks, seed)
        seconds = time.perf_counter() - started
    return summarize(
        agent,
        trials[..., 0],
        trials[..., 1],
        family=family.name,
        split=split,
        seed=seed,
        ceilings=family.ceiling(tasks),
        floor=random_return(family, tasks, seed),
        seconds=seconds,
    )


async def _all_trials(client: AsyncClient, family: Family, tasks: Table, seed: int) -> NDArray[np.float64]:
    """Return and certainty after each episode of each trial, `[tasks, episodes, 2]`."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def trial(index: int) -> list[tuple[float, float]]:
        env = simulate(family, tasks[index])
        async with turns, client.open_session(seed=seed + index, expected_family=family.name) as session:
            episodes = range(session.agent.episodes)
            return [((await drive_async(env, session, episodes=1))[0], session.certainty) for _ in episodes]

    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(trial(index)) for index in range(len(tasks))]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return np.array([task.result() for task in running])


def summarize(
    agent: Agent,
    returns: NDArray[np.float64],
    certainties: NDArray[np.float64],
    *,
    family: str,
    split: str,
    seed: int,
    ceilings: NDArray[np.float32] | None,
    floor: float,
    seconds: float,
) -> Adaptation:
    """Score trials.

    Args:
        agent: What was served.
        returns: `[tasks, episodes]`.
        certainties: After each episode, `[tasks, episodes]`.
        family: The simulated family.
        split: Which of its tasks.
        seed: What the tasks were drawn with.
        ceilings: Best return of each task, `[tasks]`; `None`: unknown.
        floor: Return of random actions.
        seconds: Wall-clock time of the trials.
    """
    scored = returns[:, min(agent.explore_episodes, returns.shape[1] - 1)]
    ceiling = None if ceilings is None else float(ceilings.mean())
    score, interval = None, None
    if ceiling is not None:
        base = floor if floor < 0.0 else 0.0
        shares = (scored - base) / (ceiling - base)
        score, interval = float(shares.mean()), _bootstrap(shares, seed)
    return Adaptation(
        family=family,
        method=_method(agent),
        agent_id=agent.agent_id,
        tasks=split,
        trials=len(returns),
        seed=seed,
        explore_episodes=agent.explore_episodes,
        returns=[float(value) for value in returns.mean(0)],
        adaptation_score=score,
        interval=interval,
        ceiling=ceiling,
        floor=floor,
        certainty=[float(value) for value in certainties.mean(0)],
        seconds=seconds,
        steps_per_second=returns.size * agent.horizon / seconds,
    )


def _bootstrap(shares: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """95 % interval of the mean over tasks."""
    rng = np.random.default_rng(seed)
    means = shares[rng.integers(len(shares), size=(_RESAMPLES, len(shares)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _method(agent: Agent) -> str:
    """The method in `FAMILY-METHOD-SEED` or `FAMILY-METHOD-SEED-DIGEST`; a name of another form, whole."""
    parts = re.fullmatch(r"(.+?)-\d+(-[0-9a-f]{8,})?", agent.agent_id.removeprefix(f"{agent.family}-"))
    return agent.agent_id if parts is None else parts.group(1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


@contextlib.contextmanager
def _server(target: str | None) -> Iterator[str]:
    if target is not None:
        yield target
        return
    with server_process(embedded_bundle()) as own:
        yield own
