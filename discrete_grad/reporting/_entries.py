"""Measures of one context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from discrete_grad.evaluation.best_row import best_row
from discrete_grad.evaluation.in_parts import in_parts
from discrete_grad.evaluation.metrics import distinct_share
from discrete_grad.evaluation.row_laws import IndependentLaw, RowLaw
from discrete_grad.evaluation.subject import Subject
from discrete_grad.hamming import KnownRows
from discrete_grad.sampling import random_codes
from discrete_grad.space import CategoricalSpace

__all__ = ["context_report"]

_SHOWN_CATEGORIES = 12
_QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_MEANS = (
    "estimated",
    "estimated_std",
    "beyond_observed",
    "judged",
    "true",
    "true_percentile",
    "soft_hard_gap",
)


def context_report(
    subject: Subject,
    index: int,
    laws: Mapping[str, RowLaw],
    *,
    uniform: RowLaw | None,
    known: KnownRows,
    samples: int,
    noise: torch.Generator,
    detailed: bool,
) -> dict[str, Any]:
    """The part of `build_report` on one context.

    Args:
        subject: what to report on.
        index: position of the context.
        laws: of each policy's rows in this context.
        uniform: law of the random rows; None for all rows of the space.
        known: the training rows of all contexts.
        samples: rows drawn from each policy.
        noise: source of the draws.
        detailed: keep the samples' scores and the last policy's probabilities.
    """
    mine = subject.observed.places(index)
    observed = subject.observed.scores[mine].double()
    best, different = _best(subject, mine)
    groups = [best, _random(subject.space, uniform, samples, noise)]
    for name, law in laws.items():
        groups += _policy_groups(name, law, samples, noise)
    scores = _scores(subject, index, groups, known)
    soft = _soft_scores(subject, index, laws)
    for group, measures in zip(groups, scores, strict=True):
        if group.samples and group.policy in soft:
            measures["soft_hard_gap"] = soft[group.policy] - measures["scaled"].mean()
    report: dict[str, Any] = {
        "label": subject.labels[index],
        "rows": len(observed),
        "different_rows": different,
        "quantiles": _quantiles(observed),
        "entries": [_entry(subject.space, *pair) for pair in zip(groups, scores, strict=True)],
    }
    if detailed:
        pairs = zip(groups, scores, strict=True)
        report["samples"] = {g.policy: _rounded(measures) for g, measures in pairs if g.samples}
        report["probabilities"] = _probabilities(subject.space, list(laws.values())[-1])
    return report


@dataclass(frozen=True)
class _Group:
    """Rows that make one entry, with what is known of them besides their scores."""

    policy: str
    name: str
    samples: bool
    codes: Tensor
    known: Mapping[str, Any] = field(default_factory=dict)


def _best(subject: Subject, mine: Tensor) -> tuple[_Group, int]:
    """The context's best training row, none if it has none, and the number of different ones."""
    codes, sign = subject.observed.codes[mine], subject.observed.sign
    if not len(codes):
        return _Group("best training row", "best training row", False, codes.long()), 0
    place, mean, different = best_row(codes, sign * subject.observed.scores[mine])
    row = codes[place, None].long()
    known = {"observed": sign * mean}
    return _Group("best training row", "best training row", False, row, known), different


def _random(
    space: CategoricalSpace, uniform: RowLaw | None, samples: int, noise: torch.Generator
) -> _Group:
    if uniform is None:
        codes = random_codes(space, samples, generator=noise)
    else:
        codes = uniform.sample(samples, generator=noise)
    known = {"distinct_share": distinct_share(codes)}
    return _Group("random rows", "random rows", True, codes, known)


def _policy_groups(name: str, law: RowLaw, samples: int, noise: torch.Generator) -> list[_Group]:
    codes = law.sample(samples, generator=noise)
    known = {"entropy": float(law.entropy()), "distinct_share": distinct_share(codes)}
    likely = law.mode().unsqueeze(0)
    return [
        _Group(name, f"{name}, most likely row", False, likely),
        _Group(name, f"{name}, samples", True, codes, known),
    ]


def _scores(
    subject: Subject, index: int, groups: Sequence[_Group], known: KnownRows
) -> list[dict[str, Tensor]]:
    """The measures `(n,)` of each group's rows; all groups are scored in one call."""
    codes = torch.cat([group.codes for group in groups])
    context = _expand(subject, index, len(codes))
    estimator, judge = subject.scorers["estimator"], subject.scorers.get("judge")
    estimate = in_parts(estimator, codes, context)
    std = in_parts(estimator.std, codes, context)

    def units(scaled: Tensor) -> Tensor:
        return subject.to_units(scaled, context)

    measures = {
        "scaled": estimate,
        "estimated": units(estimate),
        "estimated_std": (units(estimate + std) - units(estimate - std)).abs() / 2,
        "nearest": known.distance(codes),
    }
    if judge is not None:
        judged = in_parts(judge, codes, context)
        measures["judged"] = subject.judged_units(judged, context)
    if subject.outside is not None:
        measures["beyond_observed"] = subject.outside(estimate, context) > 0
    if subject.truth is not None:
        measures["true"] = subject.truth.score(codes, index)
        measures["true_percentile"] = subject.truth.percentile(codes, index)
    sizes = [len(group.codes) for group in groups]
    parts = {name: values.double().split(sizes) for name, values in measures.items()}
    return [{name: values[i] for name, values in parts.items()} for i in range(len(groups))]


def _soft_scores(subject: Subject, index: int, laws: Mapping[str, RowLaw]) -> dict[str, Tensor]:
    """The estimator's scaled score `()` of each policy's soft row, if it takes such rows."""
    soft = torch.stack([_as_given(law) for law in laws.values()])
    try:
        scores = subject.scorers["estimator"](soft, _expand(subject, index, len(soft))).double()
    except ValueError:  # a function of codes takes hard rows alone
        return {}
    return dict(zip(laws, scores, strict=True))


def _as_given(law: RowLaw) -> Tensor:
    """Marginals `(D,)`; those of rules, in float64, as most estimators take them."""
    return law.marginals() if isinstance(law, IndependentLaw) else law.marginals().float()


def _expand(subject: Subject, index: int, count: int) -> Tensor | None:
    return None if subject.contexts is None else subject.contexts[index].expand(count, -1)


def _entry(
    space: CategoricalSpace, group: _Group, measures: Mapping[str, Tensor]
) -> dict[str, Any]:
    """One line of the table."""
    means = {name: float(measures[name].mean()) if name in measures else None for name in _MEANS}
    nearest = measures["nearest"]
    single = not group.samples and len(group.codes) == 1
    return {
        "name": group.name,
        "policy": group.policy,
        "kind": "samples" if group.samples else "row",
        "row": _labels(space, group.codes[0]) if single else None,
        "observed": None,
        "entropy": None,
        "distinct_share": None,
        **means,
        "nearest_mean": float(nearest.mean()),
        "nearest_min": float(nearest.min()) if len(nearest) else None,
        **group.known,
    }


def _labels(space: CategoricalSpace, codes: Tensor) -> list[str]:
    pairs = zip(space.categories, codes.tolist(), strict=True)
    return [categories[code] for categories, code in pairs]


def _quantiles(observed: Tensor) -> dict[str, float]:
    """Quantiles of the training rows' scores, `"0.5"` the median; none without rows."""
    if not len(observed):
        return {}
    ordered = observed.sort().values  # not torch.quantile, which takes 16 million values at most
    places = [round(q * (len(ordered) - 1)) for q in _QUANTILES]
    return {str(q): float(ordered[i]) for q, i in zip(_QUANTILES, places, strict=True)}


def _rounded(measures: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Samples' scores for the plots, six digits each to keep the file small."""
    names = [name for name in ("estimated", "judged", "true") if name in measures]
    return {name: [float(f"{value:.6g}") for value in measures[name].tolist()] for name in names}


def _probabilities(space: CategoricalSpace, law: RowLaw) -> list[list[list[Any]]]:
    """For each feature `[category, probability]`: all, or the most likely of many."""
    features = []
    for categories, part in zip(space.categories, space.split(law.marginals()), strict=True):
        order = torch.arange(len(part))
        if len(part) > _SHOWN_CATEGORIES:
            order = part.argsort(descending=True, stable=True)[: _SHOWN_CATEGORIES - 1]
        features.append([[categories[i], float(f"{float(part[i]):.4g}")] for i in order.tolist()])
    return features
