"""What pydantic says of a wrong value, in our manner: where, what was expected, what came."""

import re
from reprlib import Repr

from pydantic import ValidationError

_WORDS = {
    r"^Value error, ": "",
    r"Input should be ": "expected ",
    r"^(?:Tuple|List) should have at least (\d+) items? .*$": r"expected a list of \1 or more",
    r"^(?:Tuple|List) should have at most (\d+) items? .*$": r"expected a list of \1 or fewer",
    r"^Field required$": "expected a value",
    r"^Extra inputs are not permitted$": "expected nothing of this name",
    r", (unable to (parse|interpret)|got a number with) .*$": "",
    r"a valid dictionary or instance of \w+$": "a group of settings",
    r"a valid (tuple|list|array)$": "a list, for instance [1, 2]",
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


_BRIEF = Repr()
_BRIEF.maxstring = _BRIEF.maxother = 80


def told(error: ValidationError) -> str:
    """Return what is wrong first, in one line: `collect.iterations: expected an integer, got 'many'`."""
    # Of a name that is misspelt, pydantic also says that the right one is missing, and says so first.
    first = min(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    words, where = expected(first["msg"]), ".".join(map(str, first["loc"]))
    if where or first["type"] == "model_type":
        words += f", got {'none' if first['type'] == 'missing' else _BRIEF.repr(first['input'])}"
    return " ".join((f"{where}: {words}" if where else words).split())
