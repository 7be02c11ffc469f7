"""The trained cheetah of the examples, as its README runs it: it adapts to speeds and bodies that it never met."""

import json
from pathlib import Path

from command import ccm

from ccm_runtime.commands.server_process import server_process

EXAMPLE = Path(__file__).parents[2] / "examples" / "cheetah"
BUNDLE = EXAMPLE / "bundle"


def test_the_cheetah_runs_at_speeds_that_nobody_tells_it():
    with server_process(BUNDLE) as address:
        finished = ccm("adapt", "--server", address, "--trials", 16, "--seed", 1, "--json")
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    *exploring, executing = told["returns"]
    assert told["family"] == "cheetah-sparse"
    assert executing > max(exploring)
    assert told["adaptation_score"] > 0.75
    assert told["floor"] < 20.0


def test_its_bundle_is_whole_and_its_readme_tells_how_it_was_trained():
    finished = ccm("verify", BUNDLE)
    assert finished.returncode == 0, finished.stderr
    made = json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8"))["provenance"]
    train = f"ccm train --config cheetah_sparse --method {made['method']} --seed {made['seed']}"
    assert train in " ".join((EXAMPLE / "README.md").read_text(encoding="utf-8").split())
