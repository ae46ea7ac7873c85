"""The double control variate for categoricals."""

import torch
from torch import Tensor

from discrete_grad.gradient._control_variate import (
    check_weight,
    differentiate,
    score,
    take_scalars,
    weighted,
    with_gradient,
)
from discrete_grad.gradient.base import Function, GradientEstimator, draw
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.space import CategoricalSpace

__all__ = ["DoubleControlVariate", "double_control_variate"]


def double_control_variate(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, values: Tensor, slopes: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient is `base + alpha * correction`, both `(*batch, D)`.

    Sample n has the control variate `c_n = gbar_n . S_n`, with S_n its score and gbar_n the mean of
    df/dx over the other samples; `E[c_n S_n] = J_pi gbar_n` is added back. The leave-one-out
    baseline is that of `f - alpha c`, so f and c enter alike.

    Args:
        space: the space, D wide.
        logits: `(*batch, D)`.
        hard: `(N, *batch, D)`, drawn from softmax(logits).
        values: `(N, *batch)`, f at the rows.
        slopes: `(N, *batch, D)`, df/dx at the rows.
    """
    scores, n = score(space, logits, hard), len(hard)
    mean = slopes.mean(0)
    others = (mean * n - slopes) / (n - 1)
    controls = (others * scores).sum(-1)

    def covariance(numbers: Tensor) -> Tensor:
        # centred and over n - 1: the leave-one-out baseline (see `less_the_others`), averaged
        return ((numbers - numbers.mean(0)).unsqueeze(-1) * scores).sum(0) / (n - 1)

    pi = space.softmax(logits.to(scores.dtype))
    # the mean of gbar_n over n is that of all slopes, so J_pi is applied once
    return covariance(values), space.softmax_jacobian(pi, mean) - covariance(controls)


class DoubleControlVariate(GradientEstimator):
    """Leave-one-out gradient whose function and baseline are both corrected to first order in f.

    Each sample's f is corrected by a linear function of its row, with the slope df/dx averaged over
    the other samples. On a linear f at alpha = 1 the variance is 0. With `learn_alpha`, `alpha` is
    a parameter: each `backward()` gives it the gradient of the variance (of the gradient in the
    logits), so an optimiser over `parameters()` lowers the variance, whatever the sign of the loss.

    **Bias:** none. **Evaluations of f:** N forward, N backward a call. **Needs df/dx:** yes; a poor
    one costs variance, never bias.
    **Hyperparameters:** `alpha` = 1, the weight of the control variate, where 0 is `LeaveOneOut`;
    `learn_alpha` = False; `samples` N = 8, at least 2.

    Reference:
        Titsias, Shi (2022), arXiv 2111.05300, there for binary variables.

    Example:
        >>> logits = torch.zeros(5, 3, requires_grad=True)
        >>> method = DoubleControlVariate(learn_alpha=True)
        >>> method.expectation(lambda rows: rows[..., 0] ** 2, logits).sum().backward()
        >>> logits.grad.shape, method.alpha.grad.shape
        (torch.Size([5, 3]), torch.Size([1]))
    """

    facts = Facts(
        forward="hard",
        bias="none",
        cost=lambda method, space: Cost(method.samples, method.samples),
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Titsias & Shi 2022, 2111.05300",
    )

    min_samples = 2
    alpha: float | Tensor

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        alpha: float = 1.0,
        learn_alpha: bool = False,
        samples: int = 8,
    ) -> None:
        super().__init__(space, samples=samples)
        self.alpha = check_weight("alpha", alpha, learn=learn_alpha)
        self.register_load_state_dict_pre_hook(take_scalars)

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; see `GradientEstimator.expectation`."""
        space = self.space_of(logits)
        fixed = logits.detach()
        _, hard = draw(space, fixed.expand(self.samples, *logits.shape), generator)
        values, slopes = differentiate(f, hard)
        parts = double_control_variate(space, fixed, hard, values.detach(), slopes.detach())
        return with_gradient(values.mean(0), logits, *weighted(*parts, self.alpha))
