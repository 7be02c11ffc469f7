"""Who is one too many is told when to come again, and no two are told the same."""

from itertools import pairwise

import pytest

from ccm_runtime.admission import FIRST_TURN_S, LAST_TURN_S, TURNS_PER_S, Admission
from ccm_runtime.errors import ServerBusyError


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def refused(admission):
    with pytest.raises(ServerBusyError, match="calls under way") as error, admission.admitted():
        pass
    return error.value.retry_after_s


def test_so_many_calls_are_admitted_and_one_that_ends_makes_room():
    admission = Admission(2, Clock())
    with admission.admitted():
        with admission.admitted():
            assert FIRST_TURN_S == refused(admission)
        with pytest.raises(KeyError), admission.admitted():
            raise KeyError
        with admission.admitted():
            pass


def test_a_crowd_is_spread_over_turns_of_their_own():
    admission = Admission(1, Clock())
    with admission.admitted():
        turns = [refused(admission) for _ in range(4_000)]
    assert turns[0] == FIRST_TURN_S
    gaps = {round(later - earlier, 6) for earlier, later in pairwise(turns)}
    assert gaps == {1.0 / TURNS_PER_S}


def test_nobody_is_sent_away_for_ever_and_a_crowd_is_forgotten():
    clock = Clock()
    admission = Admission(1, clock)
    with admission.admitted():
        assert LAST_TURN_S == max(refused(admission) for _ in range(100_000))
        clock.now_s += LAST_TURN_S
        assert FIRST_TURN_S == refused(admission)
