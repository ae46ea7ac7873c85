"""The library's estimators and generated rows, by its public functions."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.estimators_common import Predict, in_parts
from discrete_grad import CategoricalSpace
from discrete_grad.data import ScoredRows, Table, Vocabulary, read_table
from discrete_grad.fitting import EstimatorConfig, ScoreScale, fit_estimator, new_ensemble
from discrete_grad.runs import FitConfig, fit, generate


def fitted_estimator(
    codes: Tensor, scores: Tensor, space: CategoricalSpace, seed: int, config: EstimatorConfig
) -> Predict:
    """The default ensemble, fitted to the rank-scaled scores of all rows."""
    scaled = ScoreScale.fit("rank", scores, None, None).apply(scores)
    ensemble = new_ensemble(space, None, config, seed=seed, rows=len(codes))
    fit_estimator(ensemble, ScoredRows(codes, scaled), config=config, seed=seed)
    return torch.no_grad()(in_parts(ensemble))


def generated_rows(
    codes: Tensor, scores: Tensor, space: CategoricalSpace, config: FitConfig, count: int
) -> Tensor:
    """Codes `(n, F)` of the rows that a fit writes, in its order; n is at most `count`."""
    table = as_table(codes, scores, space)
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(table, Path(folder) / "run", config)
        written = generate(fitted, {}, None, rows=count, seed=config.seed)
    return table.schema.encode_features(written)


def as_table(codes: Tensor, scores: Tensor, space: CategoricalSpace) -> Table:
    """A table with the categories of the space, or with numbers where it does not name them.

    Equal categories of two features would say that these are the places of a sequence: a category
    without a name has that of its feature in its own, unless the feature is ordered.
    """
    features = {
        f"x{i}": Vocabulary(f"x{i}", _values(space, i), space.ordered[i])
        for i in range(space.num_features)
    }
    cells = [np.array(v.values)[c] for v, c in zip(features.values(), codes.T, strict=True)]
    columns = dict(zip(features, cells, strict=True)) | {"score": scores.numpy()}
    return read_table(columns, score="score", features=features)


def _values(space: CategoricalSpace, feature: int) -> tuple[str, ...]:
    names = space.categories[feature]
    if space.vocabularies[feature] is None and not space.ordered[feature]:
        return tuple(f"x{feature}: {name}" for name in names)
    return names
