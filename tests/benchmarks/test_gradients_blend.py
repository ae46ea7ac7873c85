"""Tables of the benchmarks of Blend, and of incomplete results."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import blend
from benchmarks.gradients_blend import Methods, blend_table, variants_table


def method(**errors: float) -> dict[int, Any]:
    return {int(k[1:]): SimpleNamespace(rmse=v) for k, v in errors.items()}


def problem(mine: float, **others: float) -> Methods:
    found = {name: method(b2=rmse) for name, rmse in others.items()}
    return {"Blend": method(b8=mine, b32=mine), **found}


def test_the_best_other_method_is_the_one_with_the_least_error_above_zero() -> None:
    problems = [
        problem(0.5, Softmax=1.0, ReinMax=2.0, Enumerate=0.0),  # 0.5 of the best
        problem(1.08, Softmax=1.0, ReinMax=3.0),
        problem(0.004, Softmax=0.0, ReinMax=3.0),  # the mean field is exact
        {"ReinMax": method(b8=1.0)},  # not measured
    ]
    table = blend_table(problems)
    assert [row[0] for row in table.rows] == ["8", "32", "128", "512"]
    _, count, *shares, median, largest, exact, near, error = table.rows[0]
    assert (count, exact, error) == ("2", "1", "0.004")
    assert near.startswith("100% ")
    assert [share.split(" ")[0] for share in shares] == ["50%", "50%", "100%"]
    assert median.split(" ")[0] == "0.79"
    assert largest == "1.08"
    assert blend_table(problems[3:]).rows == []


def test_a_variant_is_compared_where_neither_is_exact() -> None:
    problems = [
        problem(1.0, CentredReinMax=0.5, ReinMax=1.0),
        problem(1.0, CentredReinMax=3.0, ReinMax=1.0),
        problem(1.0, CentredReinMax=0.0, ReinMax=1.0),  # exact
        problem(1.0, ReinMax=1.0),  # not measured
    ]
    first, *_ = variants_table(problems).rows
    assert first[:4] == ["`CentredReinMax`", "`ReinMax`", "8", "2"]
    assert [text.split(" ")[0] for text in first[4:]] == ["50%", "1.75", "3.00"]


def test_tables_and_plot_of_training(tmp_path: Path) -> None:
    names = [blend.EXACT, *(cls.__name__ for cls in blend.METHODS)]
    curves = {name: [0.5 - 0.1 * i, 1.0 - 0.1 * i] for i, name in enumerate(names)}
    weights = [{"leave_one_out": 0.25 * i, "mean_field": 1 - 0.25 * i} for i in range(2)]
    cell = {"curves": curves, "weights": weights}
    cells = {f"{where}/{kind}/0": cell for where, kind in blend.FUNCTIONS[1:]}
    results = {
        "settings": {"budget": 32},
        "cells": cells | {"ragged/smooth/0": {"failed": "ValueError: planted"}},
    }
    along, end, failed = blend.tables(results)
    assert len(along.rows) == len(end.rows) == len(blend.FUNCTIONS) - 1
    assert end.rows[0][1:3] == ["-0.1", "-0.2"]
    assert failed.rows == [("`ragged/smooth/0`", "ValueError: planted")]
    blend.plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5_000


@pytest.mark.parametrize("quick", [True, False])
def test_a_cell_for_each_function_and_seed(quick: bool) -> None:
    found = blend.cells(blend.Config(quick=quick))
    assert len({cell.key for cell in found}) == len(found) == (4 if quick else 20)
