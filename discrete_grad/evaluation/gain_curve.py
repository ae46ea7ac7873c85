"""The law by which the gain of an optimised policy bends with its distance from a reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from discrete_grad.student import t_quantile

__all__ = ["GainCurve", "fit_gain_curve"]

Kind = Literal["rl", "best_of_n"]


@dataclass(frozen=True)
class GainCurve:
    """A fitted law of over-optimisation; see `fit_gain_curve`.

    Args:
        kind: `rl` or `best_of_n`.
        a: what a first step of unit distance gains, with the ends of its interval.
        b: how much the curve bends, with the ends of its interval; above 0 it has a highest point.
        rmse: root of the mean squared residual.

    Example:
        >>> curve = GainCurve("best_of_n", (2.0, 1.9, 2.1), (0.5, 0.4, 0.6), 0.0)
        >>> curve.peak, float(curve.gain(torch.tensor(curve.peak)))
        (2.0, 2.0)
    """

    kind: Kind
    a: tuple[float, float, float]
    b: tuple[float, float, float]
    rmse: float

    def gain(self, distance: Tensor) -> Tensor:
        """Gain over the reference at distances of any shape."""
        bend = distance.log().clamp_min(-1e9) if self.kind == "rl" else distance
        return distance * (self.a[0] - self.b[0] * bend)

    @property
    def peak(self) -> float | None:
        """The distance at which the gain is highest; None if it rises for ever."""
        a, b = self.a[0], self.b[0]
        # exp overflows float64 above 709
        if b <= 0 or (self.kind == "rl" and a / b > 700):
            return None
        return math.exp(a / b - 1) if self.kind == "rl" else max(a, 0.0) / (2 * b)


def fit_gain_curve(
    distance: Tensor, gain: Tensor, *, kind: Kind = "rl", confidence: float = 0.95
) -> GainCurve | None:
    """Least squares fit of gain to distance: `R = d (a - b log d)` or, best of n, `d (a - b d)`.

    The intervals are those of a linear model with independent errors of one variance (Student's t,
    n - 2 degrees of freedom). Points along one training are not independent, so they are guides.

    Args:
        distance: `(n,)`, d = sqrt(KL(policy || reference)), KL in nats, at least 0.
        gain: `(n,)`, score less the reference's score.
        kind: `rl` for training through the estimate, `best_of_n` for choosing among n draws.
        confidence: of the intervals, in (0, 1).

    Returns:
        The curve; None for fewer than 3 points or too few different distances.

    Raises:
        ValueError: for shapes that differ, numbers that are not finite, or a distance below 0.

    Reference:
        Gao, Schulman, Hilton (2022), arXiv 2210.10760, section 3.1.

    Example:
        >>> distance = torch.tensor([0.5, 1.0, 2.0, 3.0])
        >>> curve = fit_gain_curve(distance, distance * (2 - 0.5 * distance), kind="best_of_n")
        >>> round(curve.a[0], 4), round(curve.b[0], 4)
        (2.0, 0.5)
    """
    d, y = _points(distance, gain)
    bend = d.log().clamp_min(-1e9) if kind == "rl" else d  # 0 log 0 = 0
    columns = torch.stack([d, -d * bend], -1)
    if len(d) < 3 or torch.linalg.matrix_rank(columns) < 2:
        return None
    inverse = torch.linalg.inv(columns.T @ columns)
    coefficients = inverse @ (columns.T @ y)
    residual = y - columns @ coefficients
    variance = residual.square().sum() / (len(d) - 2)
    half = t_quantile(confidence, len(d) - 2) * (variance * inverse.diagonal()).sqrt()
    (a, b), (wide_a, wide_b) = coefficients.tolist(), half.tolist()
    rmse = float(residual.square().mean().sqrt())
    return GainCurve(kind, (a, a - wide_a, a + wide_a), (b, b - wide_b, b + wide_b), rmse)


def _points(distance: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    if distance.shape != gain.shape or distance.dim() != 1:
        shapes = f"{tuple(distance.shape)} and {tuple(gain.shape)}"
        raise ValueError(f"distance and gain must both be (n,), got {shapes}")
    d, y = distance.double(), gain.double()
    fine = d.isfinite() & (d >= 0) & y.isfinite()
    if not fine.all():
        place = int((~fine).nonzero()[0, 0])
        point = f"distance {float(d[place])}, gain {float(y[place])}"
        raise ValueError(f"distances must be finite and at least 0, gains finite; {place}: {point}")
    return d, y
