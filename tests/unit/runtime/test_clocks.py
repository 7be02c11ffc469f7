"""Anyone may set the wall clock: nothing that decides may look at it."""

import ast
import time
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

import ccm_runtime
from ccm_runtime.adapt import Adapter
from ccm_runtime.batching import Stepper
from ccm_runtime.messages import BeginEpisode, Transition
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy, box
from ccm_runtime.watchdog import Watchdog

PACKAGE = Path(ccm_runtime.__file__).parent
# Where the wall clock is read, to be shown or stored: how old a stored session is, when a damaged one was set aside,
# when a recording began; when a benchmark was made, and how old a run is.
MAY_READ = {"moment.py", "sqlite_store.py", "recorder.py", "commands/bench.py", "commands/runs.py"}
WALL_CLOCKS = {"time": {"time", "time_ns", "localtime", "gmtime", "ctime"}, "datetime": {"now", "utcnow", "today"}}
WALL_CLOCKS["date"] = {"today"}
HOUR_S, IN_2038_S = 3_600.0, 2_147_483_648.0


def reads_wall_clock(source):
    """Whether a module names `time.time` and the like, called or handed on, or asks `datetime` for now or today."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            read = {node.attr} & WALL_CLOCKS.get(ast.unparse(node.value).split(".")[-1], set())
        else:
            imports = isinstance(node, ast.ImportFrom) and node.module == "time"
            read = {name.name for name in node.names} & WALL_CLOCKS["time"] if imports else set()
        if read:
            return True
    return False


@pytest.mark.parametrize(
    "line",
    [
        "now = time.time()",
        "def expire(clock=time.time): ...",
        "from time import time as seconds",
        "datetime.datetime.now(UTC)",
        "date.today()",
    ],
)
def test_whoever_reads_the_wall_clock_is_seen(line):
    assert reads_wall_clock(line)


def test_only_what_stores_a_time_reads_the_wall_clock():
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    assert MAY_READ == {name for name, path in modules.items() if reads_wall_clock(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("jump", [HOUR_S, -HOUR_S, IN_2038_S])
async def test_a_clock_that_is_set_in_mid_session_changes_nothing(jump, monkeypatch):
    adapter, table = Adapter.of(ScriptedPolicy()), SessionTable(10, 60.0)
    stepper = Stepper(adapter, table, action_deadline_ms=60_000.0)
    session, dog = table.open(adapter.start()), Watchdog(box("action", 2))
    jumps = cycle([0.0, jump])
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0 + next(jumps))
    told = [BeginEpisode(np.zeros(2, np.float32)), *[Transition(np.zeros(2, np.float32), 1.0)] * 4]
    for sequence, event in enumerate(told, 1):
        answer = await stepper.step(session.session_id, sequence, event)
        assert () == answer.reaction.interventions
        assert answer.total_ms < 60_000.0
        applied = dog.renew(answer.reaction.action, 60_000.0)
        np.testing.assert_array_equal(applied, dog.action)
    assert 0 == table.expire()
    stepper.stop()
