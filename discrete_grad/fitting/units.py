"""Predictions as scores that a user can read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.data import Schema
from discrete_grad.fitting.calibration import Calibration
from discrete_grad.fitting.score_scale import ScoreScale

__all__ = ["ScoreUnits"]

_TOLERANCE = 1e-6
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class ScoreUnits:
    """From a model's predictions to scores in the units of the score column.

    With a calibration these are the scores expected of unseen rows with such a prediction, and
    otherwise those of the same place on the scale. They never leave the scores observed in the
    context (or, where it has fewer than 50 rows, in the table): a prediction beyond them is given
    as the nearest one, and `outside` says so.

    Args:
        schema: of the table.
        scale: from scores to what the model is trained on.
        standard: from scores to standard ones, of the same groups; what is calibrated.
        calibration: from predictions to standard scores, a
            `discrete_grad.fitting.calibration.Calibration`, or None.
        exact: whether the predictions are the scores themselves, as `standard` scales them; they
            are then given as they are, wherever they lie.
        place: of the score among those of the table, 0 for the first.

    Example:
        >>> import torch
        >>> from discrete_grad.data import Vocabulary
        >>> schema = Schema((Vocabulary("cut", (1, 2)),), (), "price")
        >>> scores = torch.tensor([10.0, 20.0, 40.0, 80.0], dtype=torch.float64)
        >>> scale, standard = (ScoreScale.fit(k, scores, None, None) for k in ("rank", "standard"))
        >>> units = ScoreUnits(schema, scale, standard)
        >>> units(torch.tensor([-1.8, 2.5])).tolist(), units.outside(torch.tensor([0.0, 2.5]))
        ([10.0, 80.0], tensor([0, 1]))
    """

    schema: Schema
    scale: ScoreScale
    standard: ScoreScale
    calibration: Calibration | None = None
    exact: bool = False
    place: int = 0

    def __call__(self, predicted: Tensor, context: Tensor | None = None) -> Tensor:
        """Scores `(N,)`, float64, of predictions `(N,)` for rows with contexts `(N, C)`.

        In the units of a column that is minimised, less is better.
        """
        free = self._free(predicted, context)
        if self.exact:
            return self.schema.in_units(free, self.place)
        low, high = self.scale.observed(context, len(predicted))
        return self.schema.in_units(free.clamp(low, high), self.place)

    def outside(self, predicted: Tensor, context: Tensor | None = None) -> Tensor:
        """1 for a prediction better than all observed scores, -1 for one worse, else 0; `(N,)`."""
        low, high = self.scale.observed(context, len(predicted))
        free, slack = self._free(predicted, context), _TOLERANCE * (high - low)
        return (free > high + slack).long() - (free < low - slack).long()

    def _free(self, predicted: Tensor, context: Tensor | None) -> Tensor:
        if self.exact:
            # to the digits that float32 predictions have: 33, not 32.9999995
            spread = self.standard.unit * float(self.standard.grid.std(1, correction=0).max())
            digits = math.floor(-math.log10(_ROUNDING * spread))
            return torch.round(self.standard.invert(predicted, context), decimals=digits)
        if self.calibration is None:
            return self.scale.invert(predicted, context)
        group = self.scale.groups(context, len(predicted))
        expected = self.calibration.apply(predicted, group)
        return self.standard.invert(expected, context)
