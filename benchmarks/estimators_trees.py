"""Ensembles of trees as peers of the estimators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from torch import Tensor

from benchmarks.estimators_common import Places, Predict, agreement, apart, in_parts, one_hot, ranks
from discrete_grad import CategoricalSpace

ROUNDS = 1000  # of boosting
PATIENCE = 50  # rounds without improvement, of the peers that are tuned
DEPTHS = (3, 6, 10)
LEAVES: tuple[dict[str, float], ...] = (
    {"learning_rate": 0.1, "max_leaf_nodes": 31},
    {"learning_rate": 0.05, "max_leaf_nodes": 8},
)
TUNED_ON = 20_000  # rows at most, by which settings are chosen
MAX_ENCODED = 2_000_000  # entries of a one-hot matrix that a forest may see


def boosted(codes: Tensor, scores: Tensor, space: CategoricalSpace, seed: int) -> Predict:
    """scikit-learn's boosted trees: 1,000 rounds at most, early stopping, native categories."""
    model = _boosted(space, seed).fit(codes.numpy(), scores.numpy())
    return in_parts(lambda part: model.predict(part.numpy()))


def _boosted(
    space: CategoricalSpace, seed: int, **settings: float
) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        max_iter=ROUNDS,
        early_stopping=True,
        # numbers are split in order; 255 categories are as many as it can take
        categorical_features=[
            k <= 255 and not o for k, o in zip(space.sizes, space.ordered, strict=True)
        ],
        random_state=seed,
        **settings,
    )


def boosted_tuned(codes: Tensor, scores: Tensor, space: CategoricalSpace, seed: int) -> Predict:
    """The same with more patience, of the settings and target that held-out rows prefer."""
    learnt, held = apart(len(scores), seed)

    def fitted(choice: tuple[Tensor, dict[str, float]], learnt: Places) -> Predict:
        target, settings = choice
        model = _boosted(space, seed, n_iter_no_change=PATIENCE, **settings)
        unseen = {"X_val": codes[held].numpy(), "y_val": target[held].numpy()}
        model.fit(codes[learnt].numpy(), target[learnt].numpy(), **unseen)
        return in_parts(lambda part: model.predict(part.numpy()))

    choices = [(target, leaves) for target in (scores, ranks(scores)) for leaves in LEAVES]
    return _chosen(fitted, choices, learnt, lambda p: agreement(p(codes[held]), scores[held]))


def _chosen(
    fitted: Callable[[Any, Places], Predict],
    choices: Sequence[Any],
    learnt: Places,
    quality: Callable[[Predict], float],
) -> Predict:
    """The fit by the best choice, which is made on `TUNED_ON` rows at most."""
    few = learnt[:TUNED_ON]
    found = [
        (quality(predict), i, predict) for i, predict in enumerate(fitted(c, few) for c in choices)
    ]
    _, best, predict = max(found, key=lambda entry: entry[0])
    return predict if len(few) == len(learnt) else fitted(choices[best], learnt)


def xgboosted(codes: Tensor, scores: Tensor, space: CategoricalSpace, seed: int) -> Predict:
    """XGBoost, early stopping, native categories, of the depth and target held-out rows prefer."""
    learnt, held = apart(len(scores), seed)

    def fitted(choice: tuple[Tensor, int], learnt: Places) -> Predict:
        target, depth = choice
        shown = _matrix(codes[learnt], space, target[learnt])
        unseen = _matrix(codes[held], space, target[held])
        booster = _xgboosted(shown, unseen, {"max_depth": depth, "seed": seed})
        used = (0, booster.best_iteration + 1)
        return in_parts(lambda part: booster.predict(_matrix(part, space), iteration_range=used))

    choices = [(target, depth) for target in (scores, ranks(scores)) for depth in DEPTHS]
    return _chosen(fitted, choices, learnt, lambda p: agreement(p(codes[held]), scores[held]))


def _xgboosted(shown: Any, unseen: Any, settings: dict[str, int]) -> Any:
    import xgboost

    return xgboost.train(
        {"eta": 0.1, "tree_method": "hist", "nthread": 1} | settings,
        shown,
        num_boost_round=ROUNDS,
        evals=[(unseen, "held")],
        early_stopping_rounds=PATIENCE,
        verbose_eval=False,
    )


def _matrix(codes: Tensor, space: CategoricalSpace, label: Tensor | None = None) -> Any:
    import xgboost

    return xgboost.DMatrix(
        codes.numpy().astype(np.float32),
        None if label is None else label.numpy(),
        feature_types=["int" if ordered else "c" for ordered in space.ordered],
        enable_categorical=True,
        nthread=1,
    )


def forest(codes: Tensor, scores: Tensor, space: CategoricalSpace, seed: int) -> Predict:
    """A random forest on codes or one-hot rows, with leaves of 1 or 3 rows: the best out of bag."""
    encodings: list[Callable[[Tensor], Any]] = [Tensor.numpy]
    if len(codes) * space.width <= MAX_ENCODED:
        encodings.append(lambda part: one_hot(part, space.sizes))
    found = []
    for encode in encodings:
        for leaf in (1, 3):
            model = RandomForestRegressor(
                200, min_samples_leaf=leaf, max_features=1 / 3, oob_score=True, random_state=seed
            )
            model.fit(encode(codes), scores.numpy())
            found.append((model.oob_score_, model, encode))
    _, best, chosen = max(found, key=lambda entry: entry[0])
    return in_parts(lambda part: best.predict(chosen(part)))
