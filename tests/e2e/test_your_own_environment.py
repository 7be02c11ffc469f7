"""docs/how-to/use-your-own-environment.md, run as a reader would: its files, its commands, its client."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command import CCM, ccm, fails

from ccm_runtime.commands.server_process import server_process

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/use-your-own-environment.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`([\w.]+)`:\n\n```(?:python|yaml)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = re.findall(r"^(ccm .+)$", PAGE, re.MULTILINE)
pytestmark = pytest.mark.timeout(900)
ADDRESS = "127.0.0.1:7070"
SHORT = (
    "collect.iterations=2", "collect.warmup_trials=1", "collect.tasks=4", "updates_per_iteration=2",
    "tasks.num_train=16", "tasks.num_test=4", "encoder.pretrain_updates=5",
    "networks.hidden=[16,16]", "evaluation.every=0",
)  # fmt: skip


def run(words, folder):
    """Run one command of the page to its end; what it printed."""
    finished = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=3600)
    assert finished.returncode == 0, f"{words}\n{finished.stderr}"
    return finished.stdout


def follow(folder, settings):
    """Follow the page in `folder`, with these settings over its config; what each command printed, by command."""
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    printed, serving = {}, COMMANDS.index("ccm serve pendulum-bundle")
    for command in COMMANDS[:serving]:
        over = [f"--set={setting}" for setting in settings] if command.startswith("ccm train") else []
        printed[command] = run([*CCM, *shlex.split(command)[1:], *over], folder)
    with server_process(folder / "pendulum-bundle") as address:
        for command in COMMANDS[serving + 1 :]:
            printed[command] = run([*CCM, *shlex.split(command.replace(ADDRESS, address))[1:]], folder)
        script = (folder / "swing.py").read_text(encoding="utf-8").replace(ADDRESS, address)
        printed["swing.py"] = run([sys.executable, "-c", script], folder)
    return printed


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pendulum")
    return folder, follow(folder, SHORT)


def test_the_files_of_the_page_are_those_of_the_example():
    example = {
        path.name: path.read_text(encoding="utf-8") for path in (ROOT / "examples/pendulum").iterdir() if path.is_file()
    }
    assert example == {name: text for name, text in FILES.items() if name != "swing.py"}


def test_every_command_of_the_page_works(followed):
    _, printed = followed
    assert set(printed) == {*COMMANDS, "swing.py"} - {"ccm serve pendulum-bundle", "ccm new-family my-arm"}
    assert "adaptation score" in printed["ccm evaluate runs/pendulums --ceiling runs/oracle"]
    assert printed["swing.py"].splitlines()[-1].startswith("episode 3: -")


def test_a_family_goes_by_its_name_everywhere(followed):
    folder, _ = followed
    name = "pendulums:Pendulums"
    manifest = json.loads((folder / "pendulum-bundle" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["family"], manifest["provenance"]["config"]["family"]) == (name, name)
    assert (manifest["observation"]["units"], manifest["action"]["units"]) == (["1", "1", "rad/s"], ["N m"])
    assert json.loads((folder / "runs/pendulums/evaluation.json").read_text(encoding="utf-8"))["family"] == name


def test_run_and_bundle_agree(followed, monkeypatch):
    folder, _ = followed
    monkeypatch.chdir(folder)
    common = ("--trials", 4, "--ceiling", "runs/oracle", "--json")
    of_run = json.loads(ccm("evaluate", "runs/pendulums", *common).stdout)
    of_bundle = json.loads(ccm("evaluate", "pendulum-bundle", "--family", "pendulums:Pendulums", *common).stdout)
    assert of_bundle["returns"] == pytest.approx(of_run["returns"], rel=1e-3)
    assert of_bundle["ceiling"] == of_run["ceiling"]


def test_a_bundle_s_family_is_not_imported_unasked(followed, tmp_path, monkeypatch):
    folder, _ = followed
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pendulums.py").write_text("open('imported', 'w').close()", encoding="utf-8")
    bundle = folder / "pendulum-bundle"
    ask = "add --family pendulums:Pendulums"
    assert fails(ccm("evaluate", bundle), 2, f"the bundle {bundle} names", ask)
    assert ccm("verify", bundle).returncode == 0
    with server_process(bundle) as address:
        assert fails(ccm("adapt", "--server", address), 2, "the server names", ask)
    assert not (tmp_path / "imported").exists()
    assert fails(ccm("evaluate", bundle, "--family", "pendulums:Pendulums"), 2, "has no 'Pendulums'")
    assert (tmp_path / "imported").exists()


def test_another_family_or_another_ceiling_is_refused(followed, monkeypatch):
    folder, _ = followed
    monkeypatch.chdir(folder)
    assert fails(
        ccm("evaluate", "runs/pendulums", "--family", "sparse-point-robot"), 2, "was trained on pendulums:Pendulums"
    )
    assert fails(ccm("evaluate", "runs/pendulums", "--ceiling", "runs/pendulums"), 2, "expected a run of method oracle")


def test_an_oracle_is_its_own_ceiling(followed, monkeypatch):
    folder, _ = followed
    monkeypatch.chdir(folder)
    scored = json.loads(ccm("evaluate", "runs/oracle", "--ceiling", "runs/oracle", "--trials", 4, "--json").stdout)
    assert scored["ceiling"] == pytest.approx(scored["returns"][0])
    if scored["ceiling"] > scored["floor"]:
        assert scored["adaptation_score"] == pytest.approx(1.0)
    else:  # trained for a moment, it may be worse than random actions
        assert scored["adaptation_score"] is None


def test_a_report_needs_neither_a_ceiling_nor_goals(followed, monkeypatch):
    folder, _ = followed
    monkeypatch.chdir(folder)
    script = (
        "from pathlib import Path; from ccm_training.report import write_report; "
        "write_report(Path('runs/pendulums'), Path('report.html'))"
    )
    run([sys.executable, "-c", script], folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "gravity (m/s^2)" in page
    assert "Trajectories" not in page
    assert "return of the first executor episode." in page


@pytest.mark.learning
@pytest.mark.timeout(7200)
def test_the_page_s_agent_comes_near_its_ceiling(tmp_path):
    follow(tmp_path, ())
    evaluated = run([*CCM, "evaluate", "runs/pendulums", "--ceiling", "runs/oracle", "--json"], tmp_path)
    assert json.loads(evaluated)["adaptation_score"] > 0.9
