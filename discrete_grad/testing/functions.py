"""Functions of a flat row, by how far they are from linear: what a bias is measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

    def __call__(self, rows: Tensor) -> Tensor:
        """Values `(...)` of flat rows `(..., D)`."""
        if self.family in ("mlp", "rough"):
            h = (rows.unsqueeze(-2) * self.first.to(rows.dtype)).sum(-1)
            bent = h.tanh() if self.family == "mlp" else (4 * h).cos()
            return (bent * self.second[:, 0].to(rows.dtype)).sum(-1)
        h = self._inner(rows, self.first)
        if POWER[self.family]:
            h = h + 0.5 * self._inner(rows, self.second) ** POWER[self.family]
        return (h.sum(-1) if self.family == "additive" else h.prod(-1)).sum(-1)

    def _inner(self, rows: Tensor, weights: Tensor) -> Tensor:
        terms = rows.unsqueeze(-2) * weights.to(rows.dtype)
        return torch.stack([part.sum(-1) for part in self.space.split(terms)], -1)

    def __repr__(self) -> str:
        parts = [self.first] if self.family in ("additive", "multilinear") else []
        weights = [part.tolist() for part in parts or [self.first, self.second]]
        return f"RowFunction({self.space}, {self.family!r}, {', '.join(map(str, weights))})"


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
