"""All benchmarks on one page, and the tables of the Markdown files, from the JSONs alone.

    python -m benchmarks.report

Writes `index.html` and the plots beside the JSONs, and fills the places that are marked
`<!-- table: NAME -->` in the README of the results and of the repository with the first table of
that benchmark. `<!-- table: NAME; rows: C; columns: A; B -->` takes the rows with a cell C, and the
first column with those named. The place `gradient_estimators` is filled with what the library
declares of its own.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import tyro

from benchmarks.harness import RESULTS, Benchmark, Results
from discrete_grad import gradient
from discrete_grad.reporting.style import STYLE

NAMES = (
    "gradients",
    "gradients_second",
    "blend",
    "polynomial",
    "indecater",
    "vae",
    "layers",
    "generation",
    "generation_methods",
    "generation_ablation",
    "generation_contexts",
    "ehrlich",
    "alignment",
    "hidden_cost",
    "tilt",
    "guidance",
    "molecules",
    "rl",
    "warm_start",
    "preferences",
    "estimators",
    "families",
    "sizes",
    "rules",
    "edits",
    "rounds",
    "pareto",
    "overheads",
)
ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", RESULTS / "README.md", ROOT / "docs" / "gradient_estimators.md")
ESTIMATORS = "gradient_estimators"  # their table is of the library itself
PLACE = re.compile(
    r"(<!-- table: (\w+)(?:; rows: ([^;\n]*))?(?:; columns: ([^\n]*))? -->\n)"
    r"(?:.*?\n)??(<!-- end of table -->)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Config:
    """One page of all results, and the tables of the Markdown files."""

    folder: Path = RESULTS
    """Folder of the JSONs, into which the page goes, too."""
    pages: tuple[Path, ...] = PAGES
    """The Markdown files whose tables are filled."""


def benchmark(name: str) -> Benchmark:
    """The benchmark of a module of this folder."""
    found: Benchmark = importlib.import_module(f"benchmarks.{name}").BENCHMARK
    return found


def load(folder: Path) -> dict[str, Results]:
    """Results by name, of those that have been run."""
    paths = {name: folder / f"{name}.json" for name in NAMES}
    return {n: json.loads(p.read_text(encoding="utf-8")) for n, p in paths.items() if p.exists()}


def page(found: dict[str, Results]) -> str:
    """The page; plots are files beside it."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Benchmarks of discrete_grad</title><style>{STYLE}"
            "img { max-width: 100%; background: #fff; }</style></head><body>",
            "<header><h1>Benchmarks of discrete_grad</h1></header>",
            *(part for name in NAMES for part in _section(name, found.get(name))),
            "</body></html>\n",
        ]
    )


def _section(name: str, results: Results | None) -> Iterator[str]:
    shown = benchmark(name)
    yield f'<section id="{name}"><h2>{escape(shown.title)}</h2>'
    if results is None:
        yield f"<p>Not run: <code>python -m benchmarks.{name}</code></p></section>"
        return
    about = results["environment"]
    facts = [
        about["command"],
        about["machine"],
        about["date"],
        f"torch {about['torch']}",
        f"{results['seconds'] / 60:.1f} minutes",
        f"{len(results['cells'])} cells, {_failed(results)} failed",
    ]
    yield f'<p class="facts">{escape(" · ".join(facts))}</p>'
    for picture in (name, *shown.pictures):
        yield f'<figure><img src="{picture}.png" alt="{escape(shown.title)}"></figure>'
    for i, table in enumerate(shown.tables(results)):
        inside = table.html()
        yield inside if i == 0 else f"<details><summary>{escape(table.title)}</summary>{inside}"
        yield "" if i == 0 else "</details>"
    yield "</section>"


def _failed(results: Results) -> int:
    return sum("failed" in cell for cell in results["cells"].values())


def filled(text: str, found: dict[str, Results]) -> str:
    """The text with the tables at its marked places.

    Raises:
        KeyError: for a place whose benchmark has no results.
        ValueError: for a column that the table does not have.
    """

    def table(match: re.Match[str]) -> str:
        start, name, row, columns, end = match.groups()
        if name == ESTIMATORS:
            return f"{start}\n{gradient.table()}\n\n{end}"
        first = benchmark(name).tables(found[name])[0]
        if columns is not None:
            first = first.part(columns.split("; "), row)
        return f"{start}\n{first.markdown()}\n\n{end}"

    return PLACE.sub(table, text)


def main(config: Config) -> None:
    """Draw the plots, write the page, fill the tables."""
    found = load(config.folder)
    for name, results in found.items():
        benchmark(name).plot(results, config.folder / f"{name}.png")
    target = config.folder / "index.html"
    target.write_text(page(found), encoding="utf-8")
    for path in config.pages:
        path.write_text(filled(path.read_text(encoding="utf-8"), found), encoding="utf-8")
    print(f"{len(found)} of {len(NAMES)} benchmarks in {target}")


if __name__ == "__main__":
    main(tyro.cli(Config))
