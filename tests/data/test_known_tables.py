"""Tables whose content is known are read as that and come back, or are refused with the place.

More examples: `python -m tests.data.test_known_tables 10000`.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from discrete_grad.data import Table, TableError, TableWarning, read_table, write_rows
from tests.data.known_tables import Column, Known, array_of, known_tables, text_of, write


def read(known: Known, path: Path) -> Table:
    """Every column as categories, so that what is read is known."""
    names = [[f"{c.name}:categorical" for c in part] for part in (known.features, known.context)]
    missing = "category" if known.has_missing else "error"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TableWarning)  # of dates
        return read_table(path, score="score", features=names[0], context=names[1], missing=missing)


def expected(column: Column, *, parquet: bool) -> list[Any]:
    """The column as it is read: text from CSV, dates as text, all else as it is."""
    if not parquet:
        return [None if value is None else text_of(value) for value in column.values]
    if column.kind in ("dates", "moments"):
        return array_of(column, column.values).cast(pa.large_string()).to_pylist()
    return [None if value is None else value for value in column.values]


def check(known: Known, *, parquet: bool) -> None:
    """What is read is what was written, and comes back from both kinds of file."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(known, Path(folder), parquet=parquet)
        if known.fault:
            with pytest.raises(TableError) as refused:
                read(known, path)
            for word in known.told:
                assert word in str(refused.value)
            assert str(refused.value).count("\n") == 0
            return
        table = read(known, path)
        check_content(known, table, parquet=parquet)
        for name in ("again.csv", "again.parquet"):
            check_return(table, Path(folder, name))


def check_content(known: Known, table: Table, *, parquet: bool) -> None:
    times, schema = known.style["times"], table.schema
    assert table.scores.tolist() == known.scores * times
    found = schema.decode_features(table.codes.long())
    for column in known.features:
        assert found[column.name] == expected(column, parquet=parquet) * times, column.name
    sizes = [len({*column.codes}) for column in known.features]
    declared = [len(c.categories) + (-1 in c.codes) if c.declared else 0 for c in known.features]
    assert [*map(max, sizes, declared)] == [*schema.space.sizes]
    for column, vocabulary in zip(known.features, schema.features, strict=True):
        if column.declared:
            labels = [value for value in vocabulary.values if value is not None]
            assert labels == column.categories
    if known.context:
        columns = {c.name: expected(c, parquet=parquet) * times for c in known.context}
        assert schema.encode_context(columns).tolist() == table.context.tolist()
        widths = [
            len({*c.codes} | ({*range(len(c.categories))} if c.declared else set()))
            for c in known.context
        ]
        assert table.context.shape[1] == sum(widths)


def check_return(table: Table, path: Path) -> None:
    """What is written is read as the same rows."""
    schema = table.schema
    columns = {**schema.decode_features(table.codes.long()), "score": table.scores.tolist()}
    write_rows(path, columns)
    assert schema.encode_features(path).tolist() == table.codes.tolist()
    loaded = read_table(
        path,
        score="score",
        features=[f"{f.name}:categorical" for f in schema.features],
        missing="category",
    )
    assert loaded.scores.tolist() == table.scores.tolist()


def of_csv(known: Known) -> None:
    check(known, parquet=False)


def of_parquet(known: Known) -> None:
    check(known, parquet=True)


def examples(checked: Callable[[Known], None], count: int) -> Callable[[], None]:
    """A test of so many tables."""
    known = known_tables(parquet=checked is of_parquet)
    some = settings(
        max_examples=count, suppress_health_check=[*HealthCheck], report_multiple_bugs=False
    )
    made: Callable[[], None] = some(given(known)(checked))
    return made


@pytest.mark.parametrize("checked", [of_csv, of_parquet])
def test_tables_of_known_content(checked: Callable[[Known], None]) -> None:
    examples(checked, 15)()


@pytest.mark.slow
@pytest.mark.parametrize("checked", [of_csv, of_parquet])
def test_many_tables_of_known_content(checked: Callable[[Known], None]) -> None:
    examples(checked, 100)()


if __name__ == "__main__":
    # one that fails is as telling unshrunk, and shrinking takes minutes
    settings.register_profile("many", deadline=None, phases=[Phase.generate], database=None)
    settings.load_profile("many")
    for batch in range(int(sys.argv[1]) // 200):
        for one in (of_csv, of_parquet):
            seed(batch)(examples(one, 100))()
        print(f"{200 * (batch + 1):,} tables", flush=True)
