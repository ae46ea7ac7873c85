"""Entropy-weighted rows: between the mean and a draw, the nearer to the draw the less is known."""

import torch
from torch import Tensor

from discrete_grad import blocks
from discrete_grad.gradient.base import Relaxation, draw, straight_through, widened
from discrete_grad.gradient.facts import Facts, a_sample
from discrete_grad.space import CategoricalSpace

__all__ = ["EntropyWeighted"]


def _row_between(pi: Tensor, hard: Tensor, weights: Tensor) -> Tensor:
    """`pi + w (hard - pi)` of blocks `(..., n, K)` and weights `(..., n, 1)`, without gradient.

    Exactly pi at w = 0, where the method is `Softmax`, and exactly hard at w = 1, where it is
    `StraightThrough`.
    """
    return torch.lerp(pi, hard, weights)


def _entropy_weights(logits: Tensor) -> Tensor:
    """Entropy over its maximum, in [0, 1], `(..., n, 1)` of blocks of logits `(..., n, K)`.

    The maximum is that of the categories that are not masked; a single one has weight 0.
    """
    log_p = blocks.log_softmax(logits)
    masked = log_p == -torch.inf
    entropy = -(log_p.exp() * log_p.masked_fill(masked, 0)).sum(-1, keepdim=True)
    allowed = (~masked).sum(-1, keepdim=True)
    most = allowed.to(entropy.dtype).log()
    return torch.where(allowed > 1, entropy / most.clamp_min(0.5), 0).clamp(0, 1)


def _mixed(space: CategoricalSpace, logits: Tensor, hard: Tensor) -> Tensor:
    """Row `(..., D)` between softmax(logits) and a hard row, without gradient."""
    pairs = zip(space.blocks(widened(logits)), space.blocks(hard), strict=True)
    mixed = [
        _row_between(blocks.softmax(block), drawn.to(block.dtype), _entropy_weights(block))
        for block, drawn in pairs
    ]
    return space.join(mixed).to(logits.dtype)


class EntropyWeighted(Relaxation):
    """Row `pi + w (x - pi)` with x drawn from `softmax(logits)`; gradient `J_pi df/dx`.

    w is the entropy of each feature over the largest possible: a feature that is nearly decided
    goes to f at its mean, one that is open as a draw. So the noise is less than that of
    `StraightThrough` where a draw would say little, and a row is near a hard one where the mean of
    many categories would be far from each of them. pi = softmax(logits).

    **Bias:** biased; value and gradient exact when f is multilinear in the features' blocks.
    **Evaluations of f:** 1 forward, 1 backward a sample, at soft rows. **Needs df/dx:** yes.
    **Hyperparameters:** none; `samples` = 1.

    Reference:
        Tejaswi, Rout, Caramanis, Shakkottai, Sanghavi (2026), "EntRGi", arXiv 2602.05000.

    Example:
        >>> EntropyWeighted()(torch.tensor([0.0, -torch.inf], requires_grad=True)).detach()
        tensor([1., 0.])
    """

    facts = Facts(
        forward="mixed",
        bias="exact on multilinear",
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Tejaswi et al. 2026, 2602.05000",
    )

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Row `(..., D)` between the mean and a hard row, for logits `(..., D)`."""
        space = self.space_of(logits)
        _, hard = draw(space, logits, generator)
        return straight_through(_mixed(space, logits, hard), space.softmax(logits))
