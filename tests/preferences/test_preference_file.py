"""Preferences in files: there and back, and what is wrong is named."""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock

from discrete_grad.data import Schema, TableError, Vocabulary
from discrete_grad.preferences import (
    Preferences,
    append_preferences,
    preference_file,
    read_preferences,
    write_preferences,
)
from tests.runs.small import small_table
from tests.two_processes import forkserver

TABLE = small_table(40)
SCHEMA = TABLE.schema


def pairs(count: int = 6) -> Preferences:
    return Preferences(
        TABLE.codes[:count],
        TABLE.codes[count : 2 * count],
        torch.arange(count) % 3,
        TABLE.context[:count],
        torch.arange(count) % 2,
        ("ann", "bob"),
    )


def same(a: Preferences, b: Preferences) -> None:
    for name in ("first", "second", "outcome"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert torch.allclose(a.context, b.context, atol=1e-5)
    names = [[p.annotators[i] for i in p.who.tolist()] for p in (a, b)]
    assert names[0] == names[1]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_there_and_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_preferences(path, pairs(), SCHEMA)
    same(read_preferences(path, SCHEMA), pairs())


def test_contexts_that_are_embedded_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    schema = Schema(SCHEMA.features, SCHEMA.context[:1], "", embed_context=True)
    embedded = replace(pairs(), context=torch.arange(6.0).remainder(3).unsqueeze(1))
    write_preferences(path, embedded, schema)
    same(read_preferences(path, schema), embedded)


def test_appending_is_writing_all_at_once(tmp_path: Path) -> None:
    path, everything = tmp_path / "a.parquet", pairs()
    for i in range(6):
        append_preferences(path, everything.take(torch.tensor([i])), SCHEMA)
    same(read_preferences(path, SCHEMA), everything)
    lock = tmp_path / ".a.parquet.lock"
    assert lock.stat().st_mode & 0o777 == 0o666  # others may answer, too
    assert {p.name for p in tmp_path.iterdir()} == {"a.parquet", ".a.parquet.lock"}


def _append_one_by_one(path: Path, name: str, count: int) -> None:
    """Begins when both do."""
    (path.parent / f"{name}.ready").touch()
    while len(list(path.parent.glob("*.ready"))) < 2:
        time.sleep(0.001)
    for _ in range(count):
        append_preferences(path, pairs(1), SCHEMA)


@pytest.mark.slow
def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with ProcessPoolExecutor(2, mp_context=forkserver()) as pool:
        list(pool.map(_append_one_by_one, [path] * 2, "ab", [25] * 2))
    assert len(read_preferences(path, SCHEMA)) == 50


def test_no_folder_is_made_for_answers(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no folder"):
        append_preferences(tmp_path / "typo" / "a.parquet", pairs(1), SCHEMA)
    assert not list(tmp_path.iterdir())


def test_a_file_that_stays_locked_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    held = FileLock(tmp_path / ".a.parquet.lock")
    with held, mock.patch.object(preference_file, "_WAIT", 0.01):
        with pytest.raises(TableError, match=r"a\.parquet cannot be written: .*lock"):
            append_preferences(path, pairs(1), SCHEMA)
    assert not path.exists()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".a.parquet.lock").symlink_to(victim)
    with pytest.raises(TableError, match=r"\.a\.parquet\.lock is a link, which is not followed"):
        append_preferences(tmp_path / "a.parquet", pairs(1), SCHEMA)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_missing_cells_and_intervals_come_back(tmp_path: Path, suffix: str) -> None:
    price = Vocabulary.binned("price", (0.0, 1.0, 2.5), missing=True)
    cut, shop = (Vocabulary(name, (1, 2, None)) for name in ("cut", "shop"))
    schema, path = Schema((price, cut), (shop,), "score"), tmp_path / f"a.{suffix}"
    first, second = torch.tensor([[2, 2], [0, 1]]), torch.tensor([[1, 0], [2, 2]])
    context = torch.eye(3)[[2, 0]]
    given = Preferences(first, second, torch.tensor([0, 1]), context)
    write_preferences(path, given, schema)
    same(read_preferences(path, schema), given)
    if suffix == "parquet":
        path.unlink()
        for place in ([0], [1]):
            one = Preferences(first[place], second[place], given.outcome[place], context[place])
            append_preferences(path, one, schema)
        same(read_preferences(path, schema), given)


def test_appending_keeps_columns_of_others(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_preferences(path, pairs(2), SCHEMA)
    noted = pq.read_table(path).append_column("note", pa.array(["x", "y"]))
    pq.write_table(noted, path)
    append_preferences(path, pairs(1), SCHEMA)
    assert pq.read_table(path)["note"].to_pylist() == ["x", "y", None]
    assert len(read_preferences(path, SCHEMA)) == 3


def test_a_failure_while_writing_leaves_the_answers_given(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_preferences(path, pairs(2), SCHEMA)
    before = path.read_bytes()
    with mock.patch("os.replace", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        append_preferences(path, pairs(1), SCHEMA)
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"a.parquet", ".a.parquet.lock"}


def test_without_an_annotator_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_preferences(path, pairs(), SCHEMA)
    pq.write_table(pq.read_table(path).drop_columns(["annotator"]), path)
    found = read_preferences(path, SCHEMA)
    assert (found.annotator, found.annotators) == (None, ("",))


def changed(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(table.column_names.index(column), column, pa.array(values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["second.shade"]), "no feature column 'second.shade'"),
        (lambda t: t.drop_columns(["outcome"]), "no feature column 'outcome'"),
        (lambda t: t.drop_columns(["context.shop"]), "no context column 'context.shop'"),
        (lambda t: changed(t, "first.cut", 3, "fare"), "'first.cut', row 4: 'fare' is not among"),
        (lambda t: changed(t, "second.cut", 0, None), "'second.cut', row 1: the value is missing"),
        (lambda t: changed(t, "outcome", 2, "best"), "'outcome', row 3: 'best' is not among"),
        (lambda t: changed(t, "annotator", 1, None), "'annotator', row 2: the value is missing"),
        (lambda t: changed(t, "context.price", 4, float("nan")), "'context.price', row 5: nan"),
        *(
            (lambda t, n=name: t.append_column(n, t["first.cut"]), f"no columns for {name!r}")
            for name in ("first.hue", "second.hue", "context.hue")
        ),
        (lambda t: t.slice(0, 0), "no rows"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "a.parquet"
    write_preferences(path, pairs(), SCHEMA)
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(TableError, match=message) as told:
        read_preferences(path, SCHEMA)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 nothing PAR1", b"abc"])
def test_a_file_that_is_no_parquet_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    for attempt in (
        lambda: read_preferences(path, SCHEMA),
        lambda: append_preferences(path, pairs(1), SCHEMA),
    ):
        with pytest.raises(TableError, match=r"a\.parquet"):
            attempt()
    assert path.read_bytes() == content


def test_answers_are_added_to_parquet_alone(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"must end in \.parquet"):
        append_preferences(tmp_path / "a.csv", pairs(), SCHEMA)


def test_columns_named_like_ours_are_no_trouble(tmp_path: Path) -> None:
    from discrete_grad.data import read_table

    columns = {"outcome": ["a", "b"], "annotator": ["c", "d"], "score": [0.0, 1.0]}
    schema: Schema = read_table(columns, score="score", context=["annotator"]).schema
    one = torch.tensor([[0]])
    made = Preferences(one, 1 - one, torch.tensor([1]), torch.tensor([[0.0, 1.0]]))
    write_preferences(tmp_path / "a.parquet", made, schema)
    found = read_preferences(tmp_path / "a.parquet", schema)
    assert torch.equal(found.second, made.second)
    assert torch.equal(found.context, made.context)
