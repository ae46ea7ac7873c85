"""Contrastive losses that teach the aligner which rows behave alike, from pairs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.objectives._shapes import check_same_shape, unit_rows
from discrete_grad.objectives.contrastive import check_rows, mean_over_positives

__all__ = ["mined_contrast", "nt_xent", "sup_con"]


def nt_xent(anchors: Tensor, positives: Tensor, *, temperature: float = 0.5) -> Tensor:
    """NT-Xent: a row's partner should lie nearer to it than all other rows.

    `-mean log[e^(cos(i, j) / t) / sum_{k != i} e^(cos(i, k) / t)]` over the 2N rows i with their
    partners j. Every row but the partner counts as a negative, even one that behaves alike.

    Args:
        anchors: projections `(N, P)`, N at least 2.
        positives: projections `(N, P)` of the anchors' partners.
        temperature: t, above 0.

    Returns:
        Mean over the 2N rows in nats.

    Raises:
        ValueError: for fewer than 2 pairs, other shapes or a temperature out of range.

    Reference:
        Chen, Kornblith, Norouzi, Hinton (2020), arXiv 2002.05709, equation 1.

    Example:
        >>> pairs = torch.eye(2)
        >>> bool(nt_xent(pairs, pairs) < nt_xent(pairs, pairs.flip(0)))
        True
    """
    check_rows(anchors, temperature)
    check_same_shape(anchors=anchors, positives=positives)
    unit = unit_rows(torch.cat([anchors, positives]))
    similarity = (unit @ unit.T / temperature).fill_diagonal_(-math.inf)
    # of 2N rows, i and i + N are partners: a shift by N either way
    partner = torch.arange(len(unit), device=unit.device).roll(len(anchors))
    return F.cross_entropy(similarity, partner)


def sup_con(projections: Tensor, positives: Tensor, *, temperature: float = 0.1) -> Tensor:
    """SupCon: rows of the same class should lie nearer to each other than to all other rows.

    `-mean_i mean_{p in P(i)} log[e^(cos(i, p) / t) / sum_{a != i} e^(cos(i, a) / t)]`.

    Args:
        projections: `(N, P)`, N at least 2.
        positives: classes `(N,)`, or bool `(N, N)`: which rows are positives of which; a row is
            never its own.
        temperature: t, above 0.

    Returns:
        Mean in nats over the rows that have a positive, 0 if none has.

    Raises:
        ValueError: for fewer than 2 rows, another shape or a temperature out of range.

    Reference:
        Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu, Krishnan (2020), arXiv
        2004.11362, equation 2.

    Example:
        >>> projections = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> alike, other = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
        >>> bool(sup_con(projections, alike) < sup_con(projections, other))
        True
    """
    check_rows(projections, temperature)
    count = len(projections)
    if positives.dim() == 1:
        positives = positives.unsqueeze(0) == positives.unsqueeze(1)
    if positives.shape != (count, count) or positives.dtype != torch.bool:
        got = f"{tuple(positives.shape)} of {positives.dtype}"
        raise ValueError(f"positives must be ({count},), or bool ({count}, {count}), got {got}")
    unit = unit_rows(projections)
    return mean_over_positives(unit @ unit.T / temperature, positives)


def mined_contrast(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    known: Tensor | None = None,
    temperature: float = 0.1,
) -> Tensor:
    """InfoNCE over mined rows: an anchor's positive should lie nearer than its own negatives.

    `-mean log[e^(cos(i, p) / t) / (e^(cos(i, p) / t) + sum_n e^(cos(i, n) / t))]`.

    Args:
        anchors: projections `(N, P)`.
        positives: `(N, P)`, one of each anchor.
        negatives: `(N, K, P)`.
        known: bool `(N, K)`, which of the negatives exist; all by default.
        temperature: t, above 0.

    Returns:
        Mean over the anchors in nats; an anchor without negatives gives 0.

    Raises:
        ValueError: for other shapes or a temperature out of range.

    Reference:
        Van den Oord, Li, Vinyals (2018), arXiv 1807.03748, equation 4.

    Example:
        >>> anchors, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> mined_contrast(anchors, other, other.unsqueeze(1))
        tensor(0.6931)
    """
    check_same_shape(anchors=anchors, positives=positives)
    _check_negatives(anchors, negatives, known, temperature)
    anchor = unit_rows(anchors).unsqueeze(-2)
    near = (anchor * unit_rows(positives).unsqueeze(-2)).sum(-1)
    far = (anchor * unit_rows(negatives)).sum(-1)
    if known is not None:
        far = far.masked_fill(~known, -math.inf)
    return -(torch.cat([near, far], -1) / temperature).log_softmax(-1)[:, 0].mean()


def _check_negatives(
    anchors: Tensor, negatives: Tensor, known: Tensor | None, temperature: float
) -> None:
    if not len(anchors) or not temperature > 0:
        raise ValueError(
            f"needs an anchor and a temperature above 0, got {len(anchors)}, {temperature}"
        )
    kept = negatives.shape[:1] + negatives.shape[2:]
    if negatives.dim() != 3 or kept != anchors.shape:
        shapes = f"{tuple(anchors.shape)} and {tuple(negatives.shape)}"
        raise ValueError(f"anchors and negatives must be (N, P) and (N, K, P), got {shapes}")
    if known is not None and (known.shape != negatives.shape[:2] or known.dtype != torch.bool):
        got = f"{tuple(known.shape)} of {known.dtype}"
        raise ValueError(f"known must be bool {tuple(negatives.shape[:2])}, got {got}")
