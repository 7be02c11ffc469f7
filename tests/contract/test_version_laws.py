"""Laws of agents side by side and of the change of their versions, over a real server."""

import asyncio
import gc
import json
import shutil
import threading
import weakref
from functools import partial

import grpc
import numpy as np
import pytest
from rollouts import LIMIT_S, publish, serving_library

from ccm_runtime import kept_rollout, statuses
from ccm_runtime.async_client import AsyncClient
from ccm_runtime.client import Client
from ccm_runtime.commands import agents as commands
from ccm_runtime.commands.access import Access
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import AgentUnknownError, ConfigError, ServerUnreachableError
from ccm_runtime.hosting import Hosting, ServedAgent
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.manifest import Adaptation
from ccm_runtime.messages import BeginEpisode, SessionOptions, Transition
from ccm_runtime.server import Server, read_agent
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy, manifest_of
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1 import admin_pb2
from ccm_runtime.versions import Move

SIZED = {size: ScriptedPolicy(size=size) for size in (2, 3)}
SHORT = ScriptedPolicy(Adaptation(explore_episodes=1, episodes=3, horizon=4))


async def refused(call):
    """The kind of error and the message of a refused call."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    back = statuses.error_from_rpc(error.value.code(), error.value.details(), error.value.trailing_metadata())
    return type(back).__name__, str(back)


@pytest.fixture
def folder(tmp_path):
    """An agent with one version, and a second version beside it."""
    folder = tmp_path / "agents"
    publish(folder, "walker", "v1")
    (folder / "walker" / "current").symlink_to("v1")
    publish(folder, "walker", "v2")
    return folder


async def test_agents_side_by_side_are_told_apart_by_name_and_the_first_is_the_default(folder):
    publish(folder, "arm", "a", SIZED[3], family="arms")
    async with serving_library(folder) as served:
        described = await served.stub.DescribeAgent(pb.DescribeAgentRequest(), timeout=LIMIT_S)
        assert ["arm", "walker"] == [agent.name for agent in described.agents]
        assert "arm" == described.agent.name
        opened = {name: await served.open(agent=name) for name in ("", "arm", "walker")}
        assert ["arms", "arms", "scripted"] == [opened[name].agent.family for name in ("", "arm", "walker")]
        assert 2 == len((await served.tell(opened["walker"], 1, begin=True)).action)
        kind, message = await refused(served.open(agent="spider"))
        assert ("AgentUnknownError", "no agent is called spider; this server has arm, walker") == (kind, message)


async def test_stateless_calls_are_answered_by_the_bundle_that_made_their_context(folder):
    publish(folder, "arm", "a", SIZED[3], family="arms")
    async with serving_library(folder) as served:
        encoded = await served.stub.Encode(pb.EncodeRequest(agent="walker"), timeout=LIMIT_S)
        acted = await served.stub.Act(pb.ActRequest(context=encoded.context, observation=[0.0, 0.0]), timeout=LIMIT_S)
        assert 2 == len(acted.action)
        kind, _ = await refused(
            served.stub.Act(pb.ActRequest(agent="arm", context=encoded.context, observation=[0.0] * 3), timeout=LIMIT_S)
        )
        assert "ContextMismatchError" == kind


async def test_the_clients_reach_every_agent_without_a_session_and_without_a_context(folder):
    publish(folder, "arm", "a", SIZED[3], family="arms")
    async with serving_library(folder) as served, AsyncClient(served.address) as client:
        sizes = [len((await client.encode([], agent=name)).latent_mean) for name in ("", "arm", "walker")]
        assert [3, 3, 2] == sizes
        assert 2 == len((await client.act(None, [0.0, 0.0], agent="walker")).action)
        with pytest.raises(AgentUnknownError, match="no agent is called spider"):
            await client.encode([], agent="spider")

        def blocking():
            with Client(served.address) as client:
                acted = client.act(None, [0.0, 0.0], agent="walker")
                return len(client.encode([], agent="walker").latent_mean), len(acted.action)

        assert (2, 2) == await asyncio.to_thread(blocking)


async def test_after_a_load_new_sessions_open_with_it_and_open_ones_stay(folder):
    async with serving_library(folder) as served:
        before = await served.open()
        await served.load("walker", "v2")
        after = await served.open()
        assert ["v1", "v2"] == [served.version_of(opened) for opened in (before, after)]
        assert before.agent.bundle_digest != after.agent.bundle_digest
        for opened in (before, after):
            for first in (1, 3, 5):
                answer = await served.episode(opened, first)
                assert not answer.version_changed
        closed = await served.close(before)
        assert before.agent.bundle_digest == closed.context.bundle_digest
    assert "v2" == (folder / "walker" / "current").readlink().name


async def test_a_version_is_dropped_after_its_last_session_and_is_not_before(folder):
    publish(folder, "walker", "v3")
    async with serving_library(folder) as served:
        old = await served.open()
        await served.load("walker", "v2")
        await served.load("walker", "v3")
        assert {"v1": "leaving", "v2": "previous", "v3": "current"} == await served.versions("walker")
        await served.tell(old, 1, begin=True)
        await served.close(old)
        served.hosting.tidy()
        assert {"v2": "previous", "v3": "current"} == await served.versions("walker")


async def test_no_more_versions_are_loaded_than_allowed(folder):
    publish(folder, "walker", "v3")
    async with serving_library(folder, max_versions=2) as served:
        opened = await served.open()
        await served.load("walker", "v2")
        kind, message = await refused(served.load("walker", "v3"))
        assert "RolloutError" == kind
        assert "walker has 2 versions loaded, the most (v1, v2)" in message
        assert "raise --max-versions" in message
        assert "v1" == served.version_of(opened)
        assert {"v1": "previous", "v2": "current"} == await served.versions("walker")


@pytest.mark.parametrize("settings", [{}, {"action_deadline_ms": 10_000.0}])
async def test_sessions_that_are_moved_explore_anew_from_the_end_of_their_episode(folder, settings):
    publish(folder, "walker", "v3", SHORT)
    async with serving_library(folder, **settings) as served:
        opened = await served.open(seed=3)
        for first in (1, 3, 5):
            answer = await served.episode(opened, first)
        assert pb.PHASE_EXECUTE == answer.phase
        await served.tell(opened, 7, begin=True)
        await served.load("walker", "v3", move=True)
        answer = await served.tell(opened, 8)
        assert ("v1", False) == (served.version_of(opened), answer.version_changed)
        answer = await served.tell(opened, 9, over=True)
        assert ("v3", True) == (served.version_of(opened), answer.version_changed)
        assert (pb.PHASE_EXPLORE, 4, 0.0) == (answer.phase, answer.episode, answer.certainty)
        assert answer == await served.tell(opened, 9, over=True)  # a repeated number is answered as it was
        answer = await served.episode(opened, 10)
        assert (pb.PHASE_EXECUTE, False) == (answer.phase, answer.version_changed)
        closed = await served.close(opened)
        assert 5 == len(closed.returns)
        assert closed.context.bundle_digest == (await served.open()).agent.bundle_digest


class Contrary(ScriptedPolicy):
    """Explores the other way."""

    def explore(self, *inputs):
        return -super().explore(*inputs)


@pytest.mark.parametrize("deadline_ms", [None, 10_000.0])
@pytest.mark.parametrize("turns", range(1, 5))
async def test_an_event_that_comes_while_its_session_moves_is_answered_by_the_version_that_it_moves_to(
    deadline_ms, turns
):
    adaptation = Adaptation(explore_episodes=1, episodes=4, horizon=6)
    old, new = (
        ServedAgent(policy, manifest_of(policy), digest, "walker", digest[:2])
        for policy, digest in ((ScriptedPolicy(adaptation), "01" * 32), (Contrary(adaptation), "02" * 32))
    )
    hosting = Hosting(old, SessionTable(9, 60.0), ServerConfig(log_level="error", action_deadline_ms=deadline_ms))
    opened, _ = [await hosting.open(SessionOptions()) for _ in range(2)]
    to, seen = hosting.roster.add(new), np.full(2, 0.5, np.float32)
    hosting.roster.rollout().current.stepper.move_on = Move(to, to.adapter.start()).moved
    await hosting.step(opened.session_id, 1, BeginEpisode(seen))
    ending = asyncio.create_task(hosting.step(opened.session_id, 2, Transition(seen, 0.0, terminated=True)))
    for _ in range(turns):
        await asyncio.sleep(0)
    begun = await hosting.step(opened.session_id, 3, BeginEpisode(seen))
    assert (await ending).version_changed
    np.testing.assert_allclose(-np.tanh(seen), begun.reaction.action, rtol=1e-6)
    hosting.roster.stop()


async def test_a_candidate_gets_its_share_of_new_sessions_and_the_same_session_always_the_same(folder):
    async with serving_library(folder) as served:
        await served.load("walker", "v2", share=0.25)
        assert {"v1": "current", "v2": "candidate"} == await served.versions("walker")
        opened = [await served.open(idempotency_key=f"k{n}") for n in range(200)]
        share = sum(served.version_of(one) == "v2" for one in opened) / len(opened)
        assert 0.12 < share < 0.4  # 0.25 within four standard deviations
        again = [await served.open(idempotency_key=f"k{n}") for n in range(200)]
        assert [one.session_id for one in opened] == [one.session_id for one in again]
        rollout = served.hosting.roster.rollout("walker")
        assert [served.version_of(one) for one in opened] == [rollout.chosen(one.session_id, "").name for one in opened]
    assert "v1" == (folder / "walker" / "current").readlink().name


async def test_a_candidate_is_not_tidied_away_before_it_is_one(folder):
    async with serving_library(folder, action_deadline_ms=1_000.0) as served:
        roster, busy = served.hosting.roster, threading.Event()
        held = asyncio.create_task(roster.rollout("walker").current.stepper.beside(lambda: busy.wait(LIMIT_S)))
        loading = asyncio.create_task(served.load("walker", "v2", share=1.0))
        while len(roster.versions) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        served.hosting.tidy()
        busy.set()
        await asyncio.gather(held, loading)
        opened = await served.open()
        assert "v2" == served.version_of(opened)
        await served.tell(opened, 1, begin=True)


async def test_who_insists_on_a_bundle_gets_it_or_is_refused(folder):
    async with serving_library(folder) as served:
        first = (await served.open()).agent.bundle_digest
        await served.load("walker", "v2", share=0.001)
        second = served.hosting.roster.rollout().candidate.digest
        for _ in range(5):
            for digest in (first, second):
                opened = await served.open(expected_bundle_digest=digest)
                assert digest == opened.agent.bundle_digest
        assert "ContextMismatchError" == (await refused(served.open(expected_bundle_digest="ab" * 32)))[0]


async def test_promote_and_roll_back_lead_where_they_say(folder):
    async with serving_library(folder) as served:
        walker = admin_pb2.PromoteRequest(agent="walker"), admin_pb2.RollBackRequest(agent="walker")
        assert "RolloutError" == (await refused(served.admin.Promote(walker[0], timeout=LIMIT_S)))[0]
        assert "RolloutError" == (await refused(served.admin.RollBack(walker[1], timeout=LIMIT_S)))[0]
        await served.load("walker", "v2", share=0.5)
        await served.admin.RollBack(walker[1], timeout=LIMIT_S)
        assert "v1" == served.hosting.roster.rollout().current.name
        await served.load("walker", "v2", share=0.5)
        await served.admin.Promote(walker[0], timeout=LIMIT_S)
        assert {"v1": "previous", "v2": "current"} == await served.versions("walker")
        assert "v2" == (folder / "walker" / "current").readlink().name
        await served.admin.RollBack(walker[1], timeout=LIMIT_S)
        assert "v1" == served.hosting.roster.rollout().current.name
        assert "v1" == (folder / "walker" / "current").readlink().name


async def test_a_version_with_another_contract_is_refused_and_all_stays(folder):
    publish(folder, "walker", "v3", SIZED[3])
    async with serving_library(folder) as served:
        kind, message = await refused(served.load("walker", "v3"))
        assert "RolloutError" == kind
        assert "walker v3 has another observation than v1" in message
        assert {"v1": "current"} == await served.versions("walker")
    assert "v1" == (folder / "walker" / "current").readlink().name


@pytest.mark.parametrize("damage", ["graph", "missing"])
async def test_a_damaged_version_is_refused_and_all_stays(folder, damage):
    graph = folder / "walker" / "v2" / "execution_policy.onnx"
    if damage == "graph":
        graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    else:
        graph.unlink()
    async with serving_library(folder) as served:
        kind, _ = await refused(served.load("walker", "v2"))
        assert "BundleError" == kind
        assert {"v1": "current"} == await served.versions("walker")
        assert "v1" == served.version_of(await served.open())


@pytest.mark.parametrize("options", [{}, {"share": 0.5}])
async def test_a_damaged_copy_of_the_current_version_is_refused_too(folder, options):
    copy = shutil.copytree(folder / "walker" / "v1", folder / "walker" / "v3")
    (copy / "execution_policy.onnx").write_bytes(b"damaged")
    async with serving_library(folder) as served:
        assert "BundleError" == (await refused(served.load("walker", "v3", **options)))[0]
        assert {"v1": "current"} == await served.versions("walker")


async def test_a_candidate_that_is_the_current_bundle_by_another_name_is_refused_and_told_so(folder):
    shutil.copytree(folder / "walker" / "v1", folder / "walker" / "v3")
    async with serving_library(folder) as served:
        kind, why = await refused(served.load("walker", "v3", share=0.5))
        assert ("RolloutError", True) == (kind, "v3 is the same bundle as v1" in why)
        await served.load("walker", "v3")
        assert {"v1": "current"} == await served.versions("walker")


@pytest.mark.parametrize("name", ["", ".", "..", "../walker", "walker/v1", "/etc", "v1/../../x", ".v9", "current"])
async def test_no_call_leaves_the_folder(folder, name):
    publish(folder.parent, "x", "v1")
    async with serving_library(folder) as served:
        for agent, version in ((name, "v1"), ("walker", name)):
            assert "AgentUnknownError" == (await refused(served.load(agent, version)))[0]


def republish(folder, version, policy=SHORT):
    """Put another bundle where a version was."""
    shutil.rmtree(folder / "walker" / version)
    publish(folder, "walker", version, policy)


async def test_another_bundle_under_a_name_that_is_loaded_is_refused_and_all_stays(folder):
    async with serving_library(folder) as served:
        await served.load("walker", "v2")
        opened = await served.open()
        republish(folder, "v2")
        for options in ({}, {"share": 0.5}):
            kind, why = await refused(served.load("walker", "v2", **options))
            assert ("RolloutError", True) == (kind, "v2 is loaded already, as another bundle" in why)
            assert "publish this one under another name" in why
        assert {"v1": "previous", "v2": "current"} == await served.versions("walker")
        for version in ("v3", "v4"):
            publish(folder, "walker", version)
            await served.load("walker", version)
        await served.close(opened)
        await served.load("walker", "v2")  # nobody needs the one that had that name any more
        assert {"v2": "current", "v4": "previous"} == await served.versions("walker")


async def test_a_current_version_that_is_another_bundle_after_a_restart_is_told_and_has_no_candidate(folder, capfd):
    publish(folder, "walker", "v3")
    async with serving_library(folder) as served:
        await served.load("walker", "v2")
        await served.load("walker", "v3", share=0.5)
    republish(folder, "v2")
    async with serving_library(folder, log_level="warning") as served:
        assert ({"current": "v2", "previous": "v1"}, 0.0) == roles_and_share(served)
        now = served.hosting.roster.rollout().current.digest
    told = capfd.readouterr().err
    assert "rollout not resumed" in told
    assert f"it is another bundle now, {now[:12]}, and was " in told
    async with serving_library(folder, log_level="warning") as served:
        assert ({"current": "v2", "previous": "v1"}, 0.0) == roles_and_share(served)
    assert "not resumed" not in capfd.readouterr().err


async def test_a_version_that_was_rolled_back_to_is_told_if_its_folder_holds_another_bundle(folder, capfd):
    async with serving_library(folder) as served:
        await served.load("walker", "v2")
        republish(folder, "v1")
        await served.admin.RollBack(admin_pb2.RollBackRequest(agent="walker"), timeout=LIMIT_S)
        assert "v1" == served.version_of(await served.open())
    async with serving_library(folder, log_level="warning") as served:
        assert ({"current": "v1"}, 0.0) == roles_and_share(served)
    assert "it is another bundle now" in capfd.readouterr().err


async def test_an_agent_of_a_new_name_is_added(folder):
    async with serving_library(folder) as served:
        publish(folder, "arm", "a", SIZED[3], family="arms")
        await served.load("arm", "a")
        assert "arms" == (await served.open(agent="arm")).agent.family
        assert "scripted" == (await served.open()).agent.family


async def test_a_candidate_that_fails_is_rolled_back_by_itself_and_a_current_version_is_not(folder, capfd, monkeypatch):
    async with serving_library(folder, max_candidate_faults=3, log_level="error") as served:
        await served.load("walker", "v2", share=1.0)
        opened = await served.open()
        assert "v2" == served.version_of(opened)
        broken = served.hosting.roster.of(served.hosting.table.find(opened.session_id))

        def fails(*_):
            raise RuntimeError("the device is lost")

        monkeypatch.setattr(OnnxPolicy, "explore", fails)
        for _ in range(3):
            assert broken is served.hosting.roster.rollout().candidate
            with pytest.raises(grpc.aio.AioRpcError, match="INTERNAL"):
                await served.tell(opened, 1, begin=True)
        assert (3, None) == (broken.tally.num_failures, served.hosting.roster.rollout().candidate)
        other = await served.open()
        assert "v1" == served.version_of(other)
        for _ in range(4):
            with pytest.raises(grpc.aio.AioRpcError, match="INTERNAL"):
                await served.tell(other, 1, begin=True)
        assert "v1" == served.hosting.roster.rollout().current.name
    assert "candidate rolled back" in capfd.readouterr().err


async def test_a_candidate_is_judged_by_its_faults_since_it_is_one(folder, capfd):
    async with serving_library(folder, max_candidate_faults=3, log_level="error") as served:
        judge, rollout = served.hosting.judge, served.hosting.roster.rollout
        once_current = rollout().current
        for _ in range(50):
            judge.failed(once_current)
        await served.load("walker", "v2")
        for share, further in ((0.5, 2), (0.75, 1)):  # more of the sessions: it is tried still, and not anew
            await served.load("walker", "v1", share=share)
            for _ in range(further):
                assert once_current is rollout().candidate
                judge.failed(once_current)
        assert rollout().candidate is None
        assert (53, 0) == once_current.tally.faults
        assert "num_failures=3 num_misses=0" in capfd.readouterr().err
        await served.load("walker", "v1", share=0.5)
        judge.failed(once_current)
        assert once_current is rollout().candidate


async def test_a_watched_folder_is_obeyed_and_what_is_damaged_in_it_is_refused_once(folder, capfd):
    link = folder / "walker" / "current"

    def switch(version):
        fresh = link.with_name(".fresh")
        fresh.symlink_to(version)
        fresh.replace(link)

    async with serving_library(folder, log_level="error") as served:
        await served.watch.look()
        assert {"v1": "current"} == await served.versions("walker")
        switch("v2")
        await served.watch.look()
        assert {"v1": "previous", "v2": "current"} == await served.versions("walker")
        damaged = publish(folder, "walker", "v3") / "context_encoder.onnx"
        whole = damaged.read_bytes()
        damaged.write_bytes(whole[:-1])
        switch("v3")
        for _ in range(3):
            await served.watch.look()
        assert {"v1": "previous", "v2": "current"} == await served.versions("walker")
        assert 1 == capfd.readouterr().err.count("version refused")
        switch("v9")
        await served.watch.look()
        assert "v9; expected one of v1, v2, v3" in capfd.readouterr().err
        damaged.write_bytes(whole)
        switch("v3")
        await served.watch.look()
        assert {"v2": "previous", "v3": "current"} == await served.versions("walker")
        assert "v3" == served.version_of(await served.open())
        publish(folder, "arm", "a", SIZED[3], family="arms")
        await served.watch.look()
        assert "arms" == (await served.open(agent="arm")).agent.family


async def test_a_server_that_watches_finds_a_new_version_by_itself(folder):
    async with serving_library(folder, watch_s=0.1) as served, asyncio.timeout(LIMIT_S):
        publish(folder, "arm", "a", SIZED[3], family="arms")
        while "arm" not in served.hosting.roster:
            await asyncio.sleep(0.01)


async def test_a_bundle_that_is_still_being_written_is_not_seen(folder):
    async with serving_library(folder) as served:
        publish(folder, "walker", "v3").rename(folder / "walker" / ".v3")
        assert "AgentUnknownError" == (await refused(served.load("walker", ".v3")))[0]
        assert "AgentUnknownError" == (await refused(served.load("walker", "v3")))[0]


async def test_a_version_is_warm_before_the_first_session_and_let_go_after_the_last(folder, monkeypatch):
    ran = []
    execute = OnnxPolicy.execute

    def counted(self, observation, latent, noise):
        ran.append(len(observation))
        return execute(self, observation, latent, noise)

    monkeypatch.setattr(OnnxPolicy, "execute", counted)
    async with serving_library(folder, max_batch=5) as served:
        await served.load("walker", "v2")
        assert [1, 2, 3, 4, 5] == ran
        left = weakref.ref(served.hosting.roster.rollout().current.adapter.policy)
        for version in ("v3", "v4"):
            assert left() is not None
            publish(folder, "walker", version)
            await served.load("walker", version)
        gc.collect()
        assert left() is None


async def test_a_restart_in_the_middle_of_a_rollout_goes_on_with_the_sessions_of_every_version(folder, tmp_path):
    settings = {"store": tmp_path / "s.db"}
    async with serving_library(folder, **settings) as served:
        old = await served.open()
        await served.tell(old, 1, begin=True)
        await served.load("walker", "v2")
        new = await served.open()
        await served.tell(new, 1, begin=True)
    async with serving_library(folder, **settings) as served:
        assert {"v1": "previous", "v2": "current"} == await served.versions("walker")
        assert ["v1", "v2"] == [served.version_of(opened) for opened in (old, new)]
        for opened in (old, new):
            assert 2 == (await served.tell(opened, 2, over=True)).sequence
        await served.tell(old, 3, begin=True)
    for file in (folder / "walker" / "v1").iterdir():
        file.unlink()
    (folder / "walker" / "v1").rmdir()
    async with serving_library(folder, **settings) as served:
        assert {"v2": "current"} == await served.versions("walker")
        with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
            await served.tell(old, 4)
        assert 3 == (await served.tell(new, 3, begin=True)).sequence


@pytest.mark.parametrize(
    ("tokens", "given", "admitted"),
    [
        ({}, "", True),
        ({"token_file": "robots"}, "robot-is-a-long-secret", False),
        ({"token_file": "robots", "admin_token_file": "admins"}, "robot-is-a-long-secret", False),
        ({"token_file": "robots", "admin_token_file": "admins"}, "admin-is-a-long-secret", True),
        ({"admin_token_file": "admins"}, "", False),
        ({"admin_token_file": "admins"}, "admin-is-a-long-secret", True),
    ],
)
async def test_only_an_operator_changes_versions(folder, tmp_path, tokens, given, admitted):
    (tmp_path / "robots").write_text("robot-is-a-long-secret")
    (tmp_path / "admins").write_text("admin-is-a-long-secret")
    async with serving_library(folder, **{name: tmp_path / file for name, file in tokens.items()}) as served:
        request, bearer = admin_pb2.LoadVersionRequest(agent="walker", version="v2"), f"Bearer {given}"
        call = served.admin.LoadVersion(request, timeout=LIMIT_S, metadata=(("authorization", bearer),))
        if admitted:
            await call
        else:
            kind, message = await refused(call)
            assert "UnauthenticatedError" == kind
            assert "wants an operator's token" in message
        assert ("v2" if admitted else "v1") == served.hosting.roster.rollout().current.name


async def test_a_change_that_cannot_be_written_down_is_not_made(folder, monkeypatch):
    async with serving_library(folder) as served:
        monkeypatch.setattr("pathlib.Path.symlink_to", lambda *_: (_ for _ in ()).throw(OSError(30, "Read-only")))
        kind, message = await refused(served.load("walker", "v2"))
        assert "ConfigError" == kind
        assert "cannot make v2 current for walker" in message
        assert "v1" == served.version_of(await served.open())


async def test_a_server_of_plain_bundles_does_not_change_them(folder):
    agents = [read_agent(folder / "walker" / "v1", ServerConfig())]
    server = Server(agents, ServerConfig(port=0, log_level="error"))
    await server.start()
    try:
        with pytest.raises(ConfigError, match="start it with `ccm serve --agents FOLDER`"):
            await server.releases.load("walker", "v2")
    finally:
        await server.stop()


async def test_the_command_line_shows_and_changes_a_running_server(folder, capsys):
    async with serving_library(folder) as served:
        here = (served.address, Access())
        command = partial(asyncio.to_thread, as_json=True)

        async def told():
            (agent,) = json.loads(capsys.readouterr().out)["agents"]
            return {version["version"]: version["role"] for version in agent["versions"]}

        await asyncio.to_thread(commands.list_agents, *here, as_json=False)
        assert "walker" in capsys.readouterr().out
        await command(commands.load, *here, "walker", "v2", share=0.5, move=False)
        assert {"v1": "current", "v2": "candidate"} == await told()
        await command(commands.promote, *here, "walker", move=False)
        assert {"v1": "previous", "v2": "current"} == await told()
        await command(commands.roll_back, *here, "walker", move=True)
        assert {"v1": "current"} == await told()
        with pytest.raises(AgentUnknownError, match="no version of walker is called v7; there is v1, v2"):
            await command(commands.load, *here, "walker", "v7", share=0.0, move=False)
    with pytest.raises(ServerUnreachableError, match="nobody answers"):
        await command(commands.list_agents, *here)


async def test_sessions_of_more_versions_than_allowed_rest_and_the_server_starts(folder, tmp_path, capfd):
    settings, opened = {"store": tmp_path / "s.db", "log_level": "error"}, []
    for number in range(3, 6):
        publish(folder, "walker", f"v{number}")
    async with serving_library(folder, max_versions=9, **settings) as served:
        for number in range(1, 6):
            await served.load("walker", f"v{number}")
            opened.append(await served.open())
    async with serving_library(folder, max_versions=3, **settings) as served:
        assert 3 == len(await served.versions("walker"))
        assert 3 == len(served.hosting.table)
    assert 2 == capfd.readouterr().err.count("version refused")
    async with serving_library(folder, max_versions=9, **settings) as served:
        assert [f"v{number}" for number in range(1, 6)] == [served.version_of(one) for one in opened]


def roles_and_share(served):
    """What new sessions of the walker open with."""
    rollout = served.hosting.roster.rollout("walker")
    return {rollout.role(one).value: one.name for one in rollout}, rollout.share


async def test_a_rollout_outlives_its_server_with_its_share_and_the_version_to_go_back_to(folder, tmp_path):
    publish(folder, "walker", "v3")
    settings = {"store": tmp_path / "s.db"}
    async with serving_library(folder, **settings) as served:
        await served.load("walker", "v2")
        await served.load("walker", "v3", share=0.375)
        opened = [await served.open() for _ in range(40)]
        before = {one.session_id: served.version_of(one) for one in opened}
        assert {"v2", "v3"} == set(before.values())
        told = {"current": "v2", "candidate": "v3", "previous": "v1"}, 0.375
        assert told == roles_and_share(served)
    async with serving_library(folder, **settings) as served:
        assert told == roles_and_share(served)
        assert before == {one.session_id: served.version_of(one) for one in opened}
        assert before == {
            one.session_id: served.hosting.roster.rollout().chosen(one.session_id, "").name for one in opened
        }
        await served.admin.RollBack(admin_pb2.RollBackRequest(agent="walker"), timeout=LIMIT_S)
    async with serving_library(folder, **settings) as served:
        assert ({"current": "v2", "previous": "v1"}, 0.0) == roles_and_share(served)
        await served.admin.RollBack(admin_pb2.RollBackRequest(agent="walker"), timeout=LIMIT_S)
    async with serving_library(folder) as served:
        assert ({"current": "v1"}, 0.0) == roles_and_share(served)


async def test_a_candidate_that_was_rolled_back_by_itself_does_not_come_back_with_a_restart(folder, monkeypatch):
    async with serving_library(folder, max_candidate_faults=1) as served:
        await served.load("walker", "v2", share=1.0)
        opened = await served.open()
        monkeypatch.setattr(OnnxPolicy, "explore", lambda *_: 1 / 0)
        with pytest.raises(grpc.aio.AioRpcError, match="INTERNAL"):
            await served.tell(opened, 1, begin=True)
        await asyncio.gather(*served.releases._under_way)
    async with serving_library(folder) as served:
        assert ({"current": "v1"}, 0.0) == roles_and_share(served)


async def test_sessions_that_are_to_move_still_do_after_a_restart(folder, tmp_path):
    settings = {"store": tmp_path / "s.db"}
    async with serving_library(folder, **settings) as served:
        opened = await served.open()
        await served.tell(opened, 1, begin=True)
        await served.load("walker", "v2", move=True)
    async with serving_library(folder, **settings) as served:
        assert "v1" == served.version_of(opened)
        answer = await served.tell(opened, 2, over=True)
        assert ("v2", True) == (served.version_of(opened), answer.version_changed)


def switch(folder, version):
    """Make a version current by hand."""
    fresh = folder / "walker" / ".fresh"
    fresh.symlink_to(version)
    fresh.replace(folder / "walker" / "current")


async def test_a_link_that_was_switched_by_hand_wins_and_drops_the_candidate_for_good(folder, capfd):
    publish(folder, "walker", "v3")
    async with serving_library(folder) as served:
        await served.load("walker", "v2", share=0.5)
    switch(folder, "v3")
    async with serving_library(folder, log_level="warning") as served:
        assert ({"current": "v3", "previous": "v1"}, 0.0) == roles_and_share(served)
    assert "rollout not resumed" in capfd.readouterr().err
    switch(folder, "v1")
    async with serving_library(folder) as served:
        assert ({"current": "v1"}, 0.0) == roles_and_share(served)
        await served.load("walker", "v2", share=0.5)
        for version in ("v3", "v1"):
            switch(folder, version)
            await served.watch.look()
        assert ({"current": "v1", "previous": "v3"}, 0.0) == roles_and_share(served)
    async with serving_library(folder) as served:
        assert ({"current": "v1", "previous": "v3"}, 0.0) == roles_and_share(served)


async def test_another_bundle_that_a_watch_finds_under_an_old_name_is_kept_as_what_it_is(folder, capfd):
    kept = folder / "walker" / "rollout.json"
    async with serving_library(folder) as served:
        await served.load("walker", "v2")
        before = kept.read_bytes()
    switch(folder, "v1")
    republish(folder, "v2")
    async with serving_library(folder) as served:
        kept.write_bytes(before)
        switch(folder, "v2")
        await served.watch.look()
        assert ({"current": "v2", "previous": "v1"}, 0.0) == roles_and_share(served)
    capfd.readouterr()
    async with serving_library(folder, log_level="warning") as served:
        assert ({"current": "v2", "previous": "v1"}, 0.0) == roles_and_share(served)
    assert "not resumed" not in capfd.readouterr().err


async def test_a_server_that_follows_another_ones_change_leaves_what_that_one_kept(folder):
    async with serving_library(folder) as first, serving_library(folder) as second:
        await first.load("walker", "v2", move=True)
        kept = (folder / "walker" / "rollout.json").read_bytes()
        assert json.loads(kept)["moving"]
        await second.watch.look()
        assert ({"current": "v2", "previous": "v1"}, 0.0) == roles_and_share(second)
        assert kept == (folder / "walker" / "rollout.json").read_bytes()


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff", b"[]", b'{"current": 3}', b'{"share": 2.0}', b"0" * 100_000, b'{"schema_version": 2}']
)
async def test_a_damaged_rollout_is_set_aside_and_told_and_the_current_version_serves(folder, capfd, text):
    async with serving_library(folder) as served:
        await served.load("walker", "v2", share=0.5)
    kept = folder / "walker" / "rollout.json"
    whole = json.loads(kept.read_text(encoding="utf-8"))
    kept.write_bytes(json.dumps(whole | {"share": 2.0}).encode() if b"share" in text else text)
    async with serving_library(folder, log_level="warning") as served:
        assert ({"current": "v1"}, 0.0) == roles_and_share(served)
        assert kept.with_name("rollout.json.damaged").exists()
        assert not kept.exists()
    told = capfd.readouterr().err
    assert "rollout damaged" in told
    assert "load them again" in told


@pytest.mark.parametrize("wrong", ["gone", "damaged", "another bundle", "another contract"])
async def test_a_candidate_that_is_not_what_it_was_gets_no_session_after_a_restart_and_is_told(folder, capfd, wrong):
    async with serving_library(folder) as served:
        await served.load("walker", "v2", share=1.0)
    before = (folder / "walker" / "v2").rename(folder / "walker" / ".v2")
    if wrong == "damaged":
        shutil.copytree(before, folder / "walker" / "v2")
        (folder / "walker" / "v2" / "execution_policy.onnx").write_bytes(b"damaged")
    elif wrong != "gone":
        publish(folder, "walker", "v9", SIZED[3 if wrong == "another contract" else 2])
        (folder / "walker" / "v9").rename(folder / "walker" / "v2")
    async with serving_library(folder, log_level="error") as served:
        assert ({"current": "v1"}, 0.0) == roles_and_share(served)
        assert "v1" == served.version_of(await served.open())
    assert "candidate not resumed" in capfd.readouterr().err
    shutil.rmtree(folder / "walker" / "v2", ignore_errors=True)
    before.rename(folder / "walker" / "v2")
    async with serving_library(folder) as served:
        assert ({"current": "v1", "candidate": "v2"}, 1.0) == roles_and_share(served)


async def test_a_candidate_that_cannot_be_kept_is_refused_and_taking_one_back_is_not(folder, monkeypatch, capfd):
    def full(*_):
        raise OSError(28, "No space left on device")

    async with serving_library(folder) as served:
        await served.load("walker", "v2", share=0.5)
        monkeypatch.setattr(kept_rollout, "write_whole", full)
        kind, why = await refused(served.load("walker", "v2", share=0.75))
        assert ("ConfigError", True) == (kind, "cannot be written to (No space left on device)" in why)
        assert ({"current": "v1", "candidate": "v2"}, 0.5) == roles_and_share(served)
        await served.admin.RollBack(admin_pb2.RollBackRequest(agent="walker"), timeout=LIMIT_S)
        assert ({"current": "v1"}, 0.0) == roles_and_share(served)
    assert "rollout not kept" in capfd.readouterr().err
