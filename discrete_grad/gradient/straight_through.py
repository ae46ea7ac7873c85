"""Straight-through: a hard draw forward, the softmax backward."""

import torch
from torch import Tensor

from discrete_grad import blocks
from discrete_grad.gradient.base import Pullback, Relaxation, draw, straight_through
from discrete_grad.gradient.facts import Facts, a_sample

__all__ = ["StraightThrough"]


class StraightThrough(Relaxation):
    """Hard row drawn from `softmax(logits)`; gradient `J_pi df/dx`, pi = softmax(logits).

    **Bias:** biased; exact when f is multilinear in the features' blocks.
    **Evaluations of f:** 1 forward, 1 backward a sample. **Needs df/dx:** yes.
    **Hyperparameters:** none; `samples` = 1.

    Reference:
        Bengio, Leonard, Courville (2013), arXiv 1308.3432.

    Example:
        >>> row = StraightThrough()(torch.tensor([0.0, -torch.inf], requires_grad=True))
        >>> row.detach()
        tensor([1., 0.])
    """

    facts = Facts(
        forward="hard",
        bias="exact on multilinear",
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Bengio et al. 2013, 1308.3432",
    )

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Hard row `(..., D)` for logits `(..., D)`."""
        space = self.space_of(logits)
        _, hard = draw(space, logits, generator)
        return straight_through(hard, space.softmax(logits))

    def pullback(self) -> Pullback:
        """`J_pi g`."""
        return Pullback(_gradient, form="straight_through")


def _gradient(
    logits: Tensor, pi: Tensor, codes: Tensor, slopes: Tensor, noise: Tensor | None
) -> Tensor:
    return blocks.jacobian(pi, slopes)
