"""REINFORCE with the leave-one-out baseline."""

import torch
from torch import Tensor

from discrete_grad.gradient._obeying import drawn_rows
from discrete_grad.gradient.base import (
    Function,
    GradientEstimator,
    evaluate,
    score_function,
    space_under,
)
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.rules import Rules
from discrete_grad.space import CategoricalSpace

__all__ = ["LeaveOneOut"]


def less_the_others(values: Tensor) -> Tensor:
    """Each of N >= 2 values less the mean of the others, `(N, *batch)`.

    Example:
        >>> less_the_others(torch.tensor([1.0, 2.0, 6.0]))
        tensor([-3.0000, -1.5000,  4.5000])
    """
    moved = values - values[:1]  # equal ones are then 0: their mean may round to another number
    # f_n - mean of the others = (f_n - mean of all) N / (N - 1)
    return (moved - moved.mean(0)) * (len(values) / (len(values) - 1))


class LeaveOneOut(GradientEstimator):
    """Score-function gradient in which each sample's baseline is the mean of the others.

    `1 / (N - 1) sum_n (f(x_n) - mean f) grad log p(x_n)`: unchanged when a constant is added to f.

    **Bias:** none. **Evaluations of f:** N forward a call. **Needs df/dx:** no.
    **Hyperparameters:** `samples` N = 4, at least 2.
    **With rules:** rows and log p are those of the law of rows that obey.

    Reference:
        Kool, van Hoof, Welling (2019), "Buy 4 REINFORCE samples, get a baseline for free!";
        its surrogate is also VarGrad's, Richter et al. (2020), arXiv 2010.10436.

    Example:
        >>> logits = torch.zeros(5, 3, requires_grad=True)
        >>> LeaveOneOut(samples=8).expectation(lambda rows: rows[..., 0], logits).shape
        torch.Size([5])
    """

    facts = Facts(
        forward="hard",
        bias="none",
        cost=lambda method, space: Cost(method.samples),
        cost_text="N forward",
        needs_derivative=False,
        with_rules="none",
        reference="Kool et al. 2019; Richter et al. 2020, 2010.10436",
    )

    min_samples = 2

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        samples: int = 4,
        rules: Rules | None = None,
    ) -> None:
        super().__init__(space_under(rules, space), samples=samples)
        self.rules = rules

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; see `GradientEstimator.expectation`."""
        space = self.space_of(logits)
        hard, log_p = drawn_rows(space, self.rules, logits, self.samples, generator)
        values = evaluate(f, hard)
        return score_function(values, less_the_others(values), log_p)
