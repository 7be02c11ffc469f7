"""What people and programs read when something is refused."""

import pytest

from ccm_runtime import statuses
from ccm_runtime.adapt import Adapter
from ccm_runtime.errors import CcmError
from ccm_runtime.messages import Answer, BeginEpisode, Reaction, Transition
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy
from ccm_runtime.trial import Phase

STATUSES = """\
SPEC INVALID_ARGUMENT
CONFIG INVALID_ARGUMENT
TRIAL_ORDER FAILED_PRECONDITION
STEP_GAP FAILED_PRECONDITION
CONTEXT_MISMATCH FAILED_PRECONDITION
BUNDLE FAILED_PRECONDITION
ROLLOUT FAILED_PRECONDITION
SESSION_UNKNOWN NOT_FOUND
SESSION_TAKEN FAILED_PRECONDITION
AGENT_UNKNOWN NOT_FOUND
SESSION_LIMIT RESOURCE_EXHAUSTED
SERVER_BUSY RESOURCE_EXHAUSTED
UNAUTHENTICATED UNAUTHENTICATED
STORE_UNAVAILABLE UNAVAILABLE
SERVER_UNREACHABLE UNAVAILABLE
DEADLINE DEADLINE_EXCEEDED
"""
ADAPTER = Adapter.of(ScriptedPolicy())
FRESH = ADAPTER.start()
((BEGUN, _),) = ADAPTER.step([FRESH], [BeginEpisode([0.0, 0.0])])


def gap():
    answer = Answer(1, Reaction(None, Phase.EXPLORE, 0, 0, episode_over=True, certainty=0.0, novelty=0.0))
    return SessionTable(1, 60.0).open(FRESH).answered(FRESH, answer).recall(7)


def full():
    table = SessionTable(1, 60.0)
    return table.open(FRESH), table.open(FRESH)


TEXTS = [
    (gap, "event 7 does not follow; the session expects event 2"),
    (full, "the server already holds its maximum of 1 session; close one, or raise --max-sessions"),
    (
        lambda: SessionTable(1, 60.0).get("a", "b"),
        (
            "no such session: it was closed, was idle for longer than 60 s, the server began anew without its --store, "
            "or the token is another session's; open a new one"
        ),
    ),
    (
        lambda: ADAPTER.step([FRESH], [BeginEpisode([0.0])]),
        "observation: expected 2 values (observation_0, observation_1), got shape [1]",
    ),
    (
        lambda: ADAPTER.step([BEGUN], [Transition([0.0, float("nan")], 0.0)]),
        "observation: entry observation_1 is nan; every entry must be finite",
    ),
    (
        lambda: ADAPTER.step([BEGUN], [BeginEpisode([0.0, 0.0])]),
        (
            "episode 0 is still under way after 0 steps; end it with terminated or truncated before beginning the next"
            ", or abandon it"
        ),
    ),
    (
        lambda: ADAPTER.step([FRESH], [Transition([0.0, 0.0], 0.0)]),
        "no episode is under way; begin one before stepping",
    ),
    (lambda: ADAPTER.start(explore_episodes=-1), "explore_episodes: expected 0 to 10000, got -1"),
]


def test_the_statuses_of_errors_stay_as_they_are():
    assert STATUSES == "".join(f"{reason} {code.name}\n" for reason, _, code in statuses.TABLE)


@pytest.mark.parametrize(("refuse", "text"), TEXTS)
def test_the_text_of_an_error_stays_as_it_is(refuse, text):
    with pytest.raises(CcmError) as refused:
        refuse()
    assert text == str(refused.value)
