"""Tables to rows: `read_table` for fitting, `read_contexts` for generating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from discrete_grad.data.columns import numbers, pick
from discrete_grad.data.errors import TableError, listing
from discrete_grad.data.infer import Features, infer_schema
from discrete_grad.data.schema import Schema
from discrete_grad.data.sources import Source, load

__all__ = ["Table", "read_contexts", "read_table"]


@dataclass(frozen=True, eq=False)
class Table:
    """Rows with their scores and contexts, as tensors.

    Args:
        schema: what the columns mean.
        codes: `(N, F)`, int64.
        scores: `(N,)`, float64, in the user's units.
        context: `(N, C)`, float32; None without context columns.

    Example:
        >>> table = read_table({"cut": ["fair", "good"], "score": [1.0, 2.0]}, score="score")
        >>> len(table), table.take([1]).codes
        (2, tensor([[1]]))
    """

    schema: Schema
    codes: Tensor
    scores: Tensor
    context: Tensor | None

    def __len__(self) -> int:
        """N, the number of rows."""
        return len(self.scores)

    def take(self, indices: ArrayLike | Tensor) -> Table:
        """The rows at these positions, integers `(M,)` or a boolean mask `(N,)`, in that order."""
        index = torch.as_tensor(indices)
        index = index if index.numel() else index.long()
        context = None if self.context is None else self.context[index]
        return Table(self.schema, self.codes[index], self.scores[index], context)


def read_table(
    source: Source,
    *,
    score: str,
    context: Sequence[str] | str = (),
    features: Features = None,
    schema: Schema | None = None,
) -> Table:
    """Read a table of categorical features and a score.

    A CSV file is UTF-8, comma-separated and has a header. Its cells are text: "007" and "7" are
    different categories, an empty cell is a missing value, and a quoted empty cell is a category.

    The categories of a feature are sorted, numbers by value and text by code point, whatever the
    order of the rows; columns that declare categories (Arrow dictionaries, pandas Categoricals,
    polars Enums) keep their order and also the categories that no row has. Dates and times are
    text in ISO form.

    Args:
        source: path of a CSV or Parquet file; a pandas, polars or Arrow table, or any other with
            the Arrow C stream interface; or a dict of lists, arrays or tensors.
        score: the column to be maximised.
        context: columns that the generator is conditioned on. A column is numeric if its type is,
            or, in CSV, if all its values parse as numbers, and otherwise categorical; write
            "name:categorical" or "name:numeric" to decide.
        features: columns to be chosen; None takes all others. A mapping gives the categories too.
        schema: from an earlier table: its features, context columns and codes are used, and neither
            `context` nor `features` may be given.

    Raises:
        TableError: if anything is wrong with the table; the message names column, value and row.
            Rows count from 1 without the header. Without `schema` there must also be two rows or
            more with different scores.
        ValueError: for `schema` together with `context` or `features`.
        ImportError: if pyarrow is not installed.

    Example:
        >>> table = read_table(
        ...     {"cut": ["good", "fair"], "shop": ["a", "b"], "score": [2, 1]},
        ...     score="score", context=["shop"],
        ... )
        >>> table.schema.features
        (Vocabulary(name='cut', values=('fair', 'good')),)
        >>> table.codes.tolist(), table.context.tolist()
        ([[1], [0]], [[1.0, 0.0], [0.0, 1.0]])
    """
    if schema is not None and (context or features is not None):
        raise ValueError("a schema says what is context and feature: give neither beside it")
    data = load(source)
    scores = numbers(pick(data.table, score, "score"), score)
    if schema is None:
        _require_varied(scores, score)
        schema = infer_schema(data, score=score, context=context, features=features)
    codes, contexts = schema.encode_features(data.table), schema.encode_context(data.table)
    return Table(schema, codes, torch.tensor(scores), contexts)


def read_contexts(
    source: Source | None, schema: Schema
) -> tuple[dict[str, list[Any]], Tensor | None]:
    """Read the contexts for which rows are to be generated.

    Args:
        source: as in `read_table`; columns that are no context columns are not looked at. None if
            the schema has no context columns.
        schema: of the table the generator was fitted to.

    Returns:
        The context columns as they were given, name -> N values, and the contexts `(N, C)`,
        float32; `({}, None)` if the schema has no context columns.

    Raises:
        TableError: if the schema and the source disagree on whether there are contexts, for a
            missing column or value, a category that was not in the fitted table, or a number that
            is none or not finite.

    Example:
        >>> table = read_table(
        ...     {"cut": ["good", "fair"], "shop": ["a", "b"], "score": [2, 1]},
        ...     score="score", context=["shop"],
        ... )
        >>> read_contexts({"shop": ["b"]}, table.schema)
        ({'shop': ['b']}, tensor([[0., 1.]]))
    """
    names = [column.name for column in schema.context]
    if source is None and not names:
        return {}, None
    if source is None:
        raise TableError(f"contexts are needed: a table with the columns {listing(names)}")
    if not names:
        raise TableError("contexts are given, but the schema has no context columns")
    table = load(source).table
    columns = {name: pick(table, name, "context").to_pylist() for name in names}
    return columns, schema.encode_context(table)


def _require_varied(scores: NDArray[np.float64], name: str) -> None:
    if len(scores) < 2:
        raise TableError("the table has only 1 row: nothing can be learned from it")
    if scores.min() == scores.max():
        raise TableError(
            f"column {name!r}: every row has the score {scores[0]:g}, nothing can be learned"
        )
