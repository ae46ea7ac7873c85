"""Numeric contexts far from those of the table."""

import warnings

import pytest

from discrete_grad.data import read_table
from discrete_grad.fitting.context_range import (
    FarContextWarning,
    trained_ranges,
    warn_far_contexts,
)

COLUMNS = {
    "cut": [0, 1, 0, 1],
    "carat": [10.0, 110.0, 60.0, 20.0],
    "depth": [-2.0, 8.0, 1.0, 2.0],
    "shop": ["a", "b", "a", "b"],
    "price": [1.0, 2.0, 3.0, 4.0],
}
CONTEXT = ["carat:numeric", "shop", "depth:numeric"]


def told(contexts: dict[str, list[object]]) -> list[str]:
    table = read_table(COLUMNS, score="price", context=CONTEXT)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_far_contexts(table, contexts, table.schema.encode_context(contexts))
    assert all(warning.category is FarContextWarning for warning in caught)
    return [str(warning.message) for warning in caught]


def test_ranges_are_in_the_columns_units() -> None:
    table = read_table(COLUMNS, score="price", context=CONTEXT)
    assert trained_ranges(table) == {
        "carat": pytest.approx((10.0, 110.0)),
        "depth": pytest.approx((-2.0, 8.0)),
    }
    assert trained_ranges(read_table(COLUMNS, score="price", context=["shop"])) == {}
    assert trained_ranges(read_table(COLUMNS, score="price")) == {}


def test_values_beyond_a_tenth_of_the_range_are_told_column_by_column() -> None:
    shops: list[object] = ["a", "b", "a"]
    near = {"carat": [0.1, 60.0, 119.9], "shop": shops, "depth": [-2.9, 8.9, 0.0]}
    assert told(near) == []
    far = {"carat": [60.0, -0.5, 60.0], "shop": shops, "depth": [9.5, 8.9, -3.5]}
    end = "the training rows, {}: estimates there are guesses"
    assert told(far) == [
        "context column 'carat': -0.5 in row 2 is far outside the range of "
        + end.format("10 to 110"),
        "context column 'depth': 9.5 in row 1 (and in 1 more) is far outside the range of "
        + end.format("-2 to 8"),
    ]
    assert told({"carat": [120.5] * 3, "shop": shops, "depth": [-3.5, -3.5, 0.0]}) == [
        "context column 'carat': 120.5 in row 1 (and in 2 more) is far outside the range of "
        + end.format("10 to 110"),
        "context column 'depth': -3.5 in row 1 (and in 1 more) is far outside the range of "
        + end.format("-2 to 8"),
    ]


def test_without_contexts_nothing_is_told() -> None:
    table = read_table(COLUMNS, score="price", context=CONTEXT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_far_contexts(table, {}, None)
        shops = read_table(COLUMNS, score="price", context=["shop"])
        warn_far_contexts(shops, {"shop": ["a"]}, shops.schema.encode_context({"shop": ["a"]}))
