"""Decoupled straight-through: one temperature to draw at, another to differentiate at."""

import torch
from torch import Tensor, nn

from discrete_grad.gradient._tempered import tempered, tempered_softmax
from discrete_grad.gradient.base import (
    Relaxation,
    check_tau,
    current_tau,
    draw,
    straight_through,
)
from discrete_grad.gradient.facts import Facts, a_sample
from discrete_grad.space import CategoricalSpace

__all__ = ["DecoupledStraightThrough"]


class DecoupledStraightThrough(Relaxation):
    """Hard row drawn from `softmax(logits / tau_f)`; gradient `J_q df/dx / tau_b`.

    J_q is the softmax Jacobian at q = softmax(logits / tau_b). `tau_f` sets how widely rows are
    drawn, `tau_b` how widely the gradient is spread over the categories.

    **`tau_f` other than 1 changes the objective**: rows, and the value of `expectation`, follow
    `softmax(logits / tau_f)` instead of `softmax(logits)`.

    **Bias:** biased; exact at tau_f = tau_b = 1, where it is `StraightThrough`, when f is
    multilinear in the features' blocks. At tau_f = tau_b = t it is so for the expectation under
    `softmax(logits / t)`. At two temperatures rows and gradient belong to different expectations:
    for a linear f the gradient is that under `softmax(logits / tau_b)`.
    **Evaluations of f:** 1 forward, 1 backward a sample. **Needs df/dx:** yes.
    **Hyperparameters:** `tau_f` = 1 and `tau_b` = 1, each a float or a schedule module.

    Reference:
        Shah, Yan, Mozer, Liu (2024), arXiv 2410.13331v2.

    Example:
        >>> logits = torch.tensor([[0.0, 1.0, 2.0]])
        >>> DecoupledStraightThrough(tau_f=1e-3, tau_b=2.0)(logits)
        tensor([[0., 0., 1.]])
    """

    facts = Facts(
        forward="hard",
        bias="exact on multilinear",
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Shah et al. 2024, 2410.13331",
    )

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        tau_f: float | nn.Module = 1.0,
        tau_b: float | nn.Module = 1.0,
        samples: int = 1,
    ) -> None:
        super().__init__(space, samples=samples)
        self.tau_f = check_tau(tau_f, name="tau_f")
        self.tau_b = check_tau(tau_b, name="tau_b")

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Hard row `(..., D)` for logits `(..., D)`."""
        space = self.space_of(logits)
        _, hard = draw(space, tempered(space, logits.detach(), current_tau(self.tau_f)), generator)
        soft = tempered_softmax(space, logits, current_tau(self.tau_b))
        return straight_through(hard.to(logits.dtype), soft)
