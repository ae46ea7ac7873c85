"""Scenes that say the same: which column is which, and functions that agree on matching rows."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.testing import _relations as relations
from discrete_grad.testing._relations import Relation
from discrete_grad.testing.functions import row_function
from discrete_grad.testing.subject import Scene

SPACE = CategoricalSpace({"cut": 2, "colour": 3, "size": 1})
LOGITS = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).double()
SCENE = Scene(SPACE, LOGITS)
INF = math.inf


@pytest.mark.parametrize(
    ("relation", "sizes", "columns", "logits"),
    [
        (
            relations.permuted_categories(SCENE),
            {"cut": 2, "colour": 3, "size": 1},
            (1, 0, 4, 3, 2, 5),
            [0.2, 0.1, 0.5, 0.4, 0.3, 0.6],
        ),
        (
            relations.permuted_features(SCENE),
            {"size": 1, "cut": 2, "colour": 3},
            (1, 2, 3, 4, 5, 0),
            [0.6, 0.1, 0.2, 0.3, 0.4, 0.5],
        ),
        (
            relations.padded(SCENE),
            {"cut": 4, "colour": 4, "size": 4},
            (0, 1, 4, 5, 6, 8),
            [0.1, 0.2, -INF, -INF, 0.3, 0.4, 0.5, -INF, 0.6, -INF, -INF, -INF],
        ),
    ],
)
def test_moved(
    relation: Relation, sizes: dict[str, int], columns: tuple[int, ...], logits: list[float]
) -> None:
    space = CategoricalSpace(sizes)
    assert relation.first is SCENE
    assert relation.second.space == space
    assert relation.columns == columns
    assert_close(relation.second.logits, torch.tensor(logits).double(), atol=1e-6, rtol=0)
    assert relation.nothing_else
    f = row_function(SPACE, "cubic")
    rows = torch.rand(7, SPACE.width, dtype=torch.float64)
    moved = torch.zeros(7, space.width, dtype=torch.float64)
    moved[:, list(columns)] = rows
    assert_close(relation.f(rows), f(rows))
    assert_close(relation.g(moved), f(rows))


def test_one_feature() -> None:
    relation = relations.one_feature(SCENE, 1)
    alone = CategoricalSpace({"colour": 3})
    assert relation.first.space == alone
    assert torch.equal(relation.first.logits, LOGITS[2:5])
    assert relation.second is SCENE
    assert relation.columns == (2, 3, 4)
    assert not relation.nothing_else
    rows = torch.rand(7, SPACE.width, dtype=torch.float64)
    assert_close(relation.f(rows[:, 2:5]), row_function(alone, "cubic")(rows[:, 2:5]))
    assert_close(relation.g(rows), relation.f(rows[:, 2:5]))
