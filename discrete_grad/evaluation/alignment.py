"""Agreement of a metric of rows with their behaviour, measured on held-out rows.

The aligner stands beside three baselines that need no training. With one score there is nothing in
behaviour but that score, and minus the difference of the estimated scores is all a perfect
estimator leaves to say: on rows one feature apart of NASBench201 and HPOLib the aligner's rank
correlation is higher by only 0.01 to 0.03, and its triplets are right more often by less than 0.01.
What is left to gain comes from the estimator's errors: the distance of two uncertain scores is on
average larger than the distance of their means, and the latents of an ensemble know more of that
than its mean. With several scores, of which the estimator has seen the first, there is more to
learn, and the correlation is higher by about 0.03 and 0.12.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad.evaluation._pair_measures import (
    anchor_spearman,
    precision_share,
    triplet_share,
    weighted_mean,
)
from discrete_grad.evaluation.row_pairs import PAIR_KINDS, pairs_of_kind
from discrete_grad.hamming import HammingIndex
from discrete_grad.models.aligner import projection
from discrete_grad.models.own import as_estimator
from discrete_grad.models.protocol import require
from discrete_grad.sampling import permutation, random_indices
from discrete_grad.space import CategoricalSpace

__all__ = ["AlignmentFigure", "alignment_metrics", "compare_metrics"]

Similarity = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class AlignmentFigure:
    """One number and its interval.

    Args:
        pairs: `random`, `hamming 1` or `far`.
        metric: what is measured, or `a - b`: by how much a lies above b.
        measure: `spearman`, `triplet` or `precision`.
        value: NaN where it is not defined, as the rank correlation of a constant.
        low: lower end of the interval.
        high: its upper end.
        anchors: rows it rests on.

    Example:
        >>> AlignmentFigure("random", "aligner", "triplet", 0.8, 0.7, 0.9, 200).value
        0.8
    """

    pairs: str
    metric: str
    measure: str
    value: float
    low: float
    high: float
    anchors: int


def alignment_metrics(
    aligner: nn.Module,
    codes: Tensor,
    behaviour: Tensor,
    *,
    space: CategoricalSpace | None = None,
    context: Tensor | None = None,
    anchors: int = 256,
    pairs: int = 24,
    nearest: int = 5,
    resamples: int = 1000,
    confidence: float = 0.95,
    generator: torch.Generator | None = None,
) -> list[AlignmentFigure]:
    """The aligner beside three baselines, on random, Hamming-1 and far pairs of held-out rows.

    The baselines: `estimate`, minus the absolute difference of the estimated scores; `latent`, the
    cosine of the estimator's latents; `hamming`, minus the number of features that differ.

    Args:
        aligner: what is measured. One's own has `project(row, context)` and `estimator`, a model of
            scores with `to_latent(row, context)`; `compare_metrics` takes any other metric.
        codes: held-out rows `(N, F)`.
        behaviour: true scores `(N,)`, or `(N, S)` in one unit.
        space: the features; by default those of the aligner or of its estimator.
        context: `(N, C)` or None; only rows of the same context are compared.
        anchors: as in `compare_metrics`, like the next four.
        pairs: of a kind for each anchor.
        nearest: k of the precision.
        resamples: of the bootstrap.
        confidence: of the intervals.
        generator: source of the pairs and of the bootstrap.

    Returns:
        Every pair kind, metric and measure, with those of `aligner - baseline`.

    Raises:
        ValueError: as `compare_metrics`.
        TypeError: for an aligner that lacks a part, which is named.

    Example:
        >>> from discrete_grad.models import Aligner, Estimator
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((4, 4, 4))
        >>> codes, aligner = space.enumerate(), Aligner(Estimator(space))
        >>> figures = alignment_metrics(aligner, codes, codes.sum(-1).float(), resamples=20)
        >>> sorted({figure.metric for figure in figures})[:2]
        ['aligner', 'aligner - estimate']
        >>> sorted({figure.pairs for figure in figures})
        ['far', 'hamming 1', 'random']
    """
    user = "alignment_metrics"
    require(user, aligner, "project", "estimator")
    own: Any = aligner
    estimator = as_estimator(user, own.estimator, space or getattr(aligner, "space", None))
    with torch.no_grad():
        projected = projection(aligner, codes, context, space=estimator.space)
        latent = F.normalize(estimator.to_latent(codes, context), dim=-1)
        estimate = estimator(codes, context)
    metrics: dict[str, Similarity] = {
        "aligner": lambda a, b: (projected[a] * projected[b]).sum(-1),
        "estimate": lambda a, b: -(estimate[a] - estimate[b]).abs(),
        "latent": lambda a, b: (latent[a] * latent[b]).sum(-1),
        "hamming": lambda a, b: -(codes[a] != codes[b]).sum(-1).float(),
    }
    return compare_metrics(
        metrics,
        codes,
        behaviour,
        context=context,
        anchors=anchors,
        pairs=pairs,
        nearest=nearest,
        resamples=resamples,
        confidence=confidence,
        generator=generator,
    )


def compare_metrics(
    metrics: dict[str, Similarity],
    codes: Tensor,
    behaviour: Tensor,
    *,
    context: Tensor | None = None,
    anchors: int = 256,
    pairs: int = 24,
    nearest: int = 5,
    resamples: int = 1000,
    confidence: float = 0.95,
    generator: torch.Generator | None = None,
) -> list[AlignmentFigure]:
    """Any metrics of rows, each beside the true difference in behaviour, on the same pairs.

    Three measures, higher is better: `spearman`, the rank correlation of the metric with minus the
    distance in behaviour over all pairs; `triplet`, how often of two rows that differ in behaviour
    from an anchor the nearer one has the higher metric (1/2 by chance, a tie counts half);
    `precision`, which share of the rows nearest to an anchor by the metric are among those nearest
    in behaviour. The last two are means over anchors. The intervals are percentiles of the
    bootstrap over anchors, the same draws for every metric.

    Args:
        metrics: by name; each maps indices `(A, 1)` and `(A, P)` to similarities `(A, P)`. The
            first is compared with all others.
        codes: rows `(N, F)`.
        behaviour: true scores `(N,)`, or `(N, S)` in one unit: L2 distance.
        context: `(N, C)` or None; only rows of the same context are compared.
        anchors: rows that are compared with others, at most.
        pairs: pairs of a kind for each anchor, at most.
        nearest: k of the precision, for anchors with more than k pairs.
        resamples: of the bootstrap.
        confidence: of the intervals, in (0, 1).
        generator: source of the pairs and of the bootstrap.

    Returns:
        Every pair kind, metric and measure, then the differences between the first metric and the
        others.

    Raises:
        ValueError: for fewer than 2 rows, a shape that does not fit, scores that are not finite, or
            a number out of range.

    Example:
        >>> codes = torch.cartesian_prod(torch.arange(4), torch.arange(4))
        >>> score = codes.sum(-1).float()
        >>> truth = {"truth": lambda a, b: -(score[a] - score[b]).abs()}
        >>> figures = compare_metrics(truth, codes, score, nearest=2, resamples=20)
        >>> [figure.value for figure in figures if figure.measure == "triplet"]
        [1.0, 1.0, 1.0]
    """
    _check(codes, behaviour, context)
    _check_numbers(confidence, anchors=anchors, pairs=pairs, nearest=nearest, resamples=resamples)
    index = HammingIndex(codes, context)
    chosen = permutation(len(codes), generator=generator)[:anchors]
    figures = []
    for kind in PAIR_KINDS:
        rows, others, known = pairs_of_kind(kind, index, chosen, pairs, generator=generator)
        distance = _distances(behaviour, rows, others)
        times = _resamples(len(rows), resamples, generator)
        values = {
            (name, measure): f(metric(rows.unsqueeze(1), others).double(), distance, known, times)
            for name, metric in metrics.items()
            for measure, f in _measures(nearest).items()
        }
        figures += [
            AlignmentFigure(kind, *names, *_interval(value, confidence), len(rows))
            for names, value in (values | _differences(values)).items()
        ]
    return figures


def _measures(nearest: int) -> dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]]:
    """By name, functions of similarities, distances, known pairs and times to values `(R,)`."""
    return {
        "spearman": anchor_spearman,
        "triplet": lambda s, d, known, times: weighted_mean(triplet_share(s, d, known), times),
        "precision": lambda s, d, known, times: weighted_mean(
            precision_share(s, d, known, nearest), times
        ),
    }


def _resamples(count: int, resamples: int, generator: torch.Generator | None) -> Tensor:
    """Counts `(1 + R, A)` of each anchor: once, then as drawn."""
    draws = random_indices(max(1, count), (resamples, count), generator=generator)
    times = torch.zeros(resamples, count, dtype=torch.float64)
    times.scatter_add_(1, draws, torch.ones_like(times))
    return torch.cat([torch.ones(1, count, dtype=torch.float64), times])


def _differences(values: dict[tuple[str, str], Tensor]) -> dict[tuple[str, str], Tensor]:
    """By how much the first metric lies above the others."""
    first = next(iter(values))[0]
    return {
        (f"{first} - {name}", measure): values[first, measure] - value
        for (name, measure), value in values.items()
        if name != first
    }


def _interval(values: Tensor, confidence: float) -> tuple[float, float, float]:
    """The first value and the percentiles of the others."""
    outside = (1 - confidence) / 2
    low, high = (float(values[1:].nanquantile(q)) for q in (outside, 1 - outside))
    return float(values[0]), low, high


def _distances(behaviour: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """Of rows `(A,)` and others `(A, P)`, `(A, P)`."""
    several = behaviour.double().unsqueeze(-1) if behaviour.dim() == 1 else behaviour.double()
    return (several[rows].unsqueeze(1) - several[others]).square().sum(-1).sqrt()


def _check(codes: Tensor, behaviour: Tensor, context: Tensor | None) -> None:
    count = len(codes)
    if codes.dim() != 2 or count < 2:
        raise ValueError(f"codes must be (N, F) with N >= 2, got {tuple(codes.shape)}")
    if behaviour.dim() not in (1, 2) or len(behaviour) != count:
        raise ValueError(
            f"behaviour must be ({count},) or ({count}, S), got {tuple(behaviour.shape)}"
        )
    if context is not None and (context.dim() != 2 or len(context) != count):
        raise ValueError(f"context must be ({count}, C), got {tuple(context.shape)}")
    wrong = ~behaviour.isfinite().reshape(count, -1).all(1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"behaviour must be finite, but row {row} has {behaviour[row].tolist()}")


def _check_numbers(confidence: float, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
