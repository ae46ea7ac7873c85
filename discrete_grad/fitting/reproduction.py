"""Fit a policy by reproducing the rows."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.config import ReproductionConfig
from discrete_grad.objectives import inverse_score_cross_entropy
from discrete_grad.policies import conditional_logits, known_mask
from discrete_grad.policies.conditional import require_features
from discrete_grad.policies.protocol import has, require
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.config import require_config
from discrete_grad.training.history import History
from discrete_grad.training.logs import Log, no_log
from discrete_grad.training.loop import Callback, Objective, Step, derive_seed, no_callback, train

__all__ = ["fit_reproduction"]

_LEAST_ROWS, _MAX_HELD_OUT = 4, 4096


def fit_reproduction(
    policy: nn.Module,
    rows: ScoredRows,
    *,
    config: ReproductionConfig,
    seed: int,
    stage: str = "reproduction",
    attributes: Tensor | None = None,
    hide: float = 0.2,
    log: Log = no_log,
    checkpoint: Checkpoint | None = None,
    callback: Callback = no_callback,
) -> History:
    """Train a policy to reproduce rows: with equal scores, by maximum likelihood.

    A fifth of the rows, at most 4,096, is held out; with some patience the policy ends with the
    weights that were best there.

    Args:
        policy: trained in place, then frozen; one for `conditional_logits`.
        rows: at least 4; each loss is divided by the row's score, which is above 0. Equal scores
            give the data policy, the rows' own scores the naive baseline. A row with a count weighs
            as so many rows.
        config: training.
        seed: decides every random number.
        stage: name in the log and in the seeds.
        attributes: `(N, A)`, for an `AutoregressiveGenerator` that has them.
        hide: share of a batch's rows, in [0, 1], whose attributes are hidden, so that the policy
            learns p(row | attributes) and p(row) at once.
        log: called as `log(metrics, step)`; see `train`.
        checkpoint: where the state is saved and resumed from; see `train`.
        callback: called as `callback(model, step)`; see `train`.

    Returns:
        The losses.

    Raises:
        ValueError: for too few rows, codes or scores out of range, a context or attributes of
            another shape, not finite, or of a policy without any, a share out of range, or a policy
            that is frozen.
        TypeError: for a policy that does not show the law of each feature.

    Reference:
        Ho and Salimans (2022), arXiv 2207.12598, Algorithm 1, for what is hidden.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import AutoregressiveGenerator
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> codes = torch.tensor([[0, 1], [1, 0]]).repeat(20, 1)
        >>> config = ReproductionConfig(steps=60, learning_rate=0.03)
        >>> policy = AutoregressiveGenerator(space, hidden=(16,))
        >>> rows = ScoredRows(codes, torch.ones(40))
        >>> history = fit_reproduction(policy, rows, config=config, seed=0)
        >>> [round(2 * p) for p in policy.log_prob(space.enumerate()).exp().tolist()]
        [0, 1, 1, 0]
    """
    require_config("config of fit_reproduction", config, ReproductionConfig)
    _check(policy, rows, attributes, hide)
    objective = _ReproductionObjective(
        policy,
        rows,
        rows.split_places(seed=derive_seed(seed, stage, "rows"), most=_MAX_HELD_OUT),
        config.batch_size,
        attributes=attributes,
        hide=hide,
    )
    history = train(
        objective, config, seed=seed, stage=stage, log=log, checkpoint=checkpoint, callback=callback
    )
    policy.requires_grad_(False).eval()
    return history


def _check(policy: Any, rows: ScoredRows, attributes: Tensor | None, hide: float) -> None:
    require("fit_reproduction", policy, "space", "parameters")
    require_features("fit_reproduction", policy)
    if len(rows) < _LEAST_ROWS:
        raise ValueError(f"needs at least {_LEAST_ROWS} rows, got {len(rows)}")
    policy.space.check_codes(rows.codes)
    if rows.scores.shape != (len(rows),):
        raise ValueError(f"scores must be ({len(rows)},), got {tuple(rows.scores.shape)}")
    wrong = ~((rows.scores > 0) & rows.scores.isfinite())
    if wrong.any():
        place = int(wrong.nonzero()[0])
        got = f"{rows.scores[place]:g} for row {place}"
        raise ValueError(f"scores must be finite and above 0, got {got}")
    if not 0 <= hide <= 1:
        raise ValueError(f"hide is a share in [0, 1], got {hide}")
    if attributes is not None and not has(policy, "attributes_spec"):
        raise ValueError(f"attributes are given, but a {type(policy).__name__} takes none")
    for name, given in (("context", rows.context), ("attributes", attributes)):
        if given is None:
            continue
        if given.dim() != 2 or len(given) != len(rows):
            raise ValueError(f"{name} must be ({len(rows)}, C), got {tuple(given.shape)}")
        if not given.isfinite().all():
            row, column = (~given.isfinite()).nonzero()[0].tolist()
            got = f"{given[row, column]:g} in row {row}, column {column}"
            raise ValueError(f"{name} must be finite, got {got}")


class _ReproductionObjective(Objective):
    def __init__(
        self,
        model: nn.Module,
        rows: ScoredRows,
        split: tuple[Tensor, Tensor],
        batch_size: int,
        *,
        attributes: Tensor | None,
        hide: float,
    ) -> None:
        super().__init__()
        self.model = model
        self.rows, self.attributes = rows, attributes
        self.learned, self.held_out = split
        self.batch_size, self.hide = batch_size, hide

    def forward(self, step: Step) -> Tensor:
        """Weighted cross-entropy of a batch."""
        places = self.learned[step.batch(len(self.learned), self.batch_size)]
        if self.attributes is None:
            return self._loss(places)
        noise = step.generator(torch.device("cpu"))
        known = known_mask((len(places),), self.hide, generator=noise)
        return self._loss(places, known.to(self.attributes.device))

    def validate(self) -> Tensor:
        """Weighted cross-entropy of the held-out rows, expected over what is hidden."""
        if self.attributes is None:
            return self._loss(self.held_out)
        known = torch.ones(len(self.held_out), dtype=torch.bool, device=self.attributes.device)
        known_loss, hidden = self._loss(self.held_out, known), self._loss(self.held_out, ~known)
        return (1 - self.hide) * known_loss + self.hide * hidden

    def _loss(self, places: Tensor, known: Tensor | None = None) -> Tensor:
        rows, model = self.rows.take(places), cast(Any, self.model)
        if self.attributes is None:
            logits = conditional_logits(model, rows.codes, rows.context)
        else:
            logits = model(rows.codes, rows.context, self.attributes[places], known=known)
        weights = rows.scores if rows.counts is None else rows.scores / rows.counts
        return inverse_score_cross_entropy(model.space, logits, rows.codes, weights)
