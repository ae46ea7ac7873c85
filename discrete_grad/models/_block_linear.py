"""Ensembles that are linear in each feature's block, and are looked up at one-hot rows."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import torch
from torch import Tensor

from discrete_grad.models.ensemble import BaseEnsemble
from discrete_grad.models.joint import JointColumns
from discrete_grad.space import CategoricalSpace, ContextSpec, can_inspect, is_codes

__all__ = [
    "BlockLinearEnsemble",
]


class BlockLinearEnsemble(BaseEnsemble):
    """M models of joint columns whose scores are linear in each feature's block.

    The value at a soft row of probabilities is then the expected score of independent features, and
    the gradient at a hard row says what each single swap changes; at one-hot rows both are looked
    up.

    Args:
        space: the features of a row.
        context: the context columns; None for a model of rows alone.

    Example:
        >>> from discrete_grad.models.anova import AnovaEnsemble
        >>> from discrete_grad.models.kernel import KernelEnsemble
        >>> issubclass(AnovaEnsemble, BlockLinearEnsemble)
        True
    """

    def __init__(self, space: CategoricalSpace, context: ContextSpec | None) -> None:
        super().__init__(space, context)
        self.joint = JointColumns(space, context)

    @abstractmethod
    def layout(self) -> None:
        """Derive from the buffers what looking up needs."""

    @abstractmethod
    def looked_up(self, codes: Tensor) -> Tensor:
        """Scores `(M, ...)` of joint codes `(..., columns)`."""

    @abstractmethod
    def slopes(self, codes: Tensor, gradient: Tensor) -> Tensor:
        """Gradient `(N, D)` at joint codes `(N, columns)` of members' scores weighted `(N, M)`."""

    @abstractmethod
    def soft(self, row: Tensor, context: Tensor | None) -> Tensor:
        """Scores `(M, ...)` of any flat rows `(..., D)`."""

    def predictions(
        self, row: Tensor, context: Tensor | None = None, *, own_rows: bool = False
    ) -> Tensor:
        """Score by every member `(M, ...)`; see `BaseEnsemble.predictions`."""
        if own_rows:
            contexts = [None] * len(row) if context is None else context
            pairs = enumerate(zip(row, contexts, strict=True))
            return torch.stack([self.predictions(own, c)[member] for member, (own, c) in pairs])
        if is_codes(row):
            self.space.check_codes(row)
            return self.looked_up(self.joint(row, context))
        self.space.check_flat(row, what="a flat row")
        if not _is_hard(self.space, row, context):
            return self.soft(row, context)
        codes = self.joint(row.detach(), context)
        shape = (*codes.shape[:-1], self.space.width)
        scores: Tensor = _AtHardRow.apply(row.expand(shape), codes, self)
        return scores

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Lay out anew on another device, or in another type."""
        super()._apply(fn, recurse)
        self.layout()
        return self


def _is_hard(space: CategoricalSpace, row: Tensor, context: Tensor | None) -> bool:
    """Whether Python can see that flat rows are one-hot, each entry exactly 0 or 1."""
    if not can_inspect(row) or not (context is None or can_inspect(context)):
        return False
    row = row.detach()
    ones = row == 1
    return bool((ones | (row == 0)).all() and (ones.sum(-1) == space.num_features).all()) and all(
        bool((block.amax(-1) == 1).all()) for block in space.blocks(row)
    )


class _AtHardRow(torch.autograd.Function):
    """Scores `(M, ...)` at one-hot rows `(..., D)`, whose joint codes are looked up."""

    @staticmethod
    def forward(ctx: Any, row: Tensor, codes: Tensor, model: BlockLinearEnsemble) -> Tensor:
        """Scores in the type of the rows."""
        ctx.save_for_backward(codes)
        ctx.model, ctx.dtype = model, row.dtype
        return model.looked_up(codes).to(row.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Change by each single swap, to the rows' gradient."""
        (codes,) = ctx.saved_tensors
        share = gradient.reshape(len(gradient), -1).T
        slopes = ctx.model.slopes(codes.reshape(-1, codes.shape[-1]), share)
        shape = (*codes.shape[:-1], ctx.model.space.width)
        return slopes.view(shape).to(ctx.dtype), None, None
