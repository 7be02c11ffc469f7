"""Run campaigns that each say what must be 0 or empty, and write one file a campaign."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from provenance import how, keep

Result = dict[str, Any]


def run_campaigns(
    text: str | None, campaigns: Mapping[str, Callable[[int], Result]], *packages: str, **versions: str
) -> None:
    """Run the campaigns that the command line asks for; the process ends with 1 if anything is not as it must be.

    Args:
        text: What `--help` says.
        campaigns: What each does with a seed; its result's `must_be_none` names what must be 0 or empty.
        packages: Whose versions the files tell.
        versions: Other versions, by name.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaigns", nargs="*", help=f"of {', '.join(campaigns)}; default: all")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := [name for name in options.campaigns if name not in campaigns]:
        parser.error(f"no campaign is called {', '.join(unknown)}; there are {', '.join(campaigns)}")
    made = how(*packages)
    made["versions"] |= versions
    clean = True
    for name in options.campaigns or campaigns:
        began_s = time.monotonic()
        result = campaigns[name](options.seed)
        seconds = round(time.monotonic() - began_s, 1)
        bad = {key: value for key, value in result["must_be_none"].items() if value}
        clean = clean and not bad
        record = {"campaign": name, **result, "made": {"seed": options.seed, "seconds": seconds, **made}}
        keep(options.out / f"{name}.json", record)
        print(f"{name}: {bad or 'clean'} in {seconds:g} s", flush=True)
    sys.exit(0 if clean else 1)
