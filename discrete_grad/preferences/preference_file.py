"""Preferences in a file: the columns of both rows, their context, the answer and who gave it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from discrete_grad.data import (
    NumericColumn,
    Schema,
    TableError,
    Vocabulary,
    output_format,
    write_rows,
)
from discrete_grad.data.arrow import arrow, from_mapping
from discrete_grad.data.columns import factorize
from discrete_grad.data.errors import as_table_error, listing
from discrete_grad.data.sources import load
from discrete_grad.objectives.preference import OUTCOMES
from discrete_grad.preferences.preferences import Preferences

__all__ = ["append_preferences", "context_columns", "read_preferences", "write_preferences"]

_OUTCOME, _ANNOTATOR = "outcome", "annotator"
_SIDES = ("first", "second")
_WAIT = 60.0  # seconds for which another process may hold the file


def read_preferences(path: str | os.PathLike[str], schema: Schema) -> Preferences:
    """Read preferences between rows of a table from Parquet (or CSV).

    The columns are `first.NAME` and `second.NAME` for every feature, `context.NAME` for every
    context column, `outcome` (first, second or tie) and, optionally, `annotator`. Others are not
    looked at.

    Args:
        path: the file.
        schema: of the table; its categories are the only ones.

    Raises:
        TableError: for a file that cannot be read, a missing column or value, a category or an
            outcome that is none, or a column of a feature that the table does not have; the
            message names the column and, counted from 1, the row.

    Example:
        >>> import tempfile
        >>> schema = Schema((Vocabulary("cut", ("fair", "good")),), (), "score")
        >>> one = Preferences(torch.tensor([[0]]), torch.tensor([[1]]), torch.tensor([1]))
        >>> path = Path(tempfile.mkdtemp()) / "preferences.parquet"
        >>> write_preferences(path, one, schema)
        >>> read_preferences(path, schema).outcome
        tensor([1])
    """
    try:
        table = load(path).table
        _check_names(table.column_names, schema)
        first, second = (_side(schema, side).encode_features(table) for side in _SIDES)
        answers = Schema((Vocabulary(_OUTCOME, OUTCOMES),), (), "")
        outcome = answers.encode_features(table).squeeze(1)
        context = _side(schema, "first").encode_context(table)
        if _ANNOTATOR not in table.column_names:
            return Preferences(first, second, outcome, context)
        names, who = factorize(table.column(_ANNOTATOR), _ANNOTATOR)
    except TableError as error:
        # what is wrong with the file itself names it already
        raise error if str(path) in str(error) else TableError(f"{path}: {error}") from error
    labels = tuple(map(str, names))
    return Preferences(first, second, outcome, context, torch.from_numpy(who), labels)


def write_preferences(
    path: str | os.PathLike[str], preferences: Preferences, schema: Schema
) -> None:
    """Write preferences to a file that `read_preferences` reads, complete or not at all.

    Raises:
        TableError: as `write_rows`.
        ValueError: for codes that the schema has no category for.

    Example:
        >>> import tempfile
        >>> schema = Schema((Vocabulary("cut", ("fair", "good")),), (), "score")
        >>> one = Preferences(torch.tensor([[0]]), torch.tensor([[1]]), torch.tensor([1]))
        >>> path = Path(tempfile.mkdtemp()) / "preferences.csv"
        >>> write_preferences(path, one, schema)
        >>> print(path.read_text(), end="")
        first.cut,second.cut,outcome,annotator
        fair,good,second,""
    """
    write_rows(path, _columns(preferences, schema))


def append_preferences(
    path: str | os.PathLike[str], preferences: Preferences, schema: Schema
) -> None:
    """Add preferences to a Parquet file, or begin one; the file is replaced as a whole.

    A crash leaves the file as it was or with the new pairs. Its further columns are kept, and
    empty for the new pairs. Several processes may add to one file: each waits its turn by a lock
    on `.NAME.lock` beside it.

    Raises:
        TableError: for a path that does not end in .parquet or cannot be written, a file of other
            columns, or one that stays locked for a minute.

    Example:
        >>> import tempfile
        >>> schema = Schema((Vocabulary("cut", ("fair", "good")),), (), "score")
        >>> one = Preferences(torch.tensor([[0]]), torch.tensor([[1]]), torch.tensor([1]))
        >>> path = Path(tempfile.mkdtemp()) / "preferences.parquet"
        >>> for _ in range(3):
        ...     append_preferences(path, one, schema)
        >>> len(read_preferences(path, schema))
        3
    """
    from filelock import FileLock  # of the extra `tables`, as is pyarrow

    target = Path(path)
    if target.suffix.lower() != ".parquet":
        raise TableError(f"{target} must end in .parquet: answers are added to Parquet alone")
    output_format(target)  # the lock would make a folder that is not there
    columns: dict[str, Any] = _columns(preferences, schema)
    held = target.with_name(f".{target.name}.lock")
    if held.is_symlink():  # which older versions of filelock follow, and empty
        raise TableError(f"{held} is a link, which is not followed: remove it")
    lock = FileLock(held, timeout=_WAIT, mode=0o666)
    with as_table_error(f"{target} cannot be written"), lock:
        if target.exists():
            with as_table_error(f"{target}: the pairs do not fit its columns"):
                tables = [load(target).table, from_mapping(columns)]
                joined = arrow().concat_tables(tables, promote_options="permissive")
            columns = {name: joined.column(name) for name in joined.column_names}
        write_rows(target, columns)


def context_columns(schema: Schema, context: torch.Tensor | None) -> dict[str, list[Any]]:
    """Columns of contexts `(N, C)`: name -> N values, numbers to 7 digits; `{}` without.

    Example:
        >>> shop, price = Vocabulary("shop", ("east", "west")), NumericColumn("price", 10.0, 2.0)
        >>> schema = Schema((Vocabulary("cut", (1, 2)),), (shop, price), "score")
        >>> context_columns(schema, torch.tensor([[0.0, 1.0, 0.5]]))
        {'shop': ['west'], 'price': [11.0]}
    """
    spec = schema.context_spec
    if context is None or spec is None:
        return {}
    categorical = [column for column in schema.context if isinstance(column, Vocabulary)]
    numeric = [column for column in schema.context if isinstance(column, NumericColumn)]
    codes, numbers = spec.codes(context).unbind(-1), spec.numbers(context).unbind(-1)
    columns: dict[str, list[Any]] = {}
    for vocabulary, of_rows in zip(categorical, codes, strict=True):
        columns[vocabulary.name] = list(vocabulary.decode(of_rows))
    for column, standard in zip(numeric, numbers, strict=True):
        values = standard.double() * column.scale + column.mean
        # a float32 was stored: further digits are none of the user's
        columns[column.name] = [float(f"{value:.7g}") for value in values.tolist()]
    return columns


def _columns(preferences: Preferences, schema: Schema) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for side, codes in zip(_SIDES, (preferences.first, preferences.second), strict=True):
        decoded = schema.decode_features(codes)
        columns |= {f"{side}.{name}": list(values) for name, values in decoded.items()}
    context = context_columns(schema, preferences.context)
    columns |= {f"context.{name}": values for name, values in context.items()}
    columns[_OUTCOME] = [OUTCOMES[code] for code in preferences.outcome.tolist()]
    columns[_ANNOTATOR] = [preferences.annotators[i] for i in preferences.who.tolist()]
    return columns


def _side(schema: Schema, side: str) -> Schema:
    """The schema under the file's names, so that its messages name the file's columns."""
    features = [replace(column, name=f"{side}.{column.name}") for column in schema.features]
    context = [replace(column, name=f"context.{column.name}") for column in schema.context]
    embed = schema.embed_context
    return Schema(tuple(features), tuple(context), "", embed_context=embed)


def _check_names(names: Sequence[str], schema: Schema) -> None:
    """Raise TableError for a column of a feature or context that the table does not have."""
    sides = [_side(schema, side) for side in _SIDES]
    ours = {column.name for side in sides for column in (*side.features, *side.context)}
    prefixes = ("first.", "second.", "context.")
    strange = [name for name in names if name.startswith(prefixes) and name not in ours]
    if strange:
        raise TableError(f"the table fitted has no columns for {listing(strange)}")
