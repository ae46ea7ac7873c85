"""A scorer as the one member of an ensemble, on the scale that a generator is trained on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from discrete_grad.data import Schema
from discrete_grad.fitting.score_scale import ScoreScale
from discrete_grad.models import BaseEnsemble
from discrete_grad.models.protocol import require
from discrete_grad.runs.scorers._bound import BoundScorer
from discrete_grad.training.checkpoint import RunError

__all__ = ["ScorerModel", "answer_scale"]


class ScorerModel(BaseEnsemble):
    """Answers of a scorer, scaled to mean 0 and variance 1 over the rows of the table.

    It has no parameters: what computes is a frozen copy, or a function, outside of it.

    Args:
        bound: the scorer.
        schema: of the table; where it minimises the score, the answers are made small.
        scale: of the answers that are to be maximised; see `answer_scale`.
    """

    def __init__(self, bound: BoundScorer, schema: Schema, scale: ScoreScale) -> None:
        super().__init__(schema.space, schema.context_spec)
        self.bound, self.scale, self.sign = bound, scale, schema.signs[0]
        ends = scale.grid * scale.unit
        self.register_buffer("mean", (ends[:, 0] + ends[:, -1]) / 2, persistent=False)
        spread = (ends[:, -1] - ends[:, 0]) / (2 * math.sqrt(3))
        self.register_buffer("spread", spread, persistent=False)

    @property
    def num_members(self) -> int:
        """1."""
        return 1

    def predictions(
        self, row: Tensor, context: Tensor | None = None, *, own_rows: bool = False
    ) -> Tensor:
        """Score by the scorer `(1, ...)`; see `BaseEnsemble.predictions`."""
        if own_rows:
            row, context = row.squeeze(0), None if context is None else context.squeeze(0)
        given = [row.shape[:-1]] if context is None else [row.shape[:-1], context.shape[:-1]]
        lead = torch.broadcast_shapes(*given)
        row = row.expand(*lead, -1).reshape(lead.numel(), row.shape[-1])
        shown = None if context is None else context.expand(*lead, -1).flatten(0, -2)
        answers = self.sign * self.bound(row, shown)
        mean, spread = self._group(shown, len(row))
        return ((answers - mean) / spread).float().reshape(1, *lead)

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """TypeError: nothing is known of a scorer but its score."""
        require("a latent", self.bound, "to_latent")
        raise NotImplementedError

    def _group(self, context: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """Mean and spread of the rows that each of N rows is scaled like."""
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.spread, Tensor)
        if not len(self.scale.keys):  # no context has a scale of its own
            return self.mean[-1], self.spread[-1]
        place = self.scale.groups(None if context is None else context.cpu(), count)
        place = place.to(self.mean.device)
        return self.mean[place], self.spread[place]


def answer_scale(bound: BoundScorer, answers: Tensor, context: Tensor | None) -> ScoreScale:
    """Scale of a scorer's answers `(N,)` to the rows of its table, more being better.

    Raises:
        RunError: if all answers are equal.
    """
    scale = ScoreScale.fit("standard", answers, context, bound.columns.schema.context_spec)
    centre = scale.grid.mean(1, keepdim=True)
    whole = scale.grid[-1:] - centre[-1:]
    if whole[0, -1] <= torch.finfo(torch.float32).eps * scale.grid.abs().max():
        raise RunError(
            f"{bound.role} answers {answers[0].item():g} for every row of the table: "
            "there is nothing to maximise"
        )
    # a context whose rows all have one answer is scaled like the table, about its own answer
    constant = (scale.ends[:, 0] == scale.ends[:, 1]).unsqueeze(1)
    scale.grid = torch.where(constant, centre + whole, scale.grid)
    return scale
