"""Seeds are a range with both ends or a list, each of them once."""

import pytest

from ccm_runtime.commands.seeds import parse_seeds
from ccm_runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (3,)), ("0..4", (0, 1, 2, 3, 4)), ("5,0, 2", (5, 0, 2)), ("7..7,0..1", (7, 0, 1))]
)
def test_seeds_are_a_range_with_both_ends_or_a_list_in_the_order_given(text, seeds):
    assert seeds == parse_seeds(text)


@pytest.mark.parametrize("text", ["", "a", "1,", "-1", "4..0", "0..", "1.5", "0...4"])
def test_what_is_no_list_of_seeds_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"expected a range as 0\.\.4"):
        parse_seeds(text)


@pytest.mark.parametrize("text", ["0..10000", "0,9223372036854775808"])
def test_seeds_that_are_too_many_or_too_large_are_refused_with_the_bound(text):
    with pytest.raises(ConfigError, match=r"expected at most 10,000 seeds below 2\^63; got"):
        parse_seeds(text)


def test_a_seed_that_is_given_twice_is_refused():
    with pytest.raises(ConfigError, match="2, 3 is there twice"):
        parse_seeds("0..3,2,3")
