"""How a run is stopped, and how it is not kept from being stopped."""

import signal
import threading
import time

import pytest
from tiny_run import short_config

from ccm_runtime.errors import SimulationError
from ccm_training import call_watch
from ccm_training.call_watch import CallWatch
from ccm_training.stopping import Stop, StopAskedError, stop_on_signals
from ccm_training.train import train

QUICK = {"TICK_S": 0.01, "STOP_PATIENCE_S": 0.05}


@pytest.fixture
def stop(monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setattr(call_watch, name, value)
    return Stop()


def hang():
    threading.Event().wait(60.0)
    pytest.fail("nothing ended it")


def hang_and_blame_the_connection():
    try:
        hang()
    except Exception as error:
        raise OSError("the connection was lost") from error


@pytest.mark.parametrize(
    ("number", "raised", "code"), [(signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, SystemExit, 143)]
)
def test_a_second_signal_interrupts_at_once_and_has_its_own_code(number, raised, code):
    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked_by == signal.SIGTERM
        with pytest.raises(raised) as ended:
            signal.raise_signal(number)
    assert code == getattr(ended.value, "code", None)


def test_a_call_that_does_not_return_in_time_is_interrupted(tmp_path, stop):
    with (
        CallWatch(stop, 0.05, tmp_path) as watch,
        pytest.raises(SimulationError, match="the simulation of swings has not returned for "),
        watch.call("swings"),
    ):
        hang()


def test_a_call_that_does_not_return_once_the_run_is_to_stop_is_interrupted_past_what_it_catches(tmp_path, stop):
    stop.asked_by = signal.SIGTERM
    with CallWatch(stop, 600.0, tmp_path) as watch, pytest.raises(StopAskedError), watch.call("swings"):
        hang_and_blame_the_connection()


def test_calls_that_return_are_let_be_however_many(tmp_path, stop):
    stop.asked_by, began = signal.SIGTERM, time.monotonic()
    with CallWatch(stop, 0.2, tmp_path) as watch:
        while time.monotonic() < began + 0.5:
            with watch.call("swings"):
                pass


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit(143)])
def test_what_a_signal_raises_in_a_simulation_stays_what_it_is(tmp_path, stop, raised):
    stop.asked_by = signal.SIGTERM
    with (
        CallWatch(stop, 600.0, tmp_path) as watch,
        pytest.raises((KeyboardInterrupt, SystemExit)),
        watch.call("swings"),
    ):
        raise raised


def test_what_the_process_did_on_an_alarm_it_does_again_afterwards(tmp_path, stop):
    before = signal.getsignal(signal.SIGALRM)
    with CallWatch(stop, 600.0, tmp_path):
        assert before != signal.getsignal(signal.SIGALRM)
    assert before == signal.getsignal(signal.SIGALRM)
    assert "call-watch" not in {thread.name for thread in threading.enumerate()}


def test_a_run_trains_in_another_thread_where_no_signal_reaches_it(tmp_path):
    ended = []
    thread = threading.Thread(
        target=lambda: ended.append(train(short_config(), tmp_path / "run", device="cpu", progress=False))
    )
    thread.start()
    thread.join(60.0)
    assert [result.evaluation is not None for result in ended] == [True]
