"""The regressor for scikit-learn keeps its contract, and learns categories."""

from typing import Any

import numpy as np
import pytest

from discrete_grad.fitting import EstimatorConfig

pytest.importorskip("sklearn", reason="needs scikit-learn")

from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from discrete_grad.fitting.scikit import CategoricalRegressor

QUICK = EstimatorConfig(members=2, steps=50, families=("anova",))


@parametrize_with_checks([CategoricalRegressor(QUICK)])  # type: ignore[untyped-decorator]
def test_the_contract(estimator: Any, check: Any) -> None:
    check(estimator)


def table() -> tuple[Any, Any]:
    """Text, few numbers and many; the score is of the text and of the many."""
    rng = np.random.default_rng(0)
    text, few, many = rng.choice(["x", "y", "z"], 300), rng.integers(3, size=300), rng.random(300)
    columns = np.array([text, few, many], dtype=object).T
    return columns, 3.0 * (text == "z") + 4.0 * many


def test_text_and_numbers_are_learnt() -> None:
    X, y = table()
    assert cross_val_score(CategoricalRegressor(QUICK), X, y, cv=3).min() > 0.9


def test_numbers_between_the_known_ones_count_as_the_nearest() -> None:
    X, y = table()
    fitted = CategoricalRegressor(QUICK).fit(X, y)
    rows = np.array([["z", 0, -5.0], ["z", 0, X[:, 2].min()], ["z", 0.4, -5.0]], dtype=object)
    assert len(set(fitted.predict(rows))) == 1
    for unknown in ("w", "xx", "zz"):
        with pytest.raises(ValueError, match=f"^column 0: '{unknown}' was in no row of the fit$"):
            fitted.predict(np.array([[unknown, 0, 0.5]], dtype=object))
    with pytest.raises(ValueError, match="column 2 holds numbers in the fit, and text now"):
        fitted.predict(np.array([["x", 0, "many"]], dtype=object))
