"""SIGTERM under load: said at once, no episode cut, exit code 0, nothing lost. In full: `benchmarks/realtime.py`."""

import asyncio

from drains import campaign


def test_a_server_that_is_stopped_under_load_ends_well_and_loses_nothing(tiny_bundle, tmp_path):
    found = asyncio.run(campaign(tiny_bundle, tmp_path / "s.db", stops=1, seed=0, **{"max-batch": 1}))
    bad = ("not_said", "cut", "exit_codes", "differing", "beliefs_differing")
    assert dict.fromkeys(bad, 0) == {name: found[name] for name in bad}
    assert 2 * 8 <= found["answers"]
