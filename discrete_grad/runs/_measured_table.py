"""A table of measured rows, as `tell` takes it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from discrete_grad.data import Schema, TableError
from discrete_grad.data.arrow import arrow
from discrete_grad.data.columns import missing_cells, numbers, pick
from discrete_grad.data.errors import RowError, shown
from discrete_grad.data.frames import as_rows
from discrete_grad.data.sources import Source, load
from discrete_grad.runs._measurements import Told

__all__ = ["Sheet", "read_measured"]

_FAILED, _MEASUREMENT = "failed", "measurement"
_YES, _NO = {"true", "yes", "1"}, {"false", "no", "0", ""}


class Sheet(NamedTuple):
    """A table of measured rows.

    Example:
        >>> Sheet._fields
        ('told', 'failed', 'open')
    """

    told: Told
    """Its measurements, those that failed among them."""
    failed: int
    """Rows that failed."""
    open: int
    """Rows without a score, not measured yet."""


def read_measured(source: Source, schema: Schema, measurement: str = "") -> Sheet:
    """Read rows with their contexts and scores; other columns are not looked at.

    Which rows failed is said by the schema's column of feasible rows, whose failed rows may have
    scores that are not read, and without one by a column `failed`.

    Args:
        source: as in `read_table`.
        schema: of the run's table.
        measurement: name of the measurement of all rows, where the table has no such column.

    Raises:
        TableError: as `read_table` with a schema, for a row with some scores but not all, a score
            of a row that is marked `failed` or of which it is not said whether it is feasible, or
            no row that was measured.

    Example:
        >>> from discrete_grad.data import Vocabulary
        >>> schema = Schema((Vocabulary("cut", ("fair", "good")),), (), "score")
        >>> columns = {"cut": ["fair", "good"], "score": [1.5, None], "failed": ["", "yes"]}
        >>> read_measured(columns, schema).told.scores.tolist()
        [[1.5], [nan]]
    """
    table = load(as_rows(source)).table
    names = (schema.score, *schema.more_scores)
    taken = {column.name for column in (*schema.features, *schema.context)} | set(names)
    failed, unsaid = _outcomes(table, taken, schema.feasible)
    unread = failed & (schema.feasible is not None)
    scores = np.stack([a.measured(_numbers(table, a.name, unread)) for a in schema.all_aims], 1)
    known = ~np.isnan(scores)
    _check(names, known, failed, unsaid, schema.feasible)
    kept = known.all(1) | failed
    if not kept.any():
        by = f"column {schema.feasible or _FAILED!r} marks no row as failed"
        raise TableError(f"no row was measured: every {names[0]!r} is empty, and {by}")
    signs = np.array(schema.signs)
    index = torch.from_numpy(np.flatnonzero(kept))
    context = schema.encode_context(table)
    told = Told(
        schema.encode_features(table)[index],
        torch.from_numpy(scores * signs)[index],
        torch.empty(len(index), 0) if context is None else context[index],
        tuple(np.array(_names(table, taken, measurement), dtype=object)[kept]),
    )
    return Sheet(told, int(failed.sum()), int((~kept).sum()))


def _numbers(table: Any, name: str, unread: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A column of scores, NaN where one is missing, or is not to be read."""
    column = pick(table, name, "score")
    if unread.any():
        column = column.take(arrow().array(np.arange(len(column)), mask=unread))
    if missing_cells(column).all():  # a column without a type
        return np.full(len(column), np.nan)
    return numbers(column, name, missing=True)


def _check(
    names: tuple[str, ...],
    known: NDArray[np.bool_],
    failed: NDArray[np.bool_],
    unsaid: NDArray[np.bool_],
    feasible: str | None,
) -> None:
    both = np.flatnonzero(known.any(1) & failed)
    if both.size:
        raise RowError(_FAILED, both[0], "the row failed and has a score; leave one of them out")
    some = np.flatnonzero(known.any(1) & ~known.all(1))
    if some.size:
        name = names[int(np.flatnonzero(~known[some[0]])[0])]
        raise RowError(name, some[0], "the value is missing, and the row has another score")
    silent = np.flatnonzero(known.any(1) & unsaid)
    if feasible is not None and silent.size:
        text = "the value is missing, and the row has a score; write yes or no"
        raise RowError(feasible, silent[0], text)


def _outcomes(
    table: Any, taken: set[str], feasible: str | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each row failed, and whether nothing is said of it, by a column of yes and no."""
    marked = _FAILED in set(table.column_names) - taken - {feasible}
    if feasible is not None and marked:
        raise TableError(
            f"column {_FAILED!r}: column {feasible!r} says which rows of this fit failed; leave "
            f"{_FAILED!r} out"
        )
    if feasible is None and not marked:
        said = [""] * table.num_rows
    else:
        said = _said(table, feasible or _FAILED)
    failing = _YES if feasible is None else _NO - {""}
    return np.array([word in failing for word in said]), np.array([not word for word in said])


def _said(table: Any, name: str) -> list[str]:
    words = [_word(value) for value in pick(table, name, "feasible").to_pylist()]
    for row, word in enumerate(words):
        if word not in _YES | _NO:
            raise RowError(name, row, f"{shown(word)} is neither yes nor no")
    return words


def _names(table: Any, taken: set[str], measurement: str) -> list[str]:
    if _MEASUREMENT in taken or _MEASUREMENT not in table.column_names:
        return [measurement] * table.num_rows
    return [_word(value) or measurement for value in table.column(_MEASUREMENT).to_pylist()]


def _word(value: object) -> str:
    """A cell as text; "" where it is empty, 1 for 1.0."""
    if value is None or value != value:
        return ""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip().lower()  # type: ignore[call-overload]
