"""From predictions to expected scores, learnt from rows that the models have not seen."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.fitting.score_scale import interpolate, map_groups

__all__ = [
    "Calibration",
]

_LEAST_ROWS = 50
_OWN_ROWS = 200
_KNOTS = (4, 32)
_OUTER = 0.3


class Calibration:
    """A rising curve from predictions to expected scores, one for each group of rows.

    The N rows are cut into sqrt(N) / 2 parts of equal size in the order of the predictions, 4 to 32
    of them; the curve goes straight between the parts' means, made monotone by isotonic
    regression, and beyond them on with the slope of the outermost three tenths. A group of fewer
    than 200 rows has the curve of all rows.

    Args:
        x: `(G + 1, Q)` float64, predictions, for every group and, last, for all rows.
        y: `(G + 1, Q)` float64, the expected scores there.

    Example:
        >>> predicted = torch.linspace(-1, 1, 400)
        >>> curve = Calibration.fit(predicted, 3 * predicted.double(), torch.zeros(400).long(), 0)
        >>> curve.apply(torch.tensor([0.5, 2.0]), torch.tensor([0, 0])).round(decimals=3)
        tensor([1.5000, 6.0000], dtype=torch.float64)
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    @classmethod
    def fit(
        cls, predicted: Tensor, scores: Tensor, group: Tensor, groups: int
    ) -> Calibration | None:
        """Curves by rows that the models have not seen; None for fewer than 50 of them.

        Args:
            predicted: `(N,)`.
            scores: `(N,)`, of a unit common to all groups.
            group: `(N,)`, from 0 to `groups`, which stands for rows of no group of their own.
            groups: G.
        """
        if len(predicted) < _LEAST_ROWS:
            return None
        curves = [_curve(predicted, scores)] * (groups + 1)
        ordered, order = group.sort(stable=True)
        indices, counts = ordered.unique_consecutive(return_counts=True)
        for index, places in zip(indices.tolist(), order.split(counts.tolist()), strict=True):
            if index < groups and len(places) >= _OWN_ROWS:
                curves[index] = _curve(predicted[places], scores[places])
        return cls(*(torch.stack(side) for side in zip(*curves, strict=True)))

    def apply(self, predicted: Tensor, group: Tensor) -> Tensor:
        """Expected scores `(N,)`, float64, of predictions `(N,)` for rows of groups `(N,)`."""
        return map_groups(
            predicted, group, lambda g, part: interpolate(self.x[g], self.y[g], part, share=_OUTER)
        )


def _curve(predicted: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The knots of one curve, each repeated so often that there are 32."""
    knots = min(max(round(len(scores) ** 0.5 / 2), _KNOTS[0]), _KNOTS[1])
    x, order = predicted.double().sort(stable=True)
    part = torch.arange(len(x)) * knots // len(x)
    count = part.bincount(minlength=knots).double()
    first = count.cumsum(0).long() - count.long()
    last = count.cumsum(0).long() - 1
    sums = torch.zeros(2, knots, dtype=torch.float64)
    sums.index_add_(1, part, torch.stack([x, scores.double()[order]]))
    means = sums / count
    # of equal predictions exactly equal knots, so that their scores can be put together
    at = means[0].clamp(x[first], x[last])
    _, tied = at.unique(return_inverse=True)
    weight = torch.zeros_like(count).index_add_(0, tied, count)
    # as many places as knots: with ties the last ones stay empty
    height = torch.zeros_like(count).index_add_(0, tied, count * means[1]) / weight.clamp_min(1)
    different = int(tied.max()) + 1
    repeated = torch.arange(_KNOTS[1]) * knots // _KNOTS[1]
    return at[repeated], _isotonic(height[:different], weight[:different])[tied][repeated]


def _isotonic(values: Tensor, weights: Tensor) -> Tensor:
    """The rising sequence of least weighted squared distance to values `(N,)`.

    Pools adjacent violators: neighbours in the wrong order become their weighted mean.

    Reference:
        Barlow, Bartholomew, Bremner, Brunk (1972), "Statistical Inference under Order
        Restrictions", chapter 1.

    Example:
        >>> _isotonic(torch.tensor([1.0, 3.0, 2.0, 5.0]), torch.ones(4))
        tensor([1.0000, 2.5000, 2.5000, 5.0000])
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        block = (value, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, mass, length = blocks.pop()
            whole = mass + block[1]
            block = ((mean * mass + block[0] * block[1]) / whole, whole, length + block[2])
        blocks.append(block)
    lengths = torch.tensor([length for _, _, length in blocks])
    return values.new_tensor([mean for mean, _, _ in blocks]).repeat_interleave(lengths)
