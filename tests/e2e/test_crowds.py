"""Many sessions and many clients, in short; the full figures: `benchmarks/reliability_load.py`."""

import asyncio

import crowds

from ccm_runtime.commands.server_process import listening_process


def server(bundle, *flags):
    quiet = ("--port", "0", "--drain-s", "0", "--log-level", "error")
    return listening_process("ccm_runtime", "serve", str(bundle), *quiet, *flags)


def test_sessions_are_held_in_little_memory_and_closing_them_leaves_none_behind(tiny_bundle):
    with server(tiny_bundle, "--max-sessions", "600") as ours:  # as many as are held: one that stayed would be seen
        held = crowds.held(ours, 400, warm=200)
        come_and_gone = crowds.opened_and_closed(ours, 1_000)
    assert 0 == held["unanswered"] == come_and_gone["unanswered"]
    assert held["kb_each"] <= 40.0
    first, last = come_and_gone["resident_mb"][2], come_and_gone["resident_mb"][-1]
    assert last - first < 3.0  # that many sessions are 4 MB


def test_all_who_come_at_once_are_in_and_all_come_back_after_a_restart(tiny_bundle):
    found = asyncio.run(crowds.storms(tiny_bundle, 24, 2))
    assert {"answered": 24} == found["come"]["outcomes"] == found["back_after_a_restart"]["outcomes"]


def test_a_crowd_gets_its_turn_with_a_server_that_takes_few_at_a_time(tiny_bundle):
    found = asyncio.run(crowds.visits(tiny_bundle, 24, 2, max_calls=2))
    assert {"answered": 24} == found["outcomes"]
