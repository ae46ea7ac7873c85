"""Fitted trees of other libraries as estimators of the same answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discrete_grad.fitting.black_box import ask, predict_teacher
from discrete_grad.fitting.trees import tree_leaves
from discrete_grad.models import LeafEnsemble
from discrete_grad.sampling import random_codes, seeded
from discrete_grad.space import CategoricalSpace

__all__ = ["exact_trees"]

_CHECKED, _TOLERANCE = 4096, 1e-4

_Leaf = tuple[float, dict[int, NDArray[np.bool_]]]


def exact_trees(model: Any, space: CategoricalSpace) -> LeafEnsemble:
    """Boosted trees of any depth as an estimator with the same answers, without training.

    Args:
        model: XGBoost's `XGBRegressor` or scikit-learn's `HistGradientBoostingRegressor`, fitted to
            an array `(N, F)` of codes.
        space: the features of a row.

    Returns:
        An ensemble of one member, which answers 4,096 random rows as the model does, to within
        1e-4 standard deviations.

    Raises:
        TypeError: for another kind of model; `learn_teacher` learns these.
        ValueError: for other columns, or answers that are not the sum of the trees and a constant.

    Example:
        >>> from discrete_grad.fitting.trees import has_trees
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate()
        >>> if has_trees():
        ...     from xgboost import XGBRegressor
        ...     trees = XGBRegressor(n_estimators=5).fit(codes.numpy(), codes.prod(-1))
        ...     exact = exact_trees(trees, space)
        ...     assert torch.allclose(exact(codes), torch.tensor(trees.predict(codes.numpy())))
    """
    read = _reader(model)
    names = getattr(model, "feature_names_in_", None)
    if model.n_features_in_ != space.num_features or names is not None:
        named = "without names" if names is None else f"named {', '.join(names)}"
        raise ValueError(
            f"the trees must be fitted to an array of {space.num_features} columns of codes, got "
            f"{model.n_features_in_} columns {named}"
        )
    leaves = list(read(model, space))
    allowed = np.ones((space.width, len(leaves)), dtype=bool)
    for place, (_, sets) in enumerate(leaves):
        for column, categories in sets.items():
            start = space.offsets[column]
            allowed[start : start + len(categories), place] = categories
    values = torch.tensor([value for value, _ in leaves])
    trees = LeafEnsemble(space, torch.from_numpy(allowed), values).eval()
    trees.offset = _constant(model, trees)
    return trees


def _reader(model: Any) -> Callable[[Any, CategoricalSpace], Iterator[_Leaf]]:
    if hasattr(model, "get_booster") and model.get_params()["booster"] != "gblinear":
        return _xgboost
    if hasattr(model, "_predictors"):
        return _scikit_learn
    raise TypeError(
        "exact trees are those of XGBRegressor or HistGradientBoostingRegressor, got "
        f"{type(model).__name__}; learn_teacher learns others"
    )


def _constant(model: Any, trees: LeafEnsemble) -> Tensor:
    """Difference `()` of a model's answers to those of the trees, which must be one number."""
    space = trees.space
    codes = random_codes(space, _CHECKED, generator=seeded(0))
    answers = ask(predict_teacher(model, space), space, codes, None)
    gap = answers - trees(codes).double()
    off = (gap - gap.mean()).abs().max()
    if off > _TOLERANCE * answers.std(correction=0) + _TOLERANCE**2:
        raise ValueError(
            f"the answers of {type(model).__name__} must be the sum of its trees and a constant, "
            f"they differ by up to {off.item():.2g}; learn_teacher learns others"
        )
    constant: Tensor = gap.mean().float()
    return constant


def _xgboost(model: Any, space: CategoricalSpace) -> Iterator[_Leaf]:
    booster = model.get_booster()
    # predict uses no tree that was grown after the best round
    rounds = int(booster.attr("best_iteration") or booster.num_boosted_rounds() - 1) + 1
    for tree in booster[:rounds].get_dump(dump_format="json"):
        yield from tree_leaves(json.loads(tree), space.sizes, {})


def _scikit_learn(model: Any, space: CategoricalSpace) -> Iterator[_Leaf]:
    # the trees see the columns in another order and the categories by other numbers
    marked = model.is_categorical_
    marks = np.zeros(space.num_features, bool) if marked is None else np.asarray(marked)
    order = [*np.flatnonzero(marks).tolist(), *np.flatnonzero(~marks).tolist()]
    each = np.arange(max(space.sizes))[:, None]
    seen = model._preprocess_X(np.minimum(each, np.array(space.sizes) - 1.0), reset=False)
    numbers = [(column, seen[: space.sizes[column], i]) for i, column in enumerate(order)]
    for round_ in model._predictors:
        for tree in round_:
            yield from _grown(tree, 0, numbers, {})


def _grown(
    tree: Any,
    place: int,
    numbers: list[tuple[int, NDArray[np.float64]]],
    sets: dict[int, NDArray[np.bool_]],
) -> Iterator[_Leaf]:
    node = tree.nodes[place]
    if node["is_leaf"]:
        yield float(node["value"]), sets
        return
    column, shown = numbers[node["feature_idx"]]
    missing = np.isnan(shown)
    known = np.where(missing, 0, shown)
    if node["is_categorical"]:
        bits, whole = tree.raw_left_cat_bitsets[node["bitset_idx"]], known.astype(int)
        # a category is one bit of numbers of 32 bits
        left = (bits[whole // 32] >> (whole % 32).astype(bits.dtype)) & 1 == 1
    else:
        left = known <= node["num_threshold"]
    left = np.where(missing, bool(node["missing_go_to_left"]), left)
    before = sets.get(column, np.ones(len(shown), dtype=bool))
    yield from _grown(tree, node["left"], numbers, sets | {column: before & left})
    yield from _grown(tree, node["right"], numbers, sets | {column: before & ~left})
