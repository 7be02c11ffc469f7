from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Path:
    """A valid bundle of a scripted agent."""
    return write_tiny_bundle(tmp_path / "bundle")
