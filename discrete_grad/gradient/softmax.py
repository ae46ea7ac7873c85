"""Softmax: the mean-field row, without noise."""

import torch
from torch import Tensor, nn

from discrete_grad.gradient._tempered import tempered, tempered_softmax
from discrete_grad.gradient.base import Relaxation, check_tau, current_tau, space_under
from discrete_grad.gradient.facts import Facts, a_sample
from discrete_grad.rules import Rules
from discrete_grad.space import CategoricalSpace

__all__ = ["Softmax"]


class Softmax(Relaxation):
    """The soft row `softmax(logits / tau)`: every feature at its mean.

    **Bias:** biased; at tau = 1 value and gradient exact when f is multilinear in the features'
    blocks.
    **Evaluations of f:** 1 forward, 1 backward a sample. **Needs df/dx:** yes.
    **Hyperparameters:** `tau` = 1, a float or a schedule module. There is no noise: `samples` above
    1 only serve an f that is random itself.
    **With rules:** the marginals of the law of rows that obey, for logits over tau; at tau = 1
    value and gradient exact when f is additive. A soft row obeys in the mean alone.

    Reference:
        Mean-field expectation; as a layer, the soft embedding.

    Example:
        >>> Softmax()(torch.zeros(1, 4))
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """

    facts = Facts(
        forward="soft",
        bias="exact on multilinear",
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="mean field",
        with_rules="exact on additive",
    )

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        tau: float | nn.Module = 1.0,
        samples: int = 1,
        rules: Rules | None = None,
    ) -> None:
        super().__init__(space_under(rules, space), samples=samples)
        self.rules = rules
        self.tau = check_tau(tau)

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Soft row `(..., D)` for logits `(..., D)`; `generator` is not used."""
        space, tau = self.space_of(logits), current_tau(self.tau)
        if self.rules is not None:
            law = self.rules.condition(tempered(space, logits, tau))
            return law.marginals().to(logits.dtype)
        return tempered_softmax(space, logits, tau)
