"""Edits of given rows at the command line."""

import csv
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad.cli import main
from discrete_grad.models.edits import edits_of
from discrete_grad.models.swap_search import SwapSearch
from discrete_grad.rules import Fix, When
from discrete_grad.runs import Run, edit_rows, load_run
from discrete_grad.runs._polish import swaps_of_run
from discrete_grad.training import RunError

QUICK = ["--config", str(Path(__file__).parent / "runs" / "quick.toml")]
COLOURS = [f"c{i}" for i in range(4)]


def table(folder: Path) -> Path:
    """All rows of three features in two shops; the best have size 3, and the shop's own colour."""
    path = folder / "table.csv"
    lines = ["size,colour,cut,shop,score"]
    for size in range(4):
        for place, colour in enumerate(COLOURS):
            for cut in range(3):
                for shop in range(2):
                    score = 10 * size + 5 * (place == 2 * shop) - cut
                    lines.append(f"{size},{colour},{cut},{'ab'[shop]},{score}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edits")
    words = ["fit", str(table(folder)), "--score", "score", "--context", "shop"]
    rules = ["--forbid", "size=3 & cut=2"]
    assert main([*words, "--out", str(folder / "run"), *QUICK, *rules]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def run(fitted: Path) -> Run:
    return load_run(fitted)


CHANGE = r"\w+: \w+ -> \w+ \([+-][\d.e+-]+ alone(, not needed)?\)"
GIVEN = "size,colour,cut,shop\n0,c1,2,a\n1,c2,0,b\n"


def test_edits_are_written_with_the_gain_of_every_change(
    fitted: Path, run: Run, tmp_path: Path
) -> None:
    given, out = tmp_path / "given.csv", tmp_path / "edited.csv"
    given.write_text(GIVEN)
    words = ["generate", str(fitted), "--edit", str(given), "--edits", "2", "--out", str(out)]
    assert main(words) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["given_row"] for row in rows] == sorted(row["given_row"] for row in rows)
    starts = [line.split(",") for line in GIVEN.splitlines()[1:]]
    for row in rows:
        start = starts[int(row["given_row"]) - 1]
        now = [row["size"], row["colour"], row["cut"]]
        changed = [i for i in range(3) if now[i] != start[i]]
        assert len(changed) == int(row["edits"]) in (1, 2)
        assert row["shop"] == start[3]
        assert not (row["size"] == "3" and row["cut"] == "2")
        assert float(row["estimated_score"]) >= float(row["score_before"])
        told = row["changes"].split("; ")
        names = [text.partition(":")[0] for text in told]
        assert names == [("size", "colour", "cut")[i] for i in changed]
        assert all(re.fullmatch(CHANGE, text) for text in told)
    # one change: no row one swap away is better
    schema, space = run.table.schema, run.table.schema.space
    (first,) = [row for row in rows if (row["given_row"], row["edits"]) == ("1", "1")]
    start = schema.encode_features({"size": [0], "colour": ["c1"], "cut": [2]})[0]
    context = schema.encode_context({"shop": ["a"]})
    assert context is not None
    swaps = space.swaps(start)
    assert run.rules is not None
    swaps = swaps[run.rules.allows(swaps)]
    best = swaps[run.objective(context[0])(swaps).argmax()]
    names = schema.decode_features(best[None])
    assert [first[name] for name in names] == [str(v[0]) for v in names.values()]
    gain = float(first["estimated_score"]) - float(first["score_before"])
    assert f"({gain:+.4g} alone)" in first["changes"]


def test_the_seed_is_that_of_the_search(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[object] = []

    def noted(*given: Any, **options: Any) -> SwapSearch:
        seeds.append(options["seed"])
        return swaps_of_run(*given, **options)

    monkeypatch.setattr(import_module("discrete_grad.runs.edit_rows"), "swaps_of_run", noted)
    run.edit({"size": 0, "colour": "c1", "cut": 2, "shop": "a"}, edits=1, seed=7)
    assert seeds == [7]


def test_given_rows_may_break_the_rules(run: Run) -> None:
    bad = {"size": [3, 0], "colour": ["c0", "c0"], "cut": [2, 0], "shop": ["a", "a"]}
    found = edit_rows(run, bad, edits=1)
    place = found["given_row"].index(1)
    assert (found["size"][place], found["cut"][place]) != (3, 2)
    fixed = [Fix("colour", "c3"), Fix("size", 1)]
    with pytest.raises(RunError, match="given row 1: the nearest row that obeys is 2 edits away"):
        edit_rows(run, bad, edits=1, rules=fixed)
    found = edit_rows(run, bad, edits=3, rules=fixed)
    assert set(found["colour"]) == {"c3"}
    assert set(found["size"]) == {"1"}
    best = edit_rows(
        run,
        {"size": ["1"], "colour": ["c3"], "cut": [0], "shop": ["a"]},
        edits=1,
        rules=[*fixed, Fix("cut", 0)],
    )
    assert (best["given_row"], best["edits"], best["changes"]) == ([1], [0], [""])
    assert best["estimated_score"] == best["score_before"]


def test_some_of_the_given_rows_are_judged_in_contexts_of_their_own(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first row breaks the rules, and is left out where the second has one change."""
    module, fine = import_module("discrete_grad.runs.edit_rows"), list[list[bool]]()

    def noted(f: Any, start: Tensor, context: Any, found: Any, price: Any, *rest: Any) -> Any:
        other = torch.tensor([0, 0, 1]).expand_as(start)
        fine.append(rest[0](other, torch.arange(len(start))).tolist())
        return edits_of(f, start, context, found, price, *rest)

    monkeypatch.setattr(module, "edits_of", noted)
    given = {"size": [0, 0], "colour": ["c0", "c0"], "cut": [2, 2], "shop": ["a", "b"]}
    edit_rows(run, given, edits=2, rules=[When({"shop": "a"}, [Fix("cut", 0)])])
    assert fine == [[True], [False, True]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--edits", "0"], "edits must be at least 1, got 0"),
        (["--contexts", "given.csv"], "the file of --edit has them"),
        (["--rows", "2"], "--edit does not go together with --rows: --edits says how many"),
        (["--rows", "0"], "--rows must be at least 1, got 0"),
        (["--diversity", "2"], "--edit does not go together with --diversity"),
    ],
)
def test_what_the_command_refuses(
    options: list[str],
    said: str,
    fitted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("given.csv").write_text(GIVEN)
    words = ["generate", str(fitted), "--edit", "given.csv", "--out", "x.csv"]
    assert main([*words, *options]) == 2
    assert said in capsys.readouterr().err
    assert not Path("x.csv").exists()
