"""Several aims and rows that failed, from the command line."""

import csv
from pathlib import Path

import pytest

from discrete_grad.cli import main
from discrete_grad.runs.aim_words import read_tradeoff
from discrete_grad.training import RunError

QUICK = str(Path(__file__).parent / "runs" / "quick.toml")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two aims, a threshold and failed rows."""
    folder = tmp_path_factory.mktemp("aims")
    lines = ["heat,base,yield,cost,purity,ok"]
    for place in range(120):
        heat, base = place % 4, place // 4 % 3
        ok = "yes" if base < 2 else "no"
        measured = f"{10 * heat + place % 5}" if base < 2 else ""
        lines.append(f"{heat},b{base},{measured},{2 * heat + base},{0.9 + 0.01 * (place % 7)},{ok}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    words = ["--score", "yield", "cost:min", "purity>=.93", "--feasible", "ok", "--config", QUICK]
    assert main(["fit", str(folder / "rows.csv"), *words, "--out", str(folder / "run")]) == 0
    return folder / "run"


def written(run: Path, *words: str) -> list[dict[str, str]]:
    out = run.parent / "out.csv"
    assert main(["generate", str(run), "--no-new-only", "--out", str(out), *words]) == 0
    with open(out, newline="") as file:
        return list(csv.DictReader(file))


def test_rows_at_a_trade_off_and_on_the_front(fitted: Path) -> None:
    rows = written(fitted, "--tradeoff", "yield=.7,cost=.3", "--rows", "2")
    assert list(rows[0]) == [
        "tradeoff_yield",
        "tradeoff_cost",
        "heat",
        "base",
        "estimated_yield",
        "judge_yield",
        "estimated_cost",
        "judge_cost",
        "estimated_purity",
        "judge_purity",
        "probability_purity>=0.93",
        "probability_feasible",
        "beyond_observed",
        "in_table",
    ]
    assert [(row["tradeoff_yield"], row["tradeoff_cost"]) for row in rows] == [("0.7", "0.3")] * 2
    front = written(fitted, "--front", "5")
    assert 1 < len(front) <= 5
    assert len({(row["heat"], row["base"]) for row in front}) == len(front)
    assert '<section id="aims">' in (fitted / "report.html").read_text()


def test_own_rows_are_ranked_at_a_trade_off(fitted: Path) -> None:
    given, out = fitted.parent / "own.csv", fitted.parent / "scored.csv"
    given.write_text("heat,base\n0,b0\n3,b0\n1,b0\n")
    best = {}
    for aim, better in (("yield", max), ("cost", min)):
        words = ["score", str(fitted), str(given), "--tradeoff", f"{aim}=1", "--out", str(out)]
        assert main(words) == 0
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
        scores = [float(row[f"estimated_{aim}"]) for row in rows]
        first = [row["rank"] for row in rows].index("1")
        assert 0 <= float(rows[first]["probability_feasible"]) <= 1
        best[aim] = (first, scores.index(better(scores)))
    assert best["yield"][0] == best["yield"][1]
    assert best["cost"][0] == best["cost"][1]
    assert best["yield"] != best["cost"]
    assert main(["score", str(fitted), str(given), "--tradeoff", "yeild=1"]) == 2


def test_edits_follow_the_trade_off_and_tell_every_aim(fitted: Path) -> None:
    given = fitted.parent / "given.csv"
    given.write_text("heat,base\n1,b0\n")
    for asked, aim, better in (("yield=1", "yield", 1), ("cost=1", "cost", -1)):
        words = ["--edit", str(given), "--edits", "1", "--tradeoff", asked]
        (row,) = written(fitted, *words, "--fix", "base=b0")
        gain = float(row[f"estimated_{aim}"]) - float(row[f"{aim}_before"])
        assert better * gain > 0
        assert f"{aim} {gain:+.4g}" in row["changes"]
        assert 0 <= float(row["probability_feasible"]) <= 1
        assert "estimated_score" not in row


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--edit", "given.csv", "--front", "4"], "--edit does not go together with --front"),
        (["--tradeoff", "yield"], "'yield' is no part of one"),
        (["--tradeoff", "yeild=1"], "'yeild' is no aim that is traded off"),
        (["--tradeoff", "yield=1,yield=0"], "names 'yield' twice"),
        (["--tradeoff", "yield=.5,cost=.6"], "must have the sum 1, theirs is 1.1"),
        (["--front", "0"], "at least 1 row, got 0"),
        (["--front", "3", "--rows", "5"], "--front does not go together with --rows"),
    ],
)
def test_a_wrong_trade_off_is_told_in_one_line(
    fitted: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    out = fitted.parent / "none.csv"
    assert main(["generate", str(fitted), "--out", str(out), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not out.exists()


def test_a_name_may_hold_an_equals_sign() -> None:
    assert read_tradeoff("a=b=.5, c=0.5") == {"a=b": 0.5, "c": 0.5}
    with pytest.raises(RunError, match="'' is no part of one"):
        read_tradeoff("")
