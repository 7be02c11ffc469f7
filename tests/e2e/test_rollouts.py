"""Versions change under load and under kill -9, and nobody notices: short runs of `benchmarks/reliability_rollouts.py`.

Each campaign counts what must not be; each is also shown to notice a server that breaks the promise.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import reloads
from command import ccm, fails
from rollouts import LIMIT_S, ROLES, publish, serving_library

from ccm_runtime.crash_points import SWAP
from ccm_runtime.event_core import EventCore
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1 import admin_pb2
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub
from ccm_runtime.v1.admin_pb2_grpc import AdminStub

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


@contextmanager
def serving_process(folder, point=""):
    """`ccm serve` over a folder of agents, and what to call it by; it is killed at a point or in the end."""
    words = ["serve", "--agents", folder, "--store", folder.parent / "s.db", "--port", "0", "--max-batch", "2"]
    command = [sys.executable, "-m", "ccm_runtime", *map(str, words), "--log-level", "error"]
    environ = {**os.environ, "CCM_CRASH_AT": point}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            with grpc.insecure_channel(line.removeprefix("listening on ").strip()) as channel:
                yield process, AdaptationStub(channel), AdminStub(channel)
        finally:
            process.kill()
            process.stderr.read()


def rollout_of(admin):
    """Versions of the walker by their roles, and the candidate's share."""
    (told,) = admin.ListAgents(admin_pb2.ListAgentsRequest(), timeout=LIMIT_S).agents
    return {ROLES[version.role]: version.version for version in told.versions}, told.share


def opened(stub):
    """The bundle of each of 48 sessions, opened or, under the same key, found again; each version has some of them."""
    requests = [pb.OpenSessionRequest(idempotency_key=f"key-{index}") for index in range(48)]
    found = [stub.OpenSession(request, timeout=LIMIT_S) for request in requests]
    return {one.session_id: one.agent.bundle_digest for one in found}


def dies(process, call):
    with pytest.raises(grpc.RpcError):
        call()
    assert -signal.SIGKILL == process.wait(LIMIT_S)


V0 = {"current": "v0"}, 0.0
V0_AND_V2 = {"current": "v0", "candidate": "v2"}, 0.375
V2 = {"current": "v2", "previous": "v0"}, 0.0


def test_a_rollout_is_what_it_was_after_a_server_was_killed_and_every_session_has_its_own_version(folder):
    load = admin_pb2.LoadVersionRequest(agent="walker", version="v2", share=0.375)
    with serving_process(folder) as (_, stub, admin):
        admin.LoadVersion(load, timeout=LIMIT_S)
        before = opened(stub)
        assert 2 == len(set(before.values()))
        assert V0_AND_V2 == rollout_of(admin)
    with serving_process(folder) as (_, stub, admin):
        assert V0_AND_V2 == rollout_of(admin)
        assert before == opened(stub)


@pytest.mark.parametrize(("point", "after"), [("loaded", V0), ("kept", V0_AND_V2), ("done", V0_AND_V2)])
def test_a_server_that_dies_while_it_takes_a_candidate_comes_back_with_it_or_without_it(folder, point, after):
    load = admin_pb2.LoadVersionRequest(agent="walker", version="v2", share=0.375)
    with serving_process(folder, f"swap.{point}") as (process, _, admin):
        dies(process, lambda: admin.LoadVersion(load, timeout=LIMIT_S))
    with serving_process(folder) as (_, _, admin):
        assert after == rollout_of(admin)


@pytest.mark.parametrize(
    ("point", "after"),
    [("begun", V0_AND_V2), ("linked", V0_AND_V2), ("renamed", V2), ("on-disk", V2), ("kept", V2), ("done", V2)],
)
def test_a_server_that_dies_while_it_promotes_comes_back_before_or_after_it_and_never_between(folder, point, after):
    load = admin_pb2.LoadVersionRequest(agent="walker", version="v2", share=0.375)
    with serving_process(folder) as (_, stub, admin):
        admin.LoadVersion(load, timeout=LIMIT_S)
        before = opened(stub)
    with serving_process(folder, f"swap.{point}") as (process, _, admin):
        dies(process, lambda: admin.Promote(admin_pb2.PromoteRequest(agent="walker"), timeout=LIMIT_S))
    with serving_process(folder) as (_, stub, admin):
        assert after == rollout_of(admin)
        assert before == opened(stub)


def test_a_bundle_that_never_ends_to_be_read_is_given_up_and_the_server_can_still_be_stopped(folder, monkeypatch):
    manifest = folder / "walker" / "v3" / "manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)  # whoever reads it waits for ever
    monkeypatch.setenv("CCM_LOAD_LIMIT_S", "1.0")
    with serving_process(folder) as (process, _, admin):
        for told in ("finding its bundle has taken 1 s, and is given up", "finding its bundle still hangs"):
            with pytest.raises(grpc.RpcError, match=told):
                admin.LoadVersion(admin_pb2.LoadVersionRequest(agent="walker", version="v3"), timeout=LIMIT_S)
        admin.LoadVersion(admin_pb2.LoadVersionRequest(agent="walker", version="v2"), timeout=LIMIT_S)
        assert V2 == rollout_of(admin)
        process.terminate()
        assert 0 == process.wait(LIMIT_S)


@pytest.mark.parametrize("of_a_folder", [False, True])
def test_a_server_that_starts_gives_a_bundle_up_that_never_ends_to_be_read(folder, tmp_path, of_a_folder):
    key = tmp_path / "key.pem"
    os.mkfifo(key)  # whoever reads it waits for ever
    bundle = folder / "walker" / "v0"
    named = ("--agents", folder) if of_a_folder else (bundle,)
    ended = ccm("serve", *named, "--public-key", key, "--port", 0, "--load-limit-s", 1, timeout=LIMIT_S)
    told = "reading its bundle has taken 1 s, and is given up; see to the disk"
    assert fails(ended, 10, f"{'walker v0' if of_a_folder else bundle}: {told}")
