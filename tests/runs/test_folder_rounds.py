"""Rounds in the folder of a run: every measurement kept once, whatever ends a call."""

import copy
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from discrete_grad.cli import main
from discrete_grad.data import Table, TableError, read_table, write_rows
from discrete_grad.fitting import FarContextWarning
from discrete_grad.policies import Generator
from discrete_grad.preferences import Preferences
from discrete_grad.rules import Forbid, Rules
from discrete_grad.runs import FewRowsWarning, FitConfig, Run, folder_rounds, load_run
from discrete_grad.runs._aim_rounds import round_tradeoffs
from discrete_grad.runs._lines import Lines, read_lines
from discrete_grad.runs._measured_table import read_measured
from discrete_grad.runs._measurements import Ledger
from discrete_grad.runs._warm import go_on, shorter
from discrete_grad.runs.fit import fit_table
from discrete_grad.runs.folder_rounds import keep, propose_rows, refitted
from discrete_grad.training import RunError
from tests.runs.small import small_config, small_table, weights_of
from tests.two_processes import forkserver

SHEET = {
    "cut": ["ideal", "good", "good"],
    "shade": [1, 2, 2],
    "size": [True, False, False],
    "shop": ["east", "west", "west"],
    "price": [0.5, 0.25, 0.25],
    "score": [3.0, 1.0, 1.0],
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("rounds") / "run"
    fit_table(small_table(60), folder, small_config())
    return folder


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Run:
    return load_run(shutil.copytree(fitted, tmp_path / "run"))


SHOPS = {"shop": ["east", "west"], "price": [0.5, 0.25]}


def ledger(run: Run) -> Ledger:
    return Ledger(run.folder, run.table.schema)


def changed(**columns: list[Any]) -> dict[str, list[Any]]:
    return {**SHEET, **columns}


# --- what ends a call -----------------------------------------------------------------------------


class Killed(BaseException):
    pass


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, point: int) -> Iterator[list[str]]:
    """Nothing is written any more from a point on: before or after a file takes its name.

    As after kill -9 the hidden part of a file stays, and no code of the process tidies up.
    """
    passed: list[str] = []
    replace, unlink = os.replace, Path.unlink

    def reach(name: str) -> None:
        if len(passed) == point:
            raise Killed
        passed.append(name)

    def replacing(source: Path, target: Path) -> None:
        reach(f"before {target.name}")
        replace(source, target)
        reach(f"after {target.name}")

    def unlinking(path: Path, missing_ok: bool = False) -> None:
        if len(passed) < point:
            unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replacing)
        patch.setattr(Path, "unlink", unlinking)
        yield passed


def test_a_file_that_is_taken_away_costs_no_other(run: Run) -> None:
    for score in (0.0, 1.0, 2.0):
        keep(run, changed(score=[score] * 3))
    (run.folder / "rounds" / "told" / "000001.safetensors").unlink()
    keep(run, changed(score=[3.0] * 3))
    told = ledger(run).told()
    assert told.scores[:, 0].tolist() == [1.0] * 3 + [2.0] * 3 + [3.0] * 3


def test_a_tell_killed_anywhere_keeps_all_or_nothing_and_told_again_keeps_all_once(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for point in range(10):
        run = load_run(shutil.copytree(fitted, tmp_path / str(point)))
        keep(run, changed(score=[0.0, 0.0, 0.0]))
        with killed_at(monkeypatch, point) as passed:
            try:
                keep(run, SHEET)
            except Killed:
                pass
            else:
                break
        assert len(ledger(run).told()) == (3 if point == 0 else 6)
        assert keep(run, SHEET)[0] == (3 if point == 0 else 0)
        assert len(ledger(run).told()) == 6
    assert passed == ["before 000002.safetensors", "after 000002.safetensors"]
    assert point == 2


def test_a_propose_killed_anywhere_and_made_again_proposes_the_same(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def proposed(run: Run) -> dict[str, list[Any]]:
        out, lines = run.folder / "next.csv", read_lines(SHOPS, run.table.schema)
        return propose_rows(run, lines, rows=2, write=lambda made: write_rows(out, made))

    found = []
    for point in range(10):
        run = load_run(shutil.copytree(fitted, tmp_path / str(point)))
        with killed_at(monkeypatch, point) as passed:
            try:
                proposed(run)
            except Killed:
                pass
            else:
                break
        if point < 3:
            assert not len(ledger(run).pending())
            found.append(proposed(run))
        assert len(ledger(run).pending()) == 4
        assert (run.folder / "next.csv").read_text().count("\n") == 5
    assert [name.split()[1] for name in passed] == ["next.csv"] * 2 + ["000001.safetensors"] * 2
    assert found[0] == found[1] == found[2]


def test_a_fit_after_a_tell_is_gone_on_with(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_run(shutil.copytree(fitted, tmp_path / "whole")).tell(SHEET)
    run = load_run(shutil.copytree(fitted, tmp_path / "run"))
    for point in (1, 30):
        with killed_at(monkeypatch, point), pytest.raises(Killed):
            load_run(run.folder).tell(SHEET)
        assert len(load_run(run.folder).table) == 60
    new = load_run(run.folder).tell(SHEET)
    assert len(new.table) == len(load_run(run.folder).table) == 63
    assert weights_of(new.folder) == weights_of(whole.folder)
    assert load_run(run.folder).folder == new.folder == run.folder / "rounds" / "fits" / "000003"


def test_a_fit_after_a_tell_is_made_under_the_same_terms(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: dict[str, Any] = {}

    def noted(table: Table, folder: Path, config: FitConfig, **options: Any) -> Run:
        handed.update(rows=len(table), folder=folder, config=config, **options)
        return run

    monkeypatch.setattr(folder_rounds, "fit_table", noted)
    monkeypatch.setattr(folder_rounds, "finish_fit", lambda folder: None)
    codes = torch.zeros(2, 3, dtype=torch.long)
    answers = Preferences(codes, codes, torch.tensor([0, 2]), torch.zeros(2, 4))
    rules = Rules(run.table.schema.space, [Forbid({"cut": "fair", "size": "True"})])
    known = replace(run, preferences=answers, rules=rules, source={"made": "here"})
    keep(known, SHEET)
    assert refitted(known) is run
    assert handed == {
        "rows": 63,
        "folder": run.folder / "rounds" / "fits" / "000003",
        "config": shorter(run.config),
        "rules": rules,
        "preferences": answers,
        "resume": True,
        "source": {"made": "here"},
        "device": run.device,
        "before": run.folder,
    }


def test_a_generator_goes_on_from_the_last_weights_and_estimators_begin_anew(run: Run) -> None:
    schema, kept = run.table.schema, run.folder / "weights"
    for hidden, same in ((16, True), (8, False)):
        model = Generator(schema.space, schema.context_spec, hidden=(hidden,))
        go_on(model, kept / "generator.safetensors")
        pairs = zip(model.parameters(), run.generator.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == same
    estimator = copy.deepcopy(run.judge)
    go_on(estimator, kept / "estimator.safetensors")
    pairs = zip(estimator.state_dict().values(), run.judge.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    new = run.tell(SHEET)
    assert new.config.generator.steps == run.config.generator.steps // 3
    assert new.config.estimator == run.config.estimator
    again = run.tell(changed(score=[1.0, 2.0, 3.0]))
    assert again.config.generator.steps == new.config.generator.steps


def test_two_tells_at_once_are_both_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Ledger.told

    def slow(self: Ledger) -> Any:
        found = told(self)
        time.sleep(0.05)
        return found

    monkeypatch.setattr(Ledger, "told", slow)
    sheets = [changed(score=[float(i)] * 3) for i in range(3)]
    threads = [threading.Thread(target=keep, args=(run, sheet)) for sheet in sheets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ledger(run).told().scores[:, 0].tolist()) == [0.0] * 3 + [1.0] * 3 + [2.0] * 3


def _keep_one_by_one(folder: Path, first: int) -> None:
    """Begins when both do."""
    told = load_run(folder)
    (folder / f"{first}.ready").touch()
    while len(list(folder.glob("*.ready"))) < 2:
        time.sleep(0.001)
    for score in range(first, first + 5):
        keep(told, changed(score=[float(score)] * 3))


def test_processes_that_tell_at_once_lose_nothing(run: Run) -> None:
    with ProcessPoolExecutor(2, mp_context=forkserver()) as pool:
        list(pool.map(_keep_one_by_one, [run.folder] * 2, [0, 5]))
    scores = ledger(run).told().scores[:, 0].tolist()
    assert sorted(scores) == [float(score) for score in range(10) for _ in range(3)]


def test_a_context_far_from_those_measured_is_told(run: Run) -> None:
    with pytest.warns(FarContextWarning, match="context column 'price': 99.0 in row 2 is far"):
        run.propose({"shop": ["east", "west"], "price": [0.5, 99.0]}, rows=1)


# --- what a measurement is ------------------------------------------------------------------------


def test_equal_rows_of_a_file_are_two_measurements_and_those_told_again_none(run: Run) -> None:
    assert keep(run, SHEET)[0] == 3
    assert ledger(run).told().names == ("", "", "")
    assert keep(run, SHEET)[0] == 0
    grown = {name: [*column, column[1]] for name, column in SHEET.items()}
    assert keep(run, grown)[0] == 1
    assert keep(run, changed(score=[3.0, 1.0, 1.5]))[0] == 1
    assert keep(run, SHEET, "tuesday")[0] == 3
    assert keep(run, SHEET, "tuesday")[0] == 0
    assert keep(run, changed(measurement=["tuesday", None, "wednesday"]), "tuesday")[0] == 1
    names = ("",) * 5 + ("tuesday",) * 3 + ("wednesday",)
    assert ledger(run).told().names == names


def test_a_zero_is_a_zero_whatever_its_sign(run: Run) -> None:
    assert keep(run, changed(score=[0.0, 1.0, 1.0]))[0] == 3
    assert keep(run, changed(score=[-0.0, 1.0, 1.0]))[0] == 0


def test_an_empty_score_waits_and_a_failed_row_is_known(run: Run) -> None:
    new, sheet = keep(run, changed(score=[None, None, 1.0], failed=["", "Yes", "no"]))
    assert (new, sheet.failed, sheet.open) == (2, 1, 1)
    assert ledger(run).told().scores.isnan().flatten().tolist() == [True, False]
    assert len(refitted(run).table) == 61
    assert keep(run, changed(score=[None, 2.0, 1.0]))[0] == 1


def test_minimised_scores_are_kept_to_be_maximised() -> None:
    table = read_table({"cut": [0, 1], "cost": [1.0, 2.0]}, score="cost:min")
    sheet = read_measured({"cut": [1], "cost": [5.0]}, table.schema)
    assert sheet.told.scores.tolist() == [[-5.0]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"score": [None] * 3}, "no row was measured: every 'score' is empty"),
        ({"failed": [1.0, 0.0, 0.0]}, "column 'failed', row 1: the row failed and has a score"),
        ({"failed": ["", "", "maybe"]}, "column 'failed', row 3: 'maybe' is neither yes nor no"),
        ({"cut": ["ideal", "poor", "good"]}, "'poor'"),
        ({"score": ["1", "x", "2"]}, "'score', row 2"),
        ({"shop": ["east", "south", "west"]}, "'south'"),
    ],
)
def test_a_faulty_table_is_told_and_nothing_of_it_kept(
    run: Run, columns: dict[str, list[Any]], message: str
) -> None:
    with pytest.raises(TableError, match=message):
        run.tell(changed(**columns))
    assert not len(ledger(run).told())


def test_of_several_scores_all_are_needed() -> None:
    columns = {"cut": [0, 1], "price": [1.0, 2.0], "weight": [2.0, 1.0]}
    schema = read_table(columns, score=["price", "weight"]).schema
    with pytest.raises(TableError, match="column 'weight', row 2: the value is missing"):
        read_measured({**columns, "weight": [2.0, None]}, schema)


# --- what is proposed -----------------------------------------------------------------------------


def test_neither_rows_of_the_table_nor_told_or_pending_ones_are_proposed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = list[int]()

    def noted(aims: int, rows: int, *, seed: int) -> list[tuple[torch.Tensor | None, int]]:
        seeds.append(seed)
        return round_tradeoffs(aims, rows, seed=seed)

    monkeypatch.setattr(folder_rounds, "round_tradeoffs", noted)
    east = read_lines({"shop": ["east"], "price": [0.5]}, run.table.schema)
    keep(run, SHEET)
    shown = [propose_rows(run, east, rows=10) for _ in range(2)]
    with pytest.warns(FewRowsWarning, match="context row 1: only 3 new rows of 10 are left"):
        shown.append(propose_rows(run, east, rows=10))
    rows = {
        row for made in shown for row in zip(made["cut"], made["shade"], made["size"], strict=True)
    }
    assert len(rows) == 23
    assert ("ideal", 1, True) not in rows
    assert len(ledger(run).pending()) == 23
    assert len(set(seeds)) == 3  # no call repeats the draws of another


def test_each_call_and_each_line_draws_by_a_seed_of_its_own(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    class Noted(folder_rounds.Wanted):
        def __post_init__(self) -> None:
            super().__post_init__()
            seeds.append(self.seed)

    monkeypatch.setattr(folder_rounds, "Wanted", Noted)
    for _ in range(2):
        propose_rows(run, read_lines(SHOPS, run.table.schema), rows=1)
    assert len(set(seeds)) == len(seeds) == 4


def test_a_column_of_scores_makes_a_proposal_a_file_to_tell(run: Run) -> None:
    made = run.propose(SHOPS, rows=2)
    assert made["shop"].tolist() == ["east", "east", "west", "west"]
    assert keep(run, made.assign(score=[1.0, None, None, 2.0]))[0] == 2
    assert len(ledger(run).pending()) == 2


def test_a_column_of_a_feature_fixes_it(run: Run) -> None:
    made = run.propose({"shop": ["east"], "price": [0.5], "cut": ["good"]}, rows=3)
    assert made["cut"].tolist() == ["good"] * 3


def test_rules_of_the_fit_are_obeyed(tmp_path: Path) -> None:
    table = small_table(60, context=False)
    rules = [Forbid({"cut": "ideal", "shade": 1})]
    run = fit_table(table, tmp_path / "run", small_config(), rules=rules)
    with pytest.warns(FewRowsWarning, match="only 4 new rows of 12 are left to propose"):
        found = propose_rows(run, Lines({}, None, [{}]), rows=12)
    assert ("ideal", 1) not in set(zip(found["cut"], found["shade"], strict=True))


def test_numbers_out_of_range_are_told(run: Run) -> None:
    with pytest.raises(RunError, match="rows must be at least 1, got 0"):
        run.propose(SHOPS, rows=0)
    with pytest.raises(RunError, match="explore must be a number of at least 0, got nan"):
        run.propose(SHOPS, rows=1, explore=float("nan"))


def test_the_commands_propose_tell_and_propose_again(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, out = tmp_path / "contexts.csv", tmp_path / "next.csv"
    asked.write_text("shop,price\neast,0.5\n")
    words = ["propose", str(run.folder), "--rows", "2", "--contexts", str(asked)]
    assert main([*words, "--out", str(out)]) == 0
    header, *lines = out.read_text().splitlines()
    assert header == "shop,price,cut,shade,size,estimated_score"
    measured = tmp_path / "measured.csv"
    measured.write_text(f"{header},score\n{lines[0]},2.5\n{lines[1]},\n")
    assert main(["tell", str(run.folder), str(measured)]) == 0
    said = capsys.readouterr().out
    assert "kept 1 measurements; 0 were known, 0 rows failed, 1 are not measured yet" in said
    assert "fitted to 61 rows" in said
    assert main([*words, "--out", str(out)]) == 0
    assert not set(out.read_text().splitlines()[1:]) & set(lines)
