"""The model of preferences: made, fitted to answers, and measured."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.estimator import held_out_parts, kept_parts, members_of, new_ensemble
from discrete_grad.models import PreferenceModel
from discrete_grad.objectives.preference import OUTCOMES, preference_log_probs
from discrete_grad.preferences.config import PreferenceConfig
from discrete_grad.preferences.preferences import Preferences
from discrete_grad.sampling import permutation, seeded
from discrete_grad.space import CategoricalSpace, ContextSpec
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.config import require_config
from discrete_grad.training.history import History
from discrete_grad.training.logs import Log, no_log
from discrete_grad.training.loop import Callback, Objective, Step, derive_seed, no_callback, train

__all__ = [
    "answer_log_probs",
    "fit_preference_model",
    "held_out_accuracy",
    "new_preference_model",
    "reward_unit",
]

_STAGE = "preference"


def new_preference_model(
    space: CategoricalSpace,
    spec: ContextSpec | None,
    config: PreferenceConfig,
    *,
    annotators: int = 1,
    ties: bool = True,
    seed: int,
) -> PreferenceModel:
    """An untrained model for rows of the space in contexts of the spec.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> new_preference_model(space, None, PreferenceConfig(members=3), seed=0).num_members
        3
    """
    require_config("config of new_preference_model", config, PreferenceConfig)
    reward = new_ensemble(space, spec, config, seed=seed)
    return PreferenceModel(reward, annotators=annotators, ties=ties, reliability=config.reliability)


def answer_log_probs(
    model: PreferenceModel,
    first: Tensor,
    second: Tensor,
    context: Tensor | None = None,
    *,
    annotator: Tensor | None = None,
    own_rows: bool = False,
) -> Tensor:
    """Log-probability `(M, ..., 3)` of every answer by every member, in the order of `OUTCOMES`.

    Args:
        model: of M members.
        first: codes `(..., F)` or flat `(..., D)`.
        second: of the same kind.
        context: `(..., C)` or None, of both rows.
        annotator: `(...)`, integers; None for one who is never wrong.
        own_rows: all have a leading dimension M, a part for each member.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> model = new_preference_model(space, None, PreferenceConfig(), seed=0)
        >>> rows = space.enumerate()
        >>> answer_log_probs(model, rows[:3], rows[3:]).shape
        torch.Size([8, 3, 3])
    """
    difference = model.differences(first, second, context, own_rows=own_rows)
    width = model.tie_width.view(-1, *[1] * (difference.dim() - 1))
    trust: Tensor | float = 1.0
    if annotator is not None and own_rows:
        trust = model.reliability.gather(1, annotator.flatten(1)).view_as(annotator)
    elif annotator is not None:
        trust = model.reliability[:, annotator]
    return preference_log_probs(difference, tie_width=width, reliability=trust)


def fit_preference_model(
    model: PreferenceModel,
    preferences: Preferences,
    *,
    config: PreferenceConfig,
    seed: int,
    stage: str = _STAGE,
    log: Log = no_log,
    checkpoint: Checkpoint | None = None,
    callback: Callback = no_callback,
) -> History:
    """Train a model of preferences by likelihood; every member stops early on pairs of its own.

    Each annotator's reliability has a Beta prior: without it a world in which all are reversed
    would explain the answers as well.

    Args:
        model: trained in place, then frozen; see `new_preference_model`.
        preferences: at least 2.
        config: training.
        seed: decides every random number.
        stage: name in the log and in the seeds.
        log: called as `log(metrics, step)`; see `train`.
        checkpoint: where the state is saved and resumed from; see `train`.
        callback: called as `callback(model, step)`; see `train`.

    Returns:
        The losses.

    Raises:
        ValueError: for fewer than 2 pairs, or pairs that do not fit the model.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> rows = space.enumerate().repeat(10, 1)
        >>> first, second = rows, rows.roll(1, 0)
        >>> outcome = (first.sum(-1) < second.sum(-1)).long()
        >>> config = PreferenceConfig(members=2, hidden=(8,), steps=100)
        >>> model = new_preference_model(space, None, config, ties=False, seed=0)
        >>> pairs = Preferences(first, second, outcome)
        >>> history = fit_preference_model(model, pairs, config=config, seed=0)
        >>> bool(model(torch.tensor([1, 2])) > model(torch.tensor([0, 0])))
        True
    """
    require_config("config of fit_preference_model", config, PreferenceConfig)
    preferences.check(model.space, model.context_spec)
    annotators = model.reliability.shape[1]
    if len(preferences) < 2 or len(preferences.annotators) > annotators:
        raise ValueError(
            f"needs 2 pairs and at most {annotators} annotators, got {len(preferences)} and "
            f"{len(preferences.annotators)}"
        )
    if preferences.has_ties and model.tie_bias is None:
        raise ValueError("the preferences hold a tie, and the model was made for none")
    held_out = _held_out(preferences, config, seed, stage)
    history = train(
        _PreferenceObjective(model, preferences, held_out, config),
        config,
        seed=seed,
        stage=stage,
        log=log,
        checkpoint=checkpoint,
        callback=callback,
    )
    model.requires_grad_(False).eval()
    return history


def _held_out(preferences: Preferences, config: PreferenceConfig, seed: int, stage: str) -> Tensor:
    held_out = held_out_parts(len(preferences), config, derive_seed(seed, stage, "rows"))
    return held_out.to(preferences.outcome.device)


class _PreferenceObjective(Objective):
    model: PreferenceModel

    def __init__(
        self,
        model: PreferenceModel,
        preferences: Preferences,
        held_out: Tensor,
        config: PreferenceConfig,
    ) -> None:
        super().__init__()
        self.model = model
        self.preferences = preferences
        self.held_out = held_out
        self.config = config
        self.kept = kept_parts(held_out, len(preferences))

    def forward(self, step: Step) -> Tensor:
        """Sum of the members' losses, so that each learns as if alone."""
        members, count = self.kept.shape
        drawn = step.batch(count, members, self.config.batch_size)
        picked = self.kept.gather(1, drawn.to(self.kept.device))
        loss = self._loss(picked).sum()
        share, odds = self.config.reliability, self.model.reliability_odds
        # minus the log of a Beta density: so many imagined answers, this share of them right; over
        # `count`, since the loss is a mean over the answers
        prior = share * F.softplus(-odds) + (1 - share) * F.softplus(odds)
        return loss + self.config.reliability_answers / count * prior.sum()

    def validate(self) -> Tensor:
        """Negative log-likelihood of every member on its held-out pairs, `(M,)`."""
        return self._loss(self.held_out)

    def members(self, name: str) -> slice:
        """Those of the model the parameter belongs to."""
        inner = name.removeprefix("reward.")
        return members_of(self.model.reward, inner) if inner != name else slice(None)

    def _loss(self, picked: Tensor) -> Tensor:
        """Mean `(M,)` over each member's own pairs `(M, B)`."""
        data = self.preferences
        log_p = answer_log_probs(
            self.model,
            data.first[picked],
            data.second[picked],
            None if data.context is None else data.context[picked],
            annotator=data.who[picked],
            own_rows=True,
        )
        return -log_p.gather(-1, data.outcome[picked].unsqueeze(-1)).squeeze(-1).mean(-1)


@torch.no_grad()
def held_out_accuracy(
    model: PreferenceModel,
    preferences: Preferences,
    *,
    config: PreferenceConfig,
    seed: int,
    stage: str = _STAGE,
) -> float:
    """Share of the held-out preferences, without ties, that members rank as they were answered.

    Args:
        model: as `fit_preference_model` left it; a pair is ranked by those that held it out.
        preferences: those it was fitted to.
        config: as it was fitted with.
        seed: as it was fitted with.
        stage: as it was fitted with.

    Returns:
        In [0, 1]; NaN where every held-out answer is a tie.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> config, rows = PreferenceConfig(), space.enumerate()
        >>> model = new_preference_model(space, None, config, seed=0)
        >>> pairs = Preferences(rows, rows.flip(0), torch.full((6,), 2))
        >>> held_out_accuracy(model, pairs, config=config, seed=0)
        nan
    """
    picked = _held_out(preferences, config, seed, stage)
    part = preferences.take(picked.flatten())
    difference = model.differences(part.first, part.second, part.context)
    own = difference.unflatten(1, picked.shape).diagonal().T.flatten()
    decided = part.outcome != OUTCOMES.index("tie")
    right = torch.where(part.outcome == OUTCOMES.index("first"), own > 0, own < 0)
    return right[decided].double().mean().item() if decided.any() else math.nan


@torch.no_grad()
def reward_unit(model: PreferenceModel, rows: ScoredRows) -> float:
    """Standard deviation of the reward between observed rows in one context, in log-odds.

    What a reward is divided by before it is added to a score of variance 1; its mean is left, since
    a constant changes nothing.

    Args:
        model: fitted.
        rows: two rows are compared in the context of one of them.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> model = new_preference_model(space, None, PreferenceConfig(), seed=0)
        >>> reward_unit(model, ScoredRows(space.enumerate(), torch.zeros(6))) > 0
        True
    """
    other = permutation(len(rows), generator=seeded(0))
    difference = model.differences(rows.codes, rows.codes[other], rows.context).mean(0)
    # the difference of two rows has twice the variance of one; a constant reward adds nothing,
    # whatever it is divided by
    return max(difference.square().mean().div(2).sqrt().item(), 1e-6)
