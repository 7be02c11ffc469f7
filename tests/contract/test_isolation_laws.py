"""Whatever callers of other sessions do, a session sees its own task alone. In full: `benchmarks/realtime.py`."""

import pytest
from isolation import campaign


@pytest.mark.parametrize("deadline_ms", [None, 5.0])
async def test_no_session_ever_sees_what_another_one_did(deadline_ms):
    found = await campaign(2_000, 0, deadline_ms)
    assert found["cancelled"] > 100
    assert found["reopened"] > 10
    assert 0 == found["beliefs_of_another_story"]
    assert 0 == found["beliefs_that_are_equal"]
