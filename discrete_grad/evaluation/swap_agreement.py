"""Agreement of a gradient's prediction of single swaps with their effect."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from discrete_grad.evaluation.metrics import mean_interval
from discrete_grad.evaluation.subject import Subject
from discrete_grad.evaluation.swaps import SwapEffects, swap_effects

__all__ = ["SwapAgreement", "swap_agreement", "swap_report"]

_MAPS = 3  # contexts whose effects are kept for the maps
_FEATURES = 30
_CATEGORIES = 12
_ROWS = 64
_SWAPS = 2**16
_NUMBERS = 2**25  # one for each feature of each swapped row

_Interval = tuple[float, float, float]
"""A mean and the ends of its confidence interval."""


@dataclass(frozen=True)
class SwapAgreement:
    """Agreement of predicted and actual effects of single swaps; see `swap_agreement`.

    Args:
        rows: how many rows have swaps of different effect; all means are over these, and None
            where there is none.
        rank_correlation: in [-1, 1], of exact and predicted effects over all swaps of a row.
        by_feature: in [-1, 1] for each feature, over its categories, the row's own among them.
        best_found: share of the rows whose predicted best swap is the exact best one.
        gain_share: in [0, 1], the part of the exact best gain that the predicted best swap reaches,
            over rows with a gain; 0 where it harms.
        precision: share of the `k` predicted best swaps that are among the k exact best.
        k: of the precision, not above the number of swaps.

    Example:
        >>> SwapAgreement(0, None, (None,), None, None, None, 5).rows
        0
    """

    rows: int
    rank_correlation: _Interval | None
    by_feature: tuple[_Interval | None, ...]
    best_found: _Interval | None
    gain_share: _Interval | None
    precision: _Interval | None
    k: int


def swap_agreement(effects: SwapEffects, *, k: int = 5, confidence: float = 0.95) -> SwapAgreement:
    """Compare predicted with exact effects, row by row; means and intervals are over the rows.

    Rank correlations are Spearman's, equal values sharing their mean rank; a prediction that calls
    all swaps equal has 0. A row (or, of one feature, a row) whose swaps all have the same exact
    effect has nothing to be predicted and is left out.

    Args:
        effects: from `swap_effects`.
        k: of the precision, at least 1.
        confidence: of the intervals, Student's t over the rows, in (0, 1).

    Raises:
        ValueError: for a k below 1 or a confidence out of range.

    Example:
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((3, 4))
        >>> weights = torch.arange(7.0)
        >>> effects = swap_effects(lambda row: row @ weights, space.enumerate(), space=space)
        >>> agreement = swap_agreement(effects, k=2)
        >>> agreement.rank_correlation, agreement.precision
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    space = effects.space
    swaps = space.width - space.num_features
    pairs = zip(space.blocks(effects.exact), space.blocks(effects.predicted), strict=True)
    columns = space.join_columns([_correlations(*pair) for pair in pairs]).unbind(-1)
    by_feature = tuple(_interval(c[~c.isnan()], -1.0, confidence) for c in columns)
    if not swaps:
        return SwapAgreement(0, None, by_feature, None, None, None, 0)
    exact, predicted = (
        side[effects.swapped].unflatten(0, (-1, swaps)).double()
        for side in (effects.exact, effects.predicted)
    )
    varied = exact.amax(-1) > exact.amin(-1)
    return _agreement(exact[varied], predicted[varied], by_feature, min(k, swaps), confidence)


def _agreement(
    exact: Tensor,
    predicted: Tensor,
    by_feature: tuple[_Interval | None, ...],
    k: int,
    confidence: float,
) -> SwapAgreement:
    """From the effects `(N, D - F)` of the swaps alone, none of whose rows is constant."""
    best, reached = exact.amax(-1), exact.gather(-1, predicted.argmax(-1, keepdim=True))[:, 0]
    gain = (reached / best).clamp_min(0)[best > 0]
    chosen = exact.gather(-1, predicted.topk(k).indices)
    hits = (chosen >= exact.topk(k).values[:, -1:]).double().mean(-1)
    return SwapAgreement(
        rows=len(exact),
        rank_correlation=_interval(_correlations(exact, predicted), -1.0, confidence),
        by_feature=by_feature,
        best_found=_interval((reached == best).double(), 0.0, confidence),
        gain_share=_interval(gain, 0.0, confidence),
        precision=_interval(hits, 0.0, confidence),
        k=k,
    )


def _interval(values: Tensor, least: float, confidence: float) -> _Interval | None:
    """Of values in [least, 1]; None for none."""
    if not len(values):
        return None
    mean, low, high = mean_interval(values, confidence)
    return mean, max(low, least), min(high, 1.0)


def _correlations(exact: Tensor, predicted: Tensor) -> Tensor:
    """Rank correlation `(...)` over `(..., K)`; NaN where all exact values are equal."""
    x, y = _ranks(exact), _ranks(predicted)
    scale = (x.square().sum(-1) * y.square().sum(-1)).sqrt()
    found = ((x * y).sum(-1) / scale).clamp(-1, 1).masked_fill(scale == 0, 0)
    return found.masked_fill(x.eq(0).all(-1), torch.nan)


def _ranks(values: Tensor) -> Tensor:
    """Mean ranks `(..., K)` less their mean."""
    values = values.contiguous()
    ordered = values.sort(-1).values
    below = torch.searchsorted(ordered, values)
    ranks = (below + torch.searchsorted(ordered, values, right=True)).double() / 2
    return ranks - values.shape[-1] / 2


def swap_report(subject: Subject, likely: Tensor) -> dict[str, Any] | None:
    """The part of `build_report` on single swaps, on the scale the estimator is trained on.

    Args:
        subject: what to report on.
        likely: most likely row `(S, F)` of the last policy in each shown context.

    Returns:
        `agreement`, for the most likely rows and for training rows, and `maps`: for the first
        contexts, `[category, exact, predicted]` by feature. None if there is nothing to swap, or
        the estimator has no gradient in the flat row or gives numbers that are not finite.
    """
    space, observed = subject.space, subject.observed
    swaps = space.width - space.num_features
    if not swaps:
        return None
    most = max(1, min(_ROWS, _SWAPS // swaps, _NUMBERS // (swaps * space.num_features)))
    shown = (observed.context >= 0).nonzero()[:, 0]
    some = shown[_evenly(len(shown), most)]
    groups = {
        "most likely rows": (likely[:most], torch.arange(min(len(likely), most))),
        "training rows": (observed.codes[some].long(), observed.context[some]),
    }
    try:
        effects = {name: _effects(subject, *rows) for name, rows in groups.items() if len(rows[0])}
    except ValueError:  # the report may be about models that are no networks
        return None
    return {
        "agreement": {name: asdict(swap_agreement(e)) for name, e in effects.items()},
        "maps": [
            {"label": label, "features": _map(effects["most likely rows"], place)}
            for place, label in enumerate(subject.labels[: min(_MAPS, most)])
        ],
    }


def _evenly(count: int, most: int) -> Tensor:
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def _effects(subject: Subject, codes: Tensor, position: Tensor) -> SwapEffects:
    context = None if subject.contexts is None else subject.contexts[position]
    return swap_effects(subject.estimator, codes, context, space=subject.space)


def _map(effects: SwapEffects, place: int) -> list[list[list[Any]]]:
    """For each of the first features `[category, exact, predicted]`, None at the row's own.

    Of many categories those are kept that have, or are believed to have, the largest effects.
    """
    space = effects.space
    sides = zip(
        space.split(effects.exact[place]), space.split(effects.predicted[place]), strict=True
    )
    features = []
    for i, (exact, predicted) in list(enumerate(sides))[:_FEATURES]:
        own = int(effects.codes[place, i])
        weight = torch.maximum(exact.abs(), predicted.abs())
        weight[own] = torch.inf
        order = torch.arange(len(exact))
        if len(exact) > _CATEGORIES:
            order = weight.argsort(descending=True, stable=True)[: _CATEGORIES - 1].sort().values
        features.append(
            [
                [
                    space.categories[i][k],
                    *((None, None) if k == own else _pair(exact, predicted, k)),
                ]
                for k in order.tolist()
            ]
        )
    return features


def _pair(exact: Tensor, predicted: Tensor, k: int) -> tuple[float, float]:
    return float(f"{float(exact[k]):.4g}"), float(f"{float(predicted[k]):.4g}")
