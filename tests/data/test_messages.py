"""What the reader of a table is told, word for word."""

import datetime
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from discrete_grad.data import (
    NumericColumn,
    Schema,
    TableError,
    TableWarning,
    Vocabulary,
    read_table,
)
from discrete_grad.data.errors import ManyFaults, Problems, RowError, closest, listing, shown

ROWS = 40
BASE = {"cut": ["ab"[i % 2] for i in range(ROWS)], "score": list(range(ROWS))}
DROP = "with missing='drop' (--missing drop) such rows are left out"
CATEGORY = f"with missing='category' (--missing category) it is a category, {DROP}"


def csv_of(path: Path, columns: dict[str, list[Any]]) -> Path:
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join(",".join(map(str, row)) for row in ([*columns], *rows)) + "\n")
    return path


def told(source: Any, **options: Any) -> list[str]:
    """Every warning, and the error if there is one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            read_table(source, score="score", **options)
        except TableError as error:
            return [*(str(w.message) for w in caught), str(error)]
        finally:
            assert all(w.category is TableWarning and w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


def numbers(word: str) -> list[Any]:
    """A column of few different numbers with a word in six rows."""
    return [i % 5 if i % 7 else word for i in range(ROWS)]


def test_words_among_numbers_are_counted_by_column(tmp_path: Path) -> None:
    begun = "words such as NA among numbers are read as missing cells: "
    for count, more in ((6, ""), (8, " and in 2 more columns")):
        path = csv_of(tmp_path / "a.csv", BASE | {f"x{i}": numbers("NA") for i in range(count)})
        named = ", ".join(f"6 in 'x{i}'" for i in range(6))
        assert told(path, missing="category") == [f"{begun}{named}{more}"]
    for word in ("NA", "N/A", "n/a", "#N/A", "NULL", "null", "None", "?", ".", "-"):
        path = csv_of(tmp_path / "a.csv", BASE | {"x": numbers(word)})
        left_out = "6 of 40 rows have a missing cell and are left out: 6 in 'x'"
        assert told(path, missing="drop") == [f"{begun}6 in 'x'", left_out]
    assert told(csv_of(tmp_path / "a.csv", BASE | {"x": numbers("na")})) == []


def test_what_is_left_out_is_told_with_the_reason() -> None:
    kept = "and is left out; name the features, with ':categorical' after its name, to keep it"
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=3 * i) for i in range(ROWS)]
    columns = {"u": [f"u{i}" for i in range(ROWS)], "day": days, "c": ["x"] * ROWS}
    only = ": there is nothing to choose"
    found = [
        f"column 'u' looks like an identifier, with 40 different values in 40 rows, {kept}",
        f"column 'day' holds dates, with 40 different values in 40 rows, {kept}",
        f"column 'c' has one category, 'x'{only}, and is left out",
    ]
    assert told(BASE | columns) == found
    gone = {**columns, "score": BASE["score"], "d": ["y"] * ROWS}
    reasons = "; ".join(text.partition(", and is")[0] for text in found)
    assert told(gone) == [f"no feature is left: {reasons}"]
    missing = BASE | {"d": [None] * ROWS}
    assert told(missing, missing="category") == [
        f"column 'd' has only missing cells{only}, and is left out"
    ]
    assert told(BASE | {"d": ["x"]} | {"d": ["x"] * 39 + [None]}, missing="category") == []
    assert told(BASE | columns, features=["cut", "u"]) == [
        "column 'u' looks like an identifier, with 40 different values in 40 rows; "
        "'u:categorical' keeps it all the same"
    ]


def test_the_rows_of_missing_cells_are_counted() -> None:
    rows = {"cut": ["a", "b", None, "b"], "size": [1, None, None, 2], "score": [1, 2, 3, 4.0]}
    assert told(rows, missing="drop") == [
        "2 of 4 rows have a missing cell and are left out: 2 in 'size', 1 in 'cut'"
    ]
    one = rows | {"size": [1, 2, None, 2]}
    assert told(one, missing="drop") == [
        "1 of 4 rows has a missing cell and is left out: 1 in 'cut', 1 in 'size'"
    ]
    many = {f"x{i}": [None, *"aba"] for i in range(7)} | {"score": [1, 2, 3, 4]}
    named = ", ".join(f"1 in 'x{i}'" for i in range(6))
    assert told(many, missing="drop") == [
        f"1 of 4 rows has a missing cell and is left out: {named}"
    ]
    assert told(rows) == [
        "the table has 2 problems:\n"
        f"column 'cut', row 3: the value is missing; {CATEGORY}\n"
        f"column 'size', row 2: the value is missing (and in 1 more); {CATEGORY}"
    ]


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("yes", "; write a score of yes and no as 1 and 0, or as true and false"),
        (" Nein ", "; write a score of yes and no as 1 and 0, or as true and false"),
        ("1,000", "; write it without signs and separators, as 1000"),
        ("-1,234,567.25", "; write it without signs and separators, as -1234567.25"),
        ("$3.50", "; write it without signs and separators, as 3.50"),
        ("12 %", "; write it without signs and separators, as 12"),
        ("3 EUR", "; write it without signs and separators, as 3"),
        ("3 EURO", ""),
        ("1,00", ""),
        ("true", ""),
        ("abc", ""),
    ],
)
def test_a_score_that_is_nearly_a_number_is_told_how_to_write_it(value: str, hint: str) -> None:
    rows = {"cut": ["a", "b", "a"], "score": ["1", value, "x"]}
    assert told(rows) == [f"column 'score', row 2: {value!r} is not a number{hint}"]


def test_truth_is_one_in_any_case() -> None:
    rows = {"cut": ["a", "b", "a"], "score": [" true", "FALSE ", "True"]}
    assert read_table(rows, score="score").scores.tolist() == [1, 0, 1]
    rows["score"] = [True, False, True]  # type: ignore[list-item]
    assert read_table(rows, score="score").scores.tolist() == [1, 0, 1]
    rows["score"] = [datetime.date(2024, 1, i) for i in (1, 2, 3)]  # type: ignore[misc]
    assert told(rows) == ["column 'score' holds date32[day], but numbers are needed"]


def test_a_slip_is_told_and_few_numbers_are_no_numbers(tmp_path: Path) -> None:
    heat = [f"{i}.5" for i in range(ROWS)]
    for strange in (1, 4, 5):
        column = ["x" + h if i in range(3, 3 + strange) else h for i, h in enumerate(heat)]
        path = csv_of(tmp_path / "a.csv", BASE | {"heat": column})
        message = (
            "context 'heat' is read as categories: row 4 holds 'x3.5', which is no number as the "
            f"others are ({ROWS - strange:,} different ones); with 'heat:categorical' that is what "
            "is meant"
        )
        # of forty texts up to four are slips
        assert told(path, context="heat") == ([message] if strange <= 4 else [])
    for count in (9, 10):
        column = [str(i % count) for i in range(ROWS - 1)] + ["x"]
        path = csv_of(tmp_path / "a.csv", BASE | {"heat": column})
        assert len(told(path, context="heat")) == (count == 10)


def test_a_column_whose_rows_share_no_score_is_told() -> None:
    assert told({"cut": ["a", "b"], "score": [2, 2]}) == [
        "column 'score': every row has the score 2, nothing can be learned"
    ]


# --- the helpers ----------------------------------------------------------------------------------


def test_long_values_and_lists_are_cut() -> None:
    assert shown("x" * 58) == repr("x" * 58)
    assert shown("x" * 59) == "'" + "x" * 56 + "..."
    assert listing(range(12)) == ", ".join(map(str, range(12)))
    assert listing(range(1013)) == ", ".join(map(str, range(12))) + ", and 1,001 more"
    assert listing("abc", 2) == "'a', 'b', and 1 more"
    assert closest("gren", ["red", "green", "greens"]) == "; did you mean 'green'?"
    assert closest(3, ["red"]) == ""
    assert closest("needle", [*map(str, range(999)), "needles"]) == "; did you mean 'needles'?"
    assert closest("needle", [*map(str, range(1000)), "needles"]) == ""


def test_problems_are_told_in_twenty_lines_at_most() -> None:
    problems = Problems("the table")
    problems.tell()
    for i in range(22):
        with problems.collect():
            raise RowError("x", i, "wrong")
    with pytest.raises(ManyFaults) as error:
        problems.tell()
    first, *lines = str(error.value).splitlines()
    assert first == "the table has 22 problems:"
    assert lines == [f"column 'x', row {i + 1}: wrong" for i in range(20)] + ["and 2 more"]
    twenty = ManyFaults("it", problems.found[:20])
    assert str(twenty).count("\n") == 20
    with problems.collect():
        raise twenty
    assert len(problems.found) == 42


def test_rows_of_faults_are_those_of_the_file() -> None:
    problems = Problems("the table")
    problems.kept = np.array([0, 3, 9])
    with problems.collect():
        raise RowError("x", 2, "wrong")
    with problems.collect():
        raise ManyFaults("it", [RowError("y", 1, "bad"), TableError("all is bad")])
    assert [str(fault) for fault in problems.found] == [
        "column 'x', row 10: wrong",
        "column 'y', row 4: bad",
        "all is bad",
    ]


def test_columns_that_a_schema_misses_are_named_with_their_role() -> None:
    schema = Schema((CUT, Vocabulary("size", (1, 2))), (Vocabulary("shop", (1, 2)), PRICE), "s")
    only = "only 'x'"
    with pytest.raises(TableError) as error:
        schema.encode_context({"x": [1]})
    assert str(error.value) == (
        "the table has 2 problems:\n"
        f"the table has no context column 'shop', {only}\n"
        f"the table has no context column 'price', {only}"
    )
    with pytest.raises(TableError) as error:
        schema.encode_features({"x": [1]})
    assert str(error.value) == (
        "the table has 2 problems:\n"
        f"the table has no feature column 'cut', {only}\n"
        f"the table has no feature column 'size', {only}"
    )
    rows = {"cut": ["a", "b"], "score": [1, 2]}
    for options, role in (
        ({"exclude": "x"}, "excluded"),
        ({"exclude": ["cut", "x"]}, "excluded"),
        ({"feasible": "x"}, "feasible"),
    ):
        with pytest.raises(TableError) as error:
            read_table(rows, score="score", **options)  # type: ignore[arg-type]
        assert f"the table has no {role} column 'x', only 'cut', 'score'" in str(error.value)


def test_a_table_without_a_score_has_none() -> None:
    table = read_table({"cut": ["a", "b"]}, score=None)
    assert (table.schema.score, table.schema.more_scores) == ("", ())
    assert table.scores.isnan().tolist() == [True, True]
    assert table.scores.dtype == torch.float64


def test_a_zero_has_no_sign_and_a_missing_number_stays_one() -> None:
    rows = {"x": [-0.0, 1.0, np.nan], "f": np.array([-0.0, 0.1, np.nan], dtype=np.float32)}
    table = read_table(rows | {"score": [1, 2, 3]}, score="score", missing="category")
    assert repr(table.schema.features[0].values) == "(0.0, 1.0, None)"
    assert repr(table.schema.features[1].values) == "(0.0, 0.1, None)"


def test_codes_travel_in_place_of_wide_contexts() -> None:
    shop = Vocabulary("shop", ("east", "north", "west"))
    schema = Schema((CUT,), (PRICE, shop), "s", embed_context=True)
    found = schema.encode_context({"price": [3.0, 1.0], "shop": ["west", "north"]})
    assert found is not None
    assert found.tolist() == [[2, 1], [1, 0]]


def test_failed_rows_are_told_by_the_file_after_some_are_left_out() -> None:
    rows = {
        "cut": ["a", None, "b", "c", "a"],
        "ok": ["yes", "yes", "no", "NO ", True],
        "score": [1.0, 2.0, None, None, 3.0],
    }
    rows["ok"] = [str(one) for one in rows["ok"]]
    with pytest.warns(TableWarning, match="1 of 5 rows has a missing cell"):
        table = read_table(rows, score="score", feasible="ok", missing="drop")
    assert table.scores.tolist() == [1, 3]
    assert table.failed_codes is not None
    assert table.failed_codes.tolist() == [[1], [2]]


# --- schemas --------------------------------------------------------------------------------------

CUT, PRICE = Vocabulary("cut", ("a", "b")), NumericColumn("price", 1.0, 2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), (), "s"), "no feature is left: a table needs at least one besides the score"),
        (((CUT,), (PRICE,), "cut"), "each column has one role, got 'cut', 'price', 'cut'"),
        (
            ((CUT,), (), "s", ("t",), ("u",)),
            "'u' are not all scores: 's', 't'",
        ),
    ],
)
def test_a_schema_that_does_not_fit_together(arguments: Any, message: str) -> None:
    with pytest.raises(TableError) as error:
        Schema(*arguments)
    assert str(error.value) == message


@pytest.mark.parametrize(("mean", "scale"), [(float("inf"), 1.0), (0.0, 0.0), (0.0, -1.0)])
def test_a_column_that_cannot_be_standardised(mean: float, scale: float) -> None:
    with pytest.raises(TableError) as error:
        NumericColumn("price", mean, scale)
    wanted = f"column 'price' cannot be standardised with mean {mean} and scale {scale}"
    assert str(error.value) == wanted
