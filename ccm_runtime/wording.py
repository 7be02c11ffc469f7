"""What pydantic says of a wrong value, in our manner: what was expected."""

import re

_WORDS = {
    r"^Value error, ": "",
    r"Input should be ": "expected ",
    r"^Tuple should have at least (\d+) items? .*$": r"expected a list of \1 or more",
    r", (unable to (parse|interpret)|got a number with) .*$": "",
    r"a valid dictionary or instance of \w+$": "a group of settings",
    r"a valid tuple$": "a list, for instance [1, 2]",
    r"a valid integer": "an integer",
    r"a valid boolean": "true or false",
    r"\b(an? )valid ": r"\1",
    r"expected (?=less|greater)": "expected a number ",
}


def expected(words: str) -> str:
    """Return the words of a validation error that a person reads: `expected an integer`."""
    for pattern, ours in _WORDS.items():
        words = re.sub(pattern, ours, words)
    return words
