"""Antithetic draws: samples that avoid each other, and the weights that keep them unbiased."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.gradient.base import increment
from discrete_grad.sampling import categorical, uniform_like
from discrete_grad.space import CategoricalSpace

__all__ = [
    "check_binary",
    "draw_antithetic",
    "pair_weights",
    "paired_advantages",
    "with_advantages",
]


def _antithetic_uniforms(uniform: Tensor) -> Tensor:
    """N numbers, each uniform by itself, no two of them large: a Dirichlet copula.

    `1 - (1 - d)^(N - 1)` for a Dirichlet vector d of N ones; for two samples, u and 1 - u.

    Args:
        uniform: N independent uniform numbers, `(N, ...)` in [0, 1).

    Example:
        >>> _antithetic_uniforms(torch.tensor([[0.5], [0.75]])).sum()
        tensor(1.)
    """
    # u may be 0 but is never 1, so the logarithm is finite
    exponential = -torch.log1p(-uniform)
    # all N numbers may be 0: 0 / tiny instead of 0 / 0
    total = exponential.sum(0).clamp_min(torch.finfo(uniform.dtype).tiny)
    # an entry d of a flat Dirichlet vector has P(d <= x) = 1 - (1 - x)^(N - 1): its own value of
    # that is uniform; by expm1 and log1p, or a small d would cancel
    return -torch.expm1((len(uniform) - 1) * torch.log1p(-exponential / total))


def _antithetic_codes(
    space: CategoricalSpace, logits: Tensor, uniform: Tensor, independent: float = 0.0
) -> Tensor:
    """Codes `(N, *batch, F)`, in each feature from antithetic numbers, or from independent ones.

    The most likely category comes first on the line from 0 to 1: it is the rare ones that the
    samples do not share, and the result does not depend on how the categories are ordered.

    Args:
        space: the space, D wide.
        logits: `(*batch, D)`.
        uniform: `(N + 1, *batch, F)` in [0, 1); the last row chooses the independent numbers.
        independent: probability of that.
    """
    rows, choice = uniform[:-1], uniform[-1]
    # one choice for all N samples: any two of them then follow the mixture of `pair_weights`
    numbers = torch.where(choice < independent, rows, _antithetic_uniforms(rows))
    orders = [_by_probability(block) for block in space.blocks(logits)]
    pairs = zip(space.blocks(logits), orders, strict=True)
    in_order = space.join([block.gather(-1, order) for block, order in pairs])
    ranks = categorical(space, in_order.expand(*numbers.shape[:-1], -1), numbers)
    columns = zip(space.block_columns(ranks), orders, strict=True)
    return space.join_columns(
        [
            order.expand(*rank.shape, -1).gather(-1, rank.unsqueeze(-1)).squeeze(-1)
            for rank, order in columns
        ]
    )


def draw_antithetic(
    space: CategoricalSpace,
    logits: Tensor,
    samples: int,
    generator: torch.Generator | None,
    independent: float = 0.0,
) -> Tensor:
    """Codes `(samples, *batch, F)`, each of which follows `softmax(logits)`."""
    logits = logits.detach()
    uniform = uniform_like(space, logits.expand(samples + 1, *logits.shape), generator=generator)
    return _antithetic_codes(space, logits, uniform, independent)


def pair_weights(
    space: CategoricalSpace, logits: Tensor, codes: Tensor, independent: float = 0.0
) -> Tensor:
    """`p_a p_b / P(a, b)` for the codes a, b of every two samples, 0 where a = b.

    P is the law of two samples of `_antithetic_codes`. Under the copula two numbers exceed u and v
    together with probability `max(0, (1 - u)^(1/m) + (1 - v)^(1/m) - 1)^m`, m = N - 1; P(a, b) is
    that of a rectangle. The weights are never clipped: that would be a bias.

    Args:
        space: the space, D wide.
        logits: `(*batch, D)`.
        codes: `(N, *batch, F)`.
        independent: as in `_antithetic_codes`.

    Returns:
        `(N, N, *batch, F)` in float64.
    """
    p, low, high = (_at(space, flat, codes) for flat in _tails(space, logits))
    power = len(codes) - 1
    # 1 - u at the upper and the lower end of the category's interval, likeliest category first
    low, high = low ** (1 / power), high ** (1 / power)
    joint = (
        _exceed(high, high, power)
        - _exceed(low, high, power)
        - _exceed(high, low, power)
        + _exceed(low, low, power)
    )
    product = p.unsqueeze(0) * p.unsqueeze(1)
    # four terms that nearly cancel may round to less than 0
    joint = (1 - independent) * joint.clamp_min(0) + independent * product
    # joint is 0 for categories that never meet; rounding alone can draw them together
    same = (codes.unsqueeze(0) == codes.unsqueeze(1)) | (joint == 0)
    same = same & ~product.isnan()  # of logits of NaN, which not everyone can look at
    return (product / joint.masked_fill(same, 1)).masked_fill(same, 0)


def paired_advantages(values: Tensor, weights: Tensor) -> Tensor:
    """`1 / (N (N - 1)) sum_m w_nm (f_n - f_m)` for each sample and feature, `(N, *batch, F)`.

    With all weights 1 it is the leave-one-out advantage over N. It sums to 0 over the samples, so
    that no score needs the mean subtracted.
    """
    values = values.detach().to(weights.dtype)
    differences = (values.unsqueeze(1) - values.unsqueeze(0)).unsqueeze(-1)
    return (weights * differences).sum(1) / (len(values) * (len(values) - 1))


def with_advantages(
    space: CategoricalSpace, values: Tensor, logits: Tensor, codes: Tensor, advantages: Tensor
) -> Tensor:
    """The mean of the values, whose gradient in the logits is `sum advantage * one_hot(code)`."""
    picked = _at(space, increment(logits), codes)
    return values.mean(0) + (advantages.to(picked.dtype) * picked).sum((0, -1)).to(values.dtype)


def check_binary(space: CategoricalSpace, name: str) -> None:
    """Raise for a feature of more than two categories."""
    for feature, size in zip(space.names, space.sizes, strict=True):
        if size > 2:
            raise ValueError(
                f"{name} needs features of at most 2 categories, but {feature!r} has {size}; "
                "use Carms"
            )


def _tails(space: CategoricalSpace, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities `(..., D)`, those of all rarer categories, and of these and the category."""
    parts = []
    for block in space.blocks(logits.detach().double()):
        order = _by_probability(block)
        p = block.softmax(-1)
        # summed from the rarest, so that nothing cancels; the first is 1 exactly
        high = p.gather(-1, order).flip(-1).cumsum(-1).flip(-1)
        high = high / high[..., :1]
        low = torch.cat([high[..., 1:], torch.zeros_like(high[..., :1])], -1)
        back = order.argsort(-1)
        parts.append((p, low.gather(-1, back), high.gather(-1, back)))
    return tuple(space.join(columns) for columns in zip(*parts, strict=True))  # type: ignore[return-value]


def _by_probability(block: Tensor) -> Tensor:
    """The categories, likeliest first."""
    # stable: draw and weights, in two dtypes, must put equal categories in the same order
    return block.argsort(dim=-1, descending=True, stable=True)


def _exceed(s: Tensor, t: Tensor, power: int) -> Tensor:
    """`max(0, s + t - 1)^power` for every two samples."""
    s, t = s.unsqueeze(1), t.unsqueeze(0)
    # the larger less 1 first: exact from 1/2 on, so s = 1 gives t itself and a small t is kept
    return ((torch.maximum(s, t) - 1) + torch.minimum(s, t)).clamp_min(0) ** power


def _at(space: CategoricalSpace, flat: Tensor, codes: Tensor) -> Tensor:
    """The entries `(..., F)` of a flat tensor at the codes."""
    index = codes + torch.tensor(space.offsets, device=codes.device)
    return flat.expand(*codes.shape[:-1], -1).gather(-1, index)
