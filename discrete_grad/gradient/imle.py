"""Implicit maximum likelihood: a finite difference of the most likely perturbed row."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from discrete_grad.gradient._numbers import as_number
from discrete_grad.gradient._obeying import best_row
from discrete_grad.gradient._tempered import centred
from discrete_grad.gradient.base import Relaxation, space_under
from discrete_grad.gradient.facts import Facts, a_sample
from discrete_grad.rules import Rules
from discrete_grad.sampling import gumbel_like
from discrete_grad.space import CategoricalSpace, can_inspect

__all__ = [
    "IMLE",
    "imle_row",
]


def _target_difference(
    space: CategoricalSpace,
    perturbed: Tensor,
    g: Tensor,
    step: Tensor | float,
    rules: Rules | None = None,
) -> Tensor:
    """`(argmax(v) - argmax(v - step g)) / step` `(..., D)`, v the perturbed logits.

    The estimator of arXiv 2106.01798 with the 1 / step of arXiv 2209.04862: as the step falls to 0,
    its mean over the noise becomes `J_pi g`, with this sign.

    Args:
        space: the space, D wide.
        perturbed: logits + Gumbel noise, `(..., D)`.
        g: derivative of what is averaged, in the row, `(..., D)`.
        step: above 0, a number or `(..., 1)`.
        rules: the argmax is that of the rows that obey.
    """
    moved, best = perturbed - step * g, best_row(space, rules)
    here, there = (space.one_hot(best(v), dtype=perturbed.dtype) for v in (perturbed, moved))
    return ((here - there) / step).masked_fill(moved.isnan(), math.nan)  # NaN has an argmax, too


def _relative_step(space: CategoricalSpace, perturbed: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """`beta |v| / |g|` `(..., 1)` for every row, of norms that no shift of a feature changes.

    After arXiv 2209.04862. Each feature is centred over its allowed categories first, since a
    constant added there changes neither law nor gradient. Finite for any finite input.
    """
    allowed = perturbed > -math.inf
    norms = [_centred_norm(space, v.masked_fill(~allowed, 0), allowed) for v in (perturbed, g)]
    still = norms[1] == 0  # no derivative: any step gives no gradient
    step = torch.where(still, 1, beta * norms[0] / norms[1].masked_fill(still, 1))
    # of huge logits or tiny slopes: the move `step g` stays a number
    most = torch.finfo(step.dtype).max / 4 / g.abs().amax(-1, keepdim=True).clamp_min(1)
    return step.minimum(most)


def _centred_norm(space: CategoricalSpace, flat: Tensor, allowed: Tensor) -> Tensor:
    pairs = zip(space.blocks(flat), space.blocks(allowed), strict=True)
    # divided first, as the sum of huge numbers and their squares would be inf
    centred = [(x - (x / a.sum(-1, keepdim=True)).sum(-1, keepdim=True)) * a for x, a in pairs]
    joined = space.join(centred)
    largest = joined.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(joined.dtype).tiny)
    norm: Tensor = torch.linalg.vector_norm(joined / largest, dim=-1, keepdim=True)
    return largest * norm


class _Row(torch.autograd.Function):
    """The hard row forward, `_target_difference` at the incoming gradient backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor,
        perturbed: Tensor,
        scale: Tensor,
        relative: bool,
        space: CategoricalSpace,
        rules: Rules | None,
    ) -> Tensor:
        return space.one_hot(best_row(space, rules)(perturbed), dtype=logits.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, perturbed, scale, ctx.relative, ctx.space, ctx.rules = inputs
        ctx.save_for_backward(perturbed, scale)

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        perturbed, scale = ctx.saved_tensors
        # in the noise's precision: half precision would round a small move of the logits away
        g, space = incoming[0].to(perturbed.dtype), ctx.space
        step = _relative_step(space, perturbed, g, scale) if ctx.relative else scale
        gradient = _target_difference(space, perturbed, g, step, ctx.rules)
        return gradient.to(incoming[0].dtype), None, None, None, None, None


def imle_row(
    space: CategoricalSpace,
    logits: Tensor,
    gumbel: Tensor,
    scale: Tensor,
    *,
    relative: bool,
    rules: Rules | None = None,
) -> Tensor:
    """Hard row `(..., D)`, `argmax(logits + gumbel)`, with the gradient of `_target_difference`.

    The step is `scale`, or `_relative_step` with beta = `scale`. With rules the argmax is that of
    the rows that obey.
    """
    perturbed = centred(space, logits.detach().to(gumbel.dtype)) + gumbel
    row: Tensor = _Row.apply(logits, perturbed, scale.to(perturbed), relative, space, rules)
    # whoever could look at NaN has refused it
    return row if can_inspect(logits) else row.masked_fill(perturbed.isnan(), math.nan)


class IMLE(Relaxation):
    """Hard row `argmax(logits + G)`, G Gumbel noise; gradient by moving the logits against df/dx.

    The gradient is `(row - target) / step`, target = argmax(logits + G - step g) with the same
    noise. g is the derivative of what `backward()` is called on: where that is a mean over N
    samples, a batch or a weighted sum, the move shrinks by the same factor and most rows have no
    gradient, few a large one. `AdaptiveIMLE` takes the scale of g out. A step large enough to move
    every row leaves (row - the row that is best by g) / step: a direction, whose size says little.

    **Bias:** biased; less with a smaller step, at the price of variance. For a linear f of one
    feature its mean is `(softmax(logits) - softmax(logits - step g)) / step`. Not linear in f.
    **Evaluations of f:** 1 forward, 1 backward a sample. **Needs df/dx:** yes.
    **Hyperparameters:** `step` = 10, the lambda of the paper.
    **With rules:** both rows are the best that obey, exactly. Noise for each category perturbs them
    but does not draw them from the law of rows that obey.

    Reference:
        Niepert, Minervini, Franceschi (2021), arXiv 2106.01798; 1 / step: arXiv 2209.04862.

    Example:
        >>> logits = torch.zeros(3, 4, requires_grad=True)
        >>> IMLE()(logits).sum(-1).detach()
        tensor([1., 1., 1.])
    """

    facts = Facts(
        forward="hard",
        bias="biased",
        slope=(0.1, 0.25),
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Niepert et al. 2021, 2106.01798",
        linear_in_f=False,
        with_rules="biased",
    )

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        step: float = 10.0,
        samples: int = 1,
        rules: Rules | None = None,
    ) -> None:
        super().__init__(space_under(rules, space), samples=samples)
        self.rules = rules
        number = as_number(step)
        if number is None or not 0 < number < math.inf:
            raise ValueError(f"step must be a finite number above 0, got {step!r}")
        self.step = number

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Hard row `(..., D)` for logits `(..., D)`."""
        space = self.space_of(logits)
        gumbel = gumbel_like(logits, generator=generator)
        scale = torch.full((), self.step, dtype=gumbel.dtype, device=gumbel.device)
        return imle_row(space, logits, gumbel, scale, relative=False, rules=self.rules)
