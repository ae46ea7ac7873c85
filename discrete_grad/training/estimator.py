"""Fit an ensemble of estimators to scored rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from discrete_grad.models import Estimator, EstimatorEnsemble
from discrete_grad.sampling import isolated_seed, permutation, seeded
from discrete_grad.space import CategoricalSpace, ContextSpec
from discrete_grad.training.config import EstimatorConfig
from discrete_grad.training.loop import Objective, Step, derive_seed, train
from discrete_grad.training.rows import Rows

__all__ = ["fit_estimator", "new_ensemble"]

_MAX_HELD_OUT = 4096


def fit_estimator(
    ensemble: EstimatorEnsemble,
    rows: Rows,
    *,
    config: EstimatorConfig,
    seed: int,
    stage: str = "estimator",
    **options: Any,
) -> EstimatorEnsemble:
    """Train an ensemble by squared error; every member stops early on rows of its own.

    Args:
        ensemble: trained in place.
        rows: at least 2.
        config: training.
        seed: decides every random number.
        stage: name in the log and in the seeds.
        options: `log` and `checkpoint`, as in `train`.

    Returns:
        The ensemble, frozen and in evaluation mode.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate().repeat(10, 1)
        >>> rows = Rows(codes, codes.sum(-1) - 1.5)
        >>> config = EstimatorConfig(members=2, hidden=(8,), steps=100)
        >>> ensemble = new_ensemble(space, None, config, seed=0)
        >>> ensemble = fit_estimator(ensemble, rows, config=config, seed=0)
        >>> bool((ensemble(codes) - rows.scores).abs().mean() < 0.5)
        True
    """
    held_out = _held_out(len(rows), config, derive_seed(seed, stage, "rows"))
    objective = _EstimatorObjective(ensemble, rows, held_out, config.batch_size)
    train(objective, config, seed=seed, stage=stage, **options)
    return ensemble.requires_grad_(False).eval()


def new_ensemble(
    space: CategoricalSpace, spec: ContextSpec | None, config: EstimatorConfig, *, seed: int
) -> EstimatorEnsemble:
    """An untrained ensemble for rows of the space in contexts of the spec.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> new_ensemble(space, None, EstimatorConfig(members=4), seed=0).num_members
        4
    """

    def member() -> Estimator:
        return Estimator(
            space, context=spec, dim=config.dim, hidden=config.hidden, dropout=config.dropout
        )

    with isolated_seed(seed):
        return EstimatorEnsemble([member() for _ in range(config.members)])


def _held_out(count: int, config: EstimatorConfig, seed: int) -> Tensor:
    """Rows `(M, H)` each member holds out: consecutive parts of one random order, as in K folds."""
    order = permutation(count, generator=seeded(seed))
    size = min(max(1, round(count * config.held_out)), count - 1, _MAX_HELD_OUT)
    start = torch.arange(config.members).unsqueeze(-1) * size
    return order[(start + torch.arange(size)) % count]


class _EstimatorObjective(Objective):
    model: EstimatorEnsemble

    def __init__(
        self, model: EstimatorEnsemble, rows: Rows, held_out: Tensor, batch_size: int
    ) -> None:
        super().__init__()
        self.model = model
        self.rows = rows
        self.held_out = held_out
        self.batch_size = batch_size
        kept = torch.ones(len(held_out), len(rows), dtype=torch.bool).scatter(1, held_out, False)
        self.kept = kept.nonzero()[:, 1].view(len(held_out), -1)

    def forward(self, step: Step) -> Tensor:
        """Sum of the members' mean squared errors, so that each learns as if alone."""
        members, count = self.kept.shape
        picked = self.kept.gather(1, step.batch(count, members, self.batch_size))
        return self._errors(picked).mean(-1).sum()

    def validate(self) -> Tensor:
        """Mean squared error of every member on its held-out rows, `(M,)`."""
        return self._errors(self.held_out).mean(-1)

    def _errors(self, indices: Tensor) -> Tensor:
        rows = self.rows.take(indices)
        predicted = self.model.predictions(rows.codes, rows.context, own_rows=True)
        return (predicted - rows.scores).square()
