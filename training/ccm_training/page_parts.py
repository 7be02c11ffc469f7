"""What every page is made of, as HTML text; it refers to nothing outside itself."""

import base64
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from string import Template

from ccm_runtime import __version__


def fill(heading: str, lead: str, *, cards: Iterable[str], sections: Iterable[str], written_at: datetime) -> str:
    """A whole page."""
    page = Template(files("ccm_training").joinpath("report_page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(f"ccm report: {heading}"),
        heading=escape(heading),
        lead=escape(lead),
        cards="\n".join(cards),
        sections="\n".join(sections),
        footer=escape(f"Written {written_at:%Y-%m-%d %H:%M} UTC by ccm {__version__}."),
    )


def card(name: str, value: str, note: str, kind: str = "") -> str:
    """One number of those at the top."""
    return (
        f'<div class="card {kind}"><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>'
    )


def section(title: str, text: str, content: str) -> str:
    """A part of the page, with its heading."""
    intro = f"<p>{escape(text)}</p>" if text else ""
    return f"<section><h2>{escape(title)}</h2>{intro}{content}</section>"


def figure(svg: str, alternative: str, caption: str) -> str:
    """A picture with what it shows in words and what is to be known of it."""
    # As an image and not inline: the pictures' ids must not meet.
    data = base64.b64encode(svg.encode()).decode()
    return (
        f'<figure><div><img src="data:image/svg+xml;base64,{data}" alt="{escape(alternative)}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0) -> str:
    """A table; the last so many columns are numbers."""
    first = len(head) - numbers
    lines = (
        "".join(
            f'<td class="number">{escape(cell)}</td>' if place >= first else f"<td>{escape(cell)}</td>"
            for place, cell in enumerate(row)
        )
        for row in rows
    )
    heading = "".join(
        f'<th class="number">{escape(name)}</th>' if place >= first else f"<th>{escape(name)}</th>"
        for place, name in enumerate(head)
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table></div>'
