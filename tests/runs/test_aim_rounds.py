"""Rounds of several aims: a trade-off for each part of a batch, thresholds, targets, kills."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from discrete_grad.data import Table, read_table
from discrete_grad.runs import Run, fit, load_run
from discrete_grad.runs._aim_rounds import round_score, round_tradeoffs
from discrete_grad.runs._lines import Lines
from discrete_grad.runs._measured_table import read_measured
from discrete_grad.runs._measurements import Ledger
from discrete_grad.runs.folder_rounds import keep, propose_rows
from discrete_grad.training import RunError
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


def test_every_row_of_a_batch_has_a_trade_off() -> None:
    schema = table(AIMS).schema
    for rows in (1, 3, 4, 10):
        parts = round_tradeoffs(schema, rows, seed=rows)
        assert sum(count for _, count in parts) == rows
        for weights, count in parts:
            assert weights is not None
            assert count >= 1
            assert weights.sum().item() == pytest.approx(1)
    assert round_tradeoffs(table(["yield"]).schema, 5, seed=0) == [(None, 5)]


def test_a_target_is_told_as_it_is_measured() -> None:
    given = {**columns(), "ph": np.linspace(6, 8, 60)}
    features = {name: range(4) for name in "xyz"}
    schema = read_table(
        given, score=["yield", "ph:=7.4"], features=features, exclude=["cost", "purity"]
    ).schema
    told = read_measured({"x": [0], "y": [0], "z": [0], "yield": [1.0], "ph": [7.9]}, schema).told
    assert told.scores[0].tolist() == pytest.approx([1.0, -0.5])


def test_fits_of_which_no_rounds_can_be_made(tmp_path: Path) -> None:
    given = {**columns(), "ok": np.arange(60) % 3 > 0}
    features = {name: range(4) for name in "xyz"}
    run = fit(
        read_table(given, score="yield", feasible="ok", features=features), tmp_path / "a", CONFIG
    )
    with pytest.raises(RunError, match="rounds cannot be made of a fit with --feasible"):
        run.propose(rows=1)
