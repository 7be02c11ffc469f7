"""The command line: its help is as agreed, it loads what it needs, and an error is one line and its code."""

import json
import os
import re
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from command import ccm, fails
from tiny_bundle import tiny_graphs, write_bundle

from ccm_runtime import cli, cli_bundles
from ccm_runtime.commands.server_process import listening_process
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import CcmError, SpecError
from ccm_runtime.manifest import Adaptation
from ccm_runtime.testing import ScriptedPolicy, manifest_of

GOLDEN = Path(__file__).parents[2] / "golden" / "help"
COMMANDS = (
    "quickstart", "train", "sweep", "evaluate", "export", "verify", "sign", "serve", "adapt", "record", "replay",
    "runs", "report", "hash", "families", "new-family", "check-family", "doctor", "benchmark", "bench serve",
    "agents", "agents list", "agents load", "agents promote", "agents rollback", "soak", "version",
)  # fmt: skip


def golden(name):
    return (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_as_it_was_agreed(command, monkeypatch, capsys):
    """Rewrite the golden files with CCM_UPDATE_GOLDEN=1 and review the difference."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "argv", ["ccm", *command.split(), "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.app(prog_name="ccm")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    if os.environ.get("CCM_UPDATE_GOLDEN"):
        (GOLDEN / f"{command.replace(' ', '-') or 'ccm'}.txt").write_text(shown, encoding="utf-8")
    assert shown == golden(command.replace(" ", "-") or "ccm")


def test_every_setting_of_a_server_is_a_flag():
    flags = {option.removeprefix("--") for option in re.findall(r"^  (--[a-z-]+)", golden("serve"), re.MULTILINE)}
    settings = {name.replace("_", "-") for name in ServerConfig.model_fields}
    assert settings - {"bundle"} == flags


def test_help_loads_nothing_heavy():
    script = (
        "import sys\nsys.argv = ['ccm', '--help']\nfrom ccm_runtime.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'onnxruntime', 'gymnasium', 'numpy', 'grpc'} & set(sys.modules)\nassert not heavy, heavy"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_the_client_loads_no_simulator_and_no_network_runtime():
    script = (
        "import sys\nimport ccm_runtime.client, ccm_runtime.drive\n"
        "heavy = {'torch', 'onnxruntime', 'gymnasium'} & set(sys.modules)\nassert not heavy, heavy"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_adapting_needs_no_torch():
    script = (
        "import sys\nsys.modules['torch'] = sys.modules['gymnasium'] = None\n"
        "sys.argv = ['ccm', 'adapt', '--server', '127.0.0.1:1', '--env', 'no-such-family']\n"
        "from ccm_runtime.cli import main\nmain()"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert fails(finished, 2, "no-such-family")


@pytest.mark.parametrize("command", [["verify"], ["serve"], ["evaluate"]])
def test_a_missing_bundle_ends_with_code_5(command, tmp_path):
    assert fails(ccm(*command, tmp_path / "nowhere"), 5, "nowhere")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["train", "--config", "quickstart", "--run-dir", ""], "--run-dir: "),
        (["export", "run", "--out="], "--out: "),
        (["serve", "--store", ""], "--store: "),
        (["verify", ""], "an argument: "),
    ],
)
def test_an_empty_argument_is_not_the_current_folder(arguments, name, monkeypatch, capsys):
    monkeypatch.setattr(cli, "app", lambda **_: pytest.fail("it ran"))
    monkeypatch.setattr(sys, "argv", ["ccm", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert 2 == ended.value.code
    assert f"ccm: error: {name}expected a value, got nothing" in capsys.readouterr().err


def test_a_setting_may_be_set_to_nothing(monkeypatch):
    ran = []
    monkeypatch.setattr(cli, "app", lambda **_: ran.append(True))
    monkeypatch.setattr(sys, "argv", ["ccm", "train", "--set", "label=", "--set=label="])
    cli.main()
    assert [True] == ran


@pytest.mark.parametrize(
    ("there", "expected", "named"),
    [("agents", "AGENT/VERSION/", "agents"), ("agents/walker", "VERSION/", "agents/walker")],
)
def test_a_folder_of_agents_that_lacks_a_bundle_is_named(tmp_path, there, expected, named):
    (tmp_path / there).mkdir(parents=True)
    finished = ccm("serve", "--agents", tmp_path / "agents", "--port", 0)
    assert fails(finished, 2, f"agents: expected {expected} with a bundle in {tmp_path / named}, found none")


def test_an_unknown_family_names_the_nearest_and_ends_with_code_2():
    finished = ccm("adapt", "--server", "127.0.0.1:1", "--env", "hard-point-robo")
    assert fails(finished, 2, "'hard-point-robo'", "'hard-point-robot'")


def test_an_unknown_family_is_told_before_a_server_is_looked_for():
    assert fails(ccm("adapt", "--env", "no-such-family"), 2, "no task family 'no-such-family'; known: ")


@pytest.mark.parametrize(
    "server", ["nonsense", "127.0.0.1:http", ":7070", "127.0.0.1:0", "127.0.0.1:65536", "http://127.0.0.1:7070"]
)
def test_what_is_no_address_ends_with_code_2(server):
    assert fails(ccm("adapt", "--server", server), 2, f"--server {server}: expected HOST:PORT")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tls-cert", "cert.pem"], "--tls-cert and --tls-key go together"),
        (["--tls-cert", "cert.pem", "--tls-key", "key.pem"], "need --tls-ca"),
    ],
)
def test_a_clients_certificate_needs_its_key_and_whom_to_trust(flags, words):
    assert fails(ccm("adapt", "--server", "127.0.0.1:1", *flags), 2, words)


@pytest.mark.parametrize(
    ("command", "exit_code", "words"),
    [
        (["adapt", "--server", "127.0.0.1:1", "--tls-ca", "FILE"], 2, "no certificate in PEM form"),
        (["serve", "BUNDLE", "--port", "0", "--tls-cert", "FILE", "--tls-key", "FILE"], 2, "in PEM form"),
        (["train", "--config", "point_robot_debug", "--run-dir", "FILE"], 2, "cannot use"),
        (["export", "FILE", "--out", "out"], 5, "no checkpoint there"),
        (["verify", "FILE"], 5, "no bundle at"),
        (["hash", "FILE"], 5, "no checkpoint there"),
        (["report", "FILE"], 5, "no checkpoint there"),
        (["report", "run", "--out", "FILE"], 2, "exists and is no report"),
        (["runs", "FILE"], 5, "no folder there"),
        (["soak", "BUNDLE", "--store", "FILE/store.sqlite"], 2, "store: expected a file in a folder that exists"),
    ],
)
def test_a_file_of_another_kind_is_named(tiny_bundle, tmp_path, command, exit_code, words):
    file = tmp_path / "thesis.txt"
    file.write_text("precious", encoding="utf-8")
    finished = ccm(*(word.replace("FILE", str(file)).replace("BUNDLE", str(tiny_bundle)) for word in command))
    assert fails(finished, exit_code, str(file), words)
    assert file.read_text(encoding="utf-8") == "precious"


def test_a_report_is_no_folder_and_may_be_written_anew(tmp_path):
    assert fails(ccm("report", "run", "--out", tmp_path), 2, f"--out {tmp_path}: that is a folder")
    (page := tmp_path / "old.html").write_text("<!doctype html>", encoding="utf-8")
    assert fails(ccm("report", tmp_path / "run", "--out", page), 5, "no checkpoint there")


def test_a_run_that_is_named_twice_is_not_compared(tmp_path):
    assert fails(ccm("report", tmp_path, f"{tmp_path}/"), 2, f"{tmp_path} is there twice")


def test_a_port_that_is_taken_ends_with_code_2(tiny_bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert fails(ccm("serve", tiny_bundle, "--port", port), 2, f"cannot listen on 127.0.0.1:{port}", "--port")
        finished = ccm("serve", tiny_bundle, "--port", 0, "--metrics-port", port, "--log-level", "error")
        assert fails(finished, 2, f"cannot listen on 127.0.0.1:{port}", "--metrics-port")


def test_an_unreachable_server_ends_with_code_11():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{taken.getsockname()[1]}"
        assert fails(ccm("adapt", "--server", target, "--trials", "1"), 11, target, "ccm serve")


def test_trials_are_of_the_agent_that_is_named(tmp_path):
    for name, explore_episodes in (("one", 1), ("two", 2)):
        policy = ScriptedPolicy(Adaptation(explore_episodes=explore_episodes, episodes=3, horizon=32))
        manifest = manifest_of(policy, family="hard-point-robot-aligned").model_copy(update={"agent_id": name})
        write_bundle(tmp_path / name, manifest, tiny_graphs(manifest))
    bundles = (str(tmp_path / "one"), str(tmp_path / "two"))
    with listening_process("ccm_runtime", "serve", *bundles, "--port", "0") as server:
        adapt = ("adapt", "--server", server.address, "--trials", 1)
        assert 1 == json.loads(ccm(*adapt, "--json").stdout)["explore_episodes"]
        assert 2 == json.loads(ccm(*adapt, "--json", "--agent", "two").stdout)["explore_episodes"]
        assert fails(ccm(*adapt, "--agent", "three"), 10, "no agent is called three; this server has one, two")


def test_an_agent_of_no_server_is_refused():
    assert fails(ccm("adapt", "--agent", "walker"), 2, "--agent walker", "--server")


def test_an_unknown_preset_names_the_known_ones_and_ends_with_code_2(tmp_path):
    assert fails(ccm("train", "--config", "no-such-preset", "--run-dir", tmp_path), 2, "no-such-preset")


def test_wrong_usage_ends_with_code_2_and_shows_the_usage():
    finished = ccm("train")
    assert finished.returncode == 2
    assert "Usage: " in finished.stderr
    assert "--config" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_every_error_of_the_tree_ends_with_its_code():
    def tree(kind):
        return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]

    documented = (Path(__file__).parents[3] / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    ours = [kind for kind in tree(CcmError) if kind.__module__ == "ccm_runtime.errors"]
    assert len(ours) > 20
    for kind in ours:
        assert f"| {kind.exit_code} |" in documented
        assert f"`{kind.__name__}`" in documented


def failing(monkeypatch, error):
    def app(**_):
        raise error

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_an_error_is_one_line_and_its_code(monkeypatch, capsys):
    monkeypatch.delenv("CCM_DEBUG", raising=False)
    assert failing(monkeypatch, SpecError("expected 2 values,\ngot 3")) == 4
    assert capsys.readouterr().err == "ccm: error: expected 2 values, got 3\n"


def test_a_warning_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(cli, "app", lambda **_: warnings.warn("damaged checkpoint\npassed over", stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        cli.main()
        assert capsys.readouterr().err == "ccm: warning: damaged checkpoint passed over\n"


def test_a_fault_of_ours_is_one_line_unless_debugging(monkeypatch, capsys):
    monkeypatch.delenv("CCM_DEBUG", raising=False)
    assert failing(monkeypatch, RuntimeError("no luck")) == 1
    assert capsys.readouterr().err == "ccm: error: unexpected RuntimeError: no luck (CCM_DEBUG=1 shows where)\n"
    monkeypatch.setenv("CCM_DEBUG", "1")
    assert failing(monkeypatch, RuntimeError("no luck")) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_file_that_cannot_be_used_is_no_fault_of_ours(monkeypatch, capsys):
    monkeypatch.delenv("CCM_DEBUG", raising=False)
    assert failing(monkeypatch, PermissionError(13, "Permission denied", "runs/first")) == 2
    assert capsys.readouterr().err == "ccm: error: cannot use runs/first: Permission denied\n"


@pytest.mark.parametrize(("where", "told"), [((), "write"), (("runs/first",), "use runs/first")])
def test_a_full_disk_is_no_fault_of_ours(monkeypatch, capsys, where, told):
    assert failing(monkeypatch, OSError(28, "No space left on device", *where)) == 2
    assert capsys.readouterr().err == f"ccm: error: cannot {told}: No space left on device; free some, and try again\n"


def test_an_interrupt_ends_with_code_130(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_bundles, "needs", lambda _: interrupted())
    monkeypatch.setattr(sys, "argv", ["ccm", "verify", "bundle"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130


def test_a_missing_extra_names_the_command_that_installs_it():
    script = (
        "import sys\nsys.modules['torch'] = None\nsys.argv = ['ccm', 'train', '--config', 'quickstart']\n"
        "from ccm_runtime.cli import main\nmain()"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert fails(finished, 3, "needs torch, which is not installed", "pip install 'ccm[train]'")


def test_version_and_doctor_answer():
    assert ccm("version").stdout.strip().count(".") == 2
    assert ccm("version").stdout == ccm("--version").stdout
    diagnosis = json.loads(ccm("doctor", "--json").stdout)
    assert diagnosis["torch_device"] in {"cpu"} or diagnosis["torch_device"].startswith("cuda")
    assert diagnosis["onnx_provider"].endswith("ExecutionProvider")


def test_families_are_listed():
    rows = json.loads(ccm("families", "--json").stdout)
    assert "hard-point-robot-aligned" in {row["family"] for row in rows}
