"""Straight-through: a hard draw forward, the softmax backward."""

import torch
from torch import Tensor

from discrete_grad import blocks
from discrete_grad.gradient._obeying import drawn_obeying
from discrete_grad.gradient.base import Pullback, Relaxation, draw, space_under, straight_through
from discrete_grad.gradient.facts import Facts, a_sample
from discrete_grad.rules import Rules
from discrete_grad.space import CategoricalSpace

__all__ = ["StraightThrough"]


class StraightThrough(Relaxation):
    """Hard row drawn from `softmax(logits)`; gradient `J_pi df/dx`, pi = softmax(logits).

    **Bias:** biased; exact when f is multilinear in the features' blocks.
    **Evaluations of f:** 1 forward, 1 backward a sample. **Needs df/dx:** yes.
    **Hyperparameters:** none; `samples` = 1.
    **With rules:** the row is drawn from the law of rows that obey, and J is the Jacobian of its
    marginals, which reaches over features; exact when f is additive. For `Exactly(k, ...)` this is
    SIMPLE.

    Reference:
        Bengio, Leonard, Courville (2013), arXiv 1308.3432. SIMPLE: Ahmed, Zeng, Niepert, Van den
        Broeck (2023), arXiv 2210.01941.

    Example:
        >>> row = StraightThrough()(torch.tensor([0.0, -torch.inf], requires_grad=True))
        >>> row.detach()
        tensor([1., 0.])
        >>> from discrete_grad.rules import Exactly, Rules
        >>> space = CategoricalSpace.from_sizes((2, 2, 2))
        >>> rules = Rules(space, [Exactly(2, {"x0": 1, "x1": 1, "x2": 1})])
        >>> StraightThrough(rules=rules)(torch.zeros(6))[1::2].sum()
        tensor(2.)
    """

    facts = Facts(
        forward="hard",
        bias="exact on multilinear",
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Bengio et al. 2013, 1308.3432",
        with_rules="exact on additive",
    )

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        samples: int = 1,
        rules: Rules | None = None,
    ) -> None:
        super().__init__(space_under(rules, space), samples=samples)
        self.rules = rules

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Hard row `(..., D)` for logits `(..., D)`."""
        space = self.space_of(logits)
        if self.rules is not None:
            return drawn_obeying(self.rules, logits, generator)
        _, hard = draw(space, logits, generator)
        return straight_through(hard, space.softmax(logits))

    def pullback(self) -> Pullback | None:
        """`J_pi g`; None with rules, because their J couples the features."""
        return None if self.rules is not None else Pullback(_gradient, form="straight_through")


def _gradient(
    logits: Tensor, pi: Tensor, codes: Tensor, slopes: Tensor, noise: Tensor | None
) -> Tensor:
    return blocks.jacobian(pi, slopes)
