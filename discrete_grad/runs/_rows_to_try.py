"""Rows to try first, for the head of a run's report."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

from discrete_grad.data import NumericColumn, Vocabulary
from discrete_grad.evaluation import distinct_contexts
from discrete_grad.fitting.context_range import FarContextWarning
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs.generate import FewRowsWarning, generate

__all__ = ["rows_to_try"]

_ROWS = 8  # in all contexts together, but at least `_LEAST` in each
_LEAST = 2
_CONTEXTS = 6
_LEFT_OUT = ("beyond_observed", "in_table")


def rows_to_try(run: RunParts) -> dict[str, Any]:
    """The rows that `generate` writes first in the contexts with most rows, for the report.

    Returns:
        `columns`, and the cells of each of the `rows`; `contexts` shown, `of` the table's; `new`,
        whether the table has none of the rows, which is so unless it has all.
    """
    found, _ = distinct_contexts(
        run.table.context, len(run.table), embedded=run.table.schema.embed_context
    )
    contexts = None if found is None else found[:_CONTEXTS]
    columns = _context_columns(run, contexts)
    count = _ROWS if contexts is None else max(_LEAST, _ROWS // len(contexts))
    with warnings.catch_warnings():
        for expected in (FewRowsWarning, FarContextWarning):
            warnings.simplefilter("ignore", expected)
        for new in (True, False):
            made = generate(run, columns, contexts, rows=count, new_only=new)
            if made["in_table"]:
                break
    shown = [name for name in made if name not in _LEFT_OUT]
    return {
        "columns": shown,
        "rows": [list(row) for row in zip(*(made[name] for name in shown), strict=True)],
        "contexts": 0 if contexts is None else len(contexts),
        "of": 0 if found is None else len(found),
        "new": new,
    }


def _context_columns(run: RunParts, contexts: Tensor | None) -> dict[str, list[Any]]:
    """The context columns in their own units."""
    schema, spec = run.table.schema, run.table.schema.context_spec
    if contexts is None or spec is None:
        return {}
    categorical = [column for column in schema.context if isinstance(column, Vocabulary)]
    numeric = [column for column in schema.context if isinstance(column, NumericColumn)]
    columns: dict[str, list[Any]] = {}
    for vocabulary, codes in zip(categorical, spec.codes(contexts).unbind(-1), strict=True):
        columns[vocabulary.name] = vocabulary.decode(codes)
    for column, standard in zip(numeric, spec.numbers(contexts).unbind(-1), strict=True):
        values = standard.double() * column.scale + column.mean
        # a float32 knows no more digits
        columns[column.name] = [float(f"{value:.6g}") for value in values.tolist()]
    return {column.name: columns[column.name] for column in schema.context}
