"""ReinMax: a straight-through of second order."""

import torch
from torch import Tensor, nn

from discrete_grad import blocks
from discrete_grad.gradient._tempered import centred, tempered_block, tempered_softmax
from discrete_grad.gradient.base import (
    Pullback,
    Relaxation,
    check_tau,
    current_tau,
    draw,
    learned,
    straight_through,
    widened,
)
from discrete_grad.gradient.facts import Facts, a_sample
from discrete_grad.space import CategoricalSpace

__all__ = ["ReinMax", "reinmax_surrogate"]


def reinmax_surrogate(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, tau: float | Tensor
) -> Tensor:
    """Surrogate `(..., D)` whose gradient is `2 J_q g - J_pi g / 2`.

    Equation 7 of arXiv 2304.08612, with q = (softmax(logits / tau) + hard) / 2. J is the softmax
    Jacobian and g = df/dx at the hard row.
    """
    pi = space.softmax(logits)
    q = (tempered_softmax(space, logits.detach(), tau) + hard) / 2
    # J_q applied to the logits themselves is linear in them, and J_q is symmetric. A masked logit
    # is replaced before 0 * -inf arises; its q is 0.
    near = centred(space, logits) if isinstance(tau, Tensor) else logits  # d/dtau sees their size
    finite = near.masked_fill(near == -torch.inf, 0)
    return 2 * space.softmax_jacobian(q, finite) - pi / 2


class ReinMax(Relaxation):
    """Hard row drawn from `softmax(logits)`; gradient accurate to second order (Heun's method).

    `ReinMax()`, at tau = 1, is also ZGR: the mean of `StraightThrough` and `Darn`, and what
    `GumbelRao` becomes as its tau falls to 0.

    **Bias:** biased; at tau = 1 exact when f is at most quadratic in each feature's block. Any
    other tau is biased even on linear f.
    **Evaluations of f:** 1 forward, 1 backward a sample. **Needs df/dx:** yes.
    **Hyperparameters:** `tau` = 1, a float or a schedule module.

    Reference:
        Liu, Dong, Liu, Yu, Gao (2023), arXiv 2304.08612, equation 7. ZGR: Shekhovtsov (2023), "Cold
        Analysis of Rao-Blackwellized Straight-Through Gumbel-Softmax Gradient Estimator".

    Example:
        >>> logits = torch.zeros(3, 4, requires_grad=True)
        >>> ReinMax()(logits).sum(-1).detach()
        tensor([1., 1., 1.])
    """

    facts = Facts(
        forward="hard",
        bias="exact on quadratic",
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Liu et al. 2023, 2304.08612; Shekhovtsov 2023",
    )

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        tau: float | nn.Module = 1.0,
        samples: int = 1,
    ) -> None:
        super().__init__(space, samples=samples)
        self.tau = check_tau(tau)

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Hard row `(..., D)` for logits `(..., D)`."""
        space = self.space_of(logits)
        _, hard = draw(space, logits, generator)
        surrogate = reinmax_surrogate(space, logits, hard, current_tau(self.tau))
        return straight_through(hard, surrogate)

    def pullback(self) -> Pullback | None:
        """`2 J_q g - J_pi g / 2`; at tau = 1, `(pi (g - g_c) + e_c (g_c - pi . g)) / 2`."""
        tau = current_tau(self.tau)
        zgr = isinstance(tau, float) and tau == 1

        def gradient(
            logits: Tensor, pi: Tensor, codes: Tensor, slopes: Tensor, noise: Tensor | None
        ) -> Tensor:
            drawn, weighted = codes.unsqueeze(-1), pi * slopes
            there, mean = slopes.gather(-1, drawn), weighted.sum(-1, keepdim=True)
            # the short form holds to first order alone: q is fixed where it is differentiated
            if zgr and not torch.is_grad_enabled():
                moved = torch.addcmul(weighted, pi, there, value=-1)
                return moved.scatter_add(-1, drawn, there - mean) / 2
            tempered = blocks.softmax(tempered_block(widened(logits), tau)).to(logits.dtype)
            # 2 J_q g = 2 q (g - q . g) with q = (tempered + e_c) / 2; the centre is q . g
            centre = ((tempered * slopes).sum(-1, keepdim=True) + there) / 2
            first = tempered * (slopes - centre)
            first = first.scatter_add(-1, drawn, there - centre)
            return first - pi * (slopes - mean) / 2

        return None if learned(tau) else Pullback(gradient, form="reinmax" if zgr else None)
