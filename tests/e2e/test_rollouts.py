"""Versions change under load and under kill -9, and nobody notices: short runs of `benchmarks/reliability_rollouts.py`.

Each campaign counts what must not be; each is also shown to notice a server that breaks the promise.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import reloads
from rollouts import publish, serving_library

from ccm_runtime.crash_points import SWAP
from ccm_runtime.event_core import EventCore

SWAPS = Path(__file__).parents[1] / "support" / "swaps.py"
CLEAN = {"lost": 0, "wrong": 0, "missing": 0, "no_current": 0, "by_itself": 0, "litter": 0}
VERSIONS = [f"v{number}" for number in range(6)]


@pytest.fixture
def folder(tmp_path):
    for version in VERSIONS:
        publish(tmp_path / "agents", "walker", version)
    (tmp_path / "agents" / "walker" / "current").symlink_to(VERSIONS[0])
    return tmp_path / "agents"


async def test_versions_change_under_load_and_no_step_fails(folder):
    async with serving_library(folder, max_versions=6) as served:
        found = await reloads.campaign(served.address, "walker", VERSIONS, 24, sessions=4, move_every=4)
    assert [] == found["failed"]
    assert found["reloads"] == 24
    assert found["versions_met"] > 1  # a version may be current for too short a time for a session to open with it
    assert found["steps"] > 200
    assert found["moves"] > 0


async def test_the_campaign_notices_a_session_that_changes_its_bundle_in_silence(folder, monkeypatch):
    async with serving_library(folder) as served:
        roster = served.hosting.roster
        monkeypatch.setattr(type(roster), "of", lambda self, _: self.rollout().current)
        monkeypatch.setattr(EventCore, "_digest", property(lambda _: "", lambda *_: None), raising=False)
        close = type(served.hosting).close

        def forgetful(self, *who):
            closed = close(self, *who)
            digest = roster.rollout().current.digest
            return (
                closed
                if closed.context is None
                else closed.__class__(closed.returns, closed.context.__class__(digest, closed.context.belief))
            )

        monkeypatch.setattr(type(served.hosting), "close", forgetful)
        found = await reloads.campaign(served.address, "walker", VERSIONS, 12, sessions=4, move_every=99)
    assert any("ended with" in line for line in found["failed"])


async def test_the_campaign_notices_a_version_that_goes_before_its_sessions(folder, monkeypatch):
    async with serving_library(folder, log_level="error") as served:
        drop = type(served.hosting.roster).drop_idle
        monkeypatch.setattr(type(served.hosting.roster), "drop_idle", lambda self, _: drop(self, {}))
        found = await reloads.campaign(served.address, "walker", VERSIONS, 12, sessions=4, move_every=99)
    assert found["failed"]


@pytest.mark.parametrize("point", SWAP)
def test_a_server_that_dies_in_a_change_of_versions_comes_back_with_one_of_them_and_all_sessions(tmp_path, point):
    assert CLEAN.items() <= swaps(tmp_path, point)


def swaps(folder, point, break_it=""):
    """Run a campaign of kills in a process of its own, which forks."""
    script = f"import sys; sys.path.insert(0, {str(SWAPS.parent)!r})\n{break_it}\nimport swaps; swaps.main()"
    flags = [str(folder), "--point", point, "--kills", "3"]
    done = subprocess.run(
        [sys.executable, "-c", script, *flags], check=True, capture_output=True, text=True, timeout=120
    )
    return json.loads(done.stdout).items()


IN_TWO_STEPS = """
from ccm_runtime import library
def make_current(self, agent, version):
    link = self.path(agent, version).parent / "current"
    link.unlink()
    library.reach("swap.linked")
    link.symlink_to(version)
library.Library.make_current = make_current
"""
OF_ANOTHER_BUNDLE = """
from ccm_runtime.versions import Rollout, Version
chosen, digest = Rollout.chosen, []
def first(self, session_id, insisted):
    version = chosen(self, session_id, insisted)
    digest[:] = digest or [version.digest]
    return version
Rollout.chosen = first
from ccm_runtime import records
to_bytes = records.to_bytes
from ccm_runtime import group_commit
import dataclasses
def forged(stored):
    session = dataclasses.replace(stored.session, bundle_digest=digest[0])
    return to_bytes(dataclasses.replace(stored, session=session))
group_commit.to_bytes = forged
"""


@pytest.mark.parametrize(("break_it", "noticed"), [(IN_TWO_STEPS, "no_current"), (OF_ANOTHER_BUNDLE, "wrong")])
def test_the_campaign_of_kills_notices_a_server_that_breaks_the_promise(tmp_path, break_it, noticed):
    assert 0 < dict(swaps(tmp_path, "swap.linked", break_it))[noticed]
