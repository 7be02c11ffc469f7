"""Laws of a start or a change of versions that hangs: on a dead disk, in a driver, in networks that do not answer."""

import asyncio
import threading
from contextlib import contextmanager

import pytest
from rollouts import LIMIT_S, publish, serving_library

from ccm_runtime import server
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import RolloutError
from ccm_runtime.hosting import Hosting, ServedAgent
from ccm_runtime.library import Library
from ccm_runtime.messages import SessionOptions
from ccm_runtime.patience import Patience
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy, manifest_of

SOON_S, LONG_S = 0.02, 100.0
DOING = {"_read": "reading its bundle", "_warm_up": "warming it up"}


@pytest.fixture
def folder(tmp_path):
    """An agent whose first version is current, and two versions beside it."""
    folder = tmp_path / "agents"
    for version in ("v1", "v2", "v3"):
        publish(folder, "walker", version)
    (folder / "walker" / "current").symlink_to("v1")
    return folder


class Gate:
    """What a job waits at; it tells how many came."""

    def __init__(self):
        self.opened, self.reached, self.num_came, self.num_through = threading.Event(), threading.Event(), 0, 0

    def pass_through(self):
        self.num_came += 1
        self.reached.set()
        assert self.opened.wait(LIMIT_S)
        self.num_through += 1

    async def somebody_waits(self):
        async with asyncio.timeout(LIMIT_S):
            await asyncio.to_thread(self.reached.wait)


@contextmanager
def gate_of(owner, name, *, when=lambda *_: True):
    """Let calls of a function, those for which `when` holds, wait at a gate first."""
    before, gate = getattr(owner, name), Gate()

    def gated(*given):
        if when(*given):
            gate.pass_through()
        return before(*given)

    setattr(owner, name, gated)
    try:
        yield gate
    finally:
        gate.opened.set()
        setattr(owner, name, before)


def of_v3(path):
    return path.name == "v3"


@contextmanager
def no_patience_with(patience, doing):
    """Give what does this up soon, and all else as late as ever."""
    run = patience.run

    def hurried(subject, what, *rest):
        patience.limit_s = SOON_S if what == doing else LONG_S
        return run(subject, what, *rest)

    patience.run = hurried
    try:
        yield
    finally:
        patience.run, patience.limit_s = run, LONG_S


@contextmanager
def no_patience_at_a_start_with(subject):
    """Give a start's jobs on this up soon, and all others as late as ever."""
    wait = Patience.wait

    def hurried(self, what, *rest):
        self.limit_s = SOON_S if what == subject else LONG_S
        try:
            return wait(self, what, *rest)
        finally:
            self.limit_s = LONG_S

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Patience, "wait", hurried)
        yield


async def given_up(served, doing, change):
    """The message of a change that was given up because this hangs."""
    with no_patience_with(served.hosting.patience, doing):
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(RolloutError) as error:
                await change
    return str(error.value)


async def all_back(served, gate):
    """Open a gate, and wait until all that hung has come back."""
    gate.opened.set()
    async with asyncio.timeout(LIMIT_S):
        while served.hosting.patience.num_hanging or served.releases._under_way:
            await asyncio.sleep(0)


def roles(served):
    rollout = served.hosting.roster.rollout("walker")
    return {rollout.role(one).value: one.name for one in rollout}


async def test_a_bundle_whose_reading_hangs_is_given_up_and_the_changes_behind_it_go_on(folder):
    async with serving_library(folder) as served, asyncio.timeout(LIMIT_S):
        await served.releases.load("walker", "v2", share=0.5)
        with gate_of(served.releases, "_read", when=of_v3) as gate:
            loading = asyncio.create_task(given_up(served, DOING["_read"], served.releases.load("walker", "v3")))
            await gate.somebody_waits()
            await served.releases.promote("walker")
            assert {"current": "v2", "previous": "v1"} == roles(served)
            told = await loading
            assert told.startswith(f"walker v3: reading its bundle has taken {SOON_S:g} s, and is given up")
            assert "--load-limit-s" in told
            await served.releases.roll_back("walker")
            assert {"current": "v1"} == roles(served)


async def test_the_limit_is_the_servers_setting(folder):
    async with serving_library(folder, load_limit_s=SOON_S) as served:
        assert SOON_S == served.hosting.patience.limit_s
    assert 100.0 == ServerConfig().load_limit_s


async def test_a_gpu_that_hangs_while_it_is_warmed_up_is_told_and_given_up(folder):
    async with serving_library(folder) as served:
        with gate_of(served.releases, "_warm_up") as gate:
            told = await given_up(served, DOING["_warm_up"], served.releases.load("walker", "v3"))
            assert told.startswith("walker v3: warming it up has taken")
            assert {"current": "v1"} == roles(served)
            await all_back(served, gate)


@pytest.mark.parametrize("what", ["_read", "_warm_up"])
async def test_nothing_of_a_load_that_was_given_up_takes_effect_when_it_comes_back_late(folder, what):
    async with serving_library(folder) as served, asyncio.timeout(LIMIT_S):
        with gate_of(served.releases, what) as gate:
            await given_up(served, DOING[what], served.releases.load("walker", "v3"))
            await all_back(served, gate)
        assert 1 == gate.num_through
        assert ["v1"] == [version.name for version in served.hosting.roster.versions]
        assert "v1" == (folder / "walker" / "current").readlink().name
        await served.releases.load("walker", "v3")
        assert {"current": "v3", "previous": "v1"} == roles(served)


async def test_what_still_hangs_is_refused_at_once_on_no_thread_and_others_are_not(folder):
    async with serving_library(folder) as served, asyncio.timeout(LIMIT_S):
        with gate_of(served.releases, "_read", when=of_v3) as gate:
            await given_up(served, DOING["_read"], served.releases.load("walker", "v3"))
            num_threads = threading.active_count()
            for _ in range(50):
                with pytest.raises(RolloutError, match="walker v3: reading its bundle still hangs, for more than"):
                    await served.releases.load("walker", "v3")
            assert (1, num_threads) == (gate.num_came, threading.active_count())
            await served.releases.load("walker", "v2")
            assert {"current": "v2", "previous": "v1"} == roles(served)


async def test_a_watch_over_a_folder_that_hangs_goes_on_and_takes_one_thread(folder, capfd):
    async with serving_library(folder) as served, asyncio.timeout(LIMIT_S):
        with gate_of(served.releases._library, "current") as gate:
            with no_patience_with(served.hosting.patience, "looking for its current version"):
                for _ in range(50):
                    await served.watch.look()
            assert 1 == gate.num_came
            await all_back(served, gate)
    assert 1 <= capfd.readouterr().err.count("version refused") <= 2  # given up; then: it still hangs


async def test_a_link_that_is_switched_late_is_switched_back(folder):
    async with serving_library(folder) as served, asyncio.timeout(LIMIT_S):
        await served.releases.load("walker", "v2", share=0.5)
        with gate_of(served.releases._library, "make_current") as gate:
            told = await given_up(served, "switching its link", served.releases.promote("walker"))
            assert told.startswith(f"{folder / 'walker'}: switching its link has taken")
            assert {"current": "v1", "candidate": "v2"} == roles(served)
            await all_back(served, gate)
        assert 2 == gate.num_through  # there and back
        assert "v1" == (folder / "walker" / "current").readlink().name
        assert {"current": "v1", "candidate": "v2"} == roles(served)
    async with serving_library(folder) as served:
        assert {"current": "v1", "candidate": "v2"} == roles(served)


async def test_a_candidate_that_is_taken_back_gets_no_session_while_its_folder_hangs(folder):
    async with serving_library(folder) as served, asyncio.timeout(LIMIT_S):
        await served.releases.load("walker", "v2", share=1.0)
        with gate_of(served.releases._library, "keep") as gate:
            taking_back = asyncio.create_task(served.releases.roll_back("walker"))
            await gate.somebody_waits()
            assert "v1" == served.version_of(await served.open())
            assert not taking_back.done()  # whoever is answered knows that it is kept
            gate.opened.set()
            await taking_back
    async with serving_library(folder) as served:
        assert {"current": "v1"} == roles(served)


async def test_taking_a_candidate_back_is_not_refused_where_the_folder_hangs(folder, capfd):
    async with serving_library(folder) as served, asyncio.timeout(LIMIT_S):
        await served.releases.load("walker", "v2", share=0.5)
        with gate_of(served.releases._library, "keep") as gate:
            with no_patience_with(served.hosting.patience, "keeping its rollout"):
                await served.releases.roll_back("walker")
            assert {"current": "v1"} == roles(served)
            await all_back(served, gate)
    assert "rollout not kept" in capfd.readouterr().err
    async with serving_library(folder) as served:
        assert {"current": "v1"} == roles(served)


async def test_a_candidate_whose_networks_hang_is_not_promoted_and_can_be_taken_back(folder):
    async with serving_library(folder, action_deadline_ms=10_000.0) as served, asyncio.timeout(LIMIT_S):
        await served.releases.load("walker", "v2", share=0.5)
        candidate, gate = served.hosting.roster.rollout().candidate, Gate()
        hanging = asyncio.create_task(candidate.stepper.beside(gate.pass_through))
        await gate.somebody_waits()
        served.hosting.patience.limit_s = SOON_S
        with pytest.raises(
            RolloutError, match=f"walker v2: its networks have not answered for {SOON_S:g} s; roll it back"
        ):
            await served.releases.promote("walker")
        served.hosting.patience.limit_s = LONG_S
        await served.releases.roll_back("walker")
        assert {"current": "v1"} == roles(served)
        await all_back(served, gate)
        await hanging


async def test_a_server_whose_bundle_hangs_does_not_start_and_names_it(folder):
    with gate_of(server, "read_agent"), no_patience_at_a_start_with(str(folder / "walker" / "v1")):
        config = ServerConfig(port=0, bundle=(folder / "walker" / "v1",))
        with pytest.raises(RolloutError, match=r"walker/v1: reading its bundle has taken 0\.02 s, and is given up"):
            await asyncio.to_thread(server.run, config)


async def test_a_server_whose_folder_hangs_does_not_start_and_names_it(folder):
    with (
        gate_of(Library, "current"),
        no_patience_at_a_start_with(str(folder)),
        pytest.raises(RolloutError, match="agents: looking for its agents has taken"),
    ):
        await asyncio.to_thread(server.run, ServerConfig(port=0, agents=folder))
    with (
        gate_of(Library, "kept"),
        no_patience_at_a_start_with(str(folder / "walker")),
        pytest.raises(RolloutError, match="walker: reading its rollout has taken"),
    ):
        async with serving_library(folder):
            pass


async def test_a_server_starts_without_the_version_before_if_that_one_hangs(folder):
    async with serving_library(folder) as served:
        await served.releases.load("walker", "v2")
    with (
        gate_of(server, "read_agent", when=lambda path, _: path.name == "v1") as gate,
        no_patience_at_a_start_with("walker v1"),
    ):
        async with serving_library(folder) as served, asyncio.timeout(LIMIT_S):
            assert {"current": "v2"} == roles(served)
            with pytest.raises(RolloutError, match="walker v1: reading its bundle still hangs"):
                await served.releases.load("walker", "v1")
            await all_back(served, gate)
    async with serving_library(folder) as served:
        assert {"current": "v2", "previous": "v1"} == roles(served)


async def test_sessions_of_a_bundle_that_hangs_at_a_start_rest_and_it_is_tried_once():
    policy, digest = ScriptedPolicy(), "02" * 32
    hosting = Hosting(
        ServedAgent(policy, manifest_of(policy), "01" * 32), SessionTable(9, 60.0), ServerConfig(log_level="error")
    )
    gate, hosting.patience.limit_s = Gate(), SOON_S
    hosting.recall.load = lambda _: gate.pass_through()
    assert [None] * 9 == [hosting.recall.adapter(digest) for _ in range(9)]
    assert 1 == gate.num_came
    gate.opened.set()


async def test_a_bundle_that_hangs_while_a_session_of_another_server_wants_it_is_given_up_for_good():
    policy, digest = ScriptedPolicy(), "02" * 32
    hosting = Hosting(
        ServedAgent(policy, manifest_of(policy), "01" * 32), SessionTable(9, 60.0), ServerConfig(log_level="error")
    )
    gate, hosting.patience.limit_s = Gate(), SOON_S

    def load(wanted):
        gate.pass_through()
        return ServedAgent(policy, manifest_of(policy), wanted, "walker", "v2")

    hosting.recall.load = load
    async with asyncio.timeout(LIMIT_S):
        for _ in range(50):
            assert await hosting.recall.version(digest) is None
        assert 1 == gate.num_came
        gate.opened.set()
        while hosting.patience.num_hanging:
            await asyncio.sleep(0)
        assert hosting.roster.find(digest) is None
        hosting.patience.limit_s = LONG_S
        assert digest == (await hosting.recall.version(digest)).digest
    await hosting.open(SessionOptions())
