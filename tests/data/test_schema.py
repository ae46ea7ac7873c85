"""Vocabularies, numeric columns and schemas: construction, encoding, decoding, JSON."""

import json
import pickle
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.data import NumericColumn, Schema, TableError, Vocabulary, read_table

CUT = Vocabulary("cut", ("fair", "good", "ideal"))
SIZE = Vocabulary("size", (1, 2, 7))
SHOP = Vocabulary("shop", ("east", "west"))
PRICE = NumericColumn("price", 10.0, 2.0)
SCHEMA = Schema((CUT, SIZE), (PRICE, SHOP), "score")
SEVERAL = Schema((CUT, SIZE), (PRICE, SHOP), "score", ("weight", "depth"))

COLUMNS = {
    "list": list,
    "tuple": tuple,
    "numpy": np.array,
    "pandas": pd.Series,
    "polars": pl.Series,
    "arrow": pa.array,
    "chunked": lambda values: pa.chunked_array([[value] for value in values]),
    "categorical": lambda values: pd.Series(values, dtype="category"),
    "dictionary": lambda values: pa.array(values).dictionary_encode(),
}


@pytest.mark.parametrize("convert", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize(
    "values",
    [("fair", "good"), (3, 1), (0.5, 0.25), (True, False)],
    ids=lambda v: type(v[0]).__name__,
)
def test_vocabulary_encodes_every_kind_of_column(convert: Any, values: tuple[Any, ...]) -> None:
    vocabulary = Vocabulary("x", values)
    rows = [values[1], values[0], values[1]]
    codes = vocabulary.encode(convert(rows))
    assert codes.dtype == np.int64
    assert codes.tolist() == [1, 0, 1]
    assert vocabulary.decode(codes) == rows
    assert vocabulary.decode(torch.from_numpy(codes)) == rows


def test_a_date_is_known_in_any_spelling_but_where_two_categories_are_it() -> None:
    one = Vocabulary("day", ("2026-01-05", "2026-01-06"))
    assert one.encode(["2026-01-06 00:00:00"]).tolist() == [1]
    two = Vocabulary("day", ("2026-01-05", "2026-01-06", "2026-01-06 00:00:00"))
    assert two.encode([*two.values]).tolist() == [0, 1, 2]
    with pytest.raises(TableError, match="2026-01-06T00:00:00"):
        two.encode(["2026-01-06T00:00:00"])


def test_vocabulary_encodes_tensors() -> None:
    assert SIZE.encode(torch.tensor([7, 1])).tolist() == [2, 0]
    assert Vocabulary("x", (0.5, 1.5)).encode(torch.tensor([1.5]).bfloat16()).tolist() == [1]


@pytest.mark.parametrize(
    ("values", "column", "codes"),
    [
        ((1, 2, 10), ["10", "1", "+2"], [2, 0, 1]),
        ((0.5, 1.0), ["1", "5e-1"], [1, 0]),
        ((False, True), ["True", "false"], [1, 0]),
        (("1", "2"), [2, 1], [1, 0]),
        (("0.5", "1.0"), [1.0, 0.5], [1, 0]),
        ((1, 2), [2.0, 1.0], [1, 0]),
        ((2**60, 2**60 + 1), [str(2**60 + 1)], [1]),
    ],
)
def test_text_and_numbers_meet(
    values: tuple[Any, ...], column: list[Any], codes: list[int]
) -> None:
    assert Vocabulary("x", values).encode(column).tolist() == codes


@pytest.mark.parametrize(
    ("values", "column"),
    [(("007", "8"), [7]), ((1, 2), ["one"]), ((False, True), ["yes"]), ((1.5, 2.0), ["nan"])],
)
def test_text_and_numbers_that_do_not_meet(values: tuple[Any, ...], column: list[Any]) -> None:
    with pytest.raises(TableError, match=r"column 'x', row 1: .* is not among the 2 known"):
        Vocabulary("x", values).encode(column)


def test_unseen_category_names_column_row_value_and_neighbour() -> None:
    with pytest.raises(TableError) as raised:
        CUT.encode(["fair", "ideal", "god", "gud"])
    assert str(raised.value) == (
        "column 'cut', row 3: 'god' is not among the 3 known categories 'fair', 'good', 'ideal'; "
        "did you mean 'good'?; nor is 'gud' of other rows"
    )


def test_declared_but_absent_categories_need_not_be_known() -> None:
    column = pd.Categorical(["good"], categories=["bad", "good"])
    assert CUT.encode(pd.Series(column)).tolist() == [1]


@pytest.mark.parametrize("codes", [[-1], [3], [0, 1, 99]])
def test_codes_out_of_range_are_refused(codes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"feature 'cut' has code .*; its codes are 0 to 2"):
        CUT.decode(codes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((), "got none"),
        (("a", 1), "categories of one kind"),
        ((1, True), "categories of one kind"),
        ((None, None), "categories of one kind"),
        (("a", "a"), "a category twice"),
        ((1, 1.0), "a category twice"),
        ((1.0, float("nan")), "nan cannot be a category"),
        ("abc", "needs a sequence"),
        (3, "needs a sequence"),
    ],
)
def test_bad_vocabularies_are_refused(values: Any, message: str) -> None:
    with pytest.raises(TableError, match=message):
        Vocabulary("x", values)


def test_vocabulary_values_become_plain() -> None:
    assert Vocabulary("x", np.array([1, 2])).values == (1, 2)  # type: ignore[arg-type]
    assert [type(v) for v in Vocabulary("x", (1, 2.5)).values] == [float, float]


def test_labels_are_text() -> None:
    assert Vocabulary("x", (1e-8, 1.0)).labels == ("1e-08", "1.0")
    assert Vocabulary("x", (False, True)).labels == ("False", "True")


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_numeric_column_standardises(values: list[float]) -> None:
    table = read_table(
        {"cut": ["a", "b"] * len(values), "x": values * 2, "score": range(2 * len(values))},
        score="score",
        context="x",
    )
    assert table.context is not None
    column = table.schema.context[0]
    assert isinstance(column, NumericColumn)
    constant = min(values) == max(values)
    expected = 1.0 if constant or np.std(values) == 0 else pytest.approx(np.std(values))
    assert column.scale == expected
    back = table.context.double().squeeze(1).numpy() * column.scale + column.mean
    assert back == pytest.approx(np.array(values * 2), rel=1e-5, abs=1e-5 * column.scale)


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 0.0), (0.0, -1.0), (np.nan, 1.0), (0.0, np.inf)])
def test_bad_standardisation_is_refused(mean: float, scale: float) -> None:
    with pytest.raises(TableError, match="cannot be standardised"):
        NumericColumn("x", mean, scale)


def test_context_is_one_hot_blocks_then_numbers() -> None:
    context = SCHEMA.encode_context({"price": [12, 10], "shop": ["west", "east"], "extra": [0, 0]})
    assert context is not None
    assert context.dtype == torch.float32
    assert context.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert SCHEMA.context_spec == ContextSpec({"shop": ["east", "west"]}, ["price"])
    assert SCHEMA.context_spec.width == context.shape[1]


def test_schema_without_context() -> None:
    schema = Schema((CUT,), (), "score")
    assert schema.context_spec is None
    assert schema.encode_context({"cut": ["fair"]}) is None


def test_schema_space_has_the_labels() -> None:
    expected = CategoricalSpace(
        {"cut": ["fair", "good", "ideal"], "size": ["1", "2", "7"]}, ordered=["size"]
    )
    assert SCHEMA.space == expected


def test_features_are_encoded_by_name_and_decoded_in_their_own_type() -> None:
    codes = SCHEMA.encode_features({"size": [7, 2], "cut": ["good", "fair"]})
    assert codes.dtype == torch.int64
    assert codes.tolist() == [[1, 2], [0, 1]]
    assert SCHEMA.decode_features(codes) == {"cut": ["good", "fair"], "size": [7, 2]}


def test_one_changed_column_changes_one_code() -> None:
    table = {"cut": ["good", "fair"], "size": [7, 2]}
    changed = SCHEMA.encode_features({**table, "size": [1, 2]}) != SCHEMA.encode_features(table)
    assert changed.tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize("codes", [torch.zeros(3, dtype=torch.long), torch.zeros(2, 3)])
def test_decoding_another_shape_is_refused(codes: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"codes must be \(N, 2\)"):
        SCHEMA.decode_features(codes)


@pytest.mark.parametrize(
    ("features", "context", "message"),
    [
        ((), (), "no feature is left"),
        ((CUT, CUT), (), "each column has one role"),
        ((CUT,), (CUT,), "each column has one role"),
        ((Vocabulary("score", (1, 2)),), (), "each column has one role"),
    ],
)
def test_bad_schemas_are_refused(features: Any, context: Any, message: str) -> None:
    with pytest.raises(TableError, match=message):
        Schema(features, context, "score")


@pytest.mark.parametrize("further", [("score",), ("cut",), ("shop",), ("weight", "weight")])
def test_a_further_score_is_a_column_of_its_own(further: tuple[str, ...]) -> None:
    with pytest.raises(TableError, match="each column has one role"):
        Schema((CUT,), (SHOP,), "score", further)


def test_one_score_is_written_as_it_was_before_there_were_several() -> None:
    text = (
        '{"features": [{"name": "cut", "values": ["fair", "good"]}], '
        '"context": [{"name": "price", "mean": 10.0, "scale": 2.0}], "score": "score"}'
    )
    schema = Schema((Vocabulary("cut", ("fair", "good")),), (PRICE,), "score")
    assert schema.to_json() == text
    assert Schema.from_json(text) == schema
    assert json.loads(SEVERAL.to_json())["more_scores"] == ["weight", "depth"]


ORDERED = Vocabulary("grade", ("low", "high"), ordered=True)
BINNED = Vocabulary.binned("carat", (0.0, 0.5, 2.0), missing=True)
NEW = Schema((CUT, ORDERED, BINNED), (SHOP,), "cost", ("weight",), minimised=("cost",))


def test_what_a_column_is_not_is_not_written() -> None:
    assert SIZE.to_json() == '{"name": "size", "values": [1, 2, 7]}'
    assert json.loads(BINNED.to_json()) == {
        "name": "carat",
        "values": ["[0, 0.5]", "(0.5, 2]", None],
        "ordered": True,
        "edges": [0.0, 0.5, 2.0],
    }
    assert repr(SIZE) == "Vocabulary(name='size', values=(1, 2, 7))"
    assert eval(repr(BINNED)) == BINNED
    assert json.loads(NEW.to_json())["minimised"] == ["cost"]


def test_a_space_knows_which_features_are_ordered() -> None:
    assert NEW.space.ordered == (False, True, True)
    assert SCHEMA.space.ordered == (False, True)  # sizes are numbers


@pytest.mark.parametrize(
    "thing",
    [
        *(CUT, SIZE, Vocabulary("x", (0.1, 2.0)), PRICE, SCHEMA, SEVERAL),
        *(ORDERED, BINNED, NEW, Vocabulary("x", (True, None))),
    ],
)
def test_json_and_pickle_round_trip(thing: Any) -> None:
    back = type(thing).from_json(thing.to_json())
    assert back == thing
    assert repr(back) == repr(thing)
    assert hash(back) == hash(thing)
    assert pickle.loads(pickle.dumps(thing)) == thing
    json.loads(thing.to_json())


@pytest.mark.parametrize("kind", [Vocabulary, NumericColumn, Schema])
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 1}', "not json"])
def test_damaged_json_is_refused(kind: Any, text: str) -> None:
    with pytest.raises(TableError, match=r"not a (vocabulary|numeric column|schema): "):
        kind.from_json(text)
