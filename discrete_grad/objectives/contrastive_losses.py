"""The contrastive losses that an aligner can be fitted with, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from discrete_grad.objectives.contrastive import acc_con, rank_n_contrast
from discrete_grad.objectives.contrastive_pairs import mined_contrast, nt_xent, sup_con
from discrete_grad.objectives.metric_learning import metric_learning_loss, score_pairs

__all__ = ["CONTRASTIVE_LOSSES", "PairLoss", "RowLoss", "contrastive_loss"]


@dataclass(frozen=True)
class RowLoss:
    """A loss of a batch of rows and their scores.

    Args:
        function: of projections `(N, P)` and scores `(N, S)`, all in one unit, with the keywords
            `temperature`, above 0, and `near`, the greatest distance of two positives as a share of
            the largest in the batch; gives a scalar.
        validates: whether it can measure hundreds of held-out rows at once.

    Example:
        >>> loss = CONTRASTIVE_LOSSES["rank_n_contrast"]
        >>> loss.function(torch.eye(2), torch.tensor([[0.0], [1.0]]), temperature=0.1, near=0.1)
        tensor(0.)
    """

    function: Callable[..., Tensor]
    validates: bool = True


@dataclass(frozen=True)
class PairLoss:
    """A loss of mined rows alone.

    Args:
        function: of projections of anchors `(N, P)`, their positives `(N, P)` and their negatives
            `(N, K, P)`, with the keyword `temperature`, above 0; gives a scalar.

    Example:
        >>> anchors, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> loss = CONTRASTIVE_LOSSES["mined"]
        >>> loss.function(anchors, other, other.unsqueeze(1), temperature=0.1)
        tensor(0.6931)
    """

    function: Callable[..., Tensor]


def contrastive_loss(name: str) -> RowLoss | PairLoss:
    """The loss of a name: one of `CONTRASTIVE_LOSSES`, or a class of pytorch-metric-learning.

    A class of `pytorch_metric_learning.losses` sees all pairs of a batch: those `near` are
    positives, all others negatives. It is made with its defaults, and the temperature is not used.

    Raises:
        ImportError: if pytorch-metric-learning is wanted and not installed.
        ValueError: for another name, or a class that has parameters or options without a default,
            or takes no pairs.

    Example:
        >>> contrastive_loss("nt_xent") is CONTRASTIVE_LOSSES["nt_xent"]
        True
        >>> loss = contrastive_loss("TripletMarginLoss").function
        >>> scores = torch.tensor([[0.0], [0.0], [9.0]])
        >>> projections = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> round(loss(projections, scores, temperature=0.1, near=0.1).item(), 4)
        0.0
    """
    if name in CONTRASTIVE_LOSSES:
        return CONTRASTIVE_LOSSES[name]
    if not name.endswith("Loss"):
        raise ValueError(
            f"loss must be one of {', '.join(CONTRASTIVE_LOSSES)}, or a class of "
            f"pytorch_metric_learning.losses, got {name!r}"
        )
    loss = RowLoss(partial(_of_all_pairs, name), validates=False)
    try:  # what it asks for shows when it is called
        loss.function(torch.eye(3), torch.tensor([[0.0], [0.0], [1.0]]), temperature=1.0, near=0.1)
    except (TypeError, ValueError) as error:
        raise ValueError(f"loss {name} cannot be used by its name alone: {error}") from error
    return loss


def _of_all_pairs(
    name: str, projections: Tensor, scores: Tensor, *, temperature: float, near: float
) -> Tensor:
    """Of a class of pytorch-metric-learning; its triplets of hundreds of rows would be too many."""
    small = near * float(torch.cdist(scores, scores).amax())
    # `score_pairs` wants it above `small`: so close to it, every other pair is a negative
    large = small + max(1e-6 * small, torch.finfo(torch.float32).tiny)
    return metric_learning_loss(
        name, projections, pairs=score_pairs(scores, small=small, large=large)
    )


def _rank_n(projections: Tensor, scores: Tensor, *, temperature: float, near: float) -> Tensor:
    return rank_n_contrast(projections, scores, temperature=temperature)


def _sup_con(projections: Tensor, scores: Tensor, *, temperature: float, near: float) -> Tensor:
    distance = torch.cdist(scores, scores)
    return sup_con(projections, distance <= near * distance.amax(), temperature=temperature)


def _nt_xent(
    anchors: Tensor, positives: Tensor, negatives: Tensor, *, temperature: float
) -> Tensor:
    return nt_xent(anchors, positives, temperature=temperature)


CONTRASTIVE_LOSSES: dict[str, RowLoss | PairLoss] = {
    "rank_n_contrast": RowLoss(_rank_n),
    "acc_con": RowLoss(acc_con),
    "sup_con": RowLoss(_sup_con),
    "nt_xent": PairLoss(_nt_xent),
    "mined": PairLoss(mined_contrast),
}
"""All of the library's own; a new one is a function and a line here."""
