"""Losses and miners of pytorch-metric-learning on the aligner's projections."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from discrete_grad.objectives.contrastive import check_rows

__all__ = ["metric_learning_loss", "score_bins", "score_pairs"]

Pairs = tuple[Tensor, Tensor, Tensor, Tensor]
Triplets = tuple[Tensor, Tensor, Tensor]


def metric_learning_loss(
    loss: str | Callable[..., Tensor],
    projections: Tensor,
    *,
    labels: Tensor | None = None,
    pairs: Pairs | Triplets | None = None,
    miner: str | Callable[..., Any] | None = None,
    **options: Any,
) -> Tensor:
    """Any pair or triplet loss of pytorch-metric-learning, on labels or on mined pairs.

    Args:
        loss: a class of `pytorch_metric_learning.losses` by name, or an instance; one that owns
            parameters (proxies, say) has to be an instance, whose parameters the caller trains.
        projections: `(N, P)`, N at least 2.
        labels: integer `(N,)`, such as `score_bins` gives.
        pairs: indices of rows, in place of labels: `(anchors, positives, anchors, negatives)`, such
            as `score_pairs` gives, or `(anchors, positives, negatives)`, such as mined ones.
        miner: a class of `pytorch_metric_learning.miners` by name, or an instance: chooses among
            the pairs of the labels.
        options: arguments of the loss named by `loss`.

    Returns:
        The loss, a scalar.

    Raises:
        ImportError: if pytorch-metric-learning is not installed.
        ValueError: for an unknown name, labels of another shape, neither labels nor pairs, a miner
            without labels or beside pairs, or options beside an instance.

    Example:
        >>> projections = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> labels = torch.tensor([0, 0, 1])
        >>> loss = metric_learning_loss("TripletMarginLoss", projections, labels=labels, margin=0.2)
        >>> round(loss.item(), 4)
        0.0
    """
    check_rows(projections, 1.0)
    if labels is not None and labels.shape != projections.shape[:1]:
        raise ValueError(f"labels must be ({len(projections)},), got {tuple(labels.shape)}")
    if labels is None and (pairs is None or miner is not None):
        raise ValueError("expected labels, or pairs without a miner, got neither")
    if pairs is not None and miner is not None:
        raise ValueError("expected either pairs or a miner that finds them, got both")
    function = _made("losses", loss, options)
    found = pairs if miner is None else _made("miners", miner, {})(projections, labels)
    value: Tensor = function(projections, labels, found)
    return value


def score_bins(scores: Tensor, bins: int) -> Tensor:
    """Bin `(N,)`, 0 to `bins - 1`, of scores `(N,)`, as many rows in each; equal scores share one.

    Example:
        >>> score_bins(torch.tensor([3.0, 1.0, 2.0, 9.0]), 2)
        tensor([1, 0, 0, 1])
    """
    if scores.dim() != 1 or bins < 1:
        raise ValueError(f"expected scores (N,) and a bin, got {tuple(scores.shape)} and {bins}")
    # the number of lower scores, the same for equal ones, which a rank is not
    below = torch.searchsorted(scores.sort().values, scores.contiguous())
    return below * bins // max(1, len(scores))


def score_pairs(scores: Tensor, *, small: float, large: float) -> Pairs:
    """All pairs of rows that differ by `small` at most, and those that differ by `large` at least.

    Args:
        scores: `(N,)`, or `(N, S)`: Euclidean distance.
        small: greatest difference of positives, in the scores' unit.
        large: least difference of negatives, above `small`.

    Returns:
        Anchors, their positives, anchors, their negatives; every pair in both directions.

    Raises:
        ValueError: for scores of another shape, or `small` not below `large`.

    Example:
        >>> score_pairs(torch.tensor([0.0, 0.1, 5.0]), small=0.5, large=4.95)
        (tensor([0, 1]), tensor([1, 0]), tensor([0, 2]), tensor([2, 0]))
    """
    if scores.dim() not in (1, 2) or not 0 <= small < large:
        raise ValueError(
            "expected scores (N,) or (N, S) and 0 <= small < large, got "
            f"{tuple(scores.shape)}, {small} and {large}"
        )
    several = scores.reshape(len(scores), -1)
    distance = (several.unsqueeze(1) - several).square().sum(-1).sqrt()
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    near, far = ((distance <= small) & ~own).nonzero(), (distance >= large).nonzero()
    return near[:, 0], near[:, 1], far[:, 0], far[:, 1]


def _made(room: str, chosen: str | Callable[..., Any], options: dict[str, Any]) -> Any:
    """An instance: the one given, or one of a class of that name."""
    if not isinstance(chosen, str):
        if options:
            raise ValueError(f"an instance takes no options, got {sorted(options)}")
        return chosen
    module = _package(room)
    if not isinstance(getattr(module, chosen, None), type):
        raise ValueError(f"pytorch-metric-learning has no {chosen!r} in its {room}")
    return getattr(module, chosen)(**options)


def _package(room: str) -> Any:
    try:
        return importlib.import_module(f"pytorch_metric_learning.{room}")
    except ImportError as error:
        raise ImportError(
            "this loss needs pytorch-metric-learning, which is not installed: "
            "pip install 'discrete_grad[metric]'"
        ) from error
