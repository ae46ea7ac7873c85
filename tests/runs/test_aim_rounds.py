"""Rounds of several aims: a trade-off for each part of a batch, thresholds, targets, kills."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from discrete_grad.cli import main
from discrete_grad.data import Table, TableError, read_table, write_rows
from discrete_grad.runs import Run, fit, load_run
from discrete_grad.runs._aim_rounds import round_score, round_tradeoffs
from discrete_grad.runs._lines import Lines
from discrete_grad.runs._measured_table import read_measured
from discrete_grad.runs._measurements import Ledger
from discrete_grad.runs.folder_rounds import keep, propose_rows
from tests.runs.test_aims import CONFIG
from tests.runs.test_folder_rounds import Killed, killed_at

AIMS = ["yield", "cost:min", "purity>=0.5"]
NOWHERE = Lines({}, None, [{}])


def columns(count: int = 60) -> dict[str, Any]:
    """Yield and cost rise with x, cost falls with y; rows of z = 0 are pure."""
    x, y, z = np.random.default_rng(0).integers(0, 4, (3, count))
    return {"x": x, "y": y, "z": z, **measured(x, y, z)}


def measured(x: Any, y: Any, z: Any) -> dict[str, Any]:
    x, y, z = (np.asarray(column) for column in (x, y, z))
    return {"yield": 10.0 * x + z, "cost": 2.0 * x - y, "purity": np.where(z == 0, 0.9, 0.1)}


def table(score: list[str]) -> Table:
    return read_table(columns(), score=score, features={name: range(4) for name in "xyz"})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(table(AIMS), tmp_path_factory.mktemp("rounds") / "run", CONFIG).folder


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Run:
    return load_run(shutil.copytree(fitted, tmp_path / "run"))


@pytest.mark.slow
def test_a_batch_is_spread_over_trade_offs_and_told_again(run: Run) -> None:
    found = run.propose(rows=8)
    assert list(found) == ["x", "y", "z", *(f"estimated_{n}" for n in ("yield", "cost", "purity"))]
    rows = {tuple(row) for row in found[["x", "y", "z"]].to_numpy().tolist()}
    assert len(rows) == 8
    assert not rows & {tuple(row) for row in run.table.codes.tolist()}
    assert (found["z"] == 0).mean() > 0.5  # pure ones, a quarter of all
    worth = measured(*(found[name] for name in "xyz"))
    again = run.tell({**found.to_dict("list"), **worth})
    assert len(again.table) == len(run.table) + 8
    assert again.table.all_scores[-8:, 1].tolist() == (-worth["cost"]).tolist()
    more = again.propose(rows=4)
    assert not rows & {tuple(row) for row in more[["x", "y", "z"]].to_numpy().tolist()}


def test_a_propose_and_a_tell_of_several_aims_killed_anywhere(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = {"x": [3, 0], "y": [0, 3], "z": [0, 1], "failed": ["no", "yes"]}
    sheet |= {"yield": [30.0, None], "cost": [6.0, None], "purity": [0.9, None]}
    rows = []
    for point in range(4):
        run = load_run(shutil.copytree(fitted, tmp_path / str(point)))
        with killed_at(monkeypatch, point):
            try:
                keep(run, sheet)
                propose_rows(run, NOWHERE, rows=3)
            except Killed:
                pass
        keep(run, sheet)
        assert len(Ledger(run.folder, run.table.schema).told()) == 2
        if not len(Ledger(run.folder, run.table.schema).pending()):
            rows.append(propose_rows(run, NOWHERE, rows=3))
    assert len(rows) == 3
    assert rows[0] == rows[1] == rows[2]


def test_what_a_row_is_worth_at_a_trade_off() -> None:
    schema = table(AIMS).schema
    scores = torch.tensor([[5.0, -1.0, 0.9], [3.0, -5.0, 0.9], [9.0, 0.0, 0.1], [2.0, -0.5, 0.9]])
    failed = torch.full((1, 3), torch.nan)
    for wanted, best in (([0.99, 0.01], 0), ([0.01, 0.99], 3)):
        worth = round_score(schema, torch.cat([scores, failed]), torch.tensor(wanted))
        assert worth.isnan().tolist() == [False, False, True, False, True]
        assert int(worth.nan_to_num(-9).argmax()) == best
    assert round_score(schema, failed, torch.tensor([0.5, 0.5])).isnan().all()
    one = round_score(table(["yield", "purity>=0.5"]).schema, scores[:, [0, 2]], None)
    assert one.nan_to_num(-1).tolist() == [5.0, 3.0, -1.0, 2.0]
    # what is to be small is told with the other sign
    lowered = scores[:, [0, 2]] * torch.tensor([1.0, -1.0])
    most = round_score(table(["yield", "purity<=0.5"]).schema, lowered, None)
    assert most.nan_to_num(-1).tolist() == [-1.0, -1.0, 9.0, -1.0]


def test_every_row_of_a_batch_has_a_trade_off() -> None:
    for rows in (1, 3, 4, 10):
        parts = round_tradeoffs(2, rows, seed=rows)
        assert sum(count for _, count in parts) == rows
        for weights, count in parts:
            assert weights is not None
            assert count >= 1
            assert weights.sum().item() == pytest.approx(1)
    assert round_tradeoffs(1, 5, seed=0) == [(None, 5)]


def test_a_target_is_told_as_it_is_measured() -> None:
    given = {**columns(), "ph": np.linspace(6, 8, 60)}
    features = {name: range(4) for name in "xyz"}
    schema = read_table(
        given, score=["yield", "ph:=7.4"], features=features, exclude=["cost", "purity"]
    ).schema
    told = read_measured({"x": [0], "y": [0], "z": [0], "yield": [1.0], "ph": [7.9]}, schema).told
    assert told.scores[0].tolist() == pytest.approx([1.0, -0.5])


# --- rows that may fail ---------------------------------------------------------------------------


def risky(score: list[str] | str) -> Table:
    """The same rows, of which those of y = 3 fail and have no score; the cost falls with y."""
    given = columns(30)
    ok = given["y"] < 3
    given["yield"] = np.where(ok, given["yield"], np.nan)
    features = {name: range(4) for name in "xyz"}
    return read_table({**given, "ok": ok}, score=score, features=features, feasible="ok")


@pytest.fixture(scope="module")
def risky_fit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("risky") / "run"
    return fit(risky(["yield", "cost:min"]), folder, CONFIG).folder


def rows_in(frame: Any) -> list[tuple[int, ...]]:
    return [tuple(row) for row in np.stack([frame[name] for name in "xyz"], 1).tolist()]


def test_rows_that_are_likely_to_fail_are_not_proposed(risky_fit: Path, tmp_path: Path) -> None:
    run = load_run(shutil.copytree(risky_fit, tmp_path / "run"))
    assert run.table.failed_codes is not None
    failed = [tuple(row) for row in run.table.failed_codes.tolist()]
    found = run.propose(rows=8)
    assert len(set(rows_in(found))) == 8
    assert not set(rows_in(found)) & {*failed, *map(tuple, run.table.codes.tolist())}
    # no score of these is known: without the chance of success, three of the rows are such
    assert 3 not in found["y"].tolist()


def test_rows_that_failed_are_told_and_learnt_from(
    risky_fit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = load_run(shutil.copytree(risky_fit, tmp_path / "run"))
    assert run.table.failed_codes is not None
    known = {*map(tuple, run.table.codes.tolist()), *map(tuple, run.table.failed_codes.tolist())}
    # what lacks, all rows of y = 3 among it, and two of y = 0 that failed beside them
    lacking = [row for row in np.ndindex(4, 4, 4) if row not in known]
    odd = [row for row in lacking if row[1] == 0][:2]
    told = [*odd, *(row for row in lacking if row[1] == 3)]
    sheet = {name: [row[i] for row in told] for i, name in enumerate("xyz")}
    sheet |= {"yield": ["broken"] * len(told), "cost": [None] * len(told), "ok": ["no"] * len(told)}
    write_rows(tmp_path / "told.csv", sheet)
    assert main(["tell", str(run.folder), str(tmp_path / "told.csv")]) == 0
    assert f"0 were known, {len(told)} rows failed, 0 are not" in capsys.readouterr().out
    again = load_run(run.folder)
    assert again.folder != run.folder
    assert len(again.table) == len(run.table)
    assert again.table.failed_codes is not None
    before = len(run.table.failed_codes)
    assert [tuple(row) for row in again.table.failed_codes[before:].tolist()] == told
    left = len(lacking) - len(told)
    more = again.propose(rows=left)
    assert set(rows_in(more)) == set(lacking) - set(told)
    assert again.tell(sheet).folder == again.folder  # nothing new: neither kept nor fitted again


def test_one_aim_of_rows_that_may_fail(tmp_path: Path) -> None:
    run = fit(risky("yield"), tmp_path / "run", CONFIG)
    found = run.propose(rows=6)
    assert list(found) == ["x", "y", "z", "estimated_score"]
    assert 3 not in found["y"].tolist()


def test_what_a_file_says_of_rows_that_may_fail() -> None:
    schema = risky(["yield", "cost:min"]).schema
    rows = {"x": [0, 1, 2, 3], "y": [0, 1, 2, 3], "z": [0] * 4}
    given = {**rows, "yield": [1.0, None, None, 9.0], "cost": [1.0, None, None, 9.0]}
    sheet = read_measured({**given, "ok": ["yes", "yes", None, "0"]}, schema)
    assert (sheet.failed, sheet.open) == (1, 2)
    assert sheet.told.codes.tolist() == [[0, 0, 0], [3, 3, 0]]
    assert sheet.told.scores.nan_to_num(7).tolist() == [[1.0, -1.0], [7.0, 7.0]]
    for wrong, told in (
        ({"ok": ["yes", "no", "", ""]}, "column 'ok', row 4: .* write yes or no"),
        ({"ok": ["yes", "no", "perhaps", ""]}, "column 'ok', row 3: 'perhaps' is neither"),
        ({}, "no feasible column 'ok'"),
        ({"ok": [1] * 4, "failed": [0] * 4}, "column 'ok' says which rows of this fit failed"),
    ):
        with pytest.raises(TableError, match=told):
            read_measured({**given, **wrong}, schema)
    empty = dict.fromkeys(("yield", "cost"), [None] * 4)
    with pytest.raises(TableError, match="column 'ok' marks no row as failed"):
        read_measured({**rows, **empty, "ok": [1] * 4}, schema)
