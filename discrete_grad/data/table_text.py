"""A table in one line, for those who print it."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from discrete_grad.data.schema import NumericColumn, Schema
from discrete_grad.data.vocabulary import Vocabulary

__all__: list[str] = []

_NAMED = 12  # columns that are named before the rest is counted


def table_text(schema: Schema, scores: Tensor, failed: Tensor | None) -> str:
    """Rows, features, contexts and scores.

    Args:
        schema: of the table.
        scores: `(N, S)`, all of them, to be maximised.
        failed: codes `(M, F)` of rows that have no score.
    """
    more = "" if failed is None else f", and {len(failed):,} that failed"
    facts = {"rows": f"{len(scores):,}{more}", **column_facts(schema)}
    if schema.score:
        names = (schema.score, *schema.more_scores)
        ranges = [_range(schema.in_units(column, i)) for i, column in enumerate(scores.unbind(1))]
        facts["scores"] = listed(n + r for n, r in zip(names, ranges, strict=True))
    return "; ".join(["table", *(f"{name}: {value}" for name, value in facts.items())])


def column_facts(schema: Schema) -> dict[str, str]:
    """Names of features, and of contexts if there are any, with their numbers of categories."""
    kinds = {"features": schema.features, "contexts": schema.context}
    return {kind: listed(map(_sized, columns)) for kind, columns in kinds.items() if columns}


def listed(words: Iterable[str]) -> str:
    """The first words, and how many more there are."""
    said = list(words)
    more = f" and {len(said) - _NAMED:,} more" if len(said) > _NAMED else ""
    return ", ".join(said[:_NAMED]) + more


def _sized(column: Vocabulary | NumericColumn) -> str:
    """The name of a column, with the number of its categories if it has any."""
    return f"{column.name} ({len(column)})" if isinstance(column, Vocabulary) else column.name


def _range(scores: Tensor) -> str:
    """The lowest and the highest of scores `(N,)`, in the units of the table."""
    return f" ({scores.min():g} to {scores.max():g})" if len(scores) else ""
