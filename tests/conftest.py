from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle

from ccm_training.envs.mujoco.robots import choose_opengl

choose_opengl()  # before any test imports MuJoCo, which looks once


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Path:
    """A valid bundle of a scripted agent."""
    return write_tiny_bundle(tmp_path / "bundle")
