"""A sum over the leaves of decision trees, of any depth."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from discrete_grad.models.ensemble import BaseEnsemble
from discrete_grad.nn.context import check_context
from discrete_grad.space import CategoricalSpace, is_codes

__all__ = ["LeafEnsemble"]

_ROWS, _CHUNK = 2**12, 2**24


class LeafEnsemble(BaseEnsemble):
    """One member: decision trees, whose score is the sum of the leaves that a row falls into.

    A leaf counts for a soft row by the product, over the features, of the probability of the
    categories that lead there. The sum is linear in each feature's block, so the value at a soft
    row of probabilities is the expected score of independent features, and the gradient at a hard
    row says what each single swap changes. No context is taken.

    Args:
        space: the features of a row.
        allowed: `(D, L)` of bools, whether a category lets a row reach a leaf.
        values: `(L,)` of the leaves.
        offset: added to every score.

    Raises:
        ValueError: for tensors of other shapes, or no leaf.

    Reference:
        Multilinear extension: Owen (1972), "Multilinear extensions of games".

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> both = torch.tensor([[False], [True], [False], [True]])
        >>> trees = LeafEnsemble(space, both, torch.tensor([8.0]), 1.0)
        >>> trees(torch.tensor([[1, 1], [1, 0]])), trees(torch.full((1, 4), 0.5))
        (tensor([9., 1.]), tensor([3.]))
    """

    allowed: Tensor
    values: Tensor
    offset: Tensor

    def __init__(
        self, space: CategoricalSpace, allowed: Tensor, values: Tensor, offset: float = 0.0
    ) -> None:
        super().__init__(space, None)
        if not values.numel() or allowed.shape != (space.width, *values.flatten().shape):
            raise ValueError(
                f"allowed must be ({space.width}, L) for values (L,) of L leaves, got "
                f"{tuple(allowed.shape)} for {tuple(values.shape)}"
            )
        self.register_buffer("allowed", allowed.bool())
        self.register_buffer("values", values.float())
        self.register_buffer("offset", torch.tensor(float(offset)))

    @property
    def num_members(self) -> int:
        """1."""
        return 1

    def predictions(
        self, row: Tensor, context: Tensor | None = None, *, own_rows: bool = False
    ) -> Tensor:
        """Score by every member `(1, ...)`; see `BaseEnsemble.predictions`."""
        flat = self._flat(row, context)
        parts = flat.reshape(-1, self.space.width).split(_ROWS)
        scores = torch.cat([self._scores(part) for part in parts]).reshape(flat.shape[:-1])
        return scores if own_rows else scores.unsqueeze(0)

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Share `(..., L)` of a row that falls into each leaf."""
        return self._shares(self._flat(row, context), self.allowed)

    def _flat(self, row: Tensor, context: Tensor | None) -> Tensor:
        check_context(context, None)
        if is_codes(row):
            return self.space.one_hot(row)
        self.space.check_flat(row, what="a flat row")
        return row

    def _scores(self, rows: Tensor) -> Tensor:
        """Scores `(N,)` of flat rows `(N, D)`, a part of the leaves after another."""
        part = max(1, _CHUNK // max(1, len(rows) * self.space.num_features))
        pairs = zip(self.allowed.split(part, 1), self.values.split(part), strict=True)
        total = self.offset.to(rows.dtype)
        for allowed, values in pairs:
            # what a part needs for its gradient is computed anew: all leaves would fill the memory
            total = total + checkpoint(
                self._sum, rows, allowed, values, use_reentrant=False, preserve_rng_state=False
            )
        return total

    def _shares(self, flat: Tensor, allowed: Tensor) -> Tensor:
        """Share `(..., L)` of flat rows `(..., D)` in each leaf."""
        tables = allowed.to(flat.dtype).split(list(self.space.sizes))
        blocks = self.space.split(flat)
        share: Tensor = blocks[0] @ tables[0]
        for block, table in zip(blocks[1:], tables[1:], strict=True):
            share = share * (block @ table)
        return share

    def _sum(self, flat: Tensor, allowed: Tensor, values: Tensor) -> Tensor:
        scores: Tensor = self._shares(flat, allowed) @ values.to(flat.dtype)
        return scores
