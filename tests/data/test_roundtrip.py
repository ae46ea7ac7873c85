"""Random tables through every kind of source come back as they were."""

import datetime
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from discrete_grad.data import Schema, read_contexts, read_table, write_rows

Columns = dict[str, list[Any]]

# a NUL near the start of a file means that it is no text
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
KINDS = (
    TEXT,
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
NAMES = ("cut", "the, shade", 'a "quoted" name', "größe")


@st.composite
def tables(draw: st.DrawFn, *, kinds: tuple[st.SearchStrategy[Any], ...] = KINDS) -> Columns:
    """Columns of one to four features of different kinds and a score, two to twelve rows."""
    rows = draw(st.integers(2, 12))
    columns: Columns = {}
    for name in NAMES[: draw(st.integers(1, 4))]:
        kind = draw(st.sampled_from(kinds))
        columns[name] = draw(st.lists(kind, min_size=rows, max_size=rows))
        assume(len(set(columns[name])) > 1)
    scores = st.lists(st.floats(-1e9, 1e9), min_size=rows, max_size=rows)
    columns["score"] = draw(scores)
    assume(len(set(columns["score"])) > 1)
    return columns


def in_memory(convert: Callable[[Columns], Any]) -> Callable[[Columns, Path], Any]:
    """A source that needs no file."""
    return lambda columns, _: convert(columns)


def arrow_parquet(columns: Columns, folder: Path) -> Path:
    """Parquet with several row groups."""
    pq.write_table(pa.table(columns), folder / "rows.parquet", row_group_size=5)
    return folder / "rows.parquet"


def own_parquet(columns: Columns, folder: Path) -> Path:
    """What `write_rows` writes."""
    write_rows(folder / "rows.parquet", columns)
    return folder / "rows.parquet"


def chunked(columns: Columns) -> pa.Table:
    """One row in each chunk."""
    table = pa.table(columns)
    return pa.concat_tables([table.slice(i, 1) for i in range(len(table))])


TYPED = {
    "dict": in_memory(dict),
    "pandas": in_memory(pd.DataFrame),
    "polars": in_memory(pl.DataFrame),
    "arrow": in_memory(pa.table),
    "chunked": in_memory(chunked),
    "arrow_parquet": arrow_parquet,
    "own_parquet": own_parquet,
}


def own_csv(columns: Columns, path: Path) -> None:
    """What `write_rows` writes."""
    write_rows(path, columns)


def pandas_csv(columns: Columns, path: Path) -> None:
    """Carriage returns at line ends and a byte order mark, as a spreadsheet writes them."""
    frame = pd.DataFrame(columns)
    frame.to_csv(path, index=False, lineterminator="\r\n", encoding="utf-8-sig")


def arrow_csv(columns: Columns, path: Path) -> None:
    """Everything quoted."""
    pyarrow.csv.write_csv(pa.table(columns), path)


@pytest.mark.parametrize("source", TYPED)
@given(columns=tables())
def test_features_and_scores_come_back(source: str, columns: Columns) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = read_table(TYPED[source](columns, Path(folder)), score="score")
    features = {name: values for name, values in columns.items() if name != "score"}
    decoded = table.schema.decode_features(table.codes)
    assert decoded == features
    assert [[type(v) for v in values] for values in decoded.values()] == [
        [type(v) for v in values] for values in features.values()
    ]
    assert table.scores.tolist() == columns["score"]
    assert_codes_are_in_sorted_order(table.schema, table.codes, features)


def assert_codes_are_in_sorted_order(
    schema: Schema, codes: torch.Tensor, features: Mapping[str, list[Any]]
) -> None:
    """Code k is the k-th smallest of the column's different values."""
    expected = [
        np.unique(np.array(v, dtype=object), return_inverse=True)[1] for v in features.values()
    ]
    assert codes.tolist() == np.stack(expected, 1).tolist()
    assert schema.space.num_features == len(features)


@pytest.mark.parametrize("source", ["dict", "own_parquet"])
@given(columns=tables(), data=st.data())
def test_further_scores_come_back_and_change_nothing_else(
    source: str, columns: Columns, data: st.DataObject
) -> None:
    rows = len(columns["score"])
    further = {
        name: data.draw(st.lists(st.floats(-1e9, 1e9), min_size=rows, max_size=rows))
        for name in ("weight", "depth")[: data.draw(st.integers(1, 2))]
    }
    assume(all(len(set(values)) > 1 for values in further.values()))
    with tempfile.TemporaryDirectory() as folder:
        everything = TYPED[source]({**further, **columns}, Path(folder))
        table = read_table(everything, score=["score", *further])
    alone = read_table(columns, score="score")
    assert table.more_scores is not None
    assert table.more_scores.T.tolist() == [*further.values()]
    assert table.scores.tolist() == alone.scores.tolist()
    assert table.schema.features == alone.schema.features
    assert torch.equal(table.codes, alone.codes)


@given(columns=tables())
def test_dictionaries_that_differ_between_chunks_are_unified(columns: Columns) -> None:
    chunks = [pa.table({k: v[i : i + 2] for k, v in columns.items()}) for i in range(0, 12, 2)]
    names = [name for name in columns if name != "score"]
    for i, chunk in enumerate(chunks):
        for name in names:
            encoded = chunk[name].cast(pa.table(columns)[name].type).dictionary_encode()
            chunks[i] = chunks[i].set_column(chunk.column_names.index(name), name, encoded)
        chunks[i] = chunks[i].cast(chunks[0].schema)
    table = read_table(pa.concat_tables(chunks), score="score")
    decoded = table.schema.decode_features(table.codes)
    assert decoded == {name: columns[name] for name in names}
    for feature in table.schema.features:
        assert feature.values == tuple(dict.fromkeys(columns[feature.name]))


@pytest.mark.parametrize("write", [own_csv, pandas_csv, arrow_csv])
@given(columns=tables(kinds=(TEXT,)))
def test_csv_gives_back_text(write: Callable[[Columns, Path], None], columns: Columns) -> None:
    if write is pandas_csv:
        # pandas writes empty text as it writes a missing value
        columns = {k: ["empty" if v == "" else v for v in values] for k, values in columns.items()}
        assume(all(len(set(values)) > 1 for values in columns.values()))
        # and line ends within quotes in its own way
        assume(not any("\r" in v or "\n" in v for k in columns if k != "score" for v in columns[k]))
    with tempfile.TemporaryDirectory() as folder:
        write(columns, Path(folder) / "rows.csv")
        table = read_table(Path(folder) / "rows.csv", score="score")
    features = {name: values for name, values in columns.items() if name != "score"}
    assert table.schema.decode_features(table.codes) == features


@given(columns=tables())
def test_csv_turns_values_into_their_text(columns: Columns) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "rows.csv", columns)
        table = read_table(Path(folder) / "rows.csv", score="score")
    features = {name: [*map(str, v)] for name, v in columns.items() if name != "score"}
    assert table.schema.decode_features(table.codes) == features
    assert table.scores.tolist() == columns["score"]


@given(columns=tables(), data=st.data())
def test_schema_does_not_depend_on_the_order_of_rows(columns: Columns, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(columns["score"]))))
    shuffled = {name: [values[i] for i in order] for name, values in columns.items()}
    table, other = (read_table(c, score="score") for c in (columns, shuffled))
    assert table.schema == other.schema
    assert torch.equal(table.take(order).codes, other.codes)


@given(columns=tables())
def test_schema_survives_json_and_gives_the_same_codes(columns: Columns) -> None:
    table = read_table(columns, score="score")
    schema = Schema.from_json(table.schema.to_json())
    assert schema == table.schema
    assert repr(schema) == repr(table.schema)
    assert torch.equal(schema.encode_features(columns), table.codes)
    assert torch.equal(read_table(columns, score="score", schema=schema).codes, table.codes)


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
        pa.timestamp("us", tz="Europe/Berlin"),
        *(pa.date32(), pa.date64(), pa.time32("s"), pa.time64("us"), pa.float16(), pa.float32()),
    ],
    ids=str,
)
def test_contexts_of_parquet_come_back_from_a_csv_file_of_rows(kind: Any, tmp_path: Path) -> None:
    """`generate` writes contexts as they were given, and its file is contexts again."""
    seconds = [60 * 60 * 24 * day + 45_296 for day in range(3)]
    given = pa.array([0.1, 1.1, 2.7]).cast(kind) if pa.types.is_floating(kind) else None
    if given is None and pa.types.is_time(kind):
        given = pa.array([datetime.time(12, 34, 56), datetime.time(12, 34), datetime.time(1)], kind)
    if given is None:
        moments = pa.array(seconds, pa.timestamp("s"))
        given = (
            moments.cast(pa.date32()).cast(kind) if pa.types.is_date(kind) else moments.cast(kind)
        )
    table = pa.table({"cut": ["a", "b", "a"], "when": given, "score": [1.0, 2.0, 3.0]})
    schema = read_table(table, score="score", context="when:categorical").schema
    contexts = tmp_path / "contexts.parquet"
    pq.write_table(table.select(["when"]), contexts)
    columns, encoded = read_contexts(contexts, schema)
    write_rows(tmp_path / "rows.csv", columns)
    again, same = read_contexts(tmp_path / "rows.csv", schema)
    assert torch.equal(same, encoded)
    assert [str(value) for value in columns["when"]] == again["when"]
