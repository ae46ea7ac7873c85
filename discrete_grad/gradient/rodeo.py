"""RODEO: leave-one-out with control variates from a discrete Stein operator."""

import torch
from torch import Tensor, nn

from discrete_grad.gradient._control_variate import (
    differentiate,
    score,
    squared_norm,
    with_gradient,
)
from discrete_grad.gradient.base import Function, GradientEstimator, draw
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.space import CategoricalSpace

__all__ = [
    "Rodeo",
]


def _stein(
    space: CategoricalSpace, pi: Tensor, scores: Tensor, here: Tensor, swapped: Tensor
) -> Tensor:
    """The Gibbs Stein operator on h(x) S(x): `(A h S)(x)` `(..., D)`, of mean 0 under softmax.

    `(A h)(x)` is the mean, over the features i, of h with x_i drawn anew, less h(x). The swapped
    scores are not formed: a swap of feature i changes the block i of S alone.

    Args:
        space: the space, D wide.
        pi: softmax(logits) `(..., D)`.
        scores: `x - pi` `(..., D)`.
        here: `(...)`, h at the row x.
        swapped: `(..., D)`, h at x with each category put in the place of its feature's own.
    """
    weighted = space.blocks(pi * swapped)
    means = [block.sum(-1, keepdim=True) for block in weighted]
    total = torch.cat([mean.squeeze(-1) for mean in means], -1).sum(-1)[..., None, None]
    parts = [
        # swaps of the other features leave s as it is; of this one, sum_k pi_k h_k (e_k - pi)
        s * (total - mean) + w - p * mean
        for s, mean, w, p in zip(
            space.blocks(scores), means, weighted, space.blocks(pi), strict=True
        )
    ]
    return space.join(parts) / space.num_features - here.unsqueeze(-1) * scores


def _surrogates(
    space: CategoricalSpace, hard: Tensor, values: Tensor, slopes: Tensor, correction: nn.Module
) -> tuple[Tensor, Tensor]:
    """The two h of each sample, at its row and at all swaps: `(N, *batch, 2)`, `(N, *batch, D, 2)`.

    Sample n's h is a mean over the other samples j of `s + correction(f_j, s)` with
    `s = df/dx_j . (y - x_j)`, so that it does not depend on row n.

    Args:
        space: the space, D wide.
        hard: `(N, *batch, D)`.
        values: `(N, *batch)`, f at the rows.
        slopes: `(N, *batch, D)`, df/dx at the rows.
        correction: maps `(..., 2)` to `(..., 2)`.
    """
    n, rows = len(hard), hard.unsqueeze(1)  # (N, 1, *batch, D) against j along the second dimension
    here = ((rows - hard) * slopes).sum(-1)  # (N, N, *batch)
    own = [b.sum(-1, keepdim=True).expand_as(b) for b in space.blocks(rows * slopes)]
    # a swap of feature i to k changes s by the slope at k less that at row n's own category
    swapped = here.unsqueeze(-1) + slopes - space.join(own)
    others = (1 - torch.eye(n, dtype=hard.dtype, device=hard.device)) / (n - 1)
    results = []
    for first, s in ((values.expand_as(here), here), (values.unsqueeze(-1), swapped)):
        inputs = torch.stack([first.expand_as(s), s], -1)
        h = s.unsqueeze(-1) + _in_own_precision(correction, inputs)
        results.append(torch.einsum("nj,nj...->n...", others, h))
    return results[0], results[1]


def _rodeo_gradient(
    space: CategoricalSpace,
    logits: Tensor,
    hard: Tensor,
    values: Tensor,
    slopes: Tensor,
    correction: nn.Module,
) -> Tensor:
    """The gradient `(*batch, D)`; arguments as for `_surrogates`, logits `(*batch, D)`."""
    n, scores = len(hard), score(space, logits, hard)
    # the score is hard - pi
    pi, wide = hard - scores, scores.dtype
    values = values.to(wide)
    here, swapped = _surrogates(space, hard.to(wide), values, slopes.to(wide), correction)
    drawn_anew = torch.stack([b.sum((-1, -2)) for b in space.blocks(pi * swapped[..., 0])]).sum(0)
    corrected = values + drawn_anew / space.num_features - here[..., 0]
    baselines = (corrected.sum(0) - corrected) / (n - 1)
    by_stein = _stein(space, pi, scores, here[..., 1], swapped[..., 1])
    return ((values - baselines).unsqueeze(-1) * scores + by_stein).mean(0)


def _in_own_precision(module: nn.Module, inputs: Tensor) -> Tensor:
    weight = next(module.parameters(), inputs)
    outputs: Tensor = module(inputs.to(weight.dtype))
    return outputs.to(inputs.dtype)


class Rodeo(GradientEstimator):
    """Leave-one-out gradient with a Stein control variate on the gradient and one on the baseline.

    A discrete Stein operator A (one step of Gibbs sampling, less the identity) turns any h into a
    function of mean 0. Here h is the change of f to first order from the other samples, plus what a
    network adds; no further evaluation of f is needed. Each `backward()` gives the parameters of
    the network the gradient of the variance (of the gradient in the logits), so an optimiser over
    `parameters()` lowers the variance, whatever the sign of the loss. Parameters that require no
    gradient stay as they are and cost nothing. Where the slopes of f mislead, the untrained method
    can have more variance than `LeaveOneOut`.

    **Bias:** none. **Evaluations of f:** N forward, N backward a call, and N^2 times the width of
    the space of the network. **Needs df/dx:** yes; a poor one costs variance, never bias.
    **Hyperparameters:** `correction`, a module that maps `(..., 2)`, a value of f and a change of
    first order, to `(..., 2)`, what is added for the baseline and for the gradient; None for a
    network of one hidden layer of 8, at first 0. `samples` N = 4, at least 2.

    Reference:
        Shi, Zhou, Hwang, Titsias, Mackey (2022), arXiv 2202.09497, with the Gibbs operator; its
        experiments are on binary variables, the operator is for any.

    Example:
        >>> logits = torch.zeros(5, 3, requires_grad=True)
        >>> method = Rodeo()
        >>> method.expectation(lambda rows: rows[..., 0] ** 2, logits).sum().backward()
        >>> logits.grad.shape, all(weight.grad is not None for weight in method.parameters())
        (torch.Size([5, 3]), True)
    """

    facts = Facts(
        forward="hard",
        bias="none",
        cost=lambda method, space: Cost(method.samples, method.samples),
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Shi et al. 2022, 2202.09497",
    )

    min_samples = 2

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        correction: nn.Module | None = None,
        samples: int = 4,
    ) -> None:
        super().__init__(space, samples=samples)
        if correction is not None and not isinstance(correction, nn.Module):
            raise TypeError(f"correction must be a module or None, got {correction!r}")
        self.correction = _network() if correction is None else correction

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; see `GradientEstimator.expectation`."""
        space, fixed = self.space_of(logits), logits.detach()
        _, hard = draw(space, fixed.expand(self.samples, *logits.shape), generator)
        values, slopes = differentiate(f, hard)
        gradient = _rodeo_gradient(
            space, fixed, hard, values.detach(), slopes.detach(), self.correction
        )
        learns = any(weight.requires_grad for weight in self.correction.parameters())
        variance = squared_norm(gradient) if learns else None
        return with_gradient(values.mean(0), logits, gradient, variance)


def _network(hidden: int = 8) -> nn.Sequential:
    last = nn.Linear(hidden, 2)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), last)
