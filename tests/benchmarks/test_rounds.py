"""The benchmark of rounds: its cells, a small measurement, tables of incomplete results."""

from typing import Any

import pytest
import torch

from benchmarks import rounds
from benchmarks.rounds_peers import Genetic, Holo, Random, Search
from discrete_grad import CategoricalSpace

SPACE = CategoricalSpace.from_sizes((4, 4, 4))


def test_cells_are_unique_and_a_seed_comes_before_the_next() -> None:
    keys = [cell.key for cell in rounds.cells(rounds.Config(seeds=2))]
    long = [key for key in keys if "/1000/" in key]
    assert len(long) == 2 * 3 * len(rounds.LONG_METHODS)
    assert len(set(keys)) == len(keys) == 2 * 6 * 2 * (len(rounds.METHODS) - 2) + len(long)
    seeds = [int(key.rpartition("=")[2]) for key in keys]
    assert seeds == sorted(seeds)


@pytest.mark.parametrize("search", [Random, Genetic, Holo])
def test_a_search_answers_as_many_rows_as_it_is_asked_for(search: type[Any]) -> None:
    if search is Genetic:
        pytest.importorskip("pymoo")
    one: Search = search(SPACE, 24, 8, 0)
    for _ in range(3):
        codes = one.ask(8)
        SPACE.check_codes(codes)
        assert codes.shape == (8, 3)
        one.tell(codes, codes.sum(-1).double())


def test_the_regret_is_of_the_best_row_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([torch.tensor([0.2, torch.nan]), torch.tensor([0.1, 0.0])])
    problem = rounds.Problem(SPACE, lambda codes: next(values).double(), SPACE.enumerate()[:0])
    monkeypatch.setattr(rounds, "problem", lambda *given: problem)
    cell = rounds.measure("any", 2, 2, "random", 0)
    assert cell["regrets"] == pytest.approx([0.8, 0.8])
    assert cell["infeasible"] == 0.25


def test_tables_show_what_there_is() -> None:
    cell = {"regrets": [0.5, 0.25, 0.0], "cpu": 2.0}
    cells = {"Suzuki/8/rounds/seed=0": cell, "Suzuki/8/SMAC/seed=0": {"failed": "missing"}}
    table, failed = rounds.tables({"cells": cells})
    figures = ["50", "25", "0", "25", "1, 24", "2.0"]  # the third batch of 8 has the best row
    assert table.rows == [["Suzuki", "8", "rounds", "1", *figures]]
    never = {"cells": {"Suzuki/8/rounds/seed=0": cell | {"regrets": [0.5, 0.25, 0.125]}}}
    assert rounds.tables(never)[0].rows[0][-3:] == ["29.2", "0", "2.0"]
    assert failed.rows == [("`Suzuki/8/SMAC/seed=0`", "missing")]
