"""Numeric contexts that lie far from those of the training rows."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from discrete_grad.data import NumericColumn, Table

__all__ = ["FarContextWarning", "trained_ranges", "warn_far_contexts"]

_MARGIN = 0.1


class FarContextWarning(UserWarning):
    """A numeric context lies far outside the range of the training rows.

    Example:
        >>> issubclass(FarContextWarning, UserWarning)
        True
    """


def trained_ranges(table: Table) -> dict[str, tuple[float, float]]:
    """Least and largest value of each numeric context column, in its units.

    Example:
        >>> from discrete_grad.data import read_table
        >>> columns = {"cut": [0, 1], "carat": [0.25, 5.0], "price": [300.0, 900.0]}
        >>> trained_ranges(read_table(columns, score="price", context=["carat:numeric"]))
        {'carat': (0.25, 5.0)}
    """
    low, high = _ends(table)
    return {
        column.name: (column.mean + column.scale * least, column.mean + column.scale * most)
        for column, least, most in zip(_numeric(table), low.tolist(), high.tolist(), strict=True)
    }


def warn_far_contexts(table: Table, columns: dict[str, list[Any]], contexts: Tensor | None) -> None:
    """Warn of each numeric column with values beyond the trained range by a tenth of its width.

    Args:
        table: the training rows.
        columns: the contexts as the user gave them, S values a column.
        contexts: the same encoded, `(S, C)`, or None.
    """
    if contexts is None or not _numeric(table):
        return
    spec = table.schema.context_spec
    assert spec is not None
    low, high = _ends(table)
    margin, numbers = _MARGIN * (high - low), spec.numbers(contexts).double()
    far = (numbers < low - margin) | (numbers > high + margin)
    for place, (name, (least, most)) in enumerate(trained_ranges(table).items()):
        rows = far[:, place].nonzero().squeeze(1).tolist()
        if rows:
            more = f" (and in {len(rows) - 1:,} more)" if len(rows) > 1 else ""
            warnings.warn(
                f"context column {name!r}: {columns[name][rows[0]]} in row {rows[0] + 1}{more} is "
                f"far outside the range of the training rows, {least:.5g} to {most:.5g}: "
                "estimates there are guesses",
                FarContextWarning,
                stacklevel=3,
            )


def _numeric(table: Table) -> list[NumericColumn]:
    return [column for column in table.schema.context if isinstance(column, NumericColumn)]


def _ends(table: Table) -> tuple[Tensor, Tensor]:
    """Least and largest standardised value of each numeric context column."""
    spec = table.schema.context_spec
    if spec is None or table.context is None or not spec.numeric:
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    low, high = spec.numbers(table.context).aminmax(dim=0)
    return low.double(), high.double()
