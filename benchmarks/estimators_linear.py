"""Ridge regressions as peers of the estimators."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from benchmarks.estimators_common import Predict, apart, columns, in_parts, indicators
from discrete_grad import CategoricalSpace

ALPHAS = tuple(10.0**power for power in range(-1, 5))
MAX_PAIRS = 200_000


def additive(codes: Tensor, scores: Tensor, space: CategoricalSpace, seed: int) -> Predict:
    """Ridge on one-hot rows, of the penalty that held-out rows prefer."""
    return _ridge(codes, scores, space, seed, ())


def pairwise(codes: Tensor, scores: Tensor, space: CategoricalSpace, seed: int) -> Predict:
    """Ridge on one-hot rows and all pairs, of the penalty that held-out rows prefer."""
    sizes = space.sizes
    pairs = list(combinations(range(len(sizes)), 2))
    width = sum(sizes[i] * sizes[j] for i, j in pairs)
    if width > MAX_PAIRS:
        raise ValueError(f"{width:,} pairs of categories; at most {MAX_PAIRS:,} are fitted")
    return _ridge(codes, scores, space, seed, pairs)


def _ridge(
    codes: Tensor,
    scores: Tensor,
    space: CategoricalSpace,
    seed: int,
    pairs: Sequence[tuple[int, int]],
) -> Predict:
    sizes = space.sizes
    width = sum(sizes) + sum(sizes[i] * sizes[j] for i, j in pairs)
    rows, target = indicators(columns(codes, sizes, pairs), width), scores.numpy()
    learnt, held = apart(len(scores), seed)

    def fitted(alpha: float, where: Any) -> Ridge:
        return Ridge(alpha, solver="sparse_cg", tol=1e-4).fit(rows[where], target[where])

    losses = [
        np.square(fitted(a, learnt).predict(rows[held]) - target[held]).mean() for a in ALPHAS
    ]
    model = fitted(ALPHAS[int(np.argmin(losses))], slice(None))
    weights = torch.from_numpy(model.coef_)
    return in_parts(lambda part: weights[columns(part, sizes, pairs)].sum(1) + model.intercept_)
