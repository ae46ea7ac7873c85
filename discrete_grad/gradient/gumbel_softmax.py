"""Gumbel-softmax (Concrete) and its straight-through variant."""

import torch
from torch import Tensor, nn

from discrete_grad import blocks
from discrete_grad.gradient._tempered import centred, tempered, tempered_block
from discrete_grad.gradient.base import (
    Pullback,
    Relaxation,
    check_tau,
    current_tau,
    increment,
    learned,
    straight_through,
)
from discrete_grad.gradient.facts import Facts, a_sample
from discrete_grad.sampling import gumbel_like
from discrete_grad.space import CategoricalSpace

__all__ = [
    "GumbelSoftmax",
]


def _relaxed_row(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, tau: float | Tensor
) -> Tensor:
    """`softmax((logits + gumbel) / tau)` per feature `(..., D)`, in the dtype of the noise."""
    return space.softmax(tempered(space, logits + gumbel, tau))


class GumbelSoftmax(Relaxation):
    """Row `softmax((logits + G) / tau)`, G Gumbel noise; with `hard`, its argmax going forward.

    The law of the hard row is `softmax(logits)` at every temperature. `GumbelSoftmax()` stands in
    for `torch.nn.functional.gumbel_softmax` as it is.

    **Bias:** biased; less with a smaller tau, at the price of variance (of order 1 / tau).
    **Evaluations of f:** 1 forward, 1 backward a sample. **Needs df/dx:** yes.
    **Hyperparameters:** `tau` = 1, a float or a schedule module, sound down to 1e-4; `hard` = True.

    Reference:
        Jang, Gu, Poole (2017), arXiv 1611.01144; Maddison, Mnih, Teh (2017), arXiv 1611.00712.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> GumbelSoftmax(space, tau=0.5)(torch.zeros(4, 5)).sum(-1)
        tensor([2., 2., 2., 2.])
    """

    facts = Facts(
        forward="hard",
        bias="biased",
        slope=(0.65, 0.8),
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Jang et al. 2017, 1611.01144; Maddison et al. 2017, 1611.00712",
    )

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        tau: float | nn.Module = 1.0,
        hard: bool = True,
        samples: int = 1,
    ) -> None:
        super().__init__(space, samples=samples)
        self.tau = check_tau(tau)
        self.hard = hard

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Row `(..., D)` for logits `(..., D)`: one-hot if `hard`, else inside the simplex."""
        space = self.space_of(logits)
        gumbel = gumbel_like(logits, generator=generator)
        near = centred(space, logits.to(gumbel.dtype))
        soft = _relaxed_row(space, near, gumbel, current_tau(self.tau)).to(logits.dtype)
        if not self.hard:
            return soft
        # not of the soft row, whose entries may round to equal ones in half precision
        codes = space.argmax(near.detach() + gumbel)
        return straight_through(space.one_hot(codes, dtype=logits.dtype), soft)

    def pullback(self) -> Pullback | None:
        """`J_y g / tau` with y = softmax((logits + G) / tau), G drawn given the row, if `hard`.

        The categories are an exponential race: that of the drawn one ends first, after a time
        E_c, the others at `E_c + E_k / pi_k`, and `logits + G` is minus the logarithm of the time.
        """
        tau = current_tau(self.tau)

        def gradient(
            logits: Tensor, pi: Tensor, codes: Tensor, slopes: Tensor, noise: Tensor | None
        ) -> Tensor:
            if noise is None:
                raise ValueError("this gradient needs exponential noise of the logits' shape")
            # in logarithms and from the logits: pi may round to 0
            drawn, late, wide = codes.unsqueeze(-1), noise.log(), logits.to(noise.dtype)
            first = late.gather(-1, drawn)
            times = torch.logaddexp(late - blocks.log_softmax(wide.detach()), first)
            times = times.scatter(-1, drawn, first)
            # the noise is held fixed
            noisy = increment(wide) - times
            soft = blocks.softmax(tempered_block(noisy, tau)).to(logits.dtype)
            return blocks.jacobian(soft, slopes) / tau

        if not self.hard or learned(tau):
            return None
        if isinstance(tau, float):
            return Pullback(gradient, noisy=True, form="gumbel_softmax", tau=tau)
        return Pullback(gradient, noisy=True)
