"""Trees of other libraries against their own predictions, on all rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from discrete_grad.fitting import exact_trees
from discrete_grad.space import CategoricalSpace

SPACE = CategoricalSpace({"cut": 3, "shade": 40, "size": 2, "shop": 5})
CODES = SPACE.enumerate()
NOISE = torch.randn(len(CODES), generator=torch.Generator().manual_seed(0))
SCORES = 1000 + 50 * (CODES[:, 0] == 1) * (CODES[:, 1] % 3) - 9 * CODES[:, 2] * CODES[:, 3] + NOISE


def xgboost(targets: Tensor = SCORES, **settings: Any) -> Any:
    trees = pytest.importorskip("xgboost")
    model = trees.XGBRegressor(n_estimators=30, n_jobs=1, **settings)
    return model.fit(CODES.numpy(), targets.numpy())


def scikit_learn(**settings: Any) -> Any:
    trees = pytest.importorskip("sklearn.ensemble")
    model = trees.HistGradientBoostingRegressor(max_iter=30, min_samples_leaf=2, **settings)
    # a category that the trees have not seen is one they treat as missing
    seen = (CODES[:, 1] != 7) & (CODES[:, 3] != 0)
    return model.fit(CODES[seen].numpy(), SCORES[seen].numpy())


def check(model: Any) -> None:
    exact = exact_trees(model, SPACE)
    truth = torch.as_tensor(model.predict(CODES.numpy())).float()
    assert (exact(CODES) - truth).abs().max() < 1e-5 * truth.abs().max()


@pytest.mark.parametrize("depth", [1, 3, 8])
@pytest.mark.parametrize("kind", ["q", "c"])
def test_xgboost_is_answered_exactly(depth: int, kind: str) -> None:
    kinds = [kind] * 4
    check(
        xgboost(max_depth=depth, feature_types=kinds, enable_categorical=True, max_cat_to_onehot=1)
    )


@pytest.mark.parametrize(
    "categorical", [None, [0, 1, 2, 3], [False, True, False, True]], ids=["none", "all", "some"]
)
def test_scikit_learn_is_answered_exactly(categorical: list[int] | None) -> None:
    check(scikit_learn(categorical_features=categorical))


def test_trees_stopped_early_are_those_that_predict() -> None:
    trees = pytest.importorskip("xgboost").XGBRegressor(
        n_estimators=50, max_depth=2, learning_rate=1.0, early_stopping_rounds=5
    )
    shown, scores = CODES.numpy(), CODES[:, 0].numpy()
    trees.fit(shown, scores + NOISE.numpy(), eval_set=[(shown, scores)], verbose=False)
    assert trees.best_iteration + 1 < trees.get_booster().num_boosted_rounds()
    check(trees)


def test_models_without_an_exact_form_are_named() -> None:
    with pytest.raises(ValueError, match=r"sum of its trees and a constant, they differ by up to"):
        exact_trees(xgboost((SCORES > 1000).float(), objective="reg:logistic"), SPACE)
    with pytest.raises(TypeError, match="got XGBRegressor; learn_teacher learns others"):
        exact_trees(xgboost(booster="gblinear"), SPACE)
    with pytest.raises(TypeError, match="got dict"):
        exact_trees({}, SPACE)
    with pytest.raises(ValueError, match="an array of 2 columns of codes, got 4 columns"):
        exact_trees(xgboost(), CategoricalSpace.from_sizes((3, 40)))
    pandas = pytest.importorskip("pandas")
    named = pandas.DataFrame(CODES.numpy(), columns=list(SPACE.names))
    model = pytest.importorskip("xgboost").XGBRegressor(n_estimators=2)
    with pytest.raises(ValueError, match=r"columns named cut, shade, size, shop"):
        exact_trees(model.fit(named, np.asarray(SCORES)), SPACE)
