"""Functions of a flat row, by how far they are from linear: what a bias is measured on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from discrete_grad.sampling import normal, seeded
from discrete_grad.space import CategoricalSpace

__all__ = ["FAMILIES", "Family", "RowFunction", "row_function"]

Family = Literal["additive", "multilinear", "quadratic", "cubic", "mlp", "rough"]
"""Each of the first four contains the one before; mlp is smooth, rough is far from linear."""

FAMILIES: tuple[Family, ...] = get_args(Family)

POWER = {"additive": 0, "multilinear": 0, "quadratic": 2, "cubic": 3}


@dataclass(frozen=True, eq=False)
class RowFunction:
    """A fixed function of flat rows `(..., D)` -> values `(...)`, in the dtype of the rows.

    Args:
        space: the space of the rows.
        family: how it depends on the row. With `h_ri = a_ri . x_i + (b_ri . x_i)^power / 2` for
            term r and feature i (power 2 for quadratic, 3 for cubic, no second part before): the
            sum of all h (additive) or the sum over r of their products. With `h_r = a_r . x`:
            `sum_r b_r0 tanh(h_r)` (mlp) or `sum_r b_r0 cos(4 h_r)` (rough).
        first: a, `(terms, D)`.
        second: b, `(terms, D)`.

    Example:
        >>> space, weights = CategoricalSpace.from_sizes((2, 2)), torch.ones(1, 4)
        >>> f = RowFunction(space, "multilinear", weights, weights)
        >>> f(torch.tensor([1.0, 0.0, 0.5, 0.0]))
        tensor(0.5000)
    """

    space: CategoricalSpace
    family: Family
    first: Tensor
    second: Tensor

    _columns: tuple[Tensor, Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        columns = tuple(_of_each_feature(self.space, w) for w in (self.first, self.second))
        object.__setattr__(self, "_columns", columns)

    def __call__(self, rows: Tensor) -> Tensor:
        """Values `(...)` of flat rows `(..., D)`."""
        first, second = self.first.to(rows.dtype), self.second.to(rows.dtype)
        if self.family in ("mlp", "rough"):
            h = rows @ first.T
            return (h.tanh() if self.family == "mlp" else (4 * h).cos()) @ second[:, 0]
        h = self._inner(rows, 0)
        if POWER[self.family]:
            h = h + 0.5 * self._inner(rows, 1) ** POWER[self.family]
        join = torch.add if self.family == "additive" else torch.mul
        of_terms: Tensor = functools.reduce(join, h.unbind(-2))
        values: Tensor = of_terms @ torch.ones_like(first[:, 0])
        return values

    def _inner(self, rows: Tensor, which: int) -> Tensor:
        """Inner products `(..., F, terms)` of each feature's part with its weights."""
        inner = rows @ self._columns[which].to(rows.dtype)
        return inner.reshape(*rows.shape[:-1], self.space.num_features, len(self.first))

    def __repr__(self) -> str:
        parts = [self.first] if self.family in ("additive", "multilinear") else []
        weights = [part.tolist() for part in parts or [self.first, self.second]]
        return f"RowFunction({self.space}, {self.family!r}, {', '.join(map(str, weights))})"


def _of_each_feature(space: CategoricalSpace, weights: Tensor) -> Tensor:
    """Weights `(terms, D)` as a matrix `(D, F terms)`, 0 outside of each feature's block.

    Sums over the few numbers of a block take many times as long as one product of matrices.
    """
    own = torch.block_diag(*[torch.ones(1, size) for size in space.sizes]).to(weights)
    columns: Tensor = own.unsqueeze(1) * weights
    return columns.flatten(0, 1).T


def row_function(
    space: CategoricalSpace, family: Family = "cubic", *, seed: int = 0
) -> Callable[[Tensor], Tensor]:
    """A function of a family with three terms, whose weights are drawn from a seed.

    Args:
        space: the space of the rows.
        family: one of `discrete_grad.testing.functions.FAMILIES`.
        seed: of the weights.

    Raises:
        ValueError: for a family that does not exist.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> row_function(space, "quadratic")(torch.zeros(7, 5)).shape
        torch.Size([7])
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}")
    generator = seeded(seed)
    first, second = (normal((3, space.width), generator=generator) for _ in "ab")
    return RowFunction(space, family, first, second)
