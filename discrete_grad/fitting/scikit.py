"""The ensemble of estimators with the interface of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.config import EstimatorConfig
from discrete_grad.fitting.estimator import fit_estimator, new_ensemble
from discrete_grad.space import CategoricalSpace

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("scikit-learn is missing: pip install scikit-learn") from error

__all__ = ["CategoricalRegressor"]

_FEW_NUMBERS = 16


class CategoricalRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """An ensemble of estimators as scikit-learn's pipelines, searches and scorers take one.

    Text and numbers of at most 16 different values are categories; of other numbers there are 16.
    In `predict` a number counts as the nearest of the fit; unknown text is a ValueError.

    Args:
        config: of the ensemble; by default `EstimatorConfig()`.
        random_state: seed of every random number.

    Example:
        >>> X = np.array([["fair", 1], ["good", 1], ["fair", 2], ["good", 2]] * 10, dtype=object)
        >>> y = np.array([0.0, 1.0, 2.0, 3.0] * 10)
        >>> quick = EstimatorConfig(members=2, steps=50, families=("anova",))
        >>> CategoricalRegressor(quick).fit(X, y).predict(X[:4]).round().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """

    def __init__(self, config: EstimatorConfig | None = None, *, random_state: int = 0) -> None:
        self.config, self.random_state = config, random_state

    def fit(self, X: Any, y: Any) -> CategoricalRegressor:
        """Learn the scores `y` `(N,)` of rows `X` `(N, F)`, N at least 2; returns itself."""
        X, y = validate_data(self, X, y, dtype=None, y_numeric=True, ensure_min_samples=2)
        self.known_ = [_known(_column(X[:, place])) for place in range(X.shape[1])]
        self.mean_, self.spread_ = float(y.mean()), float(y.std()) or 1.0
        space = CategoricalSpace.from_sizes([len(known) for known in self.known_])
        scores = torch.as_tensor((y - self.mean_) / self.spread_, dtype=torch.float32)
        config, seed = self.config or EstimatorConfig(), self.random_state
        self.model_ = new_ensemble(space, None, config, seed=seed, rows=len(X))
        fit_estimator(self.model_, ScoredRows(self._codes(X), scores), config=config, seed=seed)
        return self

    @torch.no_grad()
    def predict(self, X: Any) -> NDArray[np.float64]:
        """Expected scores `(N,)` of rows `(N, F)`."""
        check_is_fitted(self)
        codes = self._codes(validate_data(self, X, reset=False, dtype=None))
        return self.mean_ + self.spread_ * np.asarray(self.model_.eval()(codes).double())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags

    def _codes(self, X: NDArray[Any]) -> torch.Tensor:
        codes = [_places(_column(X[:, i]), known, i) for i, known in enumerate(self.known_)]
        return torch.from_numpy(np.stack(codes, 1))


def _column(values: NDArray[Any]) -> NDArray[Any]:
    """A column as numbers or, if it holds anything else, as text."""
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return values.astype(str)


def _known(column: NDArray[Any]) -> NDArray[Any]:
    """Sorted categories of a column; of many numbers the medians of 16 equal shares."""
    if len(values := np.unique(column)) <= _FEW_NUMBERS or values.dtype.kind != "f":
        return values
    return np.unique(np.quantile(column, (np.arange(_FEW_NUMBERS) + 0.5) / _FEW_NUMBERS))


def _places(column: NDArray[Any], known: NDArray[Any], place: int) -> NDArray[np.int64]:
    """The category of each value of a column: the nearest number, or the same text."""
    if known.dtype.kind == "f":
        if column.dtype.kind != "f":
            raise ValueError(f"column {place} holds numbers in the fit, and text now")
        return np.searchsorted((known[1:] + known[:-1]) / 2, column).astype(np.int64)
    found = np.searchsorted(known, column := column.astype(str)).clip(max=len(known) - 1)
    if (unknown := known[found] != column).any():
        raise ValueError(f"column {place}: {str(column[unknown][0])!r} was in no row of the fit")
    return found.astype(np.int64)
