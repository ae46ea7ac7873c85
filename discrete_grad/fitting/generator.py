"""Fit a generator through the frozen estimators."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

import discrete_grad.gradient as gradient
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting._row_law import as_generator, check_generator, law_of
from discrete_grad.fitting.config import GeneratorConfig
from discrete_grad.fitting.pessimism import guided_score
from discrete_grad.grouping import first_rows, row_groups
from discrete_grad.models import BaseEstimator, RowModel
from discrete_grad.models.aligner import likeness
from discrete_grad.models.own import as_estimator
from discrete_grad.objectives import alignment_loss, diversity_bonus, hamming_excess
from discrete_grad.policies import IndependentPolicy
from discrete_grad.policies.protocol import device_of, require
from discrete_grad.rules import Rules
from discrete_grad.space import CategoricalSpace
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.config import require_config
from discrete_grad.training.history import History
from discrete_grad.training.logs import Log, no_log
from discrete_grad.training.loop import Callback, Objective, Step, no_callback, train

__all__ = ["FrozenModels", "fit_generator", "make_gradient_estimator"]

_GOOD_SHARE = 0.1
_MAX_CONTEXTS = 1024


def make_gradient_estimator(
    space: CategoricalSpace | None, config: GeneratorConfig, rules: Rules | None = None
) -> gradient.GradientEstimator:
    """The gradient estimator a config names, for a generator under rules if there are any.

    Args:
        space: of the rows; None for a generator that writes step by step, with rules or without.
        config: name and settings.
        rules: that condition a generator of independent features.

    Raises:
        ValueError: for a name that is none, with the nearest one, a `tau` it has no use for, or
            rules that it cannot take.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> make_gradient_estimator(space, GeneratorConfig(gradient_estimator="ReinMax"))
        ReinMax(CategoricalSpace(x0: 2, x1: 3), samples=4, tau=1.0)
    """
    require_config("config of make_gradient_estimator", config, GeneratorConfig)
    classes: dict[str, Any] = dict(gradient.catalogue())
    name = config.gradient_estimator
    if name not in classes:
        nearest = get_close_matches(name, classes, n=1, cutoff=0)[0]
        raise ValueError(
            f"no gradient estimator is called {name!r}: did you mean {nearest}? "
            f"There are {', '.join(classes)}"
        )
    arguments: dict[str, Any] = {"samples": config.samples}
    if config.tau is not None:
        arguments["tau"] = config.tau
        if "tau" not in inspect.signature(classes[name]).parameters:
            raise ValueError(f"{name} has no temperature, got tau={config.tau}")
    # LeaveOneOut needs no rules of its own: see `RowLaw.expectation`
    if rules is not None and (rules.context is None or name != "LeaveOneOut"):
        _check_takes(classes, name, rules)
        arguments["rules"] = rules
    made: gradient.GradientEstimator = classes[name](space, **arguments)
    return made


def _check_takes(classes: dict[str, Any], name: str, rules: Rules) -> None:
    if rules.context is not None:
        raise ValueError(f"rules that depend on the context take LeaveOneOut, got {name}")
    taking = [one for one, cls in classes.items() if cls.facts.with_rules]
    if name not in taking:
        raise ValueError(f"{name} takes no rules; {', '.join(sorted(taking))} do")


@dataclass(frozen=True)
class FrozenModels:
    """The models a generator is trained by; `fit_generator` freezes them.

    Each may be one's own: a model of rows as `RowModel` describes it, softened or not; a reference
    with `logits(context)`; an aligner that is called with two rows `(N, D)`, and a context `(N, C)`
    if there is one, and returns their likeness `(N,)` in [-1, 1].

    Args:
        estimator: its gradient trains the generator.
        judge: trained on other rows; its score of the most likely rows is the held-out loss. It
            gives no gradient, and stops the training only if the config has some patience.
        reference: the data policy, for `reference_kl`.
        aligner: for `alignment`.
        preference: its reward joins the score.
        reward_unit: what that is divided by, above 0; see `reward_unit`.

    Example:
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> models = [EstimatorEnsemble([Estimator(space)]) for _ in range(2)]
        >>> FrozenModels(*models).reference is None
        True
    """

    estimator: RowModel
    judge: RowModel
    reference: IndependentPolicy | None = None
    aligner: nn.Module | None = None
    preference: RowModel | None = None
    reward_unit: float = 1.0


def fit_generator(
    generator: nn.Module,
    rows: ScoredRows,
    *,
    frozen: FrozenModels,
    method: gradient.GradientEstimator,
    config: GeneratorConfig,
    seed: int,
    stage: str = "generator",
    log: Log = no_log,
    checkpoint: Checkpoint | None = None,
    callback: Callback = no_callback,
) -> History:
    """Train a generator through the frozen estimator.

    Under rules all is that of the conditioned law: rows that the estimators see obey, entropy and
    divergences are exact. Of a generator that writes step by step they are estimated from the rows
    drawn, without bias, and the held-out loss is that of the likeliest category at each step.

    Args:
        generator: trained in place, then frozen; one that rules condition is trained under them.
            One's own is a module with `space` and `logits(context)`, or any network from contexts
            to logits: see `OwnGenerator`, as which it is trained.
        rows: observed rows: their contexts are trained on, the best tenth serves the alignment.
        frozen: the models it is trained by, frozen in place.
        method: differentiates the expected score; see `make_gradient_estimator`.
        config: weights and training.
        seed: decides every random number.
        stage: name in the log and in the seeds.
        log: called as `log(metrics, step)`; see `train`.
        checkpoint: where the state is saved and resumed from; see `train`.
        callback: called as `callback(model, step)`; see `train`.

    Returns:
        The losses; the held-out one is minus the judge's score.

    Raises:
        ValueError: if a model is needed and missing from the frozen ones, or one is for rows of
            another space or answers in another shape; if the gradient estimator has other rules
            than the generator, or a generator that writes step by step is to have diversity or
            trust.
        TypeError: for a generator or a model that lacks a part, which is named.

    Example:
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> from discrete_grad.policies import Generator
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate().repeat(10, 1)
        >>> rows = ScoredRows(codes, codes.sum(-1) - 1.5)
        >>> models = [EstimatorEnsemble([Estimator(space)]) for _ in range(2)]
        >>> generator = Generator(space)
        >>> history = fit_generator(
        ...     generator,
        ...     rows,
        ...     frozen=FrozenModels(*models),
        ...     method=gradient.ReinMax(space),
        ...     config=GeneratorConfig(steps=20),
        ...     seed=0,
        ... )
        >>> space.argmax(generator()).shape
        torch.Size([2])
    """
    require_config("config of fit_generator", config, GeneratorConfig)
    for name, weight in (("reference", config.reference_kl), ("aligner", config.alignment)):
        if weight and getattr(frozen, name) is None:
            raise ValueError(f"fit_generator needs the {name} its config gives a weight to")
    generator = as_generator(generator, getattr(frozen.estimator, "space", method.space))
    check_generator(generator, method)
    if frozen.reference is not None:
        require("the reference of fit_generator", frozen.reference, "logits")
    history = train(
        _GeneratorObjective(generator, frozen, rows, method, config),
        config,
        seed=seed,
        stage=stage,
        log=log,
        checkpoint=checkpoint,
        callback=callback,
    )
    generator.requires_grad_(False).eval()
    return history


class _GeneratorObjective(Objective):
    model: Any

    def __init__(
        self,
        model: nn.Module,
        frozen: FrozenModels,
        rows: ScoredRows,
        method: gradient.GradientEstimator,
        config: GeneratorConfig,
    ) -> None:
        super().__init__()
        self.model = model
        self.space: CategoricalSpace = self.model.space
        self.frozen = _guides(frozen, self.space)
        self.method = method
        # another function, so another running baseline, if the method has one
        self.align_method = copy.deepcopy(method)
        self.config = config
        self.context = rows.context
        self.shown = _some_contexts(rows.context)
        for guide in vars(self.frozen).values():
            if isinstance(guide, nn.Module):
                guide.requires_grad_(False).eval()
        best = rows.scores.argsort(descending=True, stable=True)
        if config.trust:
            self.known = self.space.one_hot(rows.codes.unique(dim=0))
        self.good = rows.take(best[: max(1, round(len(rows) * _GOOD_SHARE))])

    def forward(self, step: Step) -> Tensor:
        """Negative expected score, with the terms that have a weight."""
        config, space = self.config, self.space
        picked = step.batch(1 if self.context is None else len(self.context), config.batch_size)
        context = None if self.context is None else self.context[picked]
        noise = step.generator(device_of(self.model, context))
        law = law_of(self.model, context, len(picked), samples=config.samples, noise=noise)
        frozen = self.frozen
        score = guided_score(
            frozen.estimator, frozen.preference, frozen.reward_unit, context, config
        )
        loss = -law.expectation(self.method, score).mean()
        if config.entropy:
            loss = loss - config.entropy * law.entropy()
        if config.diversity:
            loss = loss - config.diversity * diversity_bonus(space, law.marginal_logits())
        if config.trust:
            marginal, radius = law.marginal_logits(), config.trust_radius
            loss = loss + config.trust * hamming_excess(space, marginal, self.known, radius=radius)
        if config.reference_kl and frozen.reference is not None:
            loss = loss + config.reference_kl * law.kl(frozen.reference.logits(context))
        if config.alignment and frozen.aligner is not None:
            loss = loss + config.alignment * self._alignment(frozen.aligner, step, noise)
        return loss

    def validate(self) -> Tensor:
        """Negative judge's score of the most likely rows."""
        count = 1 if self.shown is None else len(self.shown)
        rows = law_of(self.model, self.shown, count).likely()
        score: Tensor = self.frozen.judge(rows, self.shown).mean()
        return -score

    def _alignment(self, aligner: nn.Module, step: Step, noise: torch.Generator) -> Tensor:
        good = self.good.take(step.batch(len(self.good), self.config.batch_size))
        law = law_of(self.model, good.context, len(good), samples=self.config.samples, noise=noise)
        cosine = law.expectation(
            self.align_method,
            lambda rows: likeness(aligner, rows, good.codes, good.context, space=self.space),
        )
        with torch.no_grad():
            advantage = good.scores - self.frozen.estimator(law.likely(), good.context)
        return alignment_loss(cosine, advantage)


@dataclass(frozen=True)
class _Guides(FrozenModels):
    """The frozen models, those of scores as estimators of one space."""

    estimator: BaseEstimator
    judge: BaseEstimator
    preference: BaseEstimator | None = None


def _guides(frozen: FrozenModels, space: CategoricalSpace) -> _Guides:
    models = {"estimator": frozen.estimator, "judge": frozen.judge}
    if frozen.preference is not None:
        models["preference"] = frozen.preference
    made = {n: as_estimator(f"the {n} of fit_generator", m, space) for n, m in models.items()}
    return _Guides(**{**vars(frozen), **made})


def _some_contexts(context: Tensor | None) -> Tensor | None:
    """The different contexts, or some of them, evenly over their order."""
    if context is None:
        return None
    different = context[first_rows(row_groups(context))]
    shown = torch.linspace(0, len(different) - 1, min(len(different), _MAX_CONTEXTS))
    return different[shown.round().long()]
