"""Rules that a table's own rows suggest: columns stand together as they do there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from discrete_grad.data import Schema, Table
from discrete_grad.evaluation.together import SparsePair, sparse_pairs
from discrete_grad.rules import Observed
from discrete_grad.runs._rule_names import nearest, rule_columns

__all__ = ["only_seen", "seen_together", "sparse_rules"]


def seen_together(table: Table, names: Sequence[str]) -> Observed:
    """The rule that columns have only combinations that the table has.

    Args:
        table: with the rows.
        names: features, or categorical columns of the context.

    Raises:
        ValueError: for an unknown column, one named twice, or none.

    Example:
        >>> from discrete_grad.data import read_table
        >>> columns = {"city": ["Bonn", "Lyon"], "country": ["DE", "FR"], "score": [1.0, 2.0]}
        >>> seen_together(read_table(columns, score="score"), ["city", "country"])
        Observed(['city', 'country'], 2 combinations)
    """
    known = list(rule_columns(table.schema))
    for name in names:
        if name not in known:
            raise ValueError(f"no feature {name!r}{nearest(name, known)}")
    columns = [_column(table, name) for name in names]
    return Observed(names, torch.stack(columns, 1) if columns else torch.zeros(0, 0).long())


def only_seen(table: Table) -> Observed:
    """The rule that a row is one of the table's, in whatever context."""
    return seen_together(table, table.schema.space.names)


def sparse_rules(table: Table) -> list[tuple[Observed, SparsePair]]:
    """Rules of the columns that combine sparsely, see `sparse_pairs`, and what tells so.

    At least one column of each pair is a feature.
    """
    names = [name for name in rule_columns(table.schema)]
    codes = torch.stack([_column(table, name) for name in names], 1)
    sizes = [len(column) for column in rule_columns(table.schema).values()]
    features = len(table.schema.features)
    pairs = [pair for pair in sparse_pairs(codes, sizes) if pair.columns[0] < features]
    return [(seen_together(table, [names[i] for i in pair.columns]), pair) for pair in pairs]


def _column(table: Table, name: str) -> Tensor:
    """Codes `(N,)` of a feature, or of a categorical column of the context."""
    schema: Schema = table.schema
    if name in schema.space.names:
        return table.codes[:, schema.space.names.index(name)].long()
    spec = schema.context_spec
    assert spec is not None
    assert spec.categorical is not None
    assert table.context is not None
    return spec.codes(table.context)[:, spec.categorical.names.index(name)]
