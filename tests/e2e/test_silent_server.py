"""The server falls silent in mid-episode: the client is safe by itself, and nothing stale is applied afterwards."""

import asyncio

import pytest
from silence import campaign

from ccm_runtime.embedded import embedded_bundle


@pytest.mark.parametrize("kind", ["stopped", "killed", "half-open"])
def test_a_robot_is_safe_in_time_and_nothing_stale_moves_it(kind, tmp_path):
    found = asyncio.run(campaign(kind, embedded_bundle(), tmp_path, faults=2))
    assert found["safe_actions"] >= 4
    assert 0 == found["stale"]
    assert 0 == found["beliefs_differing"]
    assert 0 == found["returns_differing"]
    assert found["late"] <= 0.1 * found["steps"]  # of a busy machine; the full figures allow none
