"""The page and the tables of the Markdown files come from the committed results."""

import re
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.harness import RESULTS

ROOT = Path(__file__).parents[2]
FOUND = report.load(RESULTS)


@pytest.mark.parametrize("path", report.PAGES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_pages_show_the_committed_figures(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert report.PLACE.search(text)
    assert report.filled(text, FOUND) == text


@pytest.mark.parametrize("path", report.PAGES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_page_says_nothing_twice(path: Path) -> None:
    said = [part for part in path.read_text(encoding="utf-8").split("\n\n") if len(part) > 60]
    twice = {part[:80] for part in said if said.count(part) > 1 and part[0] not in "|<"}
    assert not twice


def test_a_wrong_figure_on_a_page_would_be_seen() -> None:
    text = "<!-- table: polynomial -->\nold\n<!-- end of table -->"
    assert report.filled(text, FOUND) != text


def test_an_empty_place_is_filled_and_what_follows_stays() -> None:
    place = "<!-- table: polynomial -->\n<!-- end of table -->\n"
    text = report.filled(f"{place}between\n{place}after", FOUND)
    assert text.count("| `LeaveOneOut N=64` |") == 2
    assert "between" in text
    assert text.endswith("after")


def test_a_place_shows_the_columns_it_names() -> None:
    place = "<!-- table: polynomial; columns: p = 2; p = 1.5 -->\n<!-- end of table -->"
    assert "\n| gradient estimator | p = 2 | p = 1.5 |\n" in report.filled(place, FOUND)
    one = report.filled(place.replace("; columns", "; rows: `exact`; columns"), FOUND)
    assert one.count("\n|") == 3
    with pytest.raises(ValueError, match="p = 4"):
        report.filled(place.replace("p = 2", "p = 4"), FOUND)


@pytest.mark.parametrize("name", report.NAMES)
def test_each_benchmark_has_results_and_a_plot(name: str) -> None:
    results = FOUND[name]
    assert results["benchmark"] == name
    assert not results["settings"]["quick"]
    assert re.match(rf"python (-m )?benchmarks[./]{name}", results["environment"]["command"])
    assert (RESULTS / f"{name}.png").stat().st_size > 10_000
    for table in report.benchmark(name).tables(results):
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.header)}


def test_the_committed_page_is_made_from_the_results() -> None:
    assert (RESULTS / "index.html").read_text(encoding="utf-8") == report.page(FOUND)


def test_a_benchmark_that_was_not_run_is_told() -> None:
    page = report.page({})
    assert page.count("Not run: <code>python -m benchmarks.") == len(report.NAMES)


def test_nothing_of_the_machine_but_its_description_is_in_the_results() -> None:
    home = re.compile(r"/(home|root|work|tmp)/")
    for path in RESULTS.iterdir():
        if path.suffix in (".json", ".html", ".md"):
            assert not home.search(path.read_text(encoding="utf-8")), path.name


def test_make_runs_every_benchmark() -> None:
    makefile = (ROOT / "Makefile").read_text()
    told = re.search(r"^BENCHMARKS := (.*)$", makefile, re.MULTILINE)
    assert told is not None
    assert tuple(told[1].split()) == report.NAMES
