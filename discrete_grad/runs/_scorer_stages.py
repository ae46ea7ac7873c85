"""The stages of a fit, those by a scorer of one's own among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting._drawn_rows import draw_rows
from discrete_grad.fitting.config import EstimatorConfig
from discrete_grad.fitting.estimator import fit_estimator, new_ensemble
from discrete_grad.models import BaseEnsemble
from discrete_grad.runs._guides import under
from discrete_grad.runs._method import fitting_method
from discrete_grad.runs._stages import Stage, Work, before_generator, new_policy, trained
from discrete_grad.runs.scorers._given import Scorers
from discrete_grad.runs.scorers._model import ScorerModel
from discrete_grad.sampling import seeded
from discrete_grad.training.loop import derive_seed

__all__ = ["begin", "kept_stages", "stages_of"]

_CONTEXTS, _DRAWS = 512, 2048


def begin(work: Work, scorers: Scorers | None) -> Work:
    """The work with scorers that are given, whose models are finished."""
    if scorers is not None:
        work.scorers = scorers
        work.models |= {role: model.to(work.device) for role, model in scorers.models.items()}
    return work


def kept_stages(work: Work) -> tuple[Stage, ...]:
    """The stages whose models a finished run consists of; a scorer takes the place of some."""
    wanted = {stage.name: stage for stage in work.stages}
    if work.scorers is not None:
        del wanted["estimator"]
        if not work.scorers.trains_judge:
            del wanted["judge"]
    return tuple(wanted.values())


def stages_of(work: Work) -> tuple[Stage, ...]:
    """The stages of a fit, in their order.

    By a scorer with a derivative the generator is trained through it. By another, two are trained
    with as many calls of the scorer: one by a gradient estimator that needs no derivative, one
    through a student of the scorer's answers. That of the better draws becomes the generator.
    """
    wanted = {stage.name: stage for stage in kept_stages(work)}
    if work.scorers is None:
        return tuple(wanted.values())
    if _compares(work):
        wanted |= {stage.name: stage for stage in (_STUDENT, _DISTILLED, _DIRECT)}
        del wanted["generator"]
        wanted["generator"] = Stage("generator", new_policy, _better)
    return tuple(wanted.values())


def _compares(work: Work) -> bool:
    """Whether the scorer's derivative is wanted and missing."""
    config = work.config.generator
    return fitting_method(config, _scorer(work)) != config


def _scorer(work: Work) -> ScorerModel:
    model: ScorerModel = work.models["estimator"]
    return model


def _student_config(work: Work) -> EstimatorConfig:
    """As `TEACHER_CONFIG`: answers without noise need no weight decay and no second member."""
    config = work.config.estimator
    return replace(config, members=1, weight_decay=0.0, held_out=0.03, patience=40)


def _asked_rows(work: Work) -> tuple[Tensor, Tensor | None]:
    """Rows that the student learns from, no more than the other generator asks about."""
    config, rows = work.config.generator, work.prepared.rows.to(torch.device("cpu"))
    count = config.steps * config.batch_size * max(2, config.samples)
    seed = derive_seed(work.config.seed, "student", "rows")
    return draw_rows(work.table.schema.space, rows, count, seed=seed)


def _new_student(work: Work) -> BaseEnsemble:
    schema, config = work.table.schema, _student_config(work)
    seed = derive_seed(work.config.seed, "student", "weights")
    count = len(_asked_rows(work)[0])
    return new_ensemble(schema.space, schema.context_spec, config, seed=seed, rows=count)


def _student_trainer(work: Work) -> Callable[..., object]:
    codes, context = _asked_rows(work)
    here = (codes.to(work.device), None if context is None else context.to(work.device))
    with torch.no_grad():
        answers = _scorer(work)(*here)
    rows = ScoredRows(here[0], answers, here[1])
    return partial(fit_estimator, rows=rows, config=_student_config(work), stage="student")


def _distilled_trainer(work: Work) -> Callable[..., object]:
    made = trained(work, work.config.generator, estimator=work.models["student"])
    return partial(made, stage="distilled")


def _direct_trainer(work: Work) -> Callable[..., object]:
    return partial(trained(work, work.config.generator), stage="direct")


def _better(work: Work) -> Callable[..., object]:
    """What makes the generator that of the two whose draws the scorer likes better."""
    before_generator(work)

    def choose(model: nn.Module, **_: Any) -> None:
        worth = {name: _worth(work, work.models[name]) for name in ("distilled", "direct")}
        chosen = max(worth, key=lambda name: worth[name]["mean"])
        model.load_state_dict(work.models[chosen].state_dict())
        assert work.scorers is not None
        work.scorers.facts["comparison"] = {**worth, "chosen": chosen}

    return choose


@torch.no_grad()
def _worth(work: Work, generator: Any) -> dict[str, float]:
    """Mean scaled score of rows drawn anew from a generator, its standard error, and their number.

    They are drawn in as many of the table's contexts as there are, or evenly over them; the
    standard error is that between rows.
    """
    context = work.prepared.rows.context
    if context is not None:
        different = context.unique(dim=0)
        places = torch.linspace(0, len(different) - 1, min(len(different), _CONTEXTS))
        context = different[places.round().long().to(context.device)]
    count = _DRAWS // (1 if context is None else len(context))
    noise = seeded(derive_seed(work.config.seed, "comparison"), work.device)
    rows = under(generator, work.rules).sample(context, count, generator=noise)
    scores = _scorer(work)(rows, context).double()
    centred = scores - scores.mean(0)
    error = centred.std() / scores.numel() ** 0.5
    return {"mean": float(scores.mean()), "error": float(error), "rows": scores.numel()}


_STUDENT = Stage("student", _new_student, _student_trainer)
_DISTILLED = Stage("distilled", new_policy, _distilled_trainer)
_DIRECT = Stage("direct", new_policy, _direct_trainer)
