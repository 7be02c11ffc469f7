"""One trial of an agent on one task, as a server would run it, for pictures; a bundle needs no torch."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccm_runtime.adapt import Adapter
from ccm_runtime.bundle import load_bundle
from ccm_runtime.memory import Memory
from ccm_runtime.messages import BeginEpisode, Event, Transition
from ccm_runtime.rows import padding, pick
from ccm_runtime.trial import Phase
from ccm_training.envs.family import Family, Picture
from ccm_training.envs.simulated import SimulatedTask
from ccm_training.trained_on import family_of_bundle

Task = NDArray[np.float32]
_PICTURES = 6  # of an episode, and that of its end


class Actor(NamedTuple):
    """Whose trial it is.

    Attributes:
        family: Where its tasks come from.
        method: What trained it.
        adapter: It, for a task, `[params]`; only an oracle looks at that.
        trained_on: How many tasks it was trained on, and the seed that they were drawn with; `None`: it does not tell.
    """

    family: Family
    method: str
    adapter: Callable[[Task], Adapter]
    trained_on: tuple[int, int] | None


class Moment(NamedTuple):
    """Where a trial stands after a reset or a step.

    Attributes:
        phase: Of this episode.
        episode: Its number, from 0.
        step: Transitions of it so far.
        episode_over: Whether that was its last.
        returns: Of every episode so far, this one included.
        certainty: Of the belief.
    """

    phase: Phase
    episode: int
    step: int
    episode_over: bool
    returns: tuple[float, ...]
    certainty: float


def find_actor(path: Path, family: str | None = None) -> Actor:
    """The agent of a run directory or a bundle.

    Args:
        path: A run directory or a bundle.
        family: Its family; `None`: as the run or the bundle says, which must be one of ours for a bundle.

    Raises:
        CheckpointMissingError: It is neither.
        FamilyUnknownError: A bundle of a user's own family, which was not named.
        ConfigError: `family` is not the one that it was trained on.
    """
    if (path / "manifest.json").is_file():
        from ccm_runtime.inference import OnnxPolicy  # noqa: PLC0415  (onnxruntime)

        bundle = load_bundle(path)
        manifest = bundle.manifest
        known = family_of_bundle(path, manifest.family, family)
        adapter = Adapter.of(OnnxPolicy(bundle), manifest.safety, manifest.novelty)
        return Actor(known, manifest.provenance.method, lambda _: adapter, _trained_on(manifest.provenance.config))
    from ccm_training.evaluation import actor_of_run  # noqa: PLC0415  (torch)

    return actor_of_run(path, family)


def _trained_on(config: dict[str, object]) -> tuple[int, int] | None:
    match config.get("tasks"):
        case {"num_train": int(num), "seed": int(seed)} if num > 0 <= seed:
            return num, seed
    return None


def moments(adapter: Adapter, env: SimulatedTask, *, seed: int = 0) -> Iterator[Moment]:
    """Run one deterministic trial; at each moment `env` stands as it says, to be drawn.

    Args:
        adapter: The agent.
        env: The task, simulated.
        seed: Of the trial's own noise, where latents are sampled.
    """
    memory = adapter.start(seed=seed)
    finished: tuple[float, ...] = ()
    for episode in range(adapter.policy.adaptation.episodes):
        phase, step, total = memory.trial.phase, 0, 0.0
        event: Event = BeginEpisode(env.reset()[0])
        while True:
            ((memory, reaction),) = adapter.step([memory], [event])
            yield Moment(phase, episode, step, reaction.episode_over, (*finished, total), reaction.certainty)
            if reaction.action is None:
                memory = _padded(adapter, memory, adapter.policy.adaptation.horizon - step)
                break
            observation, reward, terminated, truncated, _ = env.step(reaction.action)
            event = Transition(observation, reward, terminated, truncated)
            step, total = step + 1, total + reward
        finished = (*finished, total)


def _padded(adapter: Adapter, memory: Memory, num: int) -> Memory:
    """The trial after `num` steps in which nothing happened, as the rollout pads an episode that ended early.

    Only a belief that has room for K whole episodes (of `maml` and `promp`) heeds them: it is full then.
    """
    if num == 0:
        return memory
    nothing = padding(adapter.input_size, adapter.policy.action.size, num)
    folded = pick(adapter.policy.fold(memory.belief[None], nothing), 0)
    return memory._replace(belief=folded.belief, latent_mean=folded.latent_mean, latent_std=folded.latent_std)


class Strip(NamedTuple):
    """Pictures of one episode.

    Attributes:
        phase: Who acted.
        episode: Its number, from 0.
        total: Its return.
        steps: When each picture was taken.
        pictures: `[height, width, 3]` of bytes each.
    """

    phase: Phase
    episode: int
    total: float
    steps: tuple[int, ...]
    pictures: tuple[Picture, ...]


def film_strips(adapter: Adapter, env: SimulatedTask) -> list[Strip]:
    """Pictures of the first episode of each phase: evenly spread over the horizon, and of its end.

    Raises:
        RenderingError: The family cannot be drawn here.
    """
    horizon = adapter.policy.adaptation.horizon
    wanted = set(np.linspace(0, horizon, _PICTURES).round().astype(int).tolist())
    strips: dict[Phase, Strip] = {}
    for moment in moments(adapter, env):
        strip = strips.get(moment.phase, Strip(moment.phase, moment.episode, 0.0, (), ()))
        if strip.episode != moment.episode:
            continue
        if moment.step in wanted or moment.episode_over:
            strip = strip._replace(steps=(*strip.steps, moment.step), pictures=(*strip.pictures, env.frame()))
        strips[moment.phase] = strip._replace(total=moment.returns[-1])
        if moment.phase is Phase.EXECUTE and moment.episode_over:
            break
    return list(strips.values())


def task_in_words(family: Family, task: Task) -> str:
    """A task for a person, e.g. `target velocity 1.53 m/s · mass factor 0.82`."""
    entries = zip(family.task.labels, family.task.units, task.tolist(), strict=True)
    return " · ".join(f"{label} {value:.3g}{'' if unit == '1' else ' ' + unit}" for label, unit, value in entries)
