"""Contexts that are equal, whose rows are looked for once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from discrete_grad.grouping import first_rows, row_groups

__all__ = ["different_contexts", "repeated_for", "spread_over"]


def different_contexts(contexts: Tensor | None, span: range) -> tuple[Tensor | None, Tensor]:
    """The different contexts `(U, C)` of a span of `(S, C)`, and the place `(n,)` of each there.

    They stand in the order in which they come first.

    Example:
        >>> different_contexts(torch.tensor([[2.0], [1.0], [2.0]]), range(3))
        (tensor([[2.],
                [1.]]), tensor([0, 1, 0]))
    """
    if contexts is None:
        return None, torch.zeros(len(span), dtype=torch.long)
    here = contexts[span.start : span.stop]
    group = row_groups(here)
    first, order = first_rows(group).sort()
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    return here[first], place[group]


def spread_over(
    columns: Mapping[str, list[Any]], counts: Tensor, place: Tensor
) -> dict[str, list[Any]]:
    """Columns of the rows of each different context as those of all contexts.

    Args:
        columns: name -> values, those of one context after those of another.
        counts: `(U,)`, rows of each different context.
        place: `(n,)`, of each context among the different ones.

    Example:
        >>> counts, place = torch.tensor([2, 1]), torch.tensor([1, 0, 1])
        >>> spread_over({"x": ["a", "b", "c"]}, counts, place)
        {'x': ['c', 'a', 'b', 'c']}
    """
    if torch.equal(place, torch.arange(len(counts))):
        return dict(columns)
    many, begins = counts[place], (counts.cumsum(0) - counts)[place]
    step = torch.arange(int(many.sum())) - (many.cumsum(0) - many).repeat_interleave(many)
    taken = (begins.repeat_interleave(many) + step).tolist()
    return {name: [values[i] for i in taken] for name, values in columns.items()}


def repeated_for(
    columns: Mapping[str, Sequence[Any]], span: range, counts: Tensor
) -> dict[str, list[Any]]:
    """Columns of contexts, each value of a span as often as its context has rows `(n,)`.

    Example:
        >>> repeated_for({"shop": ["a", "b", "c"]}, range(1, 3), torch.tensor([2, 1]))
        {'shop': ['b', 'b', 'c']}
    """
    taken = torch.arange(span.start, span.stop).repeat_interleave(counts).tolist()
    return {name: [values[i] for i in taken] for name, values in columns.items()}
