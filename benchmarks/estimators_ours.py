"""The library's estimators and generated rows, by its public functions."""

from __future__ import annotations

import tempfile
from pathlib import Path

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
    return torch.tensor([list(map(int, written[name])) for name in table.schema.space.names]).T


def as_table(codes: Tensor, scores: Tensor, space: CategoricalSpace) -> Table:
    """A table whose categories are the codes."""
    features = {
        f"x{i}": Vocabulary(f"x{i}", tuple(map(str, range(size))), ordered)
        for i, (size, ordered) in enumerate(zip(space.sizes, space.ordered, strict=True))
    }
    cells = [column.astype(str) for column in codes.T.numpy()]
    columns = dict(zip(features, cells, strict=True)) | {"score": scores.numpy()}
    return read_table(columns, score="score", features=features)
