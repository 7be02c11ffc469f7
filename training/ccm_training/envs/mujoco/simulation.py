"""Many MuJoCo simulations that step together, each on its own task, in one `mujoco.batch.Batch`."""

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ccm_runtime.errors import RenderingError, SimulationError
from ccm_training.envs.family import Picture, Seeds, Step, Table, seeds_of
from ccm_training.envs.mujoco.robots import Robot

if TYPE_CHECKING:
    from mujoco.batch import Batch

Array = NDArray[np.float64]
PICTURE_SIZE = (360, 480)
"""Height and width, in pixels."""
_NO_OPENGL = {"0", "disable", "disabled", "false", "no", "off"}  # MuJoCo's words for it

_NO_STAGE = 0  # mjSTAGE_NONE: what follows from a state is computed once it is written


class State(NamedTuple):
    """What rewards and endings are computed from, as numpy arrays or torch tensors.

    Attributes:
        position: Generalized positions, `[n, nq]`.
        velocity: Generalized velocities, `[n, nv]`.
        centre_of_mass: Of the whole robot, `[n, 3]` in m; as MuJoCo leaves it, before the last physics step.
    """

    position: Any
    velocity: Any
    centre_of_mass: Any


class Laws(Protocol):
    """What makes simulations a family; pure, and the same for every backend."""

    @property
    def name(self) -> str:
        """The family's."""

    @property
    def robot(self) -> Robot:
        """Who moves."""

    def reward(self, before: State, after: State, action: Any, tasks: Any, xp: Any) -> Any:
        """Reward of each transition, `[n]`; `xp` is the library of the arrays, `numpy` or `torch`."""

    def terminated(self, after: State, xp: Any) -> Any:
        """Where the task itself ends the episode, booleans `[n]`."""

    def change(self, batch: "Batch", tasks: Table) -> None:
        """Give every simulation the physics of its task."""


class MujocoEnv:
    """Simulations of one family, `n` of them, in numpy: a `BatchedEnv` with arrays in place of tensors.

    States are float64, as MuJoCo's own. Rows depend on their own task, seed and actions alone: not on their
    neighbours, their number, or the number of threads.

    Args:
        laws: What is observed, paid and varied.
        tasks: `[n, params]`.
        seed: Initial states of simulation `i` are a function of `seed + i` (or of its own of several) and of the
            episodes that it began.
        num_threads: Threads that share the simulations.
    """

    def __init__(self, laws: Laws, tasks: Table, seed: Seeds, num_threads: int) -> None:
        model = laws.robot.model
        from mujoco.batch import Batch  # noqa: PLC0415  (it is there: there is a model)

        self.num_envs = len(tasks)
        self._laws, self._robot, self._tasks, self._seed = laws, laws.robot, tasks, seeds_of(seed, len(tasks))
        self._batch = Batch(model, len(tasks), nthread=max(1, min(num_threads, len(tasks))))
        self._position, self._velocity, self._control, self._centre = (
            self._batch.bind(name) for name in ("qpos", "qvel", "ctrl", "subtree_com")
        )
        laws.change(self._batch, tasks)
        self._low, self._high = laws.robot.action.low_array, laws.robot.action.high_array
        self._num_began = np.zeros(len(tasks), int)
        self._over = np.zeros(len(tasks), bool)

    def reset(self, mask: NDArray[np.bool_] | None = None) -> Table:
        """Begin an episode everywhere, or where `mask` says; all observations, `[n, obs]`."""
        began = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        if len(began):
            self._batch.reset(began, stage=_NO_STAGE)
            for index in began:
                rng = np.random.default_rng((self._seed[index], self._num_began[index]))
                self._position[index], self._velocity[index] = self._robot.initial_state(rng)
            self._batch.forward(began)
            self._num_began[began] += 1
            self._over[began] = False
        return self._robot.observe(self._position, self._velocity)

    def step(self, action: Table) -> Step:
        """Act on every simulation; `action` is `[n, act]`, clipped to its bounds.

        Raises:
            SimulationError: A simulation became unstable whose episode is under way.
        """
        before = self.state()
        control = np.clip(action, self._low, self._high)
        self._control[:] = control
        self._batch.step(nstep=self._robot.frame_skip)
        self._check_stable()
        after = self.state()
        seen: Any = self._robot.observe(after.position, after.velocity)
        reward: Any = self._laws.reward(before, after, control, self._tasks, np)
        terminated = self._laws.terminated(after, np)
        self._over |= terminated
        return Step(seen, reward.astype(np.float32), terminated)

    def state(self) -> State:
        """The states as they are now, copied."""
        return State(self._position.copy(), self._velocity.copy(), self._centre[:, 1].copy())

    def place(self, position: Array, velocity: Array) -> None:
        """Put every simulation into a state, `[n, nq]` and `[n, nv]`, at rest in all else."""
        self._batch.reset(stage=_NO_STAGE)
        self._position[:], self._velocity[:] = position, velocity
        self._batch.forward()
        self._over[:] = False

    def frame(self, index: int) -> Picture:
        """Simulation `index`, seen by the camera that follows it.

        Raises:
            RenderingError: There is no OpenGL here.
        """
        data = self._batch.get_data(index)
        model = self._batch.get_model(index)
        import mujoco  # noqa: PLC0415

        mujoco.mj_forward(model, data)
        renderer = self._renderer
        renderer.update_scene(data, camera="track")
        picture: Picture = renderer.render().copy()
        return picture

    @cached_property
    def _renderer(self) -> Any:
        import mujoco  # noqa: PLC0415

        try:
            return mujoco.Renderer(self._robot.model, *PICTURE_SIZE)
        except Exception as error:  # each OpenGL binding has errors of its own
            chosen = os.environ.get("MUJOCO_GL", "").lower()
            why = f"MUJOCO_GL={chosen}" if chosen in _NO_OPENGL else error
            raise RenderingError(
                f"cannot draw the {self._robot.name}: no OpenGL without a screen here ({why}); install libegl1 and "
                "set MUJOCO_GL=egl, or libosmesa6 and MUJOCO_GL=osmesa"
            ) from error

    def _check_stable(self) -> None:
        unstable = self._batch.warning[..., 1].any(-1) & ~self._over
        if unstable.any():
            index = int(np.flatnonzero(unstable)[0])
            raise SimulationError(
                f"{self._laws.name}: the simulation of task {self._tasks[index].tolist()} became unstable; "
                "its actions or the task's parameters are beyond what the model bears"
            )
