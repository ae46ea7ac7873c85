"""Gumbel-Rao: the straight-through Gumbel-softmax averaged over the noise given the row."""

import torch
from torch import Tensor, nn

from discrete_grad.gradient._tempered import centred, tempered
from discrete_grad.gradient.base import (
    Relaxation,
    check_tau,
    current_tau,
    draw,
    increment,
    straight_through,
    widened,
)
from discrete_grad.gradient.facts import Facts, a_sample
from discrete_grad.sampling import gumbel_like
from discrete_grad.space import CategoricalSpace

__all__ = ["GumbelRao", "check_inner_samples", "gumbel_rao_surrogate"]


def _conditional_perturbed(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, gumbel: Tensor
) -> Tensor:
    """Draw of `logits + G`, G Gumbel noise, given that its argmax is the hard row.

    The conditional law of arXiv 2010.04838, in logarithms, so that no logit overflows.

    Args:
        space: the space, D wide.
        logits: `(..., D)`, in the dtype of the noise.
        hard: flat row `(..., D)`, one-hot in every feature.
        gumbel: standard Gumbel noise, `(inner, ..., D)`.

    Returns:
        `(inner, ..., D)`; a masked category has `-inf`.
    """
    blocks = zip(space.blocks(logits), space.blocks(hard), space.blocks(gumbel), strict=True)
    return space.join([_conditional_block(*block) for block in blocks])


def _conditional_block(logits: Tensor, hard: Tensor, gumbel: Tensor) -> Tensor:
    # the largest is Gumbel at log Z; the others are Gumbels at their logits, cut off below it
    top = (hard * gumbel).sum(-1, keepdim=True) + logits.logsumexp(-1, keepdim=True)
    # of a masked logit -logaddexp(inf, .) = -inf, no NaN
    return torch.where(hard > 0, top, -torch.logaddexp(-gumbel - logits, -top))


def gumbel_rao_surrogate(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, gumbel: Tensor, tau: float | Tensor
) -> Tensor:
    """Mean `(..., D)` over the inner noise of `softmax((logits + G) / tau)`, G given the hard row.

    Differentiated at fixed G, as the straight-through Gumbel-softmax is: the derivative of the
    conditional noise in the logits is no part of it.
    """
    perturbed = _conditional_perturbed(space, centred(space, widened(logits)), hard, gumbel)
    soft = space.softmax(tempered(space, perturbed + increment(logits), tau))
    return soft.mean(0).to(logits.dtype)


def check_inner_samples(inner_samples: int) -> int:
    """A whole number of at least 1."""
    if not isinstance(inner_samples, int) or inner_samples < 1:
        raise ValueError(f"inner_samples must be a whole number >= 1, got {inner_samples!r}")
    return inner_samples


class GumbelRao(Relaxation):
    """Hard row drawn from `softmax(logits)`; gradient of `GumbelSoftmax` averaged given the row.

    The gradient `J_y g / tau`, y = softmax((logits + G) / tau), is averaged over draws of G that
    give this row. No further row is evaluated: the mean is that of `GumbelSoftmax`, the variance
    never larger. As tau falls to 0, and inner samples grow, it becomes `ReinMax()`.

    **Bias:** biased, as the hard `GumbelSoftmax` of the same tau.
    **Evaluations of f:** 1 forward, 1 backward a sample. **Needs df/dx:** yes.
    **Hyperparameters:** `tau` = 0.5, a float or a schedule module, sound down to 1e-4;
    `inner_samples` = 10 draws of the noise for each row.

    Reference:
        Paulus, Maddison, Krause (2021), arXiv 2010.04838.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> GumbelRao(space)(torch.zeros(4, 5)).sum(-1)
        tensor([2., 2., 2., 2.])
    """

    facts = Facts(
        forward="hard",
        bias="biased",
        slope=(0.85, 0.95),
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Paulus et al. 2021, 2010.04838",
    )

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        tau: float | nn.Module = 0.5,
        inner_samples: int = 10,
        samples: int = 1,
    ) -> None:
        super().__init__(space, samples=samples)
        self.tau = check_tau(tau)
        self.inner_samples = check_inner_samples(inner_samples)

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Hard row `(..., D)` for logits `(..., D)`."""
        space = self.space_of(logits)
        _, hard = draw(space, logits, generator)
        gumbel = gumbel_like(logits.expand(self.inner_samples, *logits.shape), generator=generator)
        surrogate = gumbel_rao_surrogate(space, logits, hard, gumbel, current_tau(self.tau))
        return straight_through(hard, surrogate)
