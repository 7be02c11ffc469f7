"""An evaluation on a terminal: the adaptation curve as a table with bars, then the score in one line."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_BAR = 30
_WIDE = 10_000


def table_console() -> Console:
    """Standard output for tables whose cells are needed whole: only a terminal makes them narrower."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


def show_evaluation(evaluation: Mapping[str, Any], console: Console | None = None) -> None:
    """Print an evaluation.

    Args:
        evaluation: At least `family`, `method`, `explore_episodes`, `returns`, `adaptation_score`, `interval`,
            `ceiling`, `floor` and `seconds`; `None` where a value is unknown.
        console: Where to; standard output by default.
    """
    console = console or Console()
    table = Table("episode", "phase", "return", "", box=None, pad_edge=False)
    for index, value in enumerate(evaluation["returns"]):
        phase = "explore" if index < evaluation["explore_episodes"] else "execute"
        table.add_row(str(index + 1), phase, f"{value:.1f}", _bar(value, evaluation))
    console.print(f"{evaluation['family']} · {evaluation['method']}\n", highlight=False)
    console.print(table)
    console.print(f"\n{_score_line(evaluation)}", highlight=False)


def _bar(value: float, evaluation: Mapping[str, Any]) -> str:
    most = max(evaluation["returns"]) if evaluation["adaptation_score"] is None else evaluation["ceiling"]
    least = min(0.0, evaluation["floor"] or 0.0, *evaluation["returns"])
    share: float = (value - least) / max(most - least, 1e-9)
    return "█" * round(_BAR * min(max(share, 0.0), 1.0))


def _score_line(evaluation: Mapping[str, Any]) -> str:
    score, interval = evaluation["adaptation_score"], evaluation["interval"]
    why = "no ceiling" if evaluation["ceiling"] is None else "the ceiling's oracle is no better than random actions"
    scored = f"adaptation score unknown ({why})" if score is None else f"adaptation score {score:.3f}"
    between = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    ceiling = "" if evaluation["ceiling"] is None else f" · ceiling {evaluation['ceiling']:.1f}"
    floor = "" if evaluation["floor"] is None else f" · floor {evaluation['floor']:.1f}"
    return f"{scored}{between}{ceiling}{floor} · {evaluation['seconds']:.1f} s"
