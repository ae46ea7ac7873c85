"""Seven gradients from one set of evaluations, and what a call tells of their errors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from discrete_grad.gradient.base import widened
from discrete_grad.gradient.leave_one_out import less_the_others
from discrete_grad.space import CategoricalSpace

__all__ = ["NAMES", "UNBIASED", "Parts", "gradients", "measured", "spreads", "weighted_sum"]

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
MEASURED = 64  # elements of a batch, at most: more would cost time and tell little


class Parts(NamedTuple):
    """Components, and their terms of each sample.

    Args:
        terms: `(6, N, *batch, D)`, but for what is the same for all samples; the mean field has
            none.
        components: `(7, *batch, D)`, in the order of NAMES.
    """

    terms: Tensor
    components: Tensor


def gradients(
    space: CategoricalSpace,
    logits: Tensor,
    hard: Tensor,
    values: Tensor,
    slopes: Tensor,
    soft_slope: Tensor,
) -> Parts:
    """All components.

    With S_n the score of row n, g_n = df/dx there, gbar_n the mean of g over the other rows, g_0 =
    df/dx at the soft row pi, J = J_pi and `less` the leave-one-out baseline: the term n of

    - leave-one-out is `less(f)_n S_n`;
    - the double control variate `less(f - c)_n S_n + J gbar`, with `c_n = gbar_n . S_n`;
    - the control variate of the mean field the same with g_0 for gbar and gbar_n;
    - straight-through `J g_n`;
    - DARN `(g_n . S_n) S_n`, feature by feature;
    - own slopes `less(f - g . S)_n S_n`, and DARN added: exact for f quadratic in the row;
    - the mean field `J g_0`.

    Args:
        space: the space, D wide.
        logits: `(*batch, D)`.
        hard: `(N, *batch, D)`, drawn from softmax(logits).
        values: `(N, *batch)`, f at the rows.
        slopes: `(N, *batch, D)`, df/dx at the rows.
        soft_slope: `(*batch, D)`, df/dx at softmax(logits).
    """
    pi = space.softmax(widened(logits))
    scores, slopes, values = hard - pi, slopes.to(pi.dtype), values.to(pi.dtype)
    soft_slope = soft_slope.to(pi.dtype)
    all_slopes = torch.cat([slopes, soft_slope.unsqueeze(0)])
    straight = space.softmax_jacobian(pi.expand_as(all_slopes), all_slopes)
    darn, own = _along_the_score(space, slopes, scores)
    n = len(hard)
    others = (slopes.sum(0) - slopes) / (n - 1)
    controls = [torch.zeros_like(values), (others * scores).sum(-1), (soft_slope * scores).sum(-1)]
    residuals = values.unsqueeze(1) - torch.stack([*controls, own], 1)
    corrected = less_the_others(residuals).movedim(1, 0).unsqueeze(-1) * scores
    terms = torch.cat([corrected[:3], torch.stack([straight[:n], darn, corrected[3] + darn])])
    components = torch.cat([terms.mean(1), straight[n:]])
    components[1] += components[3]
    components[2] += components[6]
    return Parts(terms, components)


def _along_the_score(
    space: CategoricalSpace, slopes: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor]:
    """`(g . S) S` per feature `(N, *batch, D)`, and `g . S` of all features `(N, *batch)`."""
    products = slopes * scores
    pairs = zip(space.blocks(products), space.blocks(scores), strict=True)
    darn = space.join([part.sum(-1, keepdim=True) * score for part, score in pairs])
    return darn, products.sum(-1)


def measured(parts: Parts) -> Parts:
    """The part of the batch that the weights are learned from, `(6, N, n, D)` and `(7, n, D)`."""
    width = parts.components.shape[-1]
    terms = parts.terms.reshape(*parts.terms.shape[:2], -1, width)
    components = parts.components.reshape(len(parts.components), -1, width)
    step = max(1, -(-components.shape[1] // MEASURED))
    return Parts(terms[:, :, ::step], components[:, ::step])


def spreads(space: CategoricalSpace, parts: Parts) -> tuple[Tensor, Tensor]:
    """Covariance of one sample's terms, and products of the components' differences.

    Both are sums over the entries of a feature and over the batch, `(F, 7, 7)` in float64: the
    first is N times the covariance of the components, the second of their differences from the
    double control variate.
    """
    terms, components = parts
    covariance = _products(space, terms - terms.mean(1, keepdim=True)) / (terms.shape[1] - 1)
    covariance = torch.nn.functional.pad(covariance, (0, 1, 0, 1))  # the mean field has none
    return covariance, _products(space, components - components[REFERENCE])


def _products(space: CategoricalSpace, terms: Tensor) -> Tensor:
    """`sum t_k t_l` `(F, K, K)` over all but the first dimension of `(K, ..., D)`, by feature."""
    columns = []
    for block in space.blocks(terms.flatten(1, -2)):  # (K, rows, n, k)
        flat = block.movedim(-2, 0).flatten(2)
        columns.append(flat @ flat.mT)
    return space.join_columns(columns, dim=0).double()


def weighted_sum(space: CategoricalSpace, components: Tensor, weights: Tensor) -> Tensor:
    """The gradient `(*batch, D)` for components `(7, *batch, D)` and weights `(F, 7)`."""
    shares = space.block_columns(weights.to(components.dtype), dim=0)
    pairs = zip(space.blocks(components), shares, strict=True)
    return space.join([torch.einsum("k...nc,nk->...nc", block, w) for block, w in pairs])
