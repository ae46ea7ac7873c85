"""ReinMax with slopes that are centred by those of the other rows."""

import torch
from torch import Tensor

from discrete_grad.gradient._control_variate import differentiate, score, with_gradient
from discrete_grad.gradient.base import Function, GradientEstimator, draw
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.space import CategoricalSpace

__all__ = ["CentredReinMax"]


def _centred_reinmax(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, slopes: Tensor
) -> Tensor:
    """Gradient `(*batch, D)`: `J_pi gbar + 1/2 mean_n S_n (S_n . (g_n - gbar_n))` per feature.

    ReinMax is A_n g_n with `A_n = (J_pi + S_n S_n^T) / 2`, S_n the score of the feature. The mean
    slope gbar_n of the other rows does not depend on row n, so `A_n gbar_n` has the mean
    `J_pi gbar_n`: taken away and added back it changes no mean. gbar is the mean of all slopes.

    Args:
        space: the space, D wide.
        logits: `(*batch, D)`.
        hard: `(N, *batch, D)`, drawn from softmax(logits).
        slopes: `(N, *batch, D)`, df/dx at the rows.
    """
    scores, mean = score(space, logits, hard), slopes.mean(0)
    # g_n - gbar_n is (g_n - gbar) N / (N - 1), hence the divisor below
    pairs = zip(space.blocks(scores), space.blocks(slopes - mean), strict=True)
    moved = space.join([s * (s * centred).sum(-1, keepdim=True) for s, centred in pairs])
    pi = space.softmax(logits.to(scores.dtype))
    return space.softmax_jacobian(pi, mean) + moved.sum(0) / (2 * (len(hard) - 1))


class CentredReinMax(GradientEstimator):
    """Straight-through plus a correction of second order by how slopes change with the row.

    Its mean is that of `ReinMax`, on every f. Its variance is less where the slopes of different
    rows are alike, and 0 where they are equal, as on a sum of functions of one feature each:
    `ReinMax` multiplies noise with the slopes, this method with what is left of them once the mean
    of the other rows' slopes is taken away. It draws several rows, so it is no layer.

    **Bias:** biased; exact when f is at most quadratic in each feature's block.
    **Evaluations of f:** N forward, N backward a call. **Needs df/dx:** yes.
    **Hyperparameters:** none; `samples` N = 8, at least 2. With 2 or 3 rows the mean of the others
    is itself noise, and on an f that is far from linear `ReinMax` may be better.

    Reference:
        Second order: Liu, Dong, Liu, Yu, Gao (2023), arXiv 2304.08612. Centring by the slopes of
        the other rows: as in Titsias, Shi (2022), arXiv 2111.05300.

    Example:
        >>> logits = torch.zeros(5, 3, requires_grad=True)
        >>> CentredReinMax().expectation(lambda rows: rows[..., 0], logits).sum().backward()
        >>> logits.grad[0]
        tensor([ 0.2222, -0.1111, -0.1111])
    """

    facts = Facts(
        forward="hard",
        bias="exact on quadratic",
        cost=lambda method, space: Cost(method.samples, method.samples),
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Liu et al. 2023, 2304.08612; Titsias & Shi 2022, 2111.05300",
    )

    min_samples = 2

    def __init__(self, space: CategoricalSpace | None = None, *, samples: int = 8) -> None:
        super().__init__(space, samples=samples)

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; see `GradientEstimator.expectation`."""
        space = self.space_of(logits)
        fixed = logits.detach()
        _, hard = draw(space, fixed.expand(self.samples, *logits.shape), generator)
        values, slopes = differentiate(f, hard)
        gradient = _centred_reinmax(space, fixed, hard, slopes.detach())
        return with_gradient(values.mean(0), logits, gradient)
