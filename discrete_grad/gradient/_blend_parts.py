"""Seven gradients from one set of evaluations, and what a call tells of their errors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from discrete_grad.gradient._control_variate import score
from discrete_grad.gradient.leave_one_out import less_the_others
from discrete_grad.space import CategoricalSpace

__all__ = ["NAMES", "UNBIASED", "Parts", "gradients", "spreads", "weighted_sum"]

NAMES = (
    "leave_one_out",
    "double_control_variate",
    "mean_field_control_variate",
    "straight_through",
    "darn",
    "own_slopes",
    "mean_field",
)
"""Components, in the order of the weights."""
UNBIASED = 3  # the first so many
REFERENCE = 1  # the unbiased one that the others' biases are told against
NOISY = 6  # all but the last depend on the rows drawn


class Parts(NamedTuple):
    """Terms of the components, each averaging over the samples to its component.

    Args:
        noisy: `(6, N, *batch, D)`, in the order of NAMES.
        fixed: `(*batch, D)`, the mean field, which no row changes.
    """

    noisy: Tensor
    fixed: Tensor


def gradients(
    space: CategoricalSpace,
    logits: Tensor,
    hard: Tensor,
    values: Tensor,
    slopes: Tensor,
    soft_slope: Tensor,
) -> Parts:
    """The terms of all components.

    With S_n the score of row n, g_n = df/dx there, gbar_n the mean of g over the other rows, g_0 =
    df/dx at the soft row pi, J = J_pi and `less` the leave-one-out baseline: the term n of

    - leave-one-out is `less(f)_n S_n`;
    - the double control variate `less(f - c)_n S_n + J gbar`, with `c_n = gbar_n . S_n`;
    - the control variate of the mean field the same with g_0 for gbar and gbar_n;
    - straight-through `J g_n`;
    - DARN `(g_n . S_n) S_n`, feature by feature;
    - own slopes `less(f - g . S)_n S_n`, and DARN added: exact for f quadratic in each row;
    - the mean field `J g_0`.

    Args:
        space: the space, D wide.
        logits: `(*batch, D)`.
        hard: `(N, *batch, D)`, drawn from softmax(logits).
        values: `(N, *batch)`, f at the rows.
        slopes: `(N, *batch, D)`, df/dx at the rows.
        soft_slope: `(*batch, D)`, df/dx at softmax(logits).
    """
    scores, n = score(space, logits, hard), len(hard)
    pi = space.softmax(logits.to(scores.dtype))
    slopes, values = slopes.to(scores.dtype), values.to(scores.dtype)
    mean = slopes.mean(0)
    others = (mean * n - slopes) / (n - 1)
    straight = space.softmax_jacobian(pi.expand_as(slopes), slopes)
    fixed = space.softmax_jacobian(pi, soft_slope.to(scores.dtype))
    darn, own = _along_the_score(space, slopes, scores)

    def corrected(control: Tensor) -> Tensor:
        return less_the_others(values - control).unsqueeze(-1) * scores

    noisy = [
        corrected(torch.zeros_like(values)),
        corrected((others * scores).sum(-1)) + space.softmax_jacobian(pi, mean),
        corrected((soft_slope.to(scores.dtype) * scores).sum(-1)) + fixed,
        straight,
        darn,
        corrected(own) + darn,
    ]
    return Parts(torch.stack(noisy), fixed)


def _along_the_score(
    space: CategoricalSpace, slopes: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor]:
    """`(g . S) S` per feature `(N, *batch, D)`, and `g . S` of all features `(N, *batch)`."""
    products = [block.sum(-1, keepdim=True) for block in space.blocks(slopes * scores)]
    pairs = zip(products, space.blocks(scores), strict=True)
    darn = space.join([product * block for product, block in pairs])
    return darn, torch.stack([p.sum((-2, -1)) for p in products]).sum(0)


def spreads(space: CategoricalSpace, parts: Parts) -> tuple[Tensor, Tensor]:
    """Covariance of one sample's terms and products of the components' differences.

    Both are sums over the entries of a feature and over the batch, `(F, 7, 7)` in float64: the
    first is N times the covariance of the components, the second of their differences from the
    double control variate.
    """
    n, mean = parts.noisy.shape[1], parts.noisy.mean(1)
    covariance = _products(space, parts.noisy - mean.unsqueeze(1)) / (n - 1)
    covariance = torch.nn.functional.pad(covariance, (0, 1, 0, 1))  # the mean field has none
    components = torch.cat([mean, parts.fixed.unsqueeze(0)])
    return covariance, _products(space, components - components[REFERENCE])


def _products(space: CategoricalSpace, terms: Tensor) -> Tensor:
    """`sum t_k t_l` `(F, K, K)` over all but the first dimension of `(K, ..., D)`, by feature."""
    columns = []
    for block in space.blocks(terms.reshape(len(terms), -1, space.width)):  # (K, rows, n, k)
        flat = block.movedim(-2, 0).flatten(2)
        columns.append((flat @ flat.transpose(-1, -2)).double())
    return space.join_columns(columns, dim=0)


def weighted_sum(space: CategoricalSpace, parts: Parts, weights: Tensor) -> Tensor:
    """The gradient `(*batch, D)` for weights `(F, 7)`."""
    components = torch.cat([parts.noisy.mean(1), parts.fixed.unsqueeze(0)])
    blocks = space.blocks(components)
    shares = space.block_columns(weights.to(components.dtype), dim=0)
    pairs = zip(blocks, shares, strict=True)
    return space.join([torch.einsum("k...nc,nk->...nc", block, w) for block, w in pairs])
