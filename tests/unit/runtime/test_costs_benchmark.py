"""What a store writes: whole pages, and of many sessions in one group fewer than one each."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

import costs

PAGE_IN_THE_LOG = 24 + 4096


def test_a_group_adds_the_pages_that_it_touched(tmp_path):
    one, many = (costs.bytes_a_group(tmp_path / f"{size}.db", size) for size in (1, 64))
    assert PAGE_IN_THE_LOG == one
    assert PAGE_IN_THE_LOG < many < 64 * PAGE_IN_THE_LOG
