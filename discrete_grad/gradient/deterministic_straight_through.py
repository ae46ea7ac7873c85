"""Deterministic straight-through: the most likely row forward, the softmax backward."""

import torch
from torch import Tensor

from discrete_grad.gradient._obeying import most_likely_obeying
from discrete_grad.gradient.base import Relaxation, space_under, straight_through
from discrete_grad.gradient.facts import Facts, a_sample
from discrete_grad.rules import Rules
from discrete_grad.space import CategoricalSpace

__all__ = ["DeterministicStraightThrough"]


class DeterministicStraightThrough(Relaxation):
    """The most likely row `argmax(logits)`; gradient `J_pi df/dx`, pi = softmax(logits).

    Also the layer for test time: the hard row without noise.

    **Bias:** biased: its value is f at the mode, not `E[f]`.
    **Evaluations of f:** 1 forward, 1 backward a sample. **Needs df/dx:** yes.
    **Hyperparameters:** none. There is no noise: `samples` above 1 only serve an f that is random
    itself.
    **With rules:** the most likely row that obeys, and the Jacobian of the marginals of the law of
    rows that obey.

    Reference:
        The argmax form of Bengio, Leonard, Courville (2013), arXiv 1308.3432.

    Example:
        >>> DeterministicStraightThrough()(torch.tensor([0.1, 0.7, 0.3]))
        tensor([0., 1., 0.])
    """

    facts = Facts(
        forward="argmax",
        bias="biased",
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Bengio et al. 2013, 1308.3432",
        with_rules="biased",
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
        """Hard row `(..., D)` for logits `(..., D)`; `generator` is not used."""
        space = self.space_of(logits)
        if self.rules is not None:
            return most_likely_obeying(self.rules, logits)
        hard = space.one_hot(space.argmax(logits), dtype=logits.dtype)
        return straight_through(hard, space.softmax(logits))
