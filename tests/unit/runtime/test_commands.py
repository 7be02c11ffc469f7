"""What commands show of returns, what they say is missing, and how long they wait before they try again."""

import io
import itertools
import random
from importlib import metadata

import pytest
from rich.console import Console

from ccm_runtime.commands import doctor
from ccm_runtime.commands.extras import needs
from ccm_runtime.commands.quickstart import Stages
from ccm_runtime.commands.show import show_evaluation
from ccm_runtime.connection import backoff
from ccm_runtime.errors import DependencyMissingError


def shown(returns, **known):
    evaluation = {"family": "walker", "method": "ccm", "explore_episodes": 2, "returns": returns, "seconds": 2.0}
    unknown = {"adaptation_score": None, "interval": None, "ceiling": None, "floor": 0.0}
    console = Console(file=io.StringIO(), width=100)
    show_evaluation({**evaluation, **unknown, **known}, console)
    return console.file.getvalue()


def test_the_curve_is_shown_episode_by_episode():
    lines = shown([0.0, 50.0, 100.0], ceiling=100.0, adaptation_score=1.0, interval=(1.0, 1.0)).splitlines()
    rows = [line.split() for line in lines if "explore" in line or "execute" in line]
    assert [row[:3] for row in rows] == [["1", "explore", "0.0"], ["2", "explore", "50.0"], ["3", "execute", "100.0"]]
    bars = [row[3:] for row in rows]
    assert [len("".join(bar)) for bar in bars] == [0, 15, 30]
    assert lines[-1].startswith("adaptation score 1.000 [1.000, 1.000] · ceiling 100.0")


def test_without_a_ceiling_the_score_is_unknown_and_the_best_return_is_a_whole_bar():
    text = shown([0.0, 5.0, 10.0])
    assert "score unknown" in text
    assert "█" * 30 in text


def test_an_oracle_no_better_than_random_actions_gives_no_score():
    text = shown([-700.0, -650.0, -600.0], ceiling=-641.7, floor=-575.5)
    assert "adaptation score unknown (the ceiling's oracle is no better than random actions) · ceiling -641.7" in text
    assert [line.count("█") for line in text.splitlines() if "e" in line and "█" in line] == [15, 30]


def test_the_best_of_negative_returns_is_a_whole_bar_without_a_ceiling():
    lines = shown([-300.0, -150.0, -100.0], floor=-500.0).splitlines()
    assert [len(line.split()[-1]) for line in lines if "e" in line and "█" in line] == [15, 26, 30]


def test_the_address_of_a_quickstart_s_server_is_on_one_line_however_narrow():
    console = Console(file=io.StringIO(), width=20, highlight=False)
    with Stages(console).stage("adapt", "40 held-out tasks over gRPC at 127.0.0.1:7070"):
        pass
    assert "adapt  40 held-out tasks over gRPC at 127.0.0.1:7070" == console.file.getvalue().splitlines()[0]


def test_waits_grow_jitter_and_stay_bounded():
    waits = list(itertools.islice(backoff(random.Random(0), first_s=0.1, most_s=1.0), 50))
    for attempt, wait in enumerate(waits):
        whole = min(0.1 * 2**attempt, 1.0)
        assert whole / 2 <= wait <= whole
    assert len(set(waits)) == len(waits)


def test_a_missing_package_is_named_with_the_extra_that_holds_it():
    with pytest.raises(DependencyMissingError, match=r"needs some_package.*pip install 'ccm\[train\]'"), needs("train"):
        raise ModuleNotFoundError("No module named 'some_package.part'", name="some_package.part")


def test_a_missing_module_of_ours_is_a_fault_of_ours():
    with pytest.raises(ModuleNotFoundError), needs("train"):
        raise ModuleNotFoundError("No module named 'ccm_training.lost'", name="ccm_training.lost")


INSTALLED = {"numpy": "2.0", "ccm": "0.1.0", "onnxruntime": "1.23", "grpcio": "1.76"}
REQUIRED = [
    "numpy>=2.0",
    "onnxruntime>=1.23; extra == 'serve'",
    "onnxruntime-gpu>=1.23; extra == 'serve-gpu'",
    "gymnasium>=1.1; extra == 'gym'",
    'torch>=2.11; extra == "train"',
    "ccm[serve]; extra == 'all'",
    "onnx>=1.18; extra == 'export'",
    "pytest>=8; extra == 'dev'",
]


@pytest.fixture
def installation(monkeypatch):
    installed = dict(INSTALLED)

    def version(name):
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: REQUIRED)
    monkeypatch.setattr(doctor, "_imported", lambda _: None)
    return installed


def test_the_doctor_tells_which_extras_are_whole_and_how_to_get_the_others(installation):
    diagnosis = doctor.diagnose()
    assert {name for name, extra in diagnosis.extras.items() if extra.installed} == {"serve"}
    assert diagnosis.extras["train"].missing == ["torch"]
    assert (diagnosis.torch_device, diagnosis.onnx_provider) == (None, None)
    assert [line.rpartition("pip install ")[2] for line in diagnosis.advice] == [
        "'ccm[gym]'",
        "'ccm[train]'",
        "'ccm[export]'",
    ]


def test_the_doctor_warns_of_two_onnxruntimes(installation):
    installation["onnxruntime-gpu"] = "1.23"
    assert "share one folder" in doctor.diagnose().advice[0]
