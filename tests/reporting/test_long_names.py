"""Names of 2,000 letters in every place of a report.

`python -m tests.reporting.test_long_names` writes anew how much is shown of each.
"""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from discrete_grad.reporting import format_table, render_html
from tests.reporting.figures import described, watch_figures
from tests.reporting.test_snapshots import FOLDER

FILE = FOLDER / "lengths.txt"
LONG = "".join(f"{i:04d} " for i in range(400)).replace(" ", "x")  # 2,000 letters
POLICIES = '"(generator|data policy|naive baseline|setting 3|loop)'
NAMES = (
    '"(cut|colour with|size|fair|east|a shop|<south>|shop|yield|cost|never cut|StraightThrough'
    '|carat|price|synthetic|purity|city 0|a column|column 1|my.models|it calls)([^"]*"(?!:))'
)


def lengths(monkeypatch: pytest.MonkeyPatch) -> str:
    """How often so many letters stand before and after what is cut out, line by line."""
    cut: Counter[tuple[str, int, int]] = Counter()
    figures = watch_figures(monkeypatch)
    for name in ("yield", "cost"):
        text = (FOLDER / f"{name}.json").read_text()
        text = re.sub(NAMES, rf'"\1{LONG}\2', re.sub(POLICIES, rf'"\1{LONG}', text))
        report = json.loads(text)
        page = render_html(report)
        drawn = "\n".join(map(described, figures))
        for kind, shown in (("page", page), ("picture", drawn), ("table", format_table(report))):
            found = re.findall(r"([^<>\"'(:]*)…([^<>\"',]*)", shown)
            cut.update((kind, len(before), len(after)) for before, after in found)
    lines = (f"{kind} {before} {after}: {count}" for (kind, before, after), count in cut.items())
    return "\n".join(sorted(lines)) + "\n"


def test_long_names_are_cut_to_the_length_of_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lengths(monkeypatch) == FILE.read_text()


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        FILE.write_text(lengths(patch))
