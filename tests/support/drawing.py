"""Whether MuJoCo can draw here."""

from functools import lru_cache

import pytest

from ccm_runtime.errors import RenderingError
from ccm_training.envs.registry import get_family


@lru_cache
def has_opengl() -> bool:
    """Return whether a frame can be drawn."""
    family = get_family("walker-sparse")
    env = family.simulate(family.sample_tasks("test", 1, 0))
    env.reset()
    try:
        env.frame(0)
    except RenderingError:
        return False
    return True


needs_opengl = pytest.mark.skipif("not __import__('drawing').has_opengl()", reason="MuJoCo finds no OpenGL here")
