"""What the page of laws says is so: its tests and files exist, and its figures are those of the committed results."""

import json
import re
from pathlib import Path

import pytest

from ccm_runtime.crash_points import SHARED_STORE, STORE, SWAP

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "reliability"
PAGE = ROOT / "docs" / "reference" / "reliability.md"
ROWS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "::" in line]
RESULT = re.compile(r"\]\(\.\./\.\./(benchmarks/results/reliability/\w+\.json)\)([^\[|]*)")


def named_in(row):
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)


def figures(value):
    """Every number of a result, by its name."""
    if isinstance(value, dict):
        for name, entry in value.items():
            if isinstance(entry, int | float):
                yield name, entry
            yield from figures(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from figures(entry)


def test_every_item_has_its_row_and_is_tested():
    numbers = {int(match[1]) for row in ROWS if (match := re.match(r"\| (\d+) \|", row))}
    assert set(range(1, 31)) == numbers
    assert all(named_in(row) for row in ROWS)


@pytest.mark.parametrize(("file", "name"), sorted({test for row in ROWS for test in named_in(row)}))
def test_every_test_that_is_named_exists(file, name):
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(("file", "said"), [found for row in ROWS for found in RESULT.findall(row)])
def test_every_figure_is_that_of_its_file(file, said):
    found = list(figures(json.loads((ROOT / file).read_text(encoding="utf-8"))))
    for name, number in re.findall(r"`([\w ]+)` ([\d,.]*\d)", said):
        assert (name, float(number.replace(",", ""))) in found, f"{file}: {name} {number}"


def test_every_result_is_on_the_page():
    committed = {path.name for path in RESULTS.glob("*.json")}
    assert committed == set(re.findall(r"/(\w+\.json)\)", "\n".join(ROWS))) - {"results.json"}


@pytest.mark.parametrize(
    ("name", "points"), [("crash_points", STORE), ("shared_kills", SHARED_STORE), ("swap_crash_points", SWAP)]
)
def test_a_figure_of_kills_is_of_every_point_that_there_is_now(name, points):
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert list(points) == found["points"]
