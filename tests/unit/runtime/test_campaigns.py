"""The campaigns of the laws: they end with 1 where anything is not as it must be, and what they made is still made."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RESULTS = sorted((ROOT / "benchmarks" / "results" / "reliability").glob("*.json"))
sys.path.insert(0, str(ROOT / "benchmarks"))

from campaigns import run_campaigns  # noqa: E402


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run(campaigns, *names):
        monkeypatch.setattr(sys, "argv", ["benchmarks/some.py", "--out", str(tmp_path), "--seed", "7", *names])
        with pytest.raises(SystemExit) as ended:
            run_campaigns("", campaigns, "numpy")
        return ended.value.code, {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}

    return run


def test_what_must_be_none_decides_how_it_ends(run):
    campaigns = {
        "good": lambda seed: {"events": seed, "must_be_none": {"lost": 0, "late": []}},
        "bad": lambda seed: {"events": seed, "must_be_none": {"lost": 1}},
    }
    code, found = run(campaigns, "good")
    assert (0, ["good"], 7) == (code, list(found), found["good"]["events"])
    assert 7 == found["good"]["made"]["seed"]
    code, found = run(campaigns)
    assert (1, {"good", "bad"}) == (code, set(found))


def test_a_campaign_that_there_is_not_is_refused_before_any_runs(run, capsys):
    assert (2, {}) == run({"good": lambda _: {"must_be_none": {}}}, "good", "storm")
    assert "no campaign is called storm; there are good" in capsys.readouterr().err


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_what_made_a_result_can_still_make_it(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    program, *words = result["made"]["command"].split()
    if program == "python" and "campaign" in result:
        script = importlib.import_module(Path(words[0]).stem)
        assert result["campaign"] in script.CAMPAIGNS
