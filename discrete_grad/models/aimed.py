"""Several ensembles as one score: scores traded off against each other, times chances."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from discrete_grad.models.ensemble import BaseEnsemble
from discrete_grad.sampling import exponential_like
from discrete_grad.space import ContextSpec

__all__ = [
    "AimedEnsemble",
    "Chance",
    "Scalarisation",
    "scalarised",
    "simplex_like",
    "tradeoff_columns",
    "tradeoff_spec",
    "tradeoff_weights",
]

Scalarisation = Literal["linear", "chebyshev", "hypervolume"]

_LEAST_WEIGHT = 0.01
_LINEAR_SHARE = 0.05
_BELOW = 0.1


def simplex_like(tradeoffs: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Trade-offs of sum 1, uniform over the simplex, of the shape `(..., K)` and dtype given.

    Example:
        >>> simplex_like(torch.zeros(5, 3)).sum(1).allclose(torch.ones(5))
        True
    """
    drawn = exponential_like(tradeoffs, generator=generator)
    return drawn / drawn.sum(-1, keepdim=True)


def tradeoff_columns(weights: Tensor) -> Tensor:
    """Weights `(..., K)` of a trade-off as a network reads them: of mean 0 and variance 1.

    The mean and the variance are those over the simplex.

    Example:
        >>> tradeoff_columns(torch.tensor([0.5, 0.5]))
        tensor([0., 0.])
    """
    return (weights - 1 / weights.shape[-1]) * _spread(weights.shape[-1])


def tradeoff_weights(columns: Tensor) -> Tensor:
    """Inverse of `tradeoff_columns`.

    Example:
        >>> tradeoff_weights(tradeoff_columns(torch.tensor([0.25, 0.75])))
        tensor([0.2500, 0.7500])
    """
    count = columns.shape[-1]
    return (columns / _spread(count) + 1 / count).clamp(0, 1)


def _spread(count: int) -> float:
    return math.sqrt(count**2 * (count + 1) / (count - 1))


def tradeoff_spec(spec: ContextSpec | None, names: Sequence[str]) -> ContextSpec:
    """Context columns followed by one number for each name: the columns of a trade-off.

    Example:
        >>> tradeoff_spec(ContextSpec({"shop": 2}), ["yield", "cost"]).names
        ('shop', 'tradeoff yield', 'tradeoff cost')
    """
    more = [f"tradeoff {name}" for name in names]
    if spec is None:
        return ContextSpec(numeric=more)
    space = spec.categorical
    categories = {} if space is None else dict(zip(space.names, space.categories, strict=True))
    return ContextSpec(categories, [*spec.numeric, *more], embedded=spec.embedded)


def scalarised(scores: Tensor, weights: Tensor, kind: Scalarisation) -> Tensor:
    """One number `(...)` of several scores `(..., K)` under a trade-off `(..., K)`.

    `linear` is their weighted mean. `chebyshev` is minus the largest weighted distance below 1, and
    `hypervolume` the least height above -0.1 divided by its weight: both find every part of a
    front, whatever its shape. A twentieth of the weighted mean is added to these, which decides
    between rows that are otherwise equal.

    Args:
        scores: 0 for the worst row and 1 for the best one.
        weights: at least 0, of sum 1.
        kind: one of the three.

    Reference:
        Chebyshev: Miettinen (1999), "Nonlinear Multiobjective Optimization", section 3.4;
        hypervolume: Zhang, Golovin (2020), arXiv 2006.04655, equation 2, to the power of 1 / K.

    Example:
        >>> scores = torch.tensor([[1.0, 0.0], [0.4, 0.4]])
        >>> for kind in ("linear", "hypervolume"):
        ...     print(scalarised(scores, torch.tensor([0.5, 0.5]), kind))
        tensor([0.5000, 0.4000])
        tensor([0.0250, 0.4200])
    """
    mean = (weights * scores).sum(-1)
    if kind == "linear":
        return mean
    share = (weights / weights.amax(-1, keepdim=True)).clamp_min(_LEAST_WEIGHT)
    if kind == "chebyshev":
        return 1 - (share * (1 - scores)).amax(-1) + _LINEAR_SHARE * mean
    # a row that is the worst in an aim without weight is not the worst of all
    return ((scores + _BELOW) / share).amin(-1) - _BELOW + _LINEAR_SHARE * mean


class Chance(nn.Module):
    """Probability that a row meets a threshold, or succeeds, by a calibrated ensemble.

    Args:
        model: the ensemble, of the thresholded score or of success.
        line: `(2,)`, slope and offset of the log-odds, from `fit_chance`.
        threshold: contexts `(..., C)` or None -> what is subtracted from the prediction `(...)`.

    Example:
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> chance = Chance(EstimatorEnsemble([Estimator(space)]), torch.tensor([0.0, 2.0]))
        >>> chance(torch.tensor([1, 2])).detach()
        tensor(0.8808)
    """

    line: Tensor

    def __init__(
        self,
        model: BaseEnsemble,
        line: Tensor,
        threshold: Callable[[Tensor | None], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.threshold = model, threshold
        self.register_buffer("line", line)

    def forward(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Probability `(...)` of codes `(..., F)` or flat rows `(..., D)`."""
        predicted = self.model(row, context)
        if self.threshold is not None:
            predicted = predicted - self.threshold(context).to(predicted)
        slope, offset = self.line.to(predicted)
        return torch.sigmoid(slope * predicted + offset)


class AimedEnsemble(BaseEnsemble):
    """M members, each a trade-off of one member of every aim's ensemble, times all chances.

    A row that fails counts as the worst one: with probability p of meeting all thresholds the
    score is `p score + (1 - p) worst`. Of several aims the weights are the last columns of the
    context, as `tradeoff_spec` and `tradeoff_columns` have them, unless a trade-off is given.

    Args:
        aims: the ensembles, of M members each; the rows' latents are those of the first.
        ends: `(K, 2)`, the least and the largest score observed of each.
        chances: that are multiplied.
        names: of the aims.
        kind: how several are put together.
        tradeoff: weights `(K,)`; None where the context has them.

    Raises:
        ValueError: for neither an aim nor a chance.

    Example:
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> aims = [EstimatorEnsemble([Estimator(space)]) for _ in range(2)]
        >>> ends = torch.tensor([[-1.0, 1.0], [-1.0, 1.0]])
        >>> model = AimedEnsemble(aims, ends, names=["yield", "cost"])
        >>> model(space.enumerate(), tradeoff_columns(torch.tensor([1.0, 0.0]))).shape
        torch.Size([6])
    """

    ends: Tensor
    tradeoff: Tensor | None

    def __init__(
        self,
        aims: Sequence[BaseEnsemble],
        ends: Tensor,
        chances: Sequence[Chance] = (),
        *,
        names: Sequence[str],
        kind: Scalarisation = "linear",
        tradeoff: Tensor | None = None,
    ) -> None:
        if not aims and not chances:
            raise ValueError("an aimed ensemble needs an aim or a chance")
        first = aims[0] if aims else chances[0].model
        asked = len(aims) > 1 and tradeoff is None
        spec = tradeoff_spec(first.context_spec, names) if asked else first.context_spec
        super().__init__(first.space, spec)
        self.aims, self.chances = nn.ModuleList(aims), nn.ModuleList(chances)
        self.kind, self.asked = kind, asked
        self.register_buffer("ends", ends)
        self.register_buffer("tradeoff", tradeoff)

    @property
    def num_members(self) -> int:
        """M."""
        return self.first.num_members

    @property
    def first(self) -> BaseEnsemble:
        """The first aim's ensemble, or without any that of the first chance."""
        model = self.aims[0] if self.aims else self.chances[0].model
        assert isinstance(model, BaseEnsemble)
        return model

    def predictions(
        self, row: Tensor, context: Tensor | None = None, *, own_rows: bool = False
    ) -> Tensor:
        """Score by every member `(M, ...)`; see `BaseEnsemble.predictions`."""
        weights, context = self._parted(context)
        low, high = self.ends.unbind(1)
        if not self.aims:
            chance = self._chance(row, context)
            return chance if own_rows else chance.expand(self.num_members, *chance.shape)
        models = [model for model in self.aims if isinstance(model, BaseEnsemble)]
        given = [model.predictions(row, context, own_rows=own_rows) for model in models]
        if len(given) == 1:
            score, worst = given[0], low[0]
        else:
            scores = (torch.stack(given, -1) - low) / (high - low)
            # in the width of the scaled scores again; the worst row of all has 0
            score = (high - low).mean() * scalarised(scores, weights, self.kind)
            worst = torch.zeros_like(low[0])
        return worst + self._chance(row, context) * (score - worst) if self.chances else score

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Latents of the first aim."""
        return self.first.to_latent(row, self._parted(context)[1])

    def values(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean scores of the aims and, after them, probabilities of the chances, `(..., K + P)`."""
        context = self._parted(context)[1]
        asked = [model(row, context) for model in (*self.aims, *self.chances)]
        return torch.stack(asked, -1)

    def _chance(self, row: Tensor, context: Tensor | None) -> Tensor:
        chances: list[Tensor] = [chance(row, context) for chance in self.chances]
        return torch.stack(chances).prod(0)

    def _parted(self, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Weights of the trade-off, and what is left of a context."""
        if len(self.aims) < 2 or self.tradeoff is not None:
            given = self.ends.new_ones(1) if self.tradeoff is None else self.tradeoff
            return given, context
        if context is None:
            raise ValueError(f"this model takes a context (..., {self.context_spec}), got none")
        count = context.shape[-1] - len(self.aims)
        before, columns = context.split([count, len(self.aims)], -1)
        return tradeoff_weights(columns), before if count else None
