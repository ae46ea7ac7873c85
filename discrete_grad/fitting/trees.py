"""Boosted trees as tables of effects: exact, and differentiable as these are."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discrete_grad.models import AnovaEnsemble

__all__ = ["fit_trees", "has_trees", "tree_leaves"]

_DEPTHS = (3, 2, 1)
_ROUNDS, _PATIENCE, _RATE = 1000, 50, 0.1
_MOST_ROWS = 300_000
_MOST_CELLS = 2**22

_Effects = dict[tuple[int, ...], NDArray[np.float64]]


def has_trees() -> bool:
    """Whether xgboost, the extra `trees`, is installed."""
    return importlib.util.find_spec("xgboost") is not None


def fit_trees(
    model: AnovaEnsemble, codes: Tensor, scores: Tensor, weights: Tensor, *, seed: int
) -> bool:
    """Fit boosted trees of every member to rows weighted for it, and write them as tables.

    A path of a tree of depth 3 asks about at most 3 columns, so the sum of all trees is a sum of
    tables of at most 3 columns, without any approximation. Where these would have more than 4
    million cells the trees are less deep. Boosting stops early by rows a member does not see; one
    that sees all has 1,000 rounds.

    Args:
        model: its groups and tables are replaced.
        codes: joint codes `(N, columns)`, see `JointColumns`.
        scores: `(N,)`.
        weights: `(M, N)`, at least 0, how many observations each row counts for in each member.
        seed: draws 300,000 rows where there are more.

    Returns:
        Whether there are tables: not if even those of single columns are too many.

    Reference:
        Chen and Guestrin (2016), "XGBoost", arXiv 1603.02754.

    Example:
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes, model = space.enumerate().repeat(50, 1), AnovaEnsemble(space)
        >>> weights = torch.ones(1, len(codes))
        >>> weights[:, ::5] = 0
        >>> not has_trees() or fit_trees(model, codes, codes.sum(-1).float(), weights, seed=0)
        True
    """
    some = np.random.default_rng(seed).permutation(len(codes))[:_MOST_ROWS]
    device, (codes, scores, weights) = codes.device, (t.cpu() for t in (codes, scores, weights))
    shown, targets = codes.numpy()[some], scores.numpy()[some]
    mean = float(targets.mean())
    for depth in _DEPTHS:
        boosters = [
            _boosted(model, shown, targets - mean, own, depth) for own in weights.numpy()[:, some]
        ]
        groups = sorted({group for booster in boosters for group in _groups(booster)})
        # before a table is made: that of two columns of 16,384 categories has 2 GiB
        if sum(math.prod(model.joint.sizes[c] for c in group) for group in groups) <= _MOST_CELLS:
            found = [_effects(booster, model.joint.sizes) for booster in boosters]
            _write(model, groups, found, mean, device)
            return True
    return False


def _boosted(
    model: AnovaEnsemble,
    codes: NDArray[np.integer[Any]],
    targets: NDArray[np.floating[Any]],
    weights: NDArray[np.float32],
    depth: int,
) -> Any:
    import xgboost

    kinds = ["int" if ordered else "c" for ordered in model.joint.ordered]

    def matrix(rows: NDArray[np.bool_], weight: NDArray[np.float32] | None) -> Any:
        return xgboost.DMatrix(
            codes[rows].astype(np.float32),
            targets[rows],
            weight=weight,
            feature_types=kinds,
            enable_categorical=True,
            nthread=1,
        )

    seen = weights > 0
    learnt, stops = matrix(seen, weights[seen]), not seen.all()
    settings = {"max_depth": depth, "eta": _RATE, "tree_method": "hist", "nthread": 1}
    booster = xgboost.train(
        settings | {"base_score": 0.0},
        learnt,
        num_boost_round=_ROUNDS,
        evals=[(matrix(~seen, None), "held_out")] if stops else [],
        early_stopping_rounds=_PATIENCE if stops else None,
        verbose_eval=False,
    )
    return booster[: booster.best_iteration + 1] if stops else booster


def _groups(booster: Any) -> set[tuple[int, ...]]:
    """Every set of columns that some path asks about."""

    def asked(node: dict[str, Any], columns: frozenset[int]) -> set[tuple[int, ...]]:
        if "leaf" in node:
            return {tuple(sorted(columns))}
        columns |= {_column(node)}
        return set().union(*(asked(child, columns) for child in node["children"]))

    trees = map(json.loads, booster.get_dump(dump_format="json"))
    return set().union(*(asked(tree, frozenset()) for tree in trees))


def _column(node: dict[str, Any]) -> int:
    # xgboost names the columns f0, f1, ...
    return int(node["split"][1:])


def _effects(booster: Any, sizes: Sequence[int]) -> _Effects:
    """Table of every set of columns that some path asks about."""
    effects: _Effects = {}
    for tree in booster.get_dump(dump_format="json"):
        for value, allowed in tree_leaves(json.loads(tree), sizes, {}):
            group = tuple(sorted(allowed))
            if group not in effects:
                effects[group] = np.zeros([sizes[column] for column in group])
            box = np.asarray(value)
            for column in group:
                box = np.multiply.outer(box, allowed[column])
            effects[group] += box
    return effects


def tree_leaves(
    node: dict[str, Any], sizes: Sequence[int], allowed: dict[int, NDArray[np.bool_]]
) -> Iterator[tuple[float, dict[int, NDArray[np.bool_]]]]:
    """Value of every leaf, and the categories of each column that lead there."""
    if "leaf" in node:
        yield node["leaf"], allowed
        return
    column, condition = _column(node), node["split_condition"]
    categories = np.arange(sizes[column])
    yes = np.isin(categories, condition) if isinstance(condition, list) else categories < condition
    before = allowed.get(column, np.ones(sizes[column], dtype=bool))
    for child in node["children"]:
        side = yes if child["nodeid"] == node["yes"] else ~yes
        yield from tree_leaves(child, sizes, allowed | {column: before & side})


def _write(
    model: AnovaEnsemble,
    groups: list[tuple[int, ...]],
    found: list[_Effects],
    mean: float,
    device: torch.device,
) -> None:
    # a tree without a split is a constant
    constants = [mean + float(effects.get((), np.zeros(()))) for effects in found]
    groups = [group for group in groups if group]
    model.arrange(groups)
    sizes = model.joint.sizes
    tables = [
        [effects.get(g, np.zeros([sizes[c] for c in g])).ravel() for g in groups]
        for effects in found
    ]
    cells = np.stack([np.concatenate([*table, np.zeros(0)]) for table in tables], 1)
    model.cells = torch.from_numpy(cells).float().to(device)
    model.offsets = torch.tensor(constants, device=device)
