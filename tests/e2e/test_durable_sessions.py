"""What is acknowledged as durable is there after a crash, once, and right: short runs of `benchmarks/reliability.py`.

Each campaign counts what must not be; each is also shown to notice a server that breaks the promise.
"""

import grpc
import kills
import lossy
import mid_session
import pytest
import torn
from durable import ADAPTER, AGENT

from ccm_runtime import records
from ccm_runtime.config import ServerConfig
from ccm_runtime.crash_points import STORE
from ccm_runtime.errors import CcmError
from ccm_runtime.session import Session
from ccm_runtime.testing import serving
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

CLEAN = {"lost": 0, "wrong": 0, "missing": 0, "new_secrets": 0, "by_itself": 0, "damaged_files": 0}

TOO_SOON = """
from ccm_runtime.group_commit import GroupCommit
note = GroupCommit.changed
def changed(self, session):
    self._interval_s = 0.02  # many steps between two groups, on a busy machine too
    self._acknowledge({session.session_id: session}, frozenset())
    note(self, session)
GroupCommit.changed = changed
"""
POINTLESS = """
from ccm_runtime import crash_points
crash_points.reach = lambda _: None
import kills
kills.LIMIT_S = 0.5
"""
FORGETFUL = """
from ccm_runtime import records
from_proto = records.memory_from_proto
def forgetful(message):
    message.ClearField("num_events")
    return from_proto(message)
records.memory_from_proto = forgetful
"""


@pytest.mark.parametrize("point", STORE)
def test_nothing_acknowledged_is_lost_at_a_crash_point(tmp_path, point):
    found = kills.apart(tmp_path / "s.db", "--point", point, "--kills", "3")
    assert {**CLEAN, "kills": 3} == {key: found[key] for key in (*CLEAN, "kills")}
    assert 0 < found["acknowledged"]


def test_nothing_acknowledged_is_lost_at_a_random_time(tmp_path):
    found = kills.apart(tmp_path / "s.db", "--kills", "6")
    assert {**CLEAN, "kills": 6} == {key: found[key] for key in (*CLEAN, "kills")}


@pytest.mark.parametrize(("sabotage", "noticed"), [(TOO_SOON, "lost"), (FORGETFUL, "wrong")])
def test_the_campaign_notices_a_promise_that_is_broken(tmp_path, sabotage, noticed):
    found = kills.apart(tmp_path / "s.db", "--point", "append", "--kills", "8", sabotage=sabotage)
    assert 0 < found[noticed]


def test_the_campaign_notices_a_point_that_is_never_passed(tmp_path):
    found = kills.apart(tmp_path / "s.db", "--point", "append", "--kills", "2", sabotage=POINTLESS)
    assert (0, 2) == (found["kills"], found["by_itself"])


async def test_a_server_killed_in_mid_session_goes_on_as_if_unbroken(tiny_bundle, tmp_path):
    found = await mid_session.campaign(tiny_bundle, tmp_path / "s.db", kills=2, seed=1)
    assert {"kills": 2, "differing": 0, "beliefs_differing": 0} == {
        key: found[key] for key in found if key != "answers"
    }
    assert 3 * 4 <= found["answers"]  # every session had one before, between and after the kills


async def lossy_campaign(num_events, **options):
    async with (
        serving(AGENT, ServerConfig(port=0, log_level="error")) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        return await lossy.campaign(AdaptationStub(channel), ADAPTER, num_events, **options)


async def test_over_a_network_that_loses_doubles_and_reorders_each_event_is_taken_once():
    found = await lossy_campaign(800, seed=1)
    assert [] == found["violations"]
    assert 1000 < found["calls"]
    assert 0 < found["refused"]


async def test_the_checker_notices_a_server_that_takes_an_event_twice(monkeypatch):
    def recall(self, sequence):
        return None  # a repeated number is taken for a new event

    monkeypatch.setattr(Session, "recall", recall)
    try:
        found = (await lossy_campaign(200, seed=1))["violations"]
    except CcmError as refused:  # an episode may be begun twice; that is a way to notice
        found = [refused]
    assert found


def test_of_a_torn_or_flipped_store_the_longest_whole_prefix_is_taken_and_nothing_bad(tmp_path):
    found = torn.campaign(tmp_path, trials=25, seed=3)
    assert [] == found["violations"]


def test_the_tearing_notices_a_record_that_is_not_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_digest", lambda _: b"\x00" * 16)
    noticed = 0
    for seed in range(3):
        try:
            noticed += len(torn.campaign(tmp_path / str(seed), trials=25, seed=seed)["violations"])
        except (AssertionError, ValueError, UnicodeDecodeError):
            noticed += 1
    assert 0 < noticed
