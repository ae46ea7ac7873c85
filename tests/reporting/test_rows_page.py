"""The head of the report: rows to try, to be read, copied and saved without any script."""

import csv
import io
import re
from html import unescape
from typing import Any
from urllib.parse import unquote

from discrete_grad.reporting.rows_page import rows_section

PART: dict[str, Any] = {
    "columns": ["shop", "a,b", "cut", "estimated_score"],
    "rows": [["<east>", 'say "x"', None, 12345.678], ["west & co", "//b", True, 0.00012345678]],
    "contexts": 2,
    "of": 9,
    "new": True,
}


def section(**changes: Any) -> str:
    return rows_section({"rows_to_try": PART | changes})


def test_the_text_and_the_file_are_the_rows() -> None:
    page = section()
    (text,) = re.findall(r"<pre class=\"copy\">(.*?)</pre>", page, re.DOTALL)
    (link,) = re.findall(r'href="data:text/csv;charset=utf-8,([^"]*)"', page)
    assert unescape(text) == unquote(link)
    head, *rows = csv.reader(io.StringIO(unescape(text)))
    assert head == PART["columns"]
    assert rows == [
        ["<east>", 'say "x"', "", "12345.7"],
        ["west & co", "//b", "True", "0.000123457"],
    ]
    assert "//b" not in link


def test_the_table_shows_the_cells_escaped() -> None:
    page = section()
    cells = re.findall(r"<td>(.*?)</td>", page)
    assert cells[:4] == ["&lt;east&gt;", "say &quot;x&quot;", "(missing)", "12,346"]
    assert len(cells) == 8


def test_the_sentence_says_what_is_shown() -> None:
    assert "best rows in the 2 contexts with most rows, of 9, the best of a" in section()
    assert "best rows in the 2 contexts, the best" in section(of=2)
    assert "The generator&#x27;s best rows. None of them is in the table." in section(contexts=0)
    assert "The table has every possible row." in section(new=False)


def test_a_report_without_rows_has_no_section() -> None:
    assert rows_section({}) == section(rows=[]) == ""
