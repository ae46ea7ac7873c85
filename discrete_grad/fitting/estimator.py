"""Fit an ensemble of estimators to scored rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.config import Architecture, EstimatorConfig
from discrete_grad.fitting.stacking import fit_families
from discrete_grad.models import (
    AnovaEnsemble,
    BaseEnsemble,
    BaseEstimator,
    Estimator,
    EstimatorEnsemble,
    KernelEnsemble,
    MixedEnsemble,
    MultilinearEstimator,
    SequenceEstimator,
    StackedEnsemble,
)
from discrete_grad.models.sequence import letters_of
from discrete_grad.objectives import conservative_penalty
from discrete_grad.sampling import isolated_seed, permutation, seeded
from discrete_grad.space import CategoricalSpace, ContextSpec
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.config import require_config
from discrete_grad.training.history import History
from discrete_grad.training.logs import Log, no_log
from discrete_grad.training.loop import Callback, Objective, Step, derive_seed, no_callback, train

__all__ = ["fit_estimator", "new_ensemble"]

_MAX_HELD_OUT = 4096
_FINE = 2**31  # times as many observations it is below 2^63
_TEMPTING_SWAPS = 2


def fit_estimator(
    ensemble: BaseEnsemble,
    rows: ScoredRows,
    *,
    config: EstimatorConfig,
    seed: int,
    stage: str = "estimator",
    absolute: bool = False,
    log: Log = no_log,
    checkpoint: Checkpoint | None = None,
    callback: Callback = no_callback,
) -> History:
    """Train an ensemble by squared error; every member holds out rows of its own.

    Networks stop early by the held-out rows; then the other families are fitted, and all of them
    weighted by what they predict for the rows their members hold out. A row with a count is learnt
    from as so many observations with its score as their mean.

    Args:
        ensemble: trained in place, then frozen; made for the same config.
        rows: at least 2, on the ensemble's device.
        config: training; what `config.for_rows` gives is used.
        seed: decides every random number.
        stage: name in the log and in the seeds.
        absolute: train networks by absolute error, under which they learn the median.
        log: called as `log(metrics, step)`; see `train`.
        checkpoint: where the state is saved and resumed from; see `train`.
        callback: called as `callback(model, step)`; see `train`.

    Returns:
        The losses of the networks; nothing without networks.

    Raises:
        ValueError: for an absolute error and a family that learns the mean, or an ensemble of
            another number of members.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate().repeat(10, 1)
        >>> rows = ScoredRows(codes, codes.sum(-1) - 1.5)
        >>> config = EstimatorConfig(members=2, hidden=(8,), steps=100)
        >>> ensemble = new_ensemble(space, None, config, seed=0)
        >>> history = fit_estimator(ensemble, rows, config=config, seed=0)
        >>> bool((ensemble(codes) - rows.scores).abs().mean() < 0.5)
        True
    """
    require_config("config of fit_estimator", config, EstimatorConfig)
    if absolute and config.families != ("networks",):
        raise ValueError(f"networks alone learn the median, got families {config.families}")
    config = config.for_rows(len(rows))
    if ensemble.num_members != config.members:
        raise ValueError(
            f"the ensemble has {ensemble.num_members} members, the settings for {len(rows)} rows "
            f"ask for {config.members}: make it by new_ensemble(..., rows={len(rows)})"
        )
    held_out = held_out_parts(len(rows), config, derive_seed(seed, stage, "rows"))
    held_out = held_out.to(rows.codes.device)
    trained, history = trained_part(ensemble), History()
    if trained is not None:
        aside = held_out.repeat(trained.num_members // config.members, 1)
        objective = _EstimatorObjective(trained, rows, aside, config, absolute)
        history = train(
            objective,
            config,
            seed=seed,
            stage=stage,
            log=log,
            checkpoint=checkpoint,
            callback=callback,
        )
    ensemble.requires_grad_(False).eval()
    if isinstance(ensemble, StackedEnsemble):
        fit_families(ensemble, rows, held_out, seed=derive_seed(seed, stage, "kernel"))
    return history


def new_ensemble(
    space: CategoricalSpace,
    spec: ContextSpec | None,
    config: EstimatorConfig,
    *,
    seed: int,
    rows: int = 0,
) -> BaseEnsemble:
    """An untrained ensemble for a number of rows of the space, in contexts of the spec.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> new_ensemble(space, None, EstimatorConfig(members=4), seed=0).num_members
        4
    """
    require_config("config of new_ensemble", config, EstimatorConfig)
    config = config.for_rows(rows)
    makers: dict[str, Callable[[], BaseEnsemble]] = {
        "networks": lambda: _new_networks(space, spec, config, seed),
        "sequences": lambda: _new_sequences(space, spec, config, seed),
        "kernel": lambda: KernelEnsemble(space, context=spec, members=config.members),
        "pairs": lambda: AnovaEnsemble(space, context=spec, members=config.members),
        "anova": lambda: AnovaEnsemble(space, context=spec, members=config.members),
        "trees": lambda: AnovaEnsemble(space, context=spec, members=config.members),
    }
    names = list(config.families)
    if letters_of(space) is None and len(names) > 1:
        names = [name for name in names if name != "sequences"]
    if names == ["networks"]:
        return makers["networks"]()
    return StackedEnsemble({name: makers[name]() for name in names})


def trained_part(ensemble: BaseEnsemble) -> BaseEnsemble | None:
    """The part of an ensemble that is trained by gradients, if it has one.

    Where two families are, they are trained as one ensemble: M members, then M others.
    """
    if not isinstance(ensemble, StackedEnsemble):
        return ensemble
    found: list[EstimatorEnsemble] = []
    for family in ensemble.families.values():
        found += _networks_in(family)
    return MixedEnsemble(found) if len(found) > 1 else next(iter(found), None)


def _networks_in(family: nn.Module) -> list[EstimatorEnsemble]:
    if isinstance(family, MixedEnsemble):
        return family.parts
    return [family] if isinstance(family, EstimatorEnsemble) else []


def _new_networks(
    space: CategoricalSpace, spec: ContextSpec | None, config: EstimatorConfig, seed: int
) -> EstimatorEnsemble | MixedEnsemble:
    kinds, count = config.architectures, config.members
    with isolated_seed(seed):
        ensembles = [
            EstimatorEnsemble(
                [_member(kind, space, spec, config) for _ in range(i, count, len(kinds))]
            )
            for i, kind in enumerate(kinds)
        ]
    return ensembles[0] if len(ensembles) == 1 else MixedEnsemble(ensembles)


def _new_sequences(
    space: CategoricalSpace, spec: ContextSpec | None, config: EstimatorConfig, seed: int
) -> EstimatorEnsemble:
    with isolated_seed(derive_seed(seed, "sequences")):
        members = [
            SequenceEstimator(space, context=spec, dim=config.dim, dropout=config.dropout)
            for _ in range(config.members)
        ]
    return EstimatorEnsemble(members)


def _member(
    kind: Architecture, space: CategoricalSpace, spec: ContextSpec | None, config: EstimatorConfig
) -> BaseEstimator:
    if kind == "multilinear":
        return MultilinearEstimator(space, context=spec)
    hidden = config.hidden if kind == "mlp" else (sum(config.hidden),)
    return Estimator(space, context=spec, dim=config.dim, hidden=hidden, dropout=config.dropout)


def held_out_parts(count: int, config: EstimatorConfig, seed: int) -> Tensor:
    """Rows `(M, H)` each member holds out: consecutive parts of one random order, as in K folds."""
    order = permutation(count, generator=seeded(seed))
    size = min(max(1, round(count * config.held_out)), count - 1, _MAX_HELD_OUT)
    start = torch.arange(config.members).unsqueeze(-1) * size
    return order[(start + torch.arange(size)) % count]


def kept_parts(held_out: Tensor, count: int) -> Tensor:
    """Rows `(M, count - H)` each member learns from: those it does not hold out."""
    kept = held_out.new_ones(len(held_out), count, dtype=torch.bool).scatter(1, held_out, False)
    return kept.nonzero()[:, 1].view(len(held_out), -1)


def members_of(ensemble: BaseEnsemble, name: str) -> slice:
    """Those members that one tensor of the ensemble's state belongs to."""
    if isinstance(ensemble, EstimatorEnsemble) and ensemble.own is not None:
        index = int(name.split(".")[1])
        return slice(index, index + 1)
    if not isinstance(ensemble, MixedEnsemble):
        return slice(None)
    _, place, inner = name.split(".", 2)
    before = sum(ensemble.sizes[: int(place)])
    within = members_of(ensemble.parts[int(place)], inner)
    return slice(before + (within.start or 0), before + (within.stop or ensemble.sizes[int(place)]))


class _EstimatorObjective(Objective):
    model: BaseEnsemble

    def __init__(
        self,
        model: BaseEnsemble,
        rows: ScoredRows,
        held_out: Tensor,
        config: EstimatorConfig,
        absolute: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self.rows = rows
        self.held_out = held_out
        self.config = config
        self.error = torch.abs if absolute else torch.square
        self.kept = kept_parts(held_out, len(rows))
        self.ends: Tensor | None = None
        if rows.counts is not None and rows.repeated:
            self.ends = rows.counts[self.kept].cumsum(1)

    def forward(self, step: Step) -> Tensor:
        """Sum of the members' losses, so that each learns as if alone."""
        rows = self.rows.take(self._batch(step))
        predicted = self.model.predictions(rows.codes, rows.context, own_rows=True)
        loss = self.error(predicted - rows.scores).mean(-1).sum()
        if self.config.conservative:
            tempting = _tempting(self.model, rows)
            sought = self.model.predictions(tempting, rows.context, own_rows=True)
            loss = loss + self.config.conservative * conservative_penalty(sought, predicted).sum()
        return loss

    def validate(self) -> Tensor:
        """Mean error of every member on its held-out rows, `(M,)`."""
        rows = self.rows.take(self.held_out)
        predicted = self.model.predictions(rows.codes, rows.context, own_rows=True)
        errors = self.error(predicted - rows.scores)
        if rows.counts is None:
            return errors.mean(-1)
        return (errors * rows.counts).sum(-1) / rows.counts.sum(-1)

    def _batch(self, step: Step) -> Tensor:
        """Places `(M, B)` of each member's rows, drawn in proportion to their counts.

        Weights in the loss would be right on average, too, but a rare draw of a row with a large
        count would make a step of its own.
        """
        members, count = self.kept.shape
        if self.ends is None:
            drawn = step.batch(count, members, self.config.batch_size)
            return self.kept.gather(1, drawn.to(self.kept.device))
        drawn = step.batch(_FINE, members, self.config.batch_size).to(self.kept.device)
        observation = drawn * self.ends[:, -1:] // _FINE
        # right: an end is the number of the next row's first observation
        return self.kept.gather(1, torch.searchsorted(self.ends, observation, right=True))

    def members(self, name: str) -> slice:
        """Those of the ensemble the parameter belongs to."""
        return members_of(self.model, name)


def _tempting(model: BaseEnsemble, rows: ScoredRows) -> Tensor:
    """Codes `(M, B, F)`: each member's own rows after the swaps its gradient promises most from."""
    space, codes = model.space, rows.codes
    for _ in range(_TEMPTING_SWAPS):
        row = space.one_hot(codes).requires_grad_()
        with torch.enable_grad():
            total = model.predictions(row, rows.context, own_rows=True).sum()
        (slope,) = torch.autograd.grad(total, row)
        # the own category gains 0: where nothing is promised, nothing is swapped
        codes = _swapped(space, codes, space.swap_gains(slope, codes).argmax(-1))
    return codes


def _swapped(space: CategoricalSpace, codes: Tensor, column: Tensor) -> Tensor:
    """Codes `(..., F)` with the category of one column `(...)` put in its feature's place."""
    offsets = torch.tensor([*space.offsets, space.width], device=codes.device)
    feature = torch.searchsorted(offsets, column, right=True) - 1
    return codes.scatter(-1, feature.unsqueeze(-1), (column - offsets[feature]).unsqueeze(-1))
