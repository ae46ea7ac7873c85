"""The contexts of a table: which are shown, what they are called, and how they spread."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.data import NumericColumn, Schema, Vocabulary
from discrete_grad.grouping import first_rows, row_groups
from discrete_grad.space import ContextSpec

__all__ = ["TrainingContexts", "context_labels", "distinct_contexts"]


@dataclass(frozen=True, eq=False)
class TrainingContexts:
    """The contexts of the training rows.

    Args:
        spec: the context columns.
        values: `(N, C)`, N >= 1.

    Raises:
        ValueError: for another shape or a value that is not finite.

    Example:
        >>> spec = ContextSpec(numeric=["price"])
        >>> contexts = TrainingContexts(spec, torch.tensor([[1.0], [3.0]]))
        >>> contexts.deviation, contexts.low, contexts.high
        ((1.0,), (1.0,), (3.0,))
    """

    spec: ContextSpec
    values: Tensor

    def __post_init__(self) -> None:
        """Raise ValueError for another shape or a value that is not finite."""
        shape, width = tuple(self.values.shape), self.spec.width
        if self.values.dim() != 2 or shape[1] != width or not shape[0]:
            raise ValueError(f"training contexts must be (N, {width}) with N >= 1, got {shape}")
        odd = (~self.values.isfinite()).nonzero()
        if len(odd):
            row, column = odd[0].tolist()
            value = self.values[row, column].item()
            raise ValueError(f"training contexts must be finite, got {value} in row {row}")

    @property
    def deviation(self) -> tuple[float, ...]:
        """Standard deviation of each numeric column, at least 0."""
        off = self._numeric - self._numeric.mean(0)
        return tuple(off.square().mean(0).sqrt().tolist())

    @property
    def low(self) -> tuple[float, ...]:
        """The least value of each numeric column."""
        return tuple(self._numeric.amin(0).tolist())

    @property
    def high(self) -> tuple[float, ...]:
        """The largest value of each numeric column."""
        return tuple(self._numeric.amax(0).tolist())

    @property
    def _numeric(self) -> Tensor:
        return self.spec.numbers(self.values).double()


def distinct_contexts(
    context: Tensor | None, count: int, *, embedded: bool = False, limit: int = 200
) -> tuple[Tensor | None, Tensor]:
    """The different contexts of the rows, those with most rows first.

    Args:
        context: `(N, C)`; None without context columns.
        count: N.
        embedded: as in the `ContextSpec`.
        limit: how many to show at most; among contexts with equally many rows they are then taken
            evenly over the order of the columns' values.

    Returns:
        The shown contexts `(S, C)` or None, and the position among them of each row's context
        `(N,)`, -1 for a context that is not shown.

    Example:
        >>> shown, index = distinct_contexts(torch.tensor([[0.0], [1.0], [1.0]]), 3)
        >>> shown.tolist(), index.tolist()
        ([[1.0], [0.0]], [1, 0, 0])
        >>> distinct_contexts(None, 2)
        (None, tensor([0, 0]))
    """
    if context is None:
        return None, torch.zeros(count, dtype=torch.long)
    group = row_groups(context)
    if not embedded:
        group = group.max() - group  # the first category of a one-hot block comes first
    rows = group.bincount()
    order = rows.argsort(descending=True, stable=True)
    if len(order) > limit:
        cut = rows[order[limit - 1]]
        sure, tied = order[rows[order] > cut], order[rows[order] == cut]
        evenly = torch.linspace(0, len(tied) - 1, limit - len(sure)).round().long()
        order = torch.cat([sure, tied[evenly]])
    position = torch.full((len(rows),), -1)
    position[order] = torch.arange(len(order))
    return context[first_rows(group)[order]], position[group]


def context_labels(schema: Schema, contexts: Tensor | None) -> list[str]:
    """A name for each context: the value of its only column, or `column=value` for several.

    Args:
        schema: of the table.
        contexts: `(S, C)`, as `schema.encode_context` makes them, or None.

    Example:
        >>> shop = Vocabulary("shop", ("east", "west"))
        >>> schema = Schema((Vocabulary("cut", (1, 2)),), (shop,), "score")
        >>> context_labels(schema, torch.tensor([[0.0, 1.0]])), context_labels(schema, None)
        (['west'], ['all rows'])
    """
    spec = schema.context_spec
    if contexts is None or spec is None:
        return ["all rows"]
    categorical = [c for c in schema.context if isinstance(c, Vocabulary)]
    numeric = [c for c in schema.context if isinstance(c, NumericColumn)]
    codes, numbers = spec.codes(contexts).unbind(-1), spec.numbers(contexts).unbind(-1)
    columns: dict[str, list[str]] = {}
    for vocabulary, of_rows in zip(categorical, codes, strict=True):
        columns[vocabulary.name] = [vocabulary.labels[i] for i in of_rows.tolist()]
    for column, standard in zip(numeric, numbers, strict=True):
        values = standard.double() * column.scale + column.mean
        columns[column.name] = [f"{value:.5g}" for value in values.tolist()]
    if len(columns) == 1:
        return next(iter(columns.values()))
    pairs = zip(*columns.values(), strict=True)
    return [", ".join(f"{n}={v}" for n, v in zip(columns, row, strict=True)) for row in pairs]
