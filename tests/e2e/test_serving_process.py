"""A serving process, from its first line to its exit code."""

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from itertools import takewhile

import grpc
import pytest
from certificates import make

from ccm_runtime.testing import ScriptedPolicy, serve
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

LIMIT_S = 30.0
RUN = """
import os, sys
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import CcmError
from ccm_runtime.server import run
try:
    run(ServerConfig.resolve({}, os.environ))
except CcmError as error:
    sys.exit(f"{error.exit_code} {error}")
print("torch" in sys.modules)
"""


def start(run=RUN, **settings):
    environ = {**os.environ, "CCM_PORT": "0", **{f"CCM_{name.upper()}": str(value) for name, value in settings.items()}}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", run], env=environ, **pipes)


def listening(process):
    """Return the address that the process says it listens on."""
    for line in process.stderr:
        if found := re.fullmatch(r"listening on (127\.0\.0\.1:\d+)\n", line):
            return found[1]
    raise AssertionError(f"the server ended with {process.wait()}")


def ended(process):
    """Return the exit code and what the process said last."""
    out, err = process.communicate(timeout=LIMIT_S)
    return process.returncode, out, err


def begun(channel):
    """Return a stub and a step request of a session in the middle of an episode."""
    stub = AdaptationStub(channel)
    opened = stub.OpenSession(pb.OpenSessionRequest(), timeout=LIMIT_S)
    event = pb.Event(sequence=1, begin_episode=pb.BeginEpisode(observation=[0.5, 0.5]))
    stub.Step(pb.StepRequest(session_id=opened.session_id, token=opened.token, event=event), timeout=LIMIT_S)
    return stub, opened


def ending(sequence, opened):
    transition = pb.Transition(observation=[0, 0], terminated=True)
    event = pb.Event(sequence=sequence, transition=transition)
    return pb.StepRequest(session_id=opened.session_id, token=opened.token, event=event)


@pytest.mark.parametrize(("settings", "says"), [({}, True), ({"action_deadline_ms": 20}, False)])
def test_a_server_without_an_action_deadline_says_so(tiny_bundle, settings, says):
    with start(bundle=tiny_bundle, **settings) as process:
        began = "".join(takewhile(lambda line: not line.startswith("listening on "), process.stderr))
        process.send_signal(signal.SIGTERM)
        ended(process)
    assert says == ("no action deadline" in began and "--action-deadline-ms" in began)


@pytest.mark.parametrize(("valid_ms", "warns"), [(100, True), (20, True), (1000, False)])
def test_a_server_whose_actions_expire_before_its_deadline_warns(tiny_bundle, valid_ms, warns):
    with start(bundle=tiny_bundle, action_deadline_ms=100, action_valid_ms=valid_ms, log_level="warning") as process:
        began = "".join(takewhile(lambda line: not line.startswith("listening on "), process.stderr))
        process.send_signal(signal.SIGTERM)
        ended(process)
    assert warns == ("actions may expire" in began and "safe action" in began)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_then_ends_with_zero(tiny_bundle, number):
    with start(bundle=tiny_bundle) as process:
        with grpc.insecure_channel(listening(process)) as channel:
            stub, opened = begun(channel)
            process.send_signal(number)
            answer = stub.Step(ending(2, opened), timeout=LIMIT_S).answer
            assert answer.episode_over
        code, out, err = ended(process)
    assert (0, "False\n") == (code, out)
    assert "drained=True" in err
    assert opened.token not in err


def test_no_pause_while_it_serves_is_for_garbage_among_what_it_began_with(tiny_bundle):
    counting = RUN + "import gc; print(gc.get_freeze_count() > 10 * len(gc.get_objects()))"
    with start(counting, bundle=tiny_bundle) as process:
        listening(process)
        process.send_signal(signal.SIGTERM)
        code, out, _ = ended(process)
    assert (0, "True") == (code, out.split()[-1])


def test_an_abandoned_episode_holds_a_shutdown_for_drain_s_only(tiny_bundle):
    with start(bundle=tiny_bundle, drain_s=0.1) as process, grpc.insecure_channel(listening(process)) as channel:
        begun(channel)
        process.terminate()
        code, _, err = ended(process)
    assert 0 == code
    assert "drained=False" in err


def test_a_second_ctrl_c_ends_the_wait_for_episodes_and_their_sessions_are_saved(tiny_bundle, tmp_path):
    settings = {"bundle": tiny_bundle, "store": tmp_path / "s.db", "drain_s": 3600}
    with start(**settings) as process, grpc.insecure_channel(listening(process)) as channel:
        _, opened = begun(channel)
        process.send_signal(signal.SIGINT)
        assert any("waiting for episodes" in line and "Ctrl-C" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        code, _, err = ended(process)
    assert (0, True) == (code, "drained=False" in err)
    with start(**settings) as process:
        with grpc.insecure_channel(listening(process)) as channel:
            assert AdaptationStub(channel).Step(ending(2, opened), timeout=LIMIT_S).answer.episode_over
        process.terminate()
        ended(process)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"bundle": "/nowhere"}, "5 no bundle at /nowhere"),
        ({"host": "0.0.0.0"}, "2 host 0.0.0.0 can be reached from other machines"),  # noqa: S104 (refused)
        ({}, "2 no bundle is named"),
    ],
)
def test_a_bad_start_ends_with_one_line(settings, expected):
    with start(**settings) as process:
        code, _, err = ended(process)
    assert 1 == code
    assert err.startswith(expected)
    assert 1 == err.count("\n")


def test_a_port_that_is_taken_is_named(tiny_bundle):
    with serve(ScriptedPolicy()) as address, start(bundle=tiny_bundle, port=address.split(":")[1]) as process:
        code, _, err = ended(process)
    assert 1 == code
    assert f"2 cannot listen on {address}: Address already in use; choose another --port" in err


def test_an_address_that_is_not_this_machines_is_named(tiny_bundle, tmp_path):
    key, certificate = make(tmp_path, "pair")
    (tmp_path / "token").write_text("0123456789abcdef")
    secured = {"tls_cert": certificate, "tls_key": key, "token_file": tmp_path / "token"}
    with start(bundle=tiny_bundle, host="192.0.2.1", **secured) as process:  # of documentation, nobody's
        code, _, err = ended(process)
    assert 1 == code
    assert "2 cannot listen on 192.0.2.1:0: Cannot assign requested address; choose another --port" in err


def test_metrics_are_served_on_their_port(tiny_bundle, unused_tcp_port):
    with start(bundle=tiny_bundle, metrics_port=unused_tcp_port, drain_s=0) as process:
        with grpc.insecure_channel(listening(process)) as channel:
            begun(channel)
            with urllib.request.urlopen(f"http://127.0.0.1:{unused_tcp_port}/metrics", timeout=LIMIT_S) as page:
                assert b"ccm_steps_total 1.0" in page.read()
        process.terminate()
        assert 0 == ended(process)[0]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_tls_and_a_token_open_the_door(tiny_bundle, tmp_path):
    key, cert, token = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "token"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", cert]
    subprocess.run([*make, *subject], check=True, capture_output=True, timeout=LIMIT_S)
    token.write_text("a-long-enough-secret")
    with start(bundle=tiny_bundle, tls_cert=cert, tls_key=key, token_file=token) as process:
        address = listening(process)
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(cert.read_bytes())) as channel:
            metadata = (("authorization", "Bearer a-long-enough-secret"),)
            stub = AdaptationStub(channel)
            described = stub.DescribeAgent(pb.DescribeAgentRequest(), metadata=metadata, timeout=LIMIT_S)
            assert "scripted" == described.agent.family
        process.terminate()
        assert 0 == ended(process)[0]


def test_a_server_in_a_thread_serves_a_bundle_and_a_policy_alike(tiny_bundle):
    for agent in (ScriptedPolicy(), tiny_bundle, str(tiny_bundle)):
        with serve(agent) as address, grpc.insecure_channel(address) as channel:
            described = AdaptationStub(channel).DescribeAgent(pb.DescribeAgentRequest(), timeout=LIMIT_S)
            assert "scripted" == described.agent.family
