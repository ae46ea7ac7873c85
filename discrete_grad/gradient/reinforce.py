"""REINFORCE with a running baseline."""

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

__all__ = ["Reinforce"]


class Reinforce(GradientEstimator):
    """Score-function gradient `(f(x) - b) grad log p(x)`, b a running mean of earlier values.

    The baseline is a buffer: it is saved in the state_dict, moves only in training mode, and is
    updated after use, so it never depends on the rows it corrects. `torch.func` transforms let no
    buffer change: use them in evaluation mode.

    **Bias:** none. **Evaluations of f:** 1 forward a sample. **Needs df/dx:** no.
    **Hyperparameters:** `decay` = 0.9, the share of the old baseline kept at each call, in [0, 1);
    the first call uses the baseline 0. `samples` = 1.
    **With rules:** rows and log p are those of the law of rows that obey.

    Reference:
        Williams (1992), Machine Learning 8.

    Example:
        >>> logits = torch.zeros(5, 3, requires_grad=True)
        >>> Reinforce().expectation(lambda rows: rows[..., 0], logits).shape
        torch.Size([5])
    """

    facts = Facts(
        forward="hard",
        bias="none",
        cost=lambda method, space: Cost(method.samples),
        cost_text="N forward",
        needs_derivative=False,
        with_rules="none",
        reference="Williams 1992, Machine Learning 8",
    )

    baseline: Tensor
    weight: Tensor

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        decay: float = 0.9,
        samples: int = 1,
        rules: Rules | None = None,
    ) -> None:
        super().__init__(space_under(rules, space), samples=samples)
        self.rules = rules
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay!r}")
        self.decay = decay
        self.register_buffer("baseline", torch.zeros((), dtype=torch.float64))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; see `GradientEstimator.expectation`."""
        space = self.space_of(logits)
        hard, log_p = drawn_rows(space, self.rules, logits, self.samples, generator)
        values = evaluate(f, hard)
        # the sum of the weights of the values seen so far corrects the start at 0, as in Adam;
        # 1 - decay is that sum after one call: only the sum 0 is raised, and the baseline stays 0
        baseline = self.baseline / self.weight.clamp_min(1 - self.decay)
        advantages = values - baseline.to(values.dtype)
        if self.training and values.numel():
            self._update(values.detach())
        return score_function(values, advantages, log_p)

    def _update(self, values: Tensor) -> None:
        share = 1 - self.decay
        self.baseline.lerp_(values.mean().to(self.baseline), share)
        self.weight.lerp_(torch.ones_like(self.weight), share)
