"""A belief is a sum: the order, the chunks and the contexts that its transitions came in do not matter."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ccm_runtime.belief import Transitions, certainty, merge
from ccm_runtime.testing import ScriptedPolicy

POLICY = ScriptedPolicy()
PRIOR = np.asarray(POLICY.belief.initial, np.float32)[None]
seeds = st.integers(0, 2**32 - 1)


def transitions(seed, count):
    draw = np.random.default_rng(seed).standard_normal
    parts = [draw((1, count, size)).astype(np.float32) for size in (2, 2, 1, 2)]
    return Transitions(*parts, valid=np.ones((1, count, 1), np.float32))


def pick(chunk, order):
    fields = (chunk.observation, chunk.action, chunk.reward, chunk.next_observation, chunk.valid)
    return Transitions(*(field[:, order] for field in fields))


@given(seeds, st.integers(1, 20), st.data())
def test_folding_in_any_order_and_chunking_gives_one_belief(seed, count, data):
    chunk = transitions(seed, count)
    at_once = POLICY.fold(PRIOR, chunk).belief
    order = data.draw(st.permutations(range(count)))
    cut = data.draw(st.integers(0, count))
    belief = PRIOR
    for part in (order[:cut], order[cut:]):
        belief = POLICY.fold(belief, pick(chunk, part)).belief if part else belief
    np.testing.assert_allclose(at_once, belief, rtol=1e-5, atol=1e-5)


@given(seeds, st.integers(1, 10), st.integers(1, 10))
def test_beliefs_of_two_contexts_merge_by_addition(seed, first, second):
    one, other = transitions(seed, first), transitions(seed + 1, second)
    nothing = np.zeros_like(PRIOR)
    both = POLICY.fold(POLICY.fold(PRIOR, one).belief, other).belief
    merged = merge(POLICY.fold(PRIOR, one).belief, POLICY.fold(nothing + 0, other).belief)
    np.testing.assert_allclose(both, merged, rtol=1e-5, atol=1e-5)


@given(st.lists(st.floats(0, 10, width=32), min_size=1, max_size=6))
def test_certainty_is_a_share(stds):
    known = certainty(np.array([stds], np.float32))[0]
    assert 0.0 <= known <= 1.0
