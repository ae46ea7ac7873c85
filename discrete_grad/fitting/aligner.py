"""Fit the aligner, which says whether two rows behave alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.config import AlignerConfig
from discrete_grad.fitting.hard_pairs import Mined, mine_hard_pairs, with_swaps
from discrete_grad.models.aligner import projection
from discrete_grad.models.own import as_estimator
from discrete_grad.models.protocol import require
from discrete_grad.objectives import rank_n_contrast
from discrete_grad.objectives.contrastive_losses import PairLoss, RowLoss, contrastive_loss
from discrete_grad.sampling import seeded
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.config import require_config
from discrete_grad.training.devices import AskedFromCpu
from discrete_grad.training.history import History
from discrete_grad.training.logs import Log, no_log
from discrete_grad.training.loop import Callback, Objective, Step, derive_seed, no_callback, train

__all__ = ["fit_aligner"]

_MAX_HELD_OUT = 512
_HELD_OUT_TEMPERATURE = 0.1


def fit_aligner(
    aligner: nn.Module,
    rows: ScoredRows,
    *,
    config: AlignerConfig,
    seed: int,
    stage: str = "aligner",
    log: Log = no_log,
    checkpoint: Checkpoint | None = None,
    callback: Callback = no_callback,
) -> History:
    """Train a projection of the frozen estimator's latents by a contrastive loss.

    Rows behave alike if their scores are near: `rows.scores`, or all of `rows.behaviour`. Training
    stops early by the loss of held-out rows; a loss of mined pairs, of which held-out rows have
    few, or of pytorch-metric-learning, by their Rank-N-Contrast.

    Args:
        aligner: trained in place, then frozen. One's own is a module with `space` and
            `project(row, context)`, and for pseudo-labels an `estimator`.
        rows: at least 4.
        config: training.
        seed: decides every random number.
        stage: name in the log and in the seeds.
        log: called as `log(metrics, step)`; see `train`.
        checkpoint: where the state is saved and resumed from; see `train`.
        callback: called as `callback(model, step)`; see `train`.

    Returns:
        The losses.

    Raises:
        ValueError: for settings out of range, a loss of mined pairs where there are none, or
            pseudo-labels for rows with several scores, of which the estimator knows one.
        TypeError: for an aligner that lacks a part, which is named.

    Example:
        >>> from discrete_grad.models import Aligner, Estimator
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate().repeat(10, 1)
        >>> rows = ScoredRows(codes, codes.sum(-1) - 1.5)
        >>> aligner = Aligner(Estimator(space), 4)
        >>> history = fit_aligner(aligner, rows, config=AlignerConfig(steps=20), seed=0)
        >>> aligner(codes[:5], codes[5:10]).shape
        torch.Size([5])
    """
    require_config("config of fit_aligner", config, AlignerConfig)
    config.check_losses()
    require("fit_aligner", aligner, "space", "project", "parameters")
    kept, held_out = rows.split(seed=derive_seed(seed, stage, "rows"), most=_MAX_HELD_OUT)
    mined = _mined(aligner, kept, config, derive_seed(seed, stage, "pairs"))
    objective = _AlignerObjective(aligner, kept, held_out, mined, config)
    history = train(
        objective, config, seed=seed, stage=stage, log=log, checkpoint=checkpoint, callback=callback
    )
    aligner.requires_grad_(False).eval()
    return history


def _mined(aligner: Any, rows: ScoredRows, config: AlignerConfig, seed: int) -> Mined | None:
    """The mined pairs, if the settings want any."""
    of_pairs = isinstance(contrastive_loss(config.loss), PairLoss)
    if not config.mined_share and not of_pairs:
        return None
    device, rows, generator = rows.codes.device, rows.to(torch.device("cpu")), seeded(seed)
    pseudo = torch.zeros(len(rows), dtype=torch.bool)
    if count := round(config.pseudo_labels * len(rows)):
        require("pseudo-labels", aligner, "estimator")
        estimator = as_estimator("pseudo-labels", aligner.estimator, aligner.space)
        asked = AskedFromCpu(estimator, device)
        rows, pseudo = with_swaps(rows, estimator.space, asked, count, generator=generator)
    # sorting and looking up, on the CPU; the rows found go where the others are
    mined = mine_hard_pairs(rows, pseudo=pseudo, generator=generator)
    if not len(mined) and of_pairs:
        raise ValueError(
            f"the loss {config.loss} needs mined pairs, and of {len(rows)} rows none has both a "
            "row one or two features away with another score and one far away with the same"
        )
    return replace(mined, rows=mined.rows.to(device))


class _AlignerObjective(Objective):
    model: Any

    def __init__(
        self,
        model: nn.Module,
        rows: ScoredRows,
        held_out: ScoredRows,
        mined: Mined | None,
        config: AlignerConfig,
    ) -> None:
        super().__init__()
        self.model = model
        self.rows, self.held_out, self.mined = rows, held_out, mined
        self.config, self.loss = config, contrastive_loss(config.loss)

    def forward(self, step: Step) -> Tensor:
        """Contrastive loss of a batch."""
        if isinstance(self.loss, PairLoss):
            return self._pair_loss(self.loss, step)
        config, share = self.config, self.config.mined_share if self.mined else 0.0
        triplets = int(share * config.batch_size / 3)
        parts = [self.rows.take(step.batch(len(self.rows), config.batch_size - 3 * triplets))]
        if self.mined and triplets:
            parts += _drawn(self.mined, step, triplets, negatives=1)
        return self._row_loss(self.loss, *parts)

    def validate(self) -> Tensor:
        """Contrastive loss of the held-out rows."""
        if isinstance(self.loss, RowLoss) and self.loss.validates:
            return self._row_loss(self.loss, self.held_out)
        projections, behaviour = self._projected(self.held_out)
        return rank_n_contrast(projections, behaviour, temperature=_HELD_OUT_TEMPERATURE)

    def _row_loss(self, loss: RowLoss, *parts: ScoredRows) -> Tensor:
        """Of all rows of the parts as one batch."""
        config, found = self.config, [self._projected(part) for part in parts]
        projections, behaviour = (torch.cat(side) for side in zip(*found, strict=True))
        return loss.function(
            projections, behaviour, temperature=config.temperature, near=config.near
        )

    def _pair_loss(self, loss: PairLoss, step: Step) -> Tensor:
        """Of mined rows alone."""
        mined, config = self.mined, self.config
        assert mined is not None  # without any, `_mined` has raised
        count = max(2, config.batch_size // 3)
        parts = _drawn(mined, step, count, negatives=mined.negatives.shape[1])
        anchors, positives, negatives = (self._projected(part)[0] for part in parts)
        negatives = negatives.unflatten(0, (len(anchors), -1))
        return loss.function(anchors, positives, negatives, temperature=config.temperature)

    def _projected(self, rows: ScoredRows) -> tuple[Tensor, Tensor]:
        """Projections `(N, P)` and behaviour `(N, S)`."""
        projections = projection(self.model, rows.codes, rows.context, space=self.model.space)
        return projections, rows.all_scores


def _drawn(mined: Mined, step: Step, count: int, *, negatives: int) -> list[ScoredRows]:
    """This process's share of `count` anchors, a positive of each and so many negatives of each."""
    chosen = replace(step, stage=f"{step.stage} mined").batch(len(mined), count)
    places = replace(step, stage=f"{step.stage} positives")
    turn = places.batch(mined.positives.shape[1], count)
    order = replace(step, stage=f"{step.stage} negatives").batch(mined.negatives.shape[1], count)
    every = (order.unsqueeze(-1) + torch.arange(negatives)) % mined.negatives.shape[1]
    indices = (
        mined.anchors[chosen],
        mined.positives[chosen, turn],
        mined.negatives[chosen.unsqueeze(-1), every].flatten(),
    )
    return [mined.rows.take(index) for index in indices]
