"""Several seeds in one option: `0..4`, `0,2,5`, or both, as in `0..4,10`."""

import re
from collections import Counter

from ccm_runtime.errors import ConfigError

_RANGE = re.compile(r"(\d+)(?:\.\.(\d+))?")
_MOST = 10_000
_END = 1 << 63


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds in the order in which they are written; both ends of a range belong to it.

    Raises:
        ConfigError: It is no list of seeds, or names one of them twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if last < first:
            raise ConfigError(f"seeds {text!r}: expected a range as 0..4, a list as 0,2,5, or both; got {part!r}")
        if last - first >= _MOST or last >= _END:
            raise ConfigError(f"seeds {text!r}: expected at most {_MOST:,} seeds below 2^63; got {part!r}")
        seeds += range(first, last + 1)
    if twice := sorted(seed for seed, times in Counter(seeds).items() if times > 1):
        raise ConfigError(f"seeds {text!r}: {', '.join(map(str, twice))} is there twice; give each seed once")
    return tuple(seeds)
