"""Rows of one's own that a run scores; no fit is needed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from torch import Tensor

from discrete_grad.data import Vocabulary
from discrete_grad.runs import Run
from discrete_grad.training.checkpoint import RunError
from discrete_grad.training.devices import AskedFromCpu
from tests.runs.small import small_config, small_table
from tests.runs.untrained import untrained


@pytest.fixture(scope="module", params=[True, False], ids=["contexts", "no contexts"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("own") / "run"
    return untrained(small_table(60, context=request.param), folder, small_config())


def test_a_csv_is_scored_as_the_same_columns_in_their_own_types(run: Run, tmp_path: Path) -> None:
    schema, codes = run.table.schema, run.table.codes[:3]
    columns: dict[str, list[Any]] = {"note": ["x", "y", "z"]} | schema.decode_features(codes)
    if run.table.context is not None:
        columns |= {"shop": ["west", "east", "east"], "price": [0.5, 0.25, 1.0]}
    path = tmp_path / "rows.csv"
    lines = [columns, *zip(*columns.values(), strict=True)]
    path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    for ask in (run.score, run.swaps):
        pandas.testing.assert_frame_equal(ask(path), ask(pandas.DataFrame(columns)))
    assert run.score(path)["shade"].tolist() == columns["shade"]


def first_second_first(run: Run) -> pandas.DataFrame:
    """The first row of the table, the second and the first again, in one context."""
    columns = run.table.schema.decode_features(run.table.codes[[0, 1, 0]])
    if run.table.context is not None:
        columns |= {"shop": ["west"] * 3, "price": [0.5] * 3}
    return pandas.DataFrame(columns)


def test_a_row_has_one_score_and_one_rank_wherever_it_stands(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = AskedFromCpu.__call__

    def rounded_by_place(self: AskedFromCpu, *inputs: Tensor | None) -> Tensor:
        found = plain(self, *inputs)
        return found + 1e-5 * torch.arange(len(found))

    monkeypatch.setattr(AskedFromCpu, "__call__", rounded_by_place)
    columns = first_second_first(run)
    scored = run.score(columns)
    assert scored.loc[0].tolist() == scored.loc[2].tolist()


def test_the_estimator_is_asked_about_each_row_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, asked = AskedFromCpu.__call__, list[Tensor]()

    def counted(self: AskedFromCpu, codes: Tensor, context: Tensor | None) -> Tensor:
        if self.model is run.estimator:
            asked.extend(codes)
        return plain(self, codes, context)

    monkeypatch.setattr(AskedFromCpu, "__call__", counted)
    columns = first_second_first(run)
    run.score(columns)
    assert len(asked) == 2
    swaps = run.swaps(columns.iloc[:1])
    assert len(asked) == 2 + len(swaps) + 1


def test_a_column_that_score_writes_is_told(run: Run) -> None:
    table, column = run.table, Vocabulary("rank", ("a", "b"))
    for part in ({"features": (column,)}, {"context": (column,)}):
        named = replace(run, table=replace(table, schema=replace(table.schema, **part)))
        with pytest.raises(RunError, match=r"^the table has a column 'rank', which score writes"):
            named.score({"rank": ["a"]})
