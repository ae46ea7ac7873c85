"""The head of the page: the rows to try, as a table that can be copied."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from discrete_grad.reporting.wording import number, short

__all__ = ["rows_section"]


def rows_section(report: Mapping[str, Any]) -> str:
    """A section with the rows to try; nothing for a report without.

    Example:
        >>> part = {"columns": ["cut"], "rows": [["good"]], "contexts": 0, "of": 0, "new": True}
        >>> "good" in rows_section({"rows_to_try": part})
        True
    """
    part = report.get("rows_to_try")
    if not part or not part["rows"]:
        return ""
    text = _csv(part)
    file = quote(text, safe="")
    return (
        f'<section id="rows"><h2>Rows to try</h2><p>{escape(_said(part))}</p>{_table(part)}'
        '<details><summary>The rows as text</summary><p class="note">A click selects it '
        f'all.</p><pre class="copy">{escape(text)}</pre></details>'
        f'<p><a download="rows_to_try.csv" href="data:text/csv;charset=utf-8,{file}">'
        "Save as rows_to_try.csv</a></p></section>"
    )


def _said(part: Mapping[str, Any]) -> str:
    kind = "None of them is in the table" if part["new"] else "The table has every possible row"
    where = ""
    if part["contexts"] > 1:
        some = f"the {part['contexts']} contexts"
        rest = "" if part["contexts"] == part["of"] else f" with most rows, of {part['of']:,}"
        where = f" in {some}{rest}, the best of a context first"
    return (
        f"The generator's best rows{where}. {kind}. "
        "discrete-grad generate writes more of them, and for any context."
    )


def _table(part: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{escape(short(name, 48))}</th>" for name in part["columns"])
    lines = [
        "".join(f"<td>{escape(short(_cell(value), 48))}</td>" for value in row)
        for row in part["rows"]
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table class="rows"><tr>{head}</tr>{body}</table></div>'


def _cell(value: object) -> str:
    if value is None:
        return "(missing)"
    return number(value) if isinstance(value, float) else str(value)


def _csv(part: Mapping[str, Any]) -> str:
    """The rows as CSV, numbers with six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(part["columns"])
    writer.writerows(_plain(row) for row in part["rows"])
    return text.getvalue()


def _plain(row: Sequence[object]) -> list[object]:
    return [f"{value:.6g}" if isinstance(value, float) else value for value in row]
