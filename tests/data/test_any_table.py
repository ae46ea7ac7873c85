"""Whatever the cells hold, a table is read soundly or refused in one line."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discrete_grad.data import Schema, TableError, TableWarning, read_table, write_rows

CELLS = st.sampled_from(
    [
        *("", "a", "b", "007", "1", "2.5", "-3", " 4 ", "1e400", "inf", "nan", "NaN", "true"),
        *("2024-01-01", "1.5.2024", "[0, 1]", "(missing)", "x:ordered", "1e308", "-1e308"),
    ]
)
NUMBERS = st.one_of(
    st.sampled_from([np.nan, np.inf, 0.0, -0.0, 1e308, -1e308, 5e-324]),
    st.floats(),
    st.integers(-30, 30).map(float),
)
KINDS = st.sampled_from(["", ":categorical", ":ordered"])
CONTEXTS = st.sampled_from(["", ":categorical", ":numeric"])


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of `read_table` for the columns x, y, z and score."""
    features = draw(st.one_of(st.none(), KINDS.map(lambda k: [f"x{k}", "y"])))
    return {
        "score": f"score{draw(st.sampled_from(['', ':min']))}",
        "context": draw(st.one_of(st.just(()), CONTEXTS.map(lambda k: [f"z{k}"]))),
        "features": features,
        "missing": draw(st.sampled_from(["error", "category", "drop"])),
    }


def check(source: Any, rows: int, options: dict[str, Any]) -> None:
    """Read it; what comes is finite, in range and comes back, or there is a line a fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TableWarning)
        try:
            table = read_table(source, **options)
        except TableError as error:
            refused = str(error)
        else:
            refused = ""
    head, *faults = refused.splitlines() or [""]
    assert len(faults) != 1
    assert not faults or head == f"the table has {len(faults)} problems:"
    if refused:
        return
    assert 2 <= len(table) <= rows
    assert table.scores.isfinite().all()
    table.schema.space.check_codes(table.codes)
    assert table.context is None or bool(table.context.isfinite().all())
    schema = Schema.from_json(table.schema.to_json())
    assert schema == table.schema
    columns = schema.decode_features(table.codes)
    assert schema.encode_features(columns).tolist() == table.codes.tolist()
    with tempfile.TemporaryDirectory() as folder:
        alone = len(columns) == 1 and any(None in values for values in columns.values())
        path = Path(folder, "rows.parquet" if alone else "rows.csv")
        write_rows(path, columns)
        assert schema.encode_features(path).tolist() == table.codes.tolist()
        if alone:
            with pytest.raises(TableError, match="one column cannot hold a missing cell"):
                write_rows(Path(folder, "rows.csv"), columns)


@given(st.data(), options())
def test_csv_files(data: st.DataObject, options: dict[str, Any]) -> None:
    rows = data.draw(st.integers(2, 40))
    numeric = st.integers(0, 99).map(lambda i: str(i / 4))
    cells = st.one_of(CELLS, numeric)
    columns = {
        name: data.draw(
            st.lists(data.draw(st.sampled_from([cells, numeric])), min_size=rows, max_size=rows)
        )
        for name in ("x", "y", "z", "score")
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.csv")
        lines = [
            ",".join(f'"{c}"' if c else "" for c in row)
            for row in zip(*columns.values(), strict=True)
        ]
        path.write_text("\n".join(["x,y,z,score", *lines]) + "\n")
        check(path, rows, options)


@given(st.data(), options())
def test_tables_in_memory(data: st.DataObject, options: dict[str, Any]) -> None:
    rows = data.draw(st.integers(2, 40))

    def column(cells: st.SearchStrategy[Any]) -> list[Any]:
        return data.draw(st.lists(cells, min_size=rows, max_size=rows))

    convert = {
        "numpy": lambda: np.array(column(NUMBERS)),
        "float32": lambda: np.array(column(st.floats(width=32)), dtype=np.float32),
        "gappy": lambda: pa.array(column(st.one_of(st.none(), NUMBERS))),
        "integers": lambda: pa.array(
            column(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)))
        ),
        "text": lambda: pa.array(column(st.one_of(st.none(), CELLS)), pa.string()),
        "declared": lambda: pd.Series(
            pd.Categorical(column(st.sampled_from(["a", "b", None])), ["b", "c", "a"], ordered=True)
        ),
        "dictionary": lambda: pa.array(column(st.one_of(st.none(), NUMBERS))).dictionary_encode(),
        "dates": lambda: pa.array(column(st.one_of(st.none(), st.dates()))),
        "nothing": lambda: pa.nulls(rows),
        "booleans": lambda: pa.array(column(st.one_of(st.none(), st.booleans()))),
    }
    kinds = st.sampled_from(sorted(convert))
    source = {name: convert[data.draw(kinds)]() for name in ("x", "y", "z")}
    source["score"] = np.array(column(st.floats(-1e6, 1e6)))
    check(source, rows, options)
