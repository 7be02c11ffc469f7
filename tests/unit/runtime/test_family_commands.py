"""`ccm families`, `ccm new-family` and `ccm check-family`, as a user runs them."""

import json
import subprocess
import sys

import pytest
from command import ccm, fails

from ccm_training.envs.laws import LAWS
from ccm_training.envs.registry import list_families


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A folder with what `ccm new-family my-arm` writes."""
    folder = tmp_path_factory.mktemp("new")
    finished = ccm("new-family", "my-arm", "--out", folder)
    assert finished.returncode == 0, finished.stderr
    assert f"cd {folder} && ccm check-family my_arm:MyArm" in finished.stderr
    return folder


def test_advice_can_be_pasted_where_a_name_has_spaces(tmp_path):
    told = ccm("new-family", "my-arm", "--out", tmp_path / "of mine").stderr
    assert f"next: cd '{tmp_path}/of mine' && ccm check-family" in told


def test_families_are_listed_with_what_varies():
    rows = json.loads(ccm("families", "--json").stdout)
    assert [row["family"] for row in rows] == [family.name for family in list_families()]
    assert rows[0]["task"] == {
        "labels": ["angle of the goal"],
        "units": ["rad"],
        "low": [0.0],
        "high": [3.141592653589793],
    }
    shown = ccm("families").stdout
    assert all(family.name in shown for family in list_families())
    assert "angle of the goal (rad)" in shown


def test_a_new_family_is_three_files(started):
    assert {"my_arm.py", "my_arm.yaml", "test_my_arm.py"} == {path.name for path in started.iterdir() if path.is_file()}


def test_a_new_family_passes_its_own_test(started):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        "-W",
        "error",
        "--rootdir=.",
        "-c",
        "/dev/null",
    ]
    finished = subprocess.run(command, cwd=started, capture_output=True, text=True, check=False, timeout=200)
    assert finished.returncode == 0, finished.stdout
    assert f"{len(LAWS) + 1} passed" in finished.stdout


def test_a_new_family_is_well_formed(started):
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=120", "--ignore=I001", str(started)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 0, finished.stdout


def test_a_new_family_obeys_every_law(started, monkeypatch):
    monkeypatch.chdir(started)
    finished = ccm("check-family", "my_arm:MyArm", "--json")
    assert finished.returncode == 0, finished.stderr
    verdicts = json.loads(finished.stdout)
    assert verdicts["family"] == "my_arm:MyArm"
    assert [(verdict["law"], verdict["holds"]) for verdict in verdicts["laws"]] == [(law.words, True) for law in LAWS]


def test_a_broken_law_is_told_and_ends_with_code_2(started, monkeypatch):
    monkeypatch.chdir(started)
    text = (started / "my_arm.py").read_text(encoding="utf-8")
    deaf = text.replace("env.unwrapped.g = float(task[0])", "del env, task")
    assert deaf != text
    (started / "deaf.py").write_text(deaf, encoding="utf-8")
    finished = ccm("check-family", "deaf:MyArm", COLUMNS="300")
    assert fails(finished, 2, "deaf:MyArm breaks 1 of 11 laws: the task changes the dynamics or the reward")
    (row,) = [line for line in finished.stdout.splitlines() if line.startswith("BROKEN")]
    assert "does the environment read its task?" in row
    (started / "deaf.py").unlink()


def test_a_unit_too_few_is_told(started, monkeypatch):
    monkeypatch.chdir(started)
    text = (started / "my_arm.py").read_text(encoding="utf-8")
    short = text.replace('("1", "1", "rad/s")', '("1", "rad/s")')
    assert short != text
    (started / "short.py").write_text(short, encoding="utf-8")
    words = "observation_units is ('1', 'rad/s'); expected a list of texts, one for each entry of the space (3)"
    assert fails(ccm("check-family", "short:MyArm"), 2, words)
    (started / "short.py").unlink()


def test_an_environment_that_ends_the_process_is_told_as_its_fault(started, monkeypatch):
    monkeypatch.chdir(started)
    text = (started / "my_arm.py").read_text(encoding="utf-8")
    quits = text.replace("env.unwrapped.g = float(task[0])", "raise SystemExit(3)")
    draws = text.replace('if split == "ood":', "raise SystemExit(3)\n        if split:")
    assert text not in {quits, draws}
    (started / "quits.py").write_text(quits, encoding="utf-8")
    (started / "draws.py").write_text(draws, encoding="utf-8")
    finished = ccm("check-family", "quits:MyArm", COLUMNS="300")
    assert fails(
        finished, 2, "quits:MyArm breaks 9 of 11 laws: the simulation of quits:MyArm failed at ", ": SystemExit: 3"
    )
    assert [finished.stdout.count(words) for words in ("/quits.py:", ": SystemExit: 3", "as above")] == [1, 1, 8]
    train = ("train", "--config", "my_arm.yaml", "--run-dir", "run", "--set")
    assert fails(ccm(*train, "family=quits:MyArm"), 8, "/quits.py:", ": SystemExit: 3; ")
    assert fails(ccm(*train, "family=draws:MyArm"), 2, "sample_tasks('train', ", "/draws.py:", ": SystemExit: 3")
    for name in ("quits.py", "draws.py"):
        (started / name).unlink()


def test_one_of_ours_can_be_checked():
    assert ccm("check-family", "sparse-point-robot").stdout.count("holds  ") == len(LAWS)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("random", "'random' is the name of an installed module"),
        ("my-arm", "exists already"),
        ("Class", "'Class' does not name a family"),
        ("3d", "'3d' does not name a family; expected words of the letters a to z and digits, a letter first"),
        ("../arm", "'../arm' does not name a family"),
    ],
)
def test_a_name_that_will_not_do_is_refused(started, name, words):
    before = sorted(path.name for path in started.iterdir())
    assert fails(ccm("new-family", name, "--out", started), 2, words)
    assert before == sorted(path.name for path in started.iterdir())


def test_a_missing_family_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fails(ccm("check-family", "lost:Family"), 2, "no module 'lost'", str(tmp_path))


def test_a_family_is_not_begun_in_a_file(tmp_path):
    (tmp_path / "notes").touch()
    assert fails(ccm("new-family", "my-arm", "--out", tmp_path / "notes"), 2, "notes: that is a file; name a folder")
