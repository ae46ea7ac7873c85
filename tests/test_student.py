"""Quantiles of Student's t against printed tables."""

import pytest

from discrete_grad.student import t_quantile


@pytest.mark.parametrize(
    ("confidence", "freedom", "quantile"),
    [  # Abramowitz and Stegun, table 26.10
        (0.95, 1, 12.7062),
        (0.95, 2, 4.3027),
        (0.95, 3, 3.1824),
        (0.95, 4, 2.7764),
        (0.95, 5, 2.5706),
        (0.95, 10, 2.2281),
        (0.95, 19, 2.0930),
        (0.95, 100, 1.9840),
        (0.99, 7, 3.4995),
        (0.90, 10, 1.8125),
    ],
)
def test_quantiles_of_the_tables(confidence: float, freedom: int, quantile: float) -> None:
    assert t_quantile(confidence, freedom) == pytest.approx(quantile, abs=6e-5)


def test_many_degrees_of_freedom_are_nearly_normal() -> None:
    assert t_quantile(0.95, 1_000_000) == t_quantile(0.95, 1000) == pytest.approx(1.96, abs=3e-3)
