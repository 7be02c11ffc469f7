"""Laws of the operator's page: what it tells, whom, and how much."""

import asyncio
import json
import re
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ccm_runtime.absent import MAX_ENDED
from ccm_runtime.belief import NoveltyStats
from ccm_runtime.belief_map import BeliefMap
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import ConfigError
from ccm_runtime.hosting import Hosting, ServedAgent
from ccm_runtime.messages import Answer, Intervention, Reaction, SafeReason
from ccm_runtime.page import Page, serve_page
from ccm_runtime.page.state import ID_LENGTH, MAX_RETURNS, MAX_SHOWN, Ages, Plane, write_state
from ccm_runtime.page.view import viewer
from ccm_runtime.session import SessionTable
from ccm_runtime.tenants import Tokens
from ccm_runtime.testing import ScriptedPolicy, manifest_of
from ccm_runtime.trial import Phase
from ccm_runtime.versions import Rollout
from ccm_runtime.vigil import Vigil
from ccm_runtime.web import Request

DIGEST = "5c" * 32
TOKENS = Tokens(((b"token-of-the-red-team", "red"), (b"token-of-the-blue-team", "blue")))
STATS = NoveltyStats(mean=(0.0, 0.0), precision=((1.0, 0.0), (0.0, 4.0)), threshold=2.0)
MAP = BeliefMap(
    centre=(1.0, 1.0), axes=((0.0, 1.0), (1.0, 0.0)), points=((0.5, 0.5),), tasks=((0.25,),), labels=("speed",)
)


def hosted(**manifest):
    policy = ScriptedPolicy()
    served = ServedAgent(policy, manifest_of(policy).model_copy(update=manifest), DIGEST)
    config = ServerConfig(log_level="error", max_sessions=5_000)
    hosting = Hosting(served, SessionTable(5_000, 60.0), config)
    look = viewer(hosting, "127.0.0.1:7070", config.max_sessions)
    return SimpleNamespace(hosting=hosting, look=look, plane=Plane(DIGEST, served.manifest))


def opened(server, tenant="", returns=(), **reaction):
    hosting = server.hosting
    session = hosting.table.open(hosting.adapter.start(), tenant=tenant, bundle_digest=DIGEST)
    told = {"certainty": 0.5, "novelty": 0.25} | reaction
    answer = Answer(3, Reaction(None, Phase.EXPLORE, 0, 3, False, **told), total_ms=1.25, infer_ms=0.5)
    memory = session.memory._replace(returns=tuple(returns), latent_mean=np.array([3.0, 2.0], np.float32))
    return hosting.table.keep(session.answered(memory, answer))


def state_of(server, tenant=""):
    return json.loads(write_state(server.look(), server.plane, Ages(), tenant=tenant))


def test_the_state_tells_what_a_session_does():
    server = hosted(belief_map=MAP, novelty=STATS)
    session = opened(server, returns=(1.0, 2.5), interventions=(Intervention.RATE,), novelty=1.5)
    server.hosting.table.keep(session.answered(session.memory, session.last_answer, Vigil(0, 3, SafeReason.MISSES)))
    state = state_of(server)
    expected = {
        "id": session.session_id[:ID_LENGTH], "phase": "explore", "explore_episodes": 2, "first": [1.0, 2.5],
        "certainty": 0.5, "novelty": 1.5, "interventions": ["rate"], "mended": 3, "safe": "misses", "total_ms": 1.25,
        "infer_ms": 0.5, "at": [1.0, 2.0],
    }  # fmt: skip
    assert expected == {name: state["sessions"][0][name] for name in expected}
    assert {
        "explore": 1,
        "execute": 0,
        "safe": {"misses": 1, "interventions": 0},
        "novel": 1,
        "owed": 0,
        "bundles": {DIGEST[:12]: 1},
    } == (state["totals"])
    assert (1, "127.0.0.1:7070", None) == (
        state["num_sessions"], state["server"]["address"], state["server"]["store"],
    )  # fmt: skip
    assert [[0.5, 0.5]] == state["map"]["points"]


def test_the_state_is_bounded_however_much_the_server_holds():
    server = hosted(belief_map=MAP)
    for _ in range(MAX_SHOWN + 50):
        opened(server, returns=range(1_000))
    for _ in range(MAX_ENDED + 5):
        session = opened(server, returns=range(1_000))
        server.hosting.close(session.session_id, server.hosting.table.token(session.session_id))
    text = write_state(server.look(), server.plane, Ages(), tenant="")
    state = json.loads(text)
    assert (MAX_SHOWN, MAX_ENDED, MAX_SHOWN + 50) == (
        len(state["sessions"]), len(state["ended"]), state["num_sessions"],
    )  # fmt: skip
    assert {MAX_RETURNS} == {len(row[end]) for row in state["sessions"] for end in ("first", "last")}
    assert [976, 999] == [state["sessions"][0]["last"][0], state["sessions"][0]["last"][-1]]
    assert len(text) < 256 << 10


def test_the_newest_sessions_come_first_and_rows_keep_their_places():
    server, ages = hosted(), Ages()
    first, second = opened(server), opened(server)
    order = [s.session_id for s in ages.newest_first(server.look().sessions)]
    third = opened(server)
    server.hosting.table.keep(first)  # used last, and yet in its place
    assert [third.session_id, *order] == [s.session_id for s in ages.newest_first(server.look().sessions)]
    assert {first.session_id, second.session_id} == set(order)


def test_what_is_no_number_is_left_out_and_the_rest_is_told():
    server = hosted()
    opened(server, returns=(float("inf"), 1.0), novelty=float("nan"))
    row = state_of(server)["sessions"][0]
    assert ([None, 1.0], None, 0.5) == (row["first"], row["novelty"], row["certainty"])


def test_without_a_map_the_extent_of_known_beliefs_is_drawn_and_without_that_nothing():
    state = state_of(hosted(novelty=STATS))
    assert [] == state["map"]["points"]
    assert (2.0, 1.0) == pytest.approx(tuple(np.abs(state["map"]["known"]).max(0)), rel=1e-2)
    bare = hosted()
    opened(bare)
    state = state_of(bare)
    assert (None, None) == (state["map"], state["sessions"][0]["at"])


def test_a_belief_of_another_bundle_is_not_drawn():
    server = hosted(belief_map=MAP)
    session = opened(server)
    server.hosting.table.keep(replace(session, bundle_digest="ab" * 32))
    own = opened(server)
    at = {row["id"]: row["at"] for row in state_of(server)["sessions"]}
    assert {session.session_id[:ID_LENGTH]: None, own.session_id[:ID_LENGTH]: [1.0, 2.0]} == at


async def test_every_version_is_told_with_its_role_and_its_sessions():
    server = hosted(belief_map=MAP)
    roster, policy = server.hosting.roster, ScriptedPolicy()
    opened(server)
    newer = roster.add(ServedAgent(policy, manifest_of(policy).model_copy(update={"novelty": STATS}), "ab" * 32))
    before = state_of(server)
    assert [("current", DIGEST[:12]), ("leaving", "ab" * 6)] == [
        (version["role"], version["bundle"]) for version in before["server"]["versions"]
    ]
    assert {DIGEST[:12]: 1} == before["totals"]["bundles"]
    async with page_of(server) as ask:
        assert 1 == len(json.loads((await ask("/state.json")).body)["map"]["points"])
        roster.appoint(newer.agent.name, Rollout(newer))
        ask.page._written.clear()
        after = json.loads((await ask("/state.json")).body)
    assert ("ab" * 6, []) == (after["server"]["bundle"], after["map"]["points"])  # the map of the current version
    assert [None] == [row["at"] for row in after["sessions"]]


def test_a_tenant_sees_its_own_sessions_and_no_count_of_the_others():
    server = hosted()
    red, blue = opened(server, "red"), opened(server, "blue")
    closed = opened(server, "blue")
    server.hosting.close(closed.session_id, server.hosting.table.token(closed.session_id))
    text = write_state(server.look(), server.plane, Ages(), tenant="red").decode()
    state = json.loads(text)
    assert [red.session_id[:ID_LENGTH]] == [row["id"] for row in state["sessions"]]
    assert (1, 1, [], None) == (state["num_sessions"], state["totals"]["explore"], state["ended"], state["counts"])
    assert blue.session_id[:ID_LENGTH] not in text


def test_no_secret_is_in_the_state():
    server = hosted(belief_map=MAP)
    session = opened(server)
    text = write_state(server.look(), server.plane, Ages(), tenant="").decode()
    assert session.session_id not in text
    assert server.hosting.table.token(session.session_id)[:8] not in text


@asynccontextmanager
async def page_of(server, tokens=None):
    """Yield what asks the page from a thread, as its own threads do, while the event loop turns."""
    page = Page(server.look, tokens, asyncio.get_running_loop())

    async def ask(path, **headers):
        headers.setdefault("host", "127.0.0.1:8080")
        return await asyncio.to_thread(page.answer, Request(path, headers))

    ask.page = page
    yield ask


async def test_the_page_refers_to_nothing_outside_and_runs_nothing_but_its_own_script():
    async with page_of(hosted()) as ask:
        reply = await ask("/")
    html, policy = reply.body.decode(), reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"""(src|href)=|url\(|@import|\son[a-z]+=|\bstyle=|innerHTML|\beval\(""", html)
    assert {"http://www.w3.org/2000/svg"} == set(re.findall(r"https?://[^\"'`]+", html))
    assert {"no-store", "nosniff", "no-referrer"} <= set(reply.headers.values())


async def test_the_state_wants_the_token_and_the_page_itself_does_not():
    server = hosted()
    opened(server, "red")
    async with page_of(server, TOKENS) as ask:
        assert HTTPStatus.OK is (await ask("/", host="robot.example")).status
        for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": "token-of-the-red-team"}):
            refused = await ask("/state.json", **given)
            assert (HTTPStatus.UNAUTHORIZED, "Bearer") == (refused.status, refused.headers["WWW-Authenticate"])
            assert b"red" not in refused.body
        seen = [
            json.loads((await ask("/state.json", authorization=f"Bearer token-of-the-{team}-team")).body)
            for team in ("red", "blue")
        ]
    assert [1, 0] == [state["num_sessions"] for state in seen]


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.example:80", 421), ("", 421)],
)
async def test_without_a_token_only_this_machines_own_names_are_answered(host, status):
    """A name elsewhere that was made to point here is how a foreign page would read this one."""
    async with page_of(hosted()) as ask:
        assert status == (await ask("/state.json", host=host)).status


async def test_however_many_look_the_loop_is_asked_twice_a_second_at_most(monkeypatch):
    server, looks, now_s = hosted(), [], [100.0]
    look = server.look
    server.look = lambda: (looks.append(1), look())[1]
    monkeypatch.setattr("ccm_runtime.page.time.monotonic", lambda: now_s[0])
    async with page_of(server) as ask:
        for _ in range(20):
            await ask("/state.json")
        assert 1 == len(looks)
        now_s[0] += 0.6
        await ask("/state.json")
    assert 2 == len(looks)


def test_a_loop_that_does_not_turn_is_said_and_not_waited_for(monkeypatch):
    monkeypatch.setattr("ccm_runtime.page.PATIENCE_S", 0.05)
    server, loop = hosted(), asyncio.new_event_loop()
    page = Page(server.look, None, loop)
    request = Request("/state.json", {"host": "localhost"})
    assert HTTPStatus.SERVICE_UNAVAILABLE is page.answer(request).status
    loop.close()
    assert HTTPStatus.SERVICE_UNAVAILABLE is page.answer(request).status


async def test_elsewhere_is_not_found():
    async with page_of(hosted()) as ask:
        assert {404} == {(await ask(path)).status for path in ("/state", "/../etc/passwd", "/page.js", "")}


async def test_beyond_loopback_the_page_needs_a_token_and_tls(tmp_path):
    server = hosted()
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-this-server")
    for missing in ({}, {"token_file": tokens}, {"tls_cert": Path("c"), "tls_key": Path("k")}):
        reachable = ServerConfig().model_copy(update={"host": "0.0.0.0", **missing})  # noqa: S104 (refused)
        with pytest.raises(ConfigError):
            serve_page(server.look, None, reachable, 0)
