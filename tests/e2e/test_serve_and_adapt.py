"""`ccm serve` and `ccm adapt` as real processes."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import CCM, ccm, fails
from tiny_bundle import tiny_graphs, write_bundle

from ccm_runtime.bundle import MANIFEST, load_bundle
from ccm_runtime.client import Client
from ccm_runtime.commands.adapt import run_trials
from ccm_runtime.commands.server_process import server_process
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.errors import BundleMissingError, ServerUnreachableError
from ccm_runtime.manifest import Adaptation, SafetyLimits, to_bytes
from ccm_runtime.testing import ScriptedPolicy, manifest_of, serve
from ccm_training.evaluation import evaluate_path

FAMILY = "hard-point-robot-aligned"


def bundle_of(folder, size=2, family=FAMILY):
    policy = ScriptedPolicy(Adaptation(explore_episodes=2, episodes=3, horizon=32), size=size)
    manifest = manifest_of(policy, family=family)
    return write_bundle(folder, manifest, tiny_graphs(manifest))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundle_of(tmp_path_factory.mktemp("agent") / "bundle")


@contextlib.contextmanager
def serving(bundle, *flags):
    """A server process and its address; it must end by itself once told to."""
    process = subprocess.Popen(
        [*CCM, "serve", str(bundle), "--port", "0", *map(str, flags)], stderr=subprocess.PIPE, text=True
    )
    try:
        for line in process.stderr:
            if line.startswith("listening on "):
                yield process, line.split()[-1]
                break
    finally:
        process.kill()
        process.stderr.close()
        process.wait()


def test_adapt_runs_trials_against_a_server_and_sums_them_up(bundle):
    with serving(bundle) as (_, address):
        finished = ccm("adapt", "--server", address, "--env", FAMILY, "--trials", 5, "--seed", 1, "--json")
    assert finished.returncode == 0, finished.stderr
    adaptation = json.loads(finished.stdout)
    assert (adaptation["family"], adaptation["method"], adaptation["trials"]) == (FAMILY, "scripted", 5)
    assert adaptation["explore_episodes"] == 2
    assert len(adaptation["returns"]) == 3
    assert adaptation["interval"][0] <= adaptation["adaptation_score"] <= adaptation["interval"][1]
    assert 150.0 < adaptation["ceiling"] < 170.0
    assert 0.0 <= adaptation["floor"] < 40.0
    assert adaptation["seconds"] > 0.0


def test_a_slowed_agent_is_evaluated_as_it_is_served(tmp_path):
    slowed = shutil.copytree(embedded_bundle(), tmp_path / "slowed")
    limits = {"safety": SafetyLimits(max_rate=(0.01, 0.02), fallback="hold")}
    (slowed / MANIFEST).write_bytes(to_bytes(load_bundle(slowed).manifest.model_copy(update=limits)))
    with serving(slowed) as (_, address):
        served = run_trials(address, family=None, tasks="test", trials=6, seed=0)
    evaluated, free = evaluate_path(slowed, trials=6), evaluate_path(embedded_bundle(), trials=6)
    assert served.returns == pytest.approx(evaluated.returns, rel=1e-3)
    assert served.certainty == pytest.approx(evaluated.certainty, rel=1e-3)
    assert served.adaptation_score == pytest.approx(evaluated.adaptation_score, abs=1e-3)
    assert served.adaptation_score < free.adaptation_score - 0.1


def test_however_many_trials_are_asked_for_only_a_few_wait(bundle):
    """So an interrupt or a lost server ends them at once."""
    waiting = []

    def ended():
        waiting.append(sum("_all_trials" in task.get_coro().__qualname__ for task in asyncio.all_tasks()))

    with serve(bundle) as address:
        run_trials(address, family=None, tasks="test", trials=40, seed=0, ended=ended)
    assert 40 == len(waiting)
    assert max(waiting) <= 16


def test_adapt_needs_neither_torch_nor_gymnasium(bundle):
    script = (
        "import sys\nsys.modules.update(torch=None, gymnasium=None, matplotlib=None, yaml=None, onnxruntime=None)\n"
        "from ccm_runtime.cli import main\nmain()"
    )
    with serving(bundle) as (_, address):
        command = [sys.executable, "-c", script, "adapt", "--server", address, "--trials", "1", "--json"]
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["trials"] == 1


def test_equal_seeds_give_equal_returns(bundle):
    with serving(bundle) as (_, address):
        runs = [ccm("adapt", "--server", address, "--trials", 3, "--seed", 4, "--json") for _ in range(2)]
    first, second = (json.loads(run.stdout) for run in runs)
    assert first["returns"] == second["returns"]


def test_adapt_shows_the_curve_to_a_person(bundle):
    with serving(bundle) as (_, address):
        finished = ccm("adapt", "--server", address, "--trials", 2)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("explore") == 2
    assert "adaptation score" in finished.stdout


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_adapt_passes_a_guarded_door(bundle, tmp_path):
    key, cert, token = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "token"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", cert]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make, *subject], check=True, capture_output=True, timeout=60)
    token.write_text("a-long-enough-secret\n", encoding="utf-8")
    with serving(bundle, "--tls-cert", cert, "--tls-key", key, "--token-file", token) as (_, address):
        adapting = ["adapt", "--server", address, "--trials", 1, "--tls-ca", cert, "--json"]
        finished = ccm(*adapting, "--token-file", token)
        assert finished.returncode == 0, finished.stderr
        assert json.loads(finished.stdout)["trials"] == 1
        assert fails(ccm(*adapting), 11, "token")
        assert fails(ccm(*adapting, "--token-file", tmp_path / "lost"), 2, "cannot read")
    mutual = ["--tls-cert", cert, "--tls-key", key]
    with serving(bundle, *mutual, "--tls-client-ca", cert) as (_, address):
        trying, listing = ["adapt", "--trials", 1, "--server", address], ["agents", "list", "--server", address]
        for command in (trying, listing):
            assert fails(ccm(*command, "--tls-ca", cert), 11, "TLS or a certificate")
            served = ccm(*command, "--tls-ca", cert, *mutual)
            assert served.returncode == 0, served.stderr


def test_a_server_ends_with_0_when_it_is_told_to(bundle):
    with serving(bundle) as (process, address):
        with Client(address) as client:
            client.describe()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_a_serving_process_holds_no_torch(bundle):
    with serving(bundle) as (process, _):
        mapped = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
    assert "onnxruntime" in mapped
    assert "torch" not in mapped


def test_a_server_that_dies_under_a_session_is_told_apart(bundle):
    with serving(bundle) as (process, address), Client(address, timeout_s=0.5) as client:
        session = client.open_session()
        session.begin_episode((0.0, 0.0))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        with pytest.raises(ServerUnreachableError, match=address):
            session.act((0.0, 0.0), 0.0)


def test_a_damaged_bundle_ends_with_code_6(tmp_path):
    damaged = bundle_of(tmp_path / "bundle")
    graph = damaged / "context_encoder.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(bytes(data))
    assert fails(ccm("serve", damaged, "--port", 0), 6, "context_encoder.onnx")


def test_an_agent_of_another_size_than_its_family_ends_with_code_4(tmp_path):
    with serving(bundle_of(tmp_path / "bundle", size=3)) as (_, address):
        assert fails(ccm("adapt", "--server", address, "--trials", 1), 4, "expected a Box of 3 numbers", "shape (2,)")


def said_to_a_terminal(*arguments):
    """What a command says on a standard error that is a terminal."""
    ours, theirs = os.openpty()
    env = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen([*CCM, *arguments], stdout=subprocess.DEVNULL, stderr=theirs, env=env) as process:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # Linux: nobody writes to it any more
            while piece := os.read(ours, 4096):
                said += piece
    os.close(ours)
    assert process.returncode == 0, said
    return said.decode()


def test_adapt_shows_how_far_it_is_on_a_terminal_and_not_where_json_is_asked_for(bundle):
    with serving(bundle) as (_, address):
        command = ("adapt", "--server", address, "--env", FAMILY, "--trials", "5")
        assert "100%" in said_to_a_terminal(*command)
        assert said_to_a_terminal(*command, "--json") == ""
        assert ccm(*command).stderr == ""


def test_another_family_s_server_ends_with_code_10(bundle):
    with serving(bundle) as (_, address):
        assert fails(ccm("adapt", "--server", address, "--env", "sparse-point-robot"), 10, "sparse-point-robot", FAMILY)


def test_an_open_address_without_tls_ends_with_code_2(bundle):
    assert fails(ccm("serve", bundle, "--host", "0.0.0.0", "--port", 0), 2, "--tls-cert")  # noqa: S104


def test_a_variable_is_a_flag_s_equal(bundle, monkeypatch):
    monkeypatch.setenv("CCM_PORT", "seventy")
    assert fails(ccm("serve", bundle), 2, "port")


def test_a_server_of_our_own_says_why_it_did_not_start(tmp_path):
    with (
        pytest.raises(ServerUnreachableError, match=r"ended with code 5 .* no bundle at"),
        server_process(tmp_path / "nowhere"),
    ):
        pass


def test_a_server_of_our_own_leaves_what_somebody_s_server_is_told_alone(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("CCM_STORE", str(tmp_path / "sessions.db"))
    monkeypatch.setenv("CCM_PAGE_PORT", "tcp://10.0.0.1:80")
    with server_process(bundle) as address:
        assert "127.0.0.1:" in address
    assert not list(tmp_path.iterdir())


def test_a_server_of_our_own_that_lacks_an_extra_ends_with_code_3(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError('no such module', name='onnxruntime')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert fails(ccm("adapt", "--env", FAMILY, "--trials", 1), 3, "pip install 'ccm[serve]'")


def test_the_embedded_agent_adapts_with_no_server_named():
    try:
        embedded_bundle()
    except BundleMissingError as missing:
        pytest.skip(str(missing))
    finished = ccm("adapt", "--env", FAMILY, "--trials", 10, "--json")
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["adaptation_score"] > 0.5
