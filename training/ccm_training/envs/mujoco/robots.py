"""The robots of MuJoCo's locomotion families: model, time step, initial noise, and what is observed of their state.

Nothing here imports mujoco before a model is asked for: a client that only reads specs needs none.
"""

import ctypes
import os
import sys
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ccm_runtime.errors import ConfigError, DependencyMissingError
from ccm_runtime.specs import BoxSpec

if TYPE_CHECKING:
    import mujoco

MODELS = Path(__file__).parent / "models"
_PLANAR = (("rootx", "m", "m/s"), ("rootz", "m", "m/s"), ("rooty", "rad", "rad/s"))
_FREE_POSITION = (*((f"root {axis}", "m") for axis in "xyz"), *((f"root q{axis}", "1") for axis in "wxyz"))
_FREE_VELOCITY = (*((f"root v{axis}", "m/s") for axis in "xyz"), *((f"root w{axis}", "rad/s") for axis in "xyz"))


@dataclass(frozen=True)
class Robot:
    """A robot whose laws are those of its namesake in Gymnasium's MuJoCo suite, v5.

    Attributes:
        name: Of its model's file; model and source are told at that file's top.
        planar: It moves in the plane of x and z; otherwise it is free in space.
        joints: Hinges in the order of the state, after the root's entries.
        motors: Joints that are driven, in the order of the action.
        frame_skip: Physics steps of one environment step.
        step_s: Seconds of one environment step.
        position_noise: Initial positions are uniform within this of the model's.
        velocity_noise: Initial velocities are uniform within this of zero, or normal with this spread.
        velocity_noise_form: Which of the two.
        max_observed_velocity: Observed velocities are clipped to this; `None`: they are not.
        control_limit: Bound of each motor's control.
    """

    name: str
    planar: bool
    joints: tuple[str, ...]
    motors: tuple[str, ...]
    frame_skip: int
    step_s: float
    position_noise: float
    velocity_noise: float
    velocity_noise_form: Literal["uniform", "normal"]
    max_observed_velocity: float | None = None
    control_limit: float = 1.0

    @property
    def num_hidden(self) -> int:
        """Leading entries of the position that are not observed: the way covered."""
        return 1 if self.planar else 2

    @cached_property
    def observation(self) -> BoxSpec:
        """Positions without the hidden ones, then velocities."""
        root = tuple((name, unit) for name, unit, _ in _PLANAR) if self.planar else _FREE_POSITION
        turn = tuple((f"{name} velocity", unit) for name, _, unit in _PLANAR) if self.planar else _FREE_VELOCITY
        positions = (*root, *((joint, "rad") for joint in self.joints))[self.num_hidden :]
        velocities = (*turn, *((f"{joint} velocity", "rad/s") for joint in self.joints))
        labels, units = zip(*positions, *velocities, strict=True)
        unbounded = (None,) * len(labels)
        return BoxSpec(name="observation", labels=labels, units=units, low=unbounded, high=unbounded)

    @cached_property
    def action(self) -> BoxSpec:
        """The motors' controls."""
        num, limit = len(self.motors), self.control_limit
        return BoxSpec(name="action", labels=self.motors, units=("1",) * num, low=(-limit,) * num, high=(limit,) * num)

    @property
    def model(self) -> "mujoco.MjModel":
        """The compiled model; shared, never written to.

        Raises:
            DependencyMissingError: MuJoCo is not installed, or is too old.
            ConfigError: The OpenGL that MUJOCO_GL names is not there.
        """
        return _compile(self.name)

    def observe(self, position: NDArray[np.float64], velocity: NDArray[np.float64]) -> NDArray[np.float32]:
        """What is seen of states, `[n, obs]`."""
        limit = self.max_observed_velocity
        seen = velocity if limit is None else np.clip(velocity, -limit, limit)
        return np.concatenate([position[:, self.num_hidden :], seen], -1, dtype=np.float32)

    def initial_state(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A first position, `[nq]`, and velocity, `[nv]`."""
        model = self.model
        position = model.qpos0 + rng.uniform(-self.position_noise, self.position_noise, model.nq)
        if self.velocity_noise_form == "normal":
            return position, self.velocity_noise * rng.standard_normal(model.nv)
        return position, rng.uniform(-self.velocity_noise, self.velocity_noise, model.nv)


@lru_cache
def _compile(name: str) -> "mujoco.MjModel":
    choose_opengl()
    try:
        import mujoco.batch  # noqa: PLC0415  (clients may have none)
    except ImportError as error:
        raise DependencyMissingError(
            f"the {name} robot needs MuJoCo 3.17 or newer ({error}): pip install 'ccm[gym]'"
        ) from error
    except Exception as error:  # each OpenGL binding has errors of its own
        raise ConfigError(
            f"MuJoCo cannot use MUJOCO_GL={os.environ.get('MUJOCO_GL')} here ({error}); unset it, or set "
            "MUJOCO_GL=disabled to go without pictures"
        ) from error
    return mujoco.MjModel.from_xml_path(str(MODELS / f"{name}.xml"))


def choose_opengl() -> None:
    """Let MuJoCo draw without a screen where it can, and do without where it cannot.

    It reads the variable once, when it is imported, and cannot even be imported if the library that it names is not
    there.
    """
    if sys.platform == "linux" and not {"DISPLAY", "MUJOCO_GL"} & set(os.environ):
        try:
            ctypes.CDLL("libEGL.so.1")
        except OSError:
            os.environ["MUJOCO_GL"] = "disabled"
        else:
            os.environ["MUJOCO_GL"] = "egl"


_CHEETAH_JOINTS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
HALF_CHEETAH = Robot(
    name="half_cheetah",
    planar=True,
    joints=_CHEETAH_JOINTS,
    motors=_CHEETAH_JOINTS,
    frame_skip=5,
    step_s=0.05,
    position_noise=0.1,
    velocity_noise=0.1,
    velocity_noise_form="normal",
)
_WALKER_JOINTS = ("thigh", "leg", "foot", "thigh_left", "leg_left", "foot_left")
WALKER = Robot(
    name="walker2d",
    planar=True,
    joints=_WALKER_JOINTS,
    motors=_WALKER_JOINTS,
    frame_skip=4,
    step_s=0.008,
    position_noise=5e-3,
    velocity_noise=5e-3,
    velocity_noise_form="uniform",
    max_observed_velocity=10.0,
)
_ANT_LEGS = ("front_left", "front_right", "back_left", "back_right")
ANT = Robot(
    name="ant",
    planar=False,
    joints=tuple(f"{leg}_{joint}" for leg in _ANT_LEGS for joint in ("hip", "ankle")),
    motors=tuple(f"{leg}_{joint}" for leg in (_ANT_LEGS[3], *_ANT_LEGS[:3]) for joint in ("hip", "ankle")),
    frame_skip=5,
    step_s=0.05,
    position_noise=0.1,
    velocity_noise=0.1,
    velocity_noise_form="normal",
)
_HUMANOID_LIMBS = (
    *(f"{side}_{joint}" for side in ("right", "left") for joint in ("hip_x", "hip_z", "hip_y", "knee")),
    *(f"{side}_{joint}" for side in ("right", "left") for joint in ("shoulder1", "shoulder2", "elbow")),
)
HUMANOID = Robot(
    name="humanoid",
    planar=False,
    joints=("abdomen_z", "abdomen_y", "abdomen_x", *_HUMANOID_LIMBS),
    motors=("abdomen_y", "abdomen_z", "abdomen_x", *_HUMANOID_LIMBS),
    frame_skip=5,
    step_s=0.015,
    position_noise=1e-2,
    velocity_noise=1e-2,
    velocity_noise_form="uniform",
    control_limit=0.4,
)
