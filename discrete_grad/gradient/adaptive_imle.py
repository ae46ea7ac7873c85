"""Adaptive implicit maximum likelihood: the step follows the gradient and learns its size."""

import math

import torch
from torch import Tensor

from discrete_grad.gradient._numbers import as_number
from discrete_grad.gradient.base import Relaxation, space_under
from discrete_grad.gradient.facts import Facts, a_sample
from discrete_grad.gradient.imle import imle_row
from discrete_grad.rules import Rules
from discrete_grad.sampling import gumbel_like
from discrete_grad.space import CategoricalSpace

__all__ = ["AdaptiveIMLE"]

MEMORY = 0.9


class AdaptiveIMLE(Relaxation):
    """`IMLE` whose step is `beta |logits + G| / |g|` for each row, beta learned.

    Norms are over the row, each feature centred over its allowed categories. So the scale of g only
    scales the gradient: a loss averaged over a batch moves the same rows as its sum. In training
    mode each backward pass counts the entries of the gradient that are not 0 and moves beta up by
    `rate` where they are fewer than `density` a row, by the running mean, and down where they are
    more. In evaluation mode, under `torch.func` and when compiled or exported, beta stays.

    The paper takes the norm of the logits themselves, which is 0 for uniform logits: they would
    never move. Here it is that of the perturbed logits.

    **Bias:** biased, and not linear in f: the gradient of a sum of functions is not the sum of
    their gradients. **Evaluations of f:** 1 forward, 1 backward a sample. **Needs df/dx:** yes.
    **Hyperparameters:** `beta` = 1 at the start; `density` = 1; `rate` = 1e-4, 0 keeps beta.
    **With rules:** as `IMLE`.

    Reference:
        Minervini, Franceschi, Niepert (2023), arXiv 2209.04862.

    Example:
        >>> logits = torch.zeros(3, 4, requires_grad=True)
        >>> AdaptiveIMLE()(logits).sum(-1).detach()
        tensor([1., 1., 1.])
    """

    facts = Facts(
        forward="hard",
        bias="biased",
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Minervini et al. 2023, 2209.04862",
        linear_in_f=False,
        with_rules="biased",
    )

    beta: Tensor
    found: Tensor

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        beta: float = 1.0,
        density: float = 1.0,
        rate: float = 1e-4,
        samples: int = 1,
        rules: Rules | None = None,
    ) -> None:
        super().__init__(space_under(rules, space), samples=samples)
        self.rules = rules
        first = _at_least("beta", beta, 1e-6)
        self.density, self.rate = _at_least("density", density, 0), _at_least("rate", rate, 0)
        # float64: beta is the sum of many steps of `rate`, each of them small beside it
        self.register_buffer("beta", torch.tensor(first, dtype=torch.float64))
        # starts at the target, so that beta moves by what was found alone
        self.register_buffer("found", torch.tensor(self.density, dtype=torch.float64))

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Hard row `(..., D)` for logits `(..., D)`."""
        space = self.space_of(logits)
        gumbel = gumbel_like(logits, generator=generator)
        if self.training and self.rate and logits.numel() and _can_hook(logits):
            logits = logits.view_as(logits)  # of this call alone
            logits.register_hook(self._adapt)
        # a copy: the backward pass of another call may change beta in place before this one's
        beta = self.beta.clone()
        return imle_row(space, logits, gumbel, beta, relative=True, rules=self.rules)

    @torch.no_grad()
    def _adapt(self, gradient: Tensor) -> None:
        rows = gradient.numel() / gradient.shape[-1]
        found = gradient.count_nonzero() / rows
        self.found.lerp_(found.to(self.found), 1 - MEMORY)
        # by the sign alone, whatever the scale of the counts; above 0, for the step divides
        self.beta.add_(torch.sign(self.density - self.found) * self.rate).clamp_min_(1e-6)


def _at_least(name: str, value: float, least: float) -> float:
    number = as_number(value)
    if number is None or not least <= number < math.inf:
        raise ValueError(f"{name} must be a finite number >= {least}, got {value!r}")
    return number


def _can_hook(logits: Tensor) -> bool:
    if torch.compiler.is_compiling() or not logits.requires_grad:
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(logits)
