"""Ranks, held-out rows and encodings, shared by the peers of the estimators.

Each peer is a function of codes `(N, F)`, scores `(N,)`, the space and a seed, and returns one that
predicts scores of codes `(M, F)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from discrete_grad import CategoricalSpace

Predict = Callable[[Tensor], Tensor]
Fit = Callable[[Tensor, Tensor, CategoricalSpace, int], Predict]
Places = NDArray[np.int64]
HELD_OUT = 0.1
CHUNK = 2**14  # rows predicted at once


def ranks(scores: Tensor) -> Tensor:
    """Ranks as numbers of mean 0 and variance 1, equal scores sharing their mean rank."""
    ordered = scores.sort().values
    last = torch.searchsorted(ordered, scores, right=True)
    middle = (torch.searchsorted(ordered, scores) + last).double() / 2
    return (middle - middle.mean()) / middle.std(correction=0).clamp_min(1e-12)


def ranked(fit: Fit) -> Fit:
    """The same peer, fitted to ranks."""
    return lambda codes, scores, space, seed: fit(codes, ranks(scores), space, seed)


def apart(count: int, seed: int) -> tuple[Places, Places]:
    """Positions to learn from and held out, in an order drawn by the seed."""
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, round(HELD_OUT * count))
    return order[held:], order[:held]


def agreement(predicted: Any, scores: Tensor) -> float:
    """Spearman's rank correlation; 0 where all predictions are equal."""
    mine = ranks(torch.as_tensor(np.asarray(predicted, dtype=np.float64)))
    return (mine * ranks(scores)).mean().item()


def in_parts(predict: Callable[[Tensor], Any]) -> Predict:
    """Predictions of so few rows at a time that no encoding of them is large."""

    def predicted(codes: Tensor) -> Tensor:
        parts = [np.asarray(predict(part), dtype=np.float64) for part in codes.split(CHUNK)]
        return torch.from_numpy(np.concatenate(parts))

    return predicted


def one_hot(codes: Tensor, sizes: Sequence[int]) -> sparse.csr_matrix:
    """Indicators `(N, D)` of every category."""
    return indicators(columns(codes, sizes), sum(sizes))


def columns(codes: Tensor, sizes: Sequence[int], pairs: Sequence[tuple[int, int]] = ()) -> Tensor:
    """Columns `(N, F + P)` of a row's ones: of its categories, then of its pairs of categories."""
    found, start = [], 0
    for i, size in enumerate(sizes):
        found.append(start + codes[:, i])
        start += size
    for i, j in pairs:
        found.append(start + codes[:, i] * sizes[j] + codes[:, j])
        start += sizes[i] * sizes[j]
    return torch.stack(found, 1)


def indicators(where: Tensor, width: int) -> sparse.csr_matrix:
    """A matrix `(N, width)` of zeros, and ones in the columns `(N, ones)` of each row."""
    rows, ones = where.shape
    starts = np.arange(0, rows * ones + 1, ones)
    shape = (rows, width)
    return sparse.csr_matrix((np.ones(rows * ones), where.flatten().numpy(), starts), shape=shape)
