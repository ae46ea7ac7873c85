"""Gapped straight-through: the draw leads the others by a gap, without noise."""

import math

import torch
from torch import Tensor, nn

from discrete_grad.gradient._numbers import as_number
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
from discrete_grad.space import CategoricalSpace

__all__ = [
    "GappedStraightThrough",
]


def _gapped_surrogate(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, gap: float, tau: float | Tensor
) -> Tensor:
    """`softmax(m / tau)` `(..., D)`, m the logits moved so that the drawn category leads by `gap`.

    As in arXiv 2206.07235: the drawn category is raised to the largest logit, the others
    lowered to at most that less the gap. The moves carry no gradient.
    """
    pairs = zip(space.blocks(centred(space, widened(logits))), space.blocks(hard), strict=True)
    moved = space.join([_moved(block, drawn, gap) for block, drawn in pairs])
    return space.softmax(tempered(space, moved + increment(logits), tau)).to(logits.dtype)


def _moved(logits: Tensor, hard: Tensor, gap: float) -> Tensor:
    best = logits.amax(-1, keepdim=True)
    return torch.where(hard > 0, best, torch.minimum(logits, best - gap))


class GappedStraightThrough(Relaxation):
    """Hard row drawn from `softmax(logits)`; gradient of a softmax moved towards the draw.

    The straight-through Gumbel-softmax with the noise replaced by moves of the logits that agree
    with the draw: given the row, nothing is random.

    **Bias:** biased, even when f is linear.
    **Evaluations of f:** 1 forward, 1 backward a sample. **Needs df/dx:** yes.
    **Hyperparameters:** `gap` = 1, at least 0, in nats; `tau` = 1, a float or a schedule module.

    Reference:
        Fan, Chi, Rudnicky, Ramadge (2022), arXiv 2206.07235.

    Example:
        >>> logits = torch.zeros(3, 4, requires_grad=True)
        >>> GappedStraightThrough()(logits).sum(-1).detach()
        tensor([1., 1., 1.])
    """

    facts = Facts(
        forward="hard",
        bias="biased",
        slope=(0.75, 1.2),
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Fan et al. 2022, 2206.07235",
    )

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        gap: float = 1.0,
        tau: float | nn.Module = 1.0,
        samples: int = 1,
    ) -> None:
        super().__init__(space, samples=samples)
        number = as_number(gap)
        if number is None or not 0 <= number < math.inf:
            raise ValueError(f"gap must be a finite number of at least 0, got {gap!r}")
        self.gap = number
        self.tau = check_tau(tau)

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Hard row `(..., D)` for logits `(..., D)`."""
        space = self.space_of(logits)
        _, hard = draw(space, logits, generator)
        surrogate = _gapped_surrogate(space, logits, hard, self.gap, current_tau(self.tau))
        return straight_through(hard, surrogate)
