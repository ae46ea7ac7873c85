"""One's own module as an estimator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from discrete_grad.gradient import Relaxation
from discrete_grad.models.estimator import BaseEstimator
from discrete_grad.models.protocol import RowModel, ask, has, require, space_of
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["OwnEstimator"]


class OwnEstimator(BaseEstimator):
    """One's own module as an estimator: what it is called with and what it returns is checked.

    Rows and contexts of any leading dimensions reach the module as flat rows `(N, D)` and contexts
    `(N, C)`, the contexts repeated for the samples. The library wraps models itself, in this class
    alone; see `as_estimator`.

    Args:
        model: called as `model(row)`, with a context as `model(row, context)`.
        space: the features of a row.
        context: the context columns, if they are known.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> layers = torch.nn.Sequential(torch.nn.Linear(5, 1), torch.nn.Flatten(0))
        >>> own = OwnEstimator(layers, space)
        >>> own(space.enumerate().expand(4, 6, 2)).shape
        torch.Size([4, 6])
    """

    def __init__(
        self, model: RowModel, space: CategoricalSpace, *, context: ContextSpec | None = None
    ) -> None:
        super().__init__(space, context)
        self.model = model

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Latent vector `(..., L)` of a row; TypeError for a model without."""
        require("a latent", self.model, "to_latent")
        model: Any = self.model
        return ask(model.to_latent, self.space, (row,), context, like=model, width="L")

    def forward(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Score `(...)` of codes `(..., F)` or a flat row `(..., D)`."""
        return ask(self.model, self.space, (row,), context)


def as_estimator(
    user: str,
    model: RowModel,
    space: CategoricalSpace | None = None,
    context: ContextSpec | None = None,
) -> BaseEstimator:
    """The model as it is if the library knows what it takes, else an `OwnEstimator`.

    Args:
        user: what needs the model, the subject of messages.
        model: an estimator, an ensemble, or one's own.
        space: the features; by default those of the model.
        context: the context columns of one's own, if they are known.

    Raises:
        TypeError: for an object that cannot be called, or without a space from either side.
        ValueError: for a space that is not the model's.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> as_estimator("a test", lambda row: row.sum(-1), space)(space.enumerate()).shape
        torch.Size([6])
    """
    require(user, model, "forward")
    space = space_of(user, model, space)
    if isinstance(model, BaseEstimator):
        return model
    found = getattr(model, "context_spec", None)
    return OwnEstimator(model, space, context=found if isinstance(found, ContextSpec) else context)


def member_scores(model: BaseEstimator, row: Tensor, context: Tensor | None = None) -> Tensor:
    """Score by every member `(M, ...)`; of a model that is no ensemble `(1, ...)`.

    Example:
        >>> from discrete_grad.models.estimator import Estimator
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> member_scores(Estimator(space), space.enumerate()).shape
        torch.Size([1, 6])
    """
    if has(model, "predictions"):
        scores: Tensor = model.predictions(row, context)  # type: ignore[operator]
        return scores
    return model(row, context).unsqueeze(0)


def drawn_member_scores(
    model: BaseEstimator,
    logits: Tensor,
    relaxation: Relaxation,
    context: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Score `(M, ...)` of a row drawn from `(..., D)`; see `BaseEnsemble.sample_predictions`."""
    if has(model, "sample_predictions"):
        drawn: Tensor = model.sample_predictions(  # type: ignore[operator]
            logits, relaxation, context, generator=generator
        )
        return drawn
    return member_scores(model, relaxation(logits, generator=generator), context)
