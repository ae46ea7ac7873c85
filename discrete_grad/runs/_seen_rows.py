"""Rows that a table holds already, context by context."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.data import Table
from discrete_grad.models.row_pool import row_keys

__all__ = ["SeenRows", "all_rows"]

_ODD = 0x9E3779B97F4A7C15 - 2**64  # spreads the numbers of the contexts over 64 bits


class SeenRows:
    """The rows of a table, failed ones included, that have one of the given contexts.

    Args:
        table: with or without contexts.
        contexts: `(S, C)`, or None; a row of the table belongs to those that are equal to its own.
        device: where the rows are that will be asked for; by default the table's.

    Example:
        >>> from discrete_grad.data import read_table
        >>> columns = {"cut": [0, 1], "shop": ["a", "b"], "score": [1.0, 2.0]}
        >>> table = read_table(columns, score="score", context=["shop"])
        >>> seen = SeenRows(table, table.context)
        >>> codes = torch.tensor([[0], [1]])
        >>> seen(codes, torch.tensor([0, 0])), seen(codes, torch.tensor([1, 1]))
        (tensor([ True, False]), tensor([False,  True]))
    """

    def __init__(
        self, table: Table, contexts: Tensor | None, *, device: torch.device | None = None
    ) -> None:
        self.space = table.schema.space
        codes, context = all_rows(table)
        groups, group = _groups(context, contexts, len(codes))
        known = torch.isin(groups, group)
        keys, order = self._keys(codes[known], groups[known]).sort()
        self.keys, self.group = keys.to(device), group.to(device)
        self.codes = codes[known][order].to(device)

    def __call__(self, codes: Tensor, where: Tensor | None = None) -> Tensor:
        """Whether the table has the rows `(n, F)` in the contexts at places `(n,)`.

        By default each row has a context of its own, or all have the only one.
        """
        group = self.group.expand(len(codes)) if where is None else self.group[where]
        if not len(self.keys):
            return torch.zeros_like(group, dtype=torch.bool)
        keys = self._keys(codes, group)
        place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        found = self.keys[place] == keys
        # few are found, and a key alone is no proof; of equal rows it is, since the factor is odd
        found[found.clone()] = (self.codes[place[found]] == codes[found]).all(-1)
        return found

    def _keys(self, codes: Tensor, group: Tensor) -> Tensor:
        return row_keys(self.space, codes) + group * _ODD


def all_rows(table: Table) -> tuple[Tensor, Tensor | None]:
    """Codes and contexts of a table's rows, and after them of those that failed."""
    if table.failed_codes is None:
        return table.codes, table.context
    codes = torch.cat([table.codes, table.failed_codes])
    if table.context is None or table.failed_context is None:
        return codes, None
    return codes, torch.cat([table.context, table.failed_context])


def _groups(table: Tensor | None, contexts: Tensor | None, rows: int) -> tuple[Tensor, Tensor]:
    """A number for the context of each of a table's rows `(N,)` and of the contexts `(S,)`."""
    if table is None or contexts is None:
        return torch.zeros(rows, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    group: Tensor = torch.cat([table, contexts]).unique(dim=0, return_inverse=True)[1]
    return group[:rows], group[rows:]
