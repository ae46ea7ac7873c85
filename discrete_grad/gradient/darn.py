"""DARN: a straight-through along the score."""

import torch
from torch import Tensor

from discrete_grad.gradient.base import Relaxation, draw, increment, straight_through, widened
from discrete_grad.gradient.facts import Facts, a_sample
from discrete_grad.space import CategoricalSpace

__all__ = [
    "Darn",
]


def _darn_surrogate(space: CategoricalSpace, logits: Tensor, hard: Tensor) -> Tensor:
    """Surrogate `(..., D)` whose gradient is `(g . S) S` per feature, S = hard - softmax(logits).

    The estimator of arXiv 1310.8499; g = df/dx at the hard row.
    """
    score = hard - space.softmax(widened(logits))
    pairs = zip(space.blocks(score), space.blocks(increment(logits)), strict=True)
    # S is a constant here: it holds no graph, and the step alone carries a gradient
    return space.join([s * (s * step).sum(-1, keepdim=True) for s, step in pairs]).to(logits.dtype)


class Darn(Relaxation):
    """Hard row drawn from `softmax(logits)`; gradient `(g . S) S` per feature.

    S = row - softmax(logits) is the score and g = df/dx: REINFORCE with f replaced by its
    first-order change `g . S` in the feature. Together with straight-through, half each, it is
    `ReinMax`.

    **Bias:** biased; exact when f is multilinear in the features' blocks, where `StraightThrough`
    is its Rao-Blackwellised form and never has more variance.
    **Evaluations of f:** 1 forward, 1 backward a sample. **Needs df/dx:** yes.
    **Hyperparameters:** none; `samples` = 1.

    Reference:
        Gregor, Danihelka, Mnih, Blundell, Wierstra (2014), arXiv 1310.8499.

    Example:
        >>> logits = torch.zeros(3, 4, requires_grad=True)
        >>> Darn()(logits).sum(-1).detach()
        tensor([1., 1., 1.])
    """

    facts = Facts(
        forward="hard",
        bias="exact on multilinear",
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Gregor et al. 2014, 1310.8499",
    )

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Hard row `(..., D)` for logits `(..., D)`."""
        space = self.space_of(logits)
        _, hard = draw(space, logits, generator)
        return straight_through(hard, _darn_surrogate(space, logits, hard))
