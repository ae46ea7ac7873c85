"""Fit the aligner: which rows behave alike?"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from discrete_grad.models import Aligner
from discrete_grad.objectives import rank_n_contrast
from discrete_grad.training.config import AlignerConfig
from discrete_grad.training.loop import Objective, Step, derive_seed, train
from discrete_grad.training.rows import Rows

__all__ = ["fit_aligner"]

_MAX_HELD_OUT = 512


def fit_aligner(
    aligner: Aligner,
    rows: Rows,
    *,
    config: AlignerConfig,
    seed: int,
    **options: Any,
) -> Aligner:
    """Train a projection of the frozen estimator's latents by Rank-N-Contrast.

    Args:
        aligner: trained in place.
        rows: at least 4.
        config: training.
        seed: decides every random number.
        options: `log` and `checkpoint`, as in `train`.

    Returns:
        The aligner, frozen and in evaluation mode.

    Example:
        >>> from discrete_grad.models import Estimator
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate().repeat(10, 1)
        >>> rows = Rows(codes, codes.sum(-1) - 1.5)
        >>> aligner = Aligner(Estimator(space), 4)
        >>> aligner = fit_aligner(aligner, rows, config=AlignerConfig(steps=20), seed=0)
        >>> aligner(codes[:5], codes[5:10]).shape
        torch.Size([5])
    """
    kept, held_out = rows.split(seed=derive_seed(seed, "aligner", "rows"), most=_MAX_HELD_OUT)
    objective = _AlignerObjective(aligner, kept, held_out, config)
    train(objective, config, seed=seed, stage="aligner", **options)
    return aligner.requires_grad_(False).eval()


class _AlignerObjective(Objective):
    model: Aligner

    def __init__(self, model: Aligner, rows: Rows, held_out: Rows, config: AlignerConfig) -> None:
        super().__init__()
        self.model = model
        self.rows, self.held_out = rows, held_out
        self.config = config

    def forward(self, step: Step) -> Tensor:
        """Rank-N-Contrast of a batch."""
        return self._loss(self.rows.take(step.batch(len(self.rows), self.config.batch_size)))

    def validate(self) -> Tensor:
        """Rank-N-Contrast of the held-out rows."""
        return self._loss(self.held_out)

    def _loss(self, rows: Rows) -> Tensor:
        projections = self.model.project(rows.codes, rows.context)
        return rank_n_contrast(projections, rows.scores, temperature=self.config.temperature)
