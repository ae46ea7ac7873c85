"""Lines of a contexts table: the context of each, and the features that it fixes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from discrete_grad.data import Schema, TableError, Vocabulary, read_contexts
from discrete_grad.data.columns import missing_cells
from discrete_grad.data.errors import Problems, counted_in, listing
from discrete_grad.data.frames import as_rows
from discrete_grad.data.sources import Source, load

__all__ = ["Lines", "read_lines"]


@dataclass(frozen=True, eq=False)
class Lines:
    """What rows are wanted for, line by line.

    Args:
        columns: the context columns as given, S values each; empty without.
        contexts: the same encoded, `(S, C)`; None for a fit without context.
        fixed: for each of the S lines feature -> label of the category that its rows have.
    """

    columns: dict[str, list[Any]]
    contexts: Tensor | None
    fixed: list[dict[str, str]]

    def part(self, places: list[int]) -> Lines:
        """The lines at these places."""
        columns = {name: [values[i] for i in places] for name, values in self.columns.items()}
        contexts = None if self.contexts is None else self.contexts[places]
        return Lines(columns, contexts, [self.fixed[i] for i in places])


def read_lines(source: Source | None, schema: Schema) -> Lines:
    """Read the contexts that rows are wanted for; a column of a feature fixes it in that line.

    An empty cell of a feature leaves it free.

    Args:
        source: as in `read_table`, or one context as a dict of single values; None for a fit
            without context.
        schema: of the table the generator was fitted to.

    Raises:
        TableError: as `read_contexts`, and for a column that is neither context nor feature; all
            that is wrong is told at once.
    """
    if source is None:
        columns, contexts = read_contexts(None, schema)
        return Lines(columns, contexts, [{}])
    table = load(as_rows(source)).table
    names, problems = set(table.column_names), Problems("the table of contexts")
    features = [feature for feature in schema.features if feature.name in names]
    known = {column.name for column in (*schema.features, *schema.context)}
    with problems.collect():
        _check_names([name for name in table.column_names if name not in known], schema)
    columns, contexts = {}, None
    if schema.context or not features:
        with problems.collect():
            columns, contexts = read_contexts(table, schema)
    fixed: list[dict[str, str]] = [{} for _ in range(table.num_rows)]
    for feature in features:
        with problems.collect():
            _fix(feature, table.column(feature.name), fixed)
    problems.tell()
    return Lines(columns, contexts, fixed)


def _check_names(extra: list[str], schema: Schema) -> None:
    if not extra:
        return
    one = len(extra) == 1
    contexts = listing([column.name for column in schema.context])
    raise TableError(
        f"{'column' if one else 'columns'} {listing(extra)} {'is' if one else 'are'} neither "
        f"context nor feature of the fit: leave {'it' if one else 'them'} out; "
        f"contexts are {contexts or '(none)'}, and a column of a feature fixes it"
    )


def _fix(feature: Vocabulary, column: Any, fixed: list[dict[str, str]]) -> None:
    """Add the feature's category to each line that has one."""
    kept = np.flatnonzero(~missing_cells(column))
    if not len(kept):  # a column of nulls has no type that is a category's
        return
    with counted_in(kept):
        codes = feature.encode(column.take(kept))
    for line, code in zip(kept.tolist(), codes.tolist(), strict=True):
        fixed[line][feature.name] = feature.labels[code]
