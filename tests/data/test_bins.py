"""Numeric features as intervals, and the order of ordered ones."""

import math
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discrete_grad.data import Schema, TableError, Vocabulary, read_table, write_rows
from discrete_grad.data._bins import _short, bin_codes, bin_edges, bin_labels

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def feature_of(column: Any, kind: str = "", **options: Any) -> Vocabulary:
    """The vocabulary of one feature column beside another feature."""
    rows = {"x": column, "y": [i % 2 for i in range(len(column))], "score": range(len(column))}
    features = [f"x{kind}", "y"] if kind else None
    return read_table(rows, score="score", features=features, **options).schema.features[0]


@given(st.lists(NUMBERS, min_size=2, max_size=200).filter(lambda v: len(set(v)) > 1))
def test_every_interval_holds_a_value_and_every_value_lies_in_one(values: list[float]) -> None:
    given = np.array(values) + 0.0
    edges = bin_edges(given)
    assert all(map(math.isfinite, edges))
    assert list(edges) == sorted(set(edges))
    assert 2 <= len(edges) - 1 <= max(2, min(16, len(values) // 8))
    codes = bin_codes(given, edges)
    assert set(codes.tolist()) == set(range(len(edges) - 1))
    order = np.argsort(given)
    assert (np.diff(codes[order]) >= 0).all()
    labels = bin_labels(edges)
    assert len(set(labels)) == len(labels)
    for value, code in zip(given.tolist(), codes.tolist(), strict=True):
        low, high = map(float, labels[code][1:-1].split(", "))
        assert low < value or (code == 0 and low == value)
        assert value <= high
    for i in range(1, len(edges) - 1):
        assert bin_codes(np.array([edges[i], np.nextafter(edges[i], np.inf)]), edges).tolist() == [
            i - 1,
            i,
        ]


def test_intervals_of_varied_values_hold_about_as_many_rows() -> None:
    values = np.random.default_rng(0).lognormal(size=1_600)
    counts = np.bincount(bin_codes(values, bin_edges(values)))
    assert len(counts) == 16
    assert counts.min() >= 99
    assert counts.max() <= 101


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([0.0] * 90 + [1.0, 2.0], (0.0, 0.9, 2.0)),
        ([1.0, 2.0] + [7.0] * 90, (1.0, 6.0, 7.0)),
        ([3.0, 4.0], (3.0, 3.9, 4.0)),
    ],
)
def test_heaps_of_one_value(values: list[float], edges: tuple[float, ...]) -> None:
    found = bin_edges(np.array(values))
    assert (found[0], found[-1]) == (edges[0], edges[-1])
    assert len(found) == 3


RNG = np.random.default_rng(1)
PRICES = RNG.lognormal(size=160).round(3)
COUNTS = RNG.integers(0, 10_000, 160)


@pytest.mark.parametrize(
    "column",
    [
        PRICES,
        PRICES.astype(np.float32),
        COUNTS,
        pd.Series(COUNTS.astype(float)).where(RNG.random(160) > 0.1).array,
        pl.Series(PRICES),
        pa.array(PRICES.tolist()),
    ],
    ids=["floats", "float32", "integers", "integers with gaps", "polars", "arrow"],
)
def test_a_numeric_column_is_binned_with_its_order(column: Any) -> None:
    feature = feature_of(column, missing="category")
    assert feature.ordered
    assert feature.edges
    gaps = pd.isna(pd.Series(list(column))).any()
    assert feature.has_missing == gaps
    assert (
        len(feature) == 16 + gaps
        or len(feature) == (~pd.isna(pd.Series(list(column)))).sum() // 8 + 1
    )


def test_cells_without_a_number_are_no_rows_that_share_one() -> None:
    integers = [10 * i for i in range(30)] * 8
    assert feature_of(integers).edges
    assert feature_of([*integers, *[None] * 160], missing="category").edges


def test_a_csv_file_is_binned_as_the_same_numbers_are(tmp_path: Any) -> None:
    rows = {"price": PRICES, "count": COUNTS, "score": RNG.normal(size=160)}
    write_rows(tmp_path / "rows.csv", {name: values.tolist() for name, values in rows.items()})
    text, numbers = (read_table(s, score="score") for s in (tmp_path / "rows.csv", rows))
    assert text.schema == numbers.schema
    assert text.codes.tolist() == numbers.codes.tolist()
    assert numbers.schema.space.ordered == (True, True)


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ([0.1, 0.2, 0.5] * 20, "few numbers"),
        (list(range(100, 117)) * 10, "integers that many rows share"),
        ([f"{i % 40:03d}" for i in range(80)], "text with leading zeros is none"),
        ([str(i % 40) for i in range(80)], "typed text is text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_these_numbers_stay_categories(column: list[Any], why: str) -> None:
    feature = feature_of(column)
    assert not feature.edges
    assert not feature.ordered
    assert feature.values == tuple(sorted(set(column)))


def test_digits_after_a_zero_are_no_number_in_a_csv_file(tmp_path: Any) -> None:
    codes = [f"{i % 40:05d}" for i in range(80)]
    write_rows(tmp_path / "rows.csv", {"zip": codes, "score": list(range(80))})
    feature = read_table(tmp_path / "rows.csv", score="score").schema.features[0]
    assert feature.values == tuple(sorted(set(codes)))


def test_a_kind_may_be_forced() -> None:
    assert feature_of(PRICES, ":categorical").values == tuple(sorted(set(PRICES.tolist())))
    assert feature_of(PRICES, ":ordered") == feature_of(PRICES)
    small = feature_of([3, 1, 2] * 4, ":ordered")
    assert (small.values, small.ordered, small.edges) == ((1, 2, 3), True, ())
    assert feature_of([*"bca"] * 4, ":ordered") == Vocabulary("x", ("a", "b", "c"), ordered=True)


@pytest.mark.parametrize(
    ("column", "ordered"),
    [
        (pd.Series(pd.Categorical(["s", "l"] * 4, categories=["s", "m", "l"], ordered=True)), True),
        (pd.Series(pd.Categorical(["s", "l"] * 4, categories=["s", "m", "l"])), False),
        (pl.Series(["s", "l"] * 4, dtype=pl.Enum(["s", "m", "l"])), True),
        (pa.DictionaryArray.from_arrays([0, 2] * 4, ["s", "m", "l"], ordered=True), True),
    ],
    ids=["pandas ordered", "pandas", "polars enum", "arrow"],
)
def test_a_declared_order_is_kept(column: Any, ordered: bool) -> None:
    rows = {"x": column, "y": [0, 1] * 4, "score": range(8)}
    schema = read_table(rows, score="score").schema
    assert schema.features[0] == Vocabulary("x", ("s", "m", "l"), ordered)
    assert schema.space.ordered == (ordered, False)
    assert Schema.from_json(schema.to_json()) == schema


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=17, max_size=60, unique=True),
    st.booleans(),
)
def test_codes_labels_and_json_of_a_binned_column_round_trip(
    values: list[float], gaps: bool
) -> None:
    column = [*values, *([None] if gaps else [])]
    rows = {"x": column, "score": range(len(column))}
    feature = read_table(rows, score="score", missing="category", features="x:ordered")
    vocabulary = feature.schema.features[0]
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    labels = vocabulary.decode(feature.codes[:, 0])
    assert vocabulary.encode(labels).tolist() == feature.codes[:, 0].tolist()
    text = [None if value is None else repr(value) for value in column]
    assert vocabulary.encode(text).tolist() == feature.codes[:, 0].tolist()


def test_a_number_outside_the_edges_is_told_with_its_row() -> None:
    price = Vocabulary.binned("price", (0.0, 10.0, 12.5))
    with pytest.raises(
        TableError, match=r"^column 'price', row 2: 13 lies outside the known range 0 to 12.5$"
    ):
        price.encode([3, 13])
    with pytest.raises(TableError, match=r"column 'price', row 2: the value is missing"):
        price.encode([3, None])
    with pytest.raises(TableError, match=r"row 1: '\(1, 2\]' is not among the 2 known"):
        price.encode(["(1, 2]"])


@pytest.mark.parametrize(
    "fields",
    [
        {"edges": (0.0, 2.0, 1.0)},
        {"edges": (0.0, 1.0)},
        {"edges": (0.0, 1.0, math.inf)},
        {"edges": (0.0, 1.0, 3.0)},
        {"ordered": False},
    ],
)
def test_edges_that_do_not_fit_their_labels_are_refused(fields: dict[str, Any]) -> None:
    good = {"name": "x", "values": ("[0, 1]", "(1, 2]"), "ordered": True, "edges": (0, 1, 2)}
    Vocabulary(**good)
    with pytest.raises(TableError, match="are not the edges of its categories"):
        Vocabulary(**{**good, **fields})


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        (np.arange(40) / 7, (0.0, 1.0, 2.2, 3.3, 4.5, 5.6)),
        ([0.0] * 30 + [1.0, 2.0], (0.0, 0.5, 2.0)),
        ([-3.0] * 2 + [5.0] * 30, (-3.0, 1.0, 5.0)),
        ([1.0, 2.0], (1.0, 1.5, 2.0)),
        (-(np.arange(17.0) ** 2), (-256.0, -60.0, 0.0)),
        (1e9 + np.arange(20), (1e9, 1e9 + 9, 1e9 + 19)),
        ([0.1234567, 0.1234568] * 9, (0.1234567, 0.12345676, 0.1234568001)),
        (
            np.arange(1000.0),
            (
                0.0,
                62.0,
                124.0,
                187.0,
                249.0,
                312.0,
                374.0,
                437.0,
                499.0,
                562.0,
                624.0,
                687.0,
                749.0,
                812.0,
                874.0,
                937.0,
                1000.0,
            ),
        ),
    ],
)
def test_edges_are_short_numbers_between_heaps(values: Any, edges: tuple[float, ...]) -> None:
    assert repr(bin_edges(np.asarray(values, dtype=np.float64))) == repr(edges)


@pytest.mark.parametrize(
    ("low", "high", "short"),
    [
        (7.3, 12.0, 8.0),
        (-0.26, -0.1, -0.2),
        (123.4, 123.5, 123.41),
        (9.99, 11.0, 10.0),
        (-12.3, -7.3, -10.0),
        (0.1, math.nextafter(0.1, 1), 0.1),
    ],
)
def test_the_shortest_number_of_a_range(low: float, high: float, short: float) -> None:
    assert _short(low, high) == short


def test_a_number_lies_in_the_interval_that_it_ends() -> None:
    edges = (0.0, 0.5, 2.0)
    numbers = np.array([0, 0.5, 0.6, 2, 2.1, -0.1, math.nan])
    assert bin_codes(numbers, edges).tolist() == [0, 0, 1, 1, -1, -1, -1]
    assert bin_labels((-1.5, 0.0, 1e20)) == ("[-1.5, 0]", "(0, 1e+20]")


def test_intervals_as_text_stand_in_order_unless_they_are_categories() -> None:
    texts = ["(5, 10]", "(10, 20]", "(-1, 5]", "(5, 10]"]
    rows = {"x": texts, "score": [1, 2, 3, 4]}
    for kind, values, ordered in (
        ("", ("(-1, 5]", "(5, 10]", "(10, 20]"), True),
        (":ordered", ("(-1, 5]", "(5, 10]", "(10, 20]"), True),
        (":categorical", ("(-1, 5]", "(10, 20]", "(5, 10]"), False),
    ):
        (feature,) = read_table(rows, score="score", features=[f"x{kind}"]).schema.features
        assert (feature.values, feature.ordered) == (values, ordered)
    rows["x"] = [*texts[:3], None]  # type: ignore[list-item]
    (feature,) = read_table(rows, score="score", missing="category").schema.features
    assert feature.values == ("(-1, 5]", "(5, 10]", "(10, 20]", None)


def test_no_row_has_codes_that_are_whole_numbers() -> None:
    for column in (Vocabulary("x", ("a", "b")), Vocabulary.binned("x", (0.0, 1.0, 2.0))):
        assert column.encode(pa.array([], pa.string())).dtype == np.int64
