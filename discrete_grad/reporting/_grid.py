"""Tables of the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from discrete_grad.reporting.wording import short

__all__ = ["grid", "note"]


def grid(headers: Sequence[str], lines: Sequence[tuple[str, Sequence[str], bool]]) -> str:
    """A table: a name, cells, and whether the line is emphasised."""
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = []
    for name, cells, chosen in lines:
        texts = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        mark = ' class="chosen"' if chosen else ""
        title = escape(short(name, 1000))
        body.append(f'<tr{mark}><td title="{title}">{escape(short(name, 48))}</td>{texts}</tr>')
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(body)}</table></div>'


def note(count: int, limit: int, what: str) -> str:
    """Says that only the first so many are shown; nothing where all are."""
    if count <= limit:
        return ""
    return f'<p class="note">The first {limit} of {count:,} {what}; all are in the JSON report.</p>'
