"""ARMS: leave-one-out on binary features that avoid each other."""

import torch
from torch import Tensor

from discrete_grad.gradient._antithetic import (
    check_binary,
    draw_antithetic,
    pair_weights,
    paired_advantages,
    with_advantages,
)
from discrete_grad.gradient.base import Function, GradientEstimator, evaluate
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.space import CategoricalSpace

__all__ = ["Arms"]


class Arms(GradientEstimator):
    """Leave-one-out on N antithetic samples, divided in each feature by 1 - their correlation.

    The uniform numbers behind the samples come from a Dirichlet copula, the rarer category at
    their upper end: no two of the samples take it together as long as it is rare enough.

    **Bias:** none. **Evaluations of f:** N forward a call. **Needs df/dx:** no.
    **Hyperparameters:** `samples` N = 4, at least 2; with 2 it is `Disarm`. Features of at most two
    categories only.

    Reference:
        Dimitriev, Zhou (2021), arXiv 2106.14938.

    Example:
        >>> logits = torch.zeros(5, 2, requires_grad=True)
        >>> Arms().expectation(lambda rows: rows[..., 0], logits).shape
        torch.Size([5])
    """

    facts = Facts(
        forward="hard",
        bias="none",
        cost=lambda method, space: Cost(method.samples),
        cost_text="N forward",
        needs_derivative=False,
        reference="Dimitriev & Zhou 2021, 2106.14938",
        binary_only=True,
    )

    min_samples = 2

    def __init__(self, space: CategoricalSpace | None = None, *, samples: int = 4) -> None:
        super().__init__(space, samples=samples)
        if space is not None:
            check_binary(space, "Arms")

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; see `GradientEstimator.expectation`."""
        space = self.space_of(logits)
        check_binary(space, "Arms")
        codes = draw_antithetic(space, logits, self.samples, generator)
        values = evaluate(f, space.one_hot(codes, dtype=logits.dtype))
        # p q / P(1, 0) = 1 / (1 - correlation)
        advantages = paired_advantages(values, pair_weights(space, logits, codes))
        return with_advantages(space, values, logits, codes, advantages)
