"""Data sets described by a few of their rows: main effects as a numeric context."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.generation_common import Regime, training_table
from discrete_grad.data import Example, read_table
from discrete_grad.data import Table as RowTable
from discrete_grad.evaluation import percentile
from discrete_grad.space import CategoricalSpace

GROUP = 50  # rows that describe a data set
SHRINK = 2.0  # rows of rank 0 that each category is given beside its own


def described(example: Example, left_out: str, regime: Regime, seed: int) -> RowTable:
    """Rows of all data sets but one, each with the main effects of another group of its data set.

    A score is its rank within its data set, since scores of different data sets cannot be compared.
    """
    parts: list[dict[str, Any]] = []
    for name in example.datasets:
        if name != left_out:
            table = training_table(example, name, regime, seed)
            contexts = others_effects(example.space, table.codes, table.scores)
            ranks = percentile(table.scores, table.scores)
            features = table.schema.decode_features(table.codes)
            parts.append({**features, **columns(contexts), "score": ranks.tolist()})
    joined = {name: [v for part in parts for v in part[name]] for name in parts[0]}
    numeric = [name for name in joined if name not in (*example.features, "score")]
    return read_table(
        joined,
        score="score",
        context=[f"{name}:numeric" for name in numeric],
        features=example.features,
    )


def columns(effects: Tensor) -> dict[str, list[float]]:
    """Main effects `(N, D)` as context columns."""
    return {f"effect {i}": column.tolist() for i, column in enumerate(effects.unbind(-1))}


def main_effects(space: CategoricalSpace, codes: Tensor, scores: Tensor) -> Tensor:
    """Mean scaled rank `(D,)` of the rows that have a category, shrunk towards 0.

    Args:
        space: the features.
        codes: `(N, F)`.
        scores: `(N,)`; ranks among them are scaled to lie in (-1, 1).
    """
    ranks = (2 * percentile(scores, scores) - 1).float()
    flat = space.one_hot(codes)
    return (ranks @ flat) / (flat.sum(0) + SHRINK)


def others_effects(space: CategoricalSpace, codes: Tensor, scores: Tensor) -> Tensor:
    """Main effects `(N, D)` for each row: those of the next group of 50 rows, in a ring."""
    groups = [*zip(codes.split(GROUP), scores.split(GROUP), strict=True)]
    effects = [main_effects(space, *group) for group in (*groups[1:], groups[0])]
    sizes = torch.tensor([len(group_codes) for group_codes, _ in groups])
    return torch.stack(effects).repeat_interleave(sizes, 0)
