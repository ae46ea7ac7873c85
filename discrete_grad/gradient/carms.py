"""CARMS: leave-one-out on categories that avoid each other."""

import torch
from torch import Tensor

from discrete_grad.gradient._antithetic import (
    draw_antithetic,
    pair_weights,
    paired_advantages,
    with_advantages,
)
from discrete_grad.gradient._numbers import as_number
from discrete_grad.gradient.base import Function, GradientEstimator, evaluate
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.space import CategoricalSpace

__all__ = ["Carms"]


class Carms(GradientEstimator):
    """Leave-one-out over all pairs of antithetic samples, weighted so that it has no bias.

    The gradient is `1 / (2 N (N - 1)) sum_{n, m} w_nm (f_n - f_m) (x_n - x_m)` in each feature. The
    samples are antithetic, from a Dirichlet copula by inversion, most likely category first;
    `w = p_a p_b / P(a, b)` corrects for that. Under the copula alone some pairs of categories never
    meet, which would be a bias. So a feature's draws are independent with probability
    `independent`, which bounds the weights by `1 / independent` without clipping.

    **Bias:** none. **Evaluations of f:** N forward a call. **Needs df/dx:** no.
    **Hyperparameters:** `samples` N = 4, at least 2; `independent` = 0.5, in (0, 1]. Less of it
    has less variance with many samples or few categories, but more with two samples of more than
    two categories, which hardly meet; at 1 it is leave-one-out without the pairs that agree.

    Reference:
        Dimitriev, Zhou (2021), arXiv 2110.14002, the importance-weighted pairs; the mixture is
        ours.

    Example:
        >>> logits = torch.zeros(5, 3, requires_grad=True)
        >>> Carms().expectation(lambda rows: rows[..., 0], logits).shape
        torch.Size([5])
    """

    facts = Facts(
        forward="hard",
        bias="none",
        cost=lambda method, space: Cost(method.samples),
        cost_text="N forward",
        needs_derivative=False,
        reference="Dimitriev & Zhou 2021, 2110.14002",
    )

    min_samples = 2

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        independent: float = 0.5,
        samples: int = 4,
    ) -> None:
        super().__init__(space, samples=samples)
        number = as_number(independent)
        if number is None or not 0 < number <= 1:
            raise ValueError(f"independent must lie in (0, 1], got {independent!r}")
        self.independent = number

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; see `GradientEstimator.expectation`."""
        space = self.space_of(logits)
        codes = draw_antithetic(space, logits, self.samples, generator, self.independent)
        values = evaluate(f, space.one_hot(codes, dtype=logits.dtype))
        weights = pair_weights(space, logits, codes, self.independent)
        advantages = paired_advantages(values, weights)
        return with_advantages(space, values, logits, codes, advantages)
