"""Laws of tokens and tenants, over a real server."""

from contextlib import asynccontextmanager

import grpc
import pytest

from ccm_runtime import statuses
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import ConfigError
from ccm_runtime.tenants import Tokens
from ccm_runtime.testing import ScriptedPolicy, manifest_of, serving
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub
from ccm_runtime.versions import ServedAgent

LIMIT_S = 20.0
MINE, YOURS = "mine-is-a-long-secret", "yours-is-a-long-secret"
RENEWED = "renewed-is-a-long-secret"
FILE = f"me:{MINE}\n\nyou:{YOURS}\nyou:{YOURS}-2\n"


def bearing(token):
    return (("authorization", f"Bearer {token}"),)


@asynccontextmanager
async def stub_of(tmp_path, tokens=FILE, digest="5c" * 32, **settings):
    (tmp_path / "tokens").write_text(tokens)
    config = ServerConfig(**{"port": 0, "log_level": "error", "token_file": tmp_path / "tokens", **settings})
    served = ServedAgent(policy := ScriptedPolicy(), manifest_of(policy), digest)
    async with serving(served, config) as address, grpc.aio.insecure_channel(address) as channel:
        yield AdaptationStub(channel)


async def refused(call):
    """Return the status and the kind of error of a refused call."""
    with pytest.raises(grpc.RpcError) as error:
        await call
    rpc = error.value
    back = statuses.error_from_rpc(rpc.code(), rpc.details(), list(rpc.trailing_metadata() or ()))
    for secret in (MINE, YOURS):
        assert secret not in rpc.details()
    return rpc.code(), type(back).__name__


def opening(stub, token, **options):
    return stub.OpenSession(pb.OpenSessionRequest(**options), metadata=bearing(token), timeout=LIMIT_S)


def begin(opened):
    event = pb.Event(sequence=1, begin_episode=pb.BeginEpisode(observation=[0.5, 0.5]))
    return pb.StepRequest(session_id=opened.session_id, token=opened.token, event=event)


@pytest.mark.parametrize(
    "given", [(), bearing("guess"), bearing(MINE[:-1]), bearing(MINE + "x"), bearing("me:" + MINE)]
)
async def test_without_one_of_the_tokens_every_call_is_refused(tmp_path, given):
    async with stub_of(tmp_path) as stub:
        call = stub.OpenSession(pb.OpenSessionRequest(), metadata=given, timeout=LIMIT_S)
        assert (grpc.StatusCode.UNAUTHENTICATED, "UnauthenticatedError") == await refused(call)


async def test_another_tenants_session_is_none_even_with_its_token(tmp_path):
    async with stub_of(tmp_path) as stub:
        opened = await opening(stub, MINE)
        nothing = (grpc.StatusCode.NOT_FOUND, "SessionUnknownError")
        assert nothing == await refused(stub.Step(begin(opened), metadata=bearing(YOURS), timeout=LIMIT_S))
        close = pb.CloseSessionRequest(session_id=opened.session_id, token=opened.token)
        assert nothing == await refused(stub.CloseSession(close, metadata=bearing(YOURS), timeout=LIMIT_S))
        stream = stub.Session(metadata=bearing(YOURS), timeout=LIMIT_S)
        resume = pb.ResumeSession(session_id=opened.session_id, token=opened.token)
        await stream.write(pb.SessionRequest(resume=resume))
        assert nothing == await refused(stream.read())
        assert 1 == (await stub.Step(begin(opened), metadata=bearing(MINE), timeout=LIMIT_S)).answer.sequence


async def told_on_resuming(stub, token, opened):
    """Return what a tenant is told who resumes a session that is not there."""
    stream = stub.Session(metadata=bearing(token), timeout=LIMIT_S)
    resume = pb.ResumeSession(session_id=opened.session_id, token=opened.token)
    await stream.write(pb.SessionRequest(resume=resume))
    with pytest.raises(grpc.RpcError) as error:
        await stream.read()
    return error.value.details()


async def test_another_tenants_session_is_none_after_its_end_either(tmp_path):
    async with stub_of(tmp_path) as stub:
        opened = await opening(stub, MINE)
        await stub.Step(begin(opened), metadata=bearing(MINE), timeout=LIMIT_S)
        ended = pb.Transition(observation=[1.0, 1.0], reward=2.5, terminated=True)
        step = pb.StepRequest(session_id=opened.session_id, token=opened.token)
        step.event.CopyFrom(pb.Event(sequence=2, transition=ended))
        await stub.Step(step, metadata=bearing(MINE), timeout=LIMIT_S)
        close = pb.CloseSessionRequest(session_id=opened.session_id, token=opened.token)
        told = [
            await stub.CloseSession(close, metadata=bearing(token), timeout=LIMIT_S) for token in (MINE, YOURS, MINE)
        ]
        assert [[2.5], [], [2.5]] == [list(closed.returns) for closed in told]
        assert not told[1].HasField("context")
        assert "the session was closed" in await told_on_resuming(stub, MINE, opened)
        assert "no such session" in await told_on_resuming(stub, YOURS, opened)


async def test_another_tenants_session_is_none_while_it_rests_in_the_store(tmp_path):
    store = tmp_path / "s.db"
    async with stub_of(tmp_path, store=store) as stub:
        opened = await opening(stub, MINE)
    async with stub_of(tmp_path, digest="ab" * 32, store=store) as stub:
        assert f"goes on with bundle {'5c' * 6} alone" in await told_on_resuming(stub, MINE, opened)
        assert "no such session" in await told_on_resuming(stub, YOURS, opened)


async def test_every_token_of_a_tenant_reaches_its_sessions(tmp_path):
    async with stub_of(tmp_path) as stub:
        opened = await opening(stub, YOURS)
        assert 1 == (await stub.Step(begin(opened), metadata=bearing(YOURS + "-2"), timeout=LIMIT_S)).answer.sequence


async def test_one_key_is_one_session_for_each_tenant(tmp_path):
    async with stub_of(tmp_path) as stub:
        mine, again, yours = [await opening(stub, t, idempotency_key="k") for t in (MINE, MINE, YOURS)]
    assert mine.session_id == again.session_id != yours.session_id


async def test_a_tenants_sessions_are_bounded_and_leave_room_for_others(tmp_path):
    async with stub_of(tmp_path, max_tenant_sessions=2) as stub:
        first = await opening(stub, MINE)
        await opening(stub, MINE)
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "SessionLimitError") == await refused(opening(stub, MINE))
        await opening(stub, YOURS)
        close = pb.CloseSessionRequest(session_id=first.session_id, token=first.token)
        await stub.CloseSession(close, metadata=bearing(MINE), timeout=LIMIT_S)
        await opening(stub, MINE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no token"),
        ("short", "token 1, has 5 characters"),
        (f"{MINE}\nyou:{YOURS}", "not all name their tenant"),
        (f"me:{MINE}\nyou:{MINE}", "a token twice"),
    ],
)
def test_a_file_of_tokens_that_is_wrong_is_refused_without_a_token_in_the_message(tmp_path, text, message):
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        Tokens.read(tmp_path / "tokens")
    assert MINE not in str(error.value)


def test_a_token_is_compared_with_every_entry_in_constant_time(tmp_path, monkeypatch):
    (tmp_path / "tokens").write_text(FILE)
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda ours, given: compared.append(ours) or ours == given)
    tokens = Tokens.read(tmp_path / "tokens")
    for given, tenant in ((MINE, "me"), (YOURS, "you"), ("guess", None)):
        compared.clear()
        assert tenant == tokens.tenant_of(f"Bearer {given}".encode())
        assert 3 == len(compared)
    assert MINE not in repr(tokens)


async def test_tokens_are_renewed_without_a_restart(tmp_path, capfd):
    async with stub_of(tmp_path, log_level="info") as stub:
        stream = stub.Session(metadata=bearing(MINE))
        await stream.write(pb.SessionRequest(open=pb.OpenSessionRequest()))
        await stream.read()
        assert (grpc.StatusCode.UNAUTHENTICATED, "UnauthenticatedError") == await refused(opening(stub, RENEWED))
        (tmp_path / "tokens").write_text(f"me:{RENEWED}\nyou:{YOURS}\n")
        opened = await opening(stub, RENEWED)
        assert (grpc.StatusCode.UNAUTHENTICATED, "UnauthenticatedError") == await refused(opening(stub, MINE))
        assert 1 == (await stub.Step(begin(opened), metadata=bearing(RENEWED), timeout=LIMIT_S)).answer.sequence
        await opening(stub, YOURS)
        await stream.write(pb.SessionRequest(event=begin(opened).event))  # what stands goes on
        assert 1 == (await stream.read()).answer.sequence
        stream.cancel()
    log = capfd.readouterr().err
    assert "tokens renewed" in log
    assert not [token for token in (MINE, YOURS, RENEWED) if token in log]


@pytest.mark.parametrize("text", ["", f"me:{RENEWED}\n{YOURS}\n", "me:half-a-tok"])
async def test_a_wrong_or_missing_file_of_tokens_lets_the_old_ones_go_on(tmp_path, capfd, text):
    async with stub_of(tmp_path, log_level="info") as stub:
        if text:
            (tmp_path / "tokens").write_text(text)
        else:
            (tmp_path / "tokens").unlink()
        await opening(stub, MINE)
        assert (grpc.StatusCode.UNAUTHENTICATED, "UnauthenticatedError") == await refused(opening(stub, RENEWED))
        (tmp_path / "tokens").write_text(f"me:{RENEWED}")
        await opening(stub, RENEWED)
    log = capfd.readouterr().err
    assert 1 == log.count("tokens not renewed")
    assert not [token for token in (MINE, YOURS, RENEWED, "half-a-tok") if token in log]
