"""Identifiers, dates, scores to be minimised, and categories that no row has."""

import datetime
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from discrete_grad.data import Schema, TableError, TableWarning, Vocabulary, read_table, write_rows
from discrete_grad.data._gaps import stray_text
from discrete_grad.data._infer import _embedded


def rows_with(column: Any) -> dict[str, Any]:
    """A table with one column more."""
    count = len(column)
    return {
        "x": column,
        "cut": [i % 3 for i in range(count)],
        "score": [i**2 for i in range(count)],
    }


def days(count: int) -> list[datetime.date]:
    """Different dates with gaps."""
    return [datetime.date(2024, 1, 1) + datetime.timedelta(days=3 * i) for i in range(count)]


@pytest.mark.parametrize(
    ("column", "what"),
    [
        ([f"u{i}" for i in range(20)], "looks like an identifier, with 20 different"),
        ([*(f"u{i}" for i in range(29)), "u0"], "looks like an identifier, with 29 different"),
        ([f"u{i % 1_101}" for i in range(2_000)], "looks like an identifier, with 1,101 different"),
        (np.random.default_rng(0).permutation(25) + 7, "looks like an identifier, with 25"),
        (days(20), "holds dates, with 20 different values in 20 rows"),
        ([str(day) for day in days(20)], "holds dates, with 20 different values in 20 rows"),
        ([*(f"u{i}" for i in range(24)), None], "identifier, with 24 different values in 24 rows"),
    ],
    ids=["few", "some repeated", "many", "row numbers", "dates", "dates as text", "gap"],
)
def test_a_column_whose_values_nearly_all_differ_is_left_out(column: Any, what: str) -> None:
    rows = rows_with(column)
    with pytest.warns(TableWarning) as caught:
        table = read_table(rows, score="score", missing="drop")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    text = str(caught[0].message)
    assert text.startswith("column 'x' ")
    assert what in text
    assert "left out; name the features, with ':categorical' after its name, to keep it" in text
    assert table.schema.space.names == ("cut",)
    assert len(table) == len(column)
    with pytest.raises(TableError, match="'x:categorical' keeps it all the same"):
        read_table(rows, score="score", features=["x", "cut"])
    kept = read_table(rows, score="score", features=["x:categorical"], missing="category")
    assert len(kept.schema.features[0]) >= 20


@pytest.mark.parametrize(
    "column",
    [
        [f"u{i}" for i in range(19)],
        [f"u{i // 2}" for i in range(40)],
        [f"u{i % 1_000}" for i in range(1_100)],
        [i / 7 for i in range(30)],
        [3 * i for i in range(30)],
    ],
    ids=["few rows", "pairs", "a thousand", "numbers", "integers with gaps"],
)
def test_these_columns_are_no_identifiers(column: Any) -> None:
    assert read_table(rows_with(column), score="score").schema.space.names == ("x", "cut")


def test_given_categories_are_not_asked_whether_they_identify() -> None:
    names = [f"u{i}" for i in range(30)]
    table = read_table(rows_with(names), score="score", features={"x": names})
    assert len(table.schema.features[0]) == 30


@pytest.mark.parametrize(
    ("moments", "shown"),
    [
        ([datetime.date(2024, 5, 1), datetime.date(2023, 1, 1)], ("2023-01-01", "2024-05-01")),
        (
            np.array(["2024-05-01T10:00", "2023-01-01T09:30"], dtype="datetime64[s]"),
            ("2023-01-01 09:30:00", "2024-05-01 10:00:00"),
        ),
        (
            ["2024-05-01 10:00", "2023-01-01T09:30:00Z"],
            ("2023-01-01T09:30:00Z", "2024-05-01 10:00"),
        ),
        (["1.5.2024", "31.12.2023"], ("1.5.2024", "31.12.2023")),
    ],
    ids=["dates", "times", "text", "dots"],
)
def test_dates_that_repeat_are_named_and_kept_as_text(moments: Any, shown: Any) -> None:
    rows = rows_with(np.concatenate([moments, moments]) if len(moments) else moments)
    told = "column 'x' holds dates: they are 2 categories, as text"
    with pytest.warns(TableWarning, match=f"^{told}$"):
        table = read_table(rows, score="score")
    assert table.schema.features[0].values == shown
    read_table(rows, score="score", features=["x:categorical", "cut"])  # told already


def test_text_that_only_resembles_dates_is_text() -> None:
    for column in (["2024", "2023"] * 2, ["1-2-3", "4-5-6"] * 2, ["2024-01-01", "never"] * 2):
        assert len(read_table(rows_with(column), score="score").schema.features[0]) == 2


ROWS = {"cut": ["a", "b", "c"], "cost": [3.0, 0.0, 5.0], "weight": [1, 2, 3]}


def test_a_minimised_score_is_minus_its_column(tmp_path: Any) -> None:
    write_rows(tmp_path / "rows.csv", ROWS)
    for source in (ROWS, tmp_path / "rows.csv"):
        table = read_table(source, score=["cost:min", "weight:max"])
        assert table.scores.tolist() == [-3, 0, -5]
        assert str(table.scores[1].item()) == "0.0"
        assert table.all_scores.tolist() == [[-3, 1], [0, 2], [-5, 3]]
        assert (table.schema.score, table.schema.minimised) == ("cost", ("cost",))
        assert table.schema.in_units(table.scores).tolist() == ROWS["cost"]
        assert Schema.from_json(table.schema.to_json()) == table.schema
    further = read_table(ROWS, score=["cost", "weight:min"])
    assert further.all_scores.tolist() == [[3, -1], [0, -2], [5, -3]]
    assert further.schema.in_units(further.more_scores[:, 0], 1).tolist() == ROWS["weight"]


def test_maximising_may_be_said_and_changes_nothing() -> None:
    said, unsaid = (read_table(ROWS, score=score) for score in ("cost:max", "cost"))
    assert said.schema == unsaid.schema
    assert said.schema.to_json() == unsaid.schema.to_json()
    assert "minimised" not in said.schema.to_json()
    assert torch.equal(said.scores, unsaid.scores)


def test_a_colon_may_be_part_of_a_scores_name() -> None:
    rows = {"cut": ["a", "b"], "cost:min": [1, 2]}
    schema = read_table(rows, score="cost:min").schema
    assert (schema.score, schema.minimised) == ("cost:min", ())
    assert read_table(rows, score="cost:min:min").schema.minimised == ("cost:min",)


def test_a_schema_says_what_is_minimised_unless_told_otherwise() -> None:
    schema = read_table(ROWS, score="cost:min", features="cut").schema
    assert read_table(ROWS, score="cost", schema=schema).schema is schema
    assert read_table(ROWS, score="cost", schema=schema).scores.tolist() == [-3, 0, -5]
    assert read_table(ROWS, score="cost:max", schema=schema).scores.tolist() == [3, 0, 5]
    assert read_table(ROWS, score="weight", schema=schema).schema.minimised == ()


def test_what_is_minimised_is_a_score() -> None:
    with pytest.raises(TableError, match="'cut' are not all scores: 'cost'"):
        Schema((Vocabulary("cut", (1, 2)),), (), "cost", minimised=("cut",))


def test_categories_that_no_row_has_are_known() -> None:
    given = {"cut": ["a", "b", "c", "d", "e"], "weight": [1, 2, 3]}
    table = read_table(ROWS, score="cost", features=given)
    assert table.unseen == {"cut": ["d", "e"]}
    assert table.take([0]).unseen == {"cut": ["b", "c", "d", "e"], "weight": [2, 3]}
    assert read_table(ROWS, score="cost").unseen == {}


@pytest.mark.parametrize("slip", ["12,5", "1o", "twelve"])
def test_a_slip_among_the_numbers_of_a_context_is_told_with_its_row(
    tmp_path: Path, slip: str
) -> None:
    lines = [f"{'abc'[i % 3]};{i + 0.5};{i % 7}" for i in range(40)]
    lines[7] = f"b;{slip};3"
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["cut;heat;score", *lines]))
    with pytest.warns(TableWarning, match=rf"context 'heat'.*row 8 holds '{slip}'.*39 different"):
        table = read_table(path, score="score", context="heat")
    assert isinstance(table.schema.context[0], Vocabulary)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_table(path, score="score", context="heat:categorical")
    with pytest.raises(TableError, match=f"column 'heat', row 8: '{slip}' is not a number"):
        read_table(path, score="score", context="heat:numeric")


def test_a_nul_far_down_a_file_is_told_with_its_row(tmp_path: Path) -> None:
    lines = [f"{'abc'[i % 3]},{i}" for i in range(3000)]
    lines[2500] = lines[2600] = "a\0,1"
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["cut,score", *lines]))
    with pytest.raises(TableError, match=r"column 'cut', row 2501: 'a\\x00' cannot be a category"):
        read_table(path, score="score")


def test_text_that_no_file_can_hold_is_told_by_its_column() -> None:
    table = {"x": ["1-2", "a\0b", "\0"], "y": ["a", "b", "c"], "score": [1.0, 2.0, 3.0]}
    with pytest.raises(TableError, match=r"column 'x', row 2: 'a\\x00b' cannot be a category"):
        read_table(table, score="score")


def test_from_ten_numbers_on_a_text_among_them_is_a_slip() -> None:
    ten = [str(number) for number in range(10)]
    assert stray_text(pa.chunked_array([[*ten, "x"]])) == (10, "x", 10)
    assert stray_text(pa.chunked_array([[*ten[1:], "x"]])) is None


def test_contexts_of_many_rows_are_embedded_where_the_table_of_ones_would_be_huge() -> None:
    shop = Vocabulary("shop", tuple(range(128)))
    assert [_embedded([shop], rows) for rows in (2**20, 2**20 + 1)] == [False, True]
    shops = [Vocabulary("shop", tuple(range(size))) for size in (256, 257)]
    assert [_embedded([one], 1) for one in shops] == [False, True]
