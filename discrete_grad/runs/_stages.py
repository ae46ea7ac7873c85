"""The stages of a fit, in their order: the model of each and how it is trained."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from discrete_grad.data import Table
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.aims import traded_config
from discrete_grad.fitting.aligner import fit_aligner
from discrete_grad.fitting.config import GeneratorConfig
from discrete_grad.fitting.estimator import fit_estimator, new_ensemble
from discrete_grad.fitting.generator import FrozenModels
from discrete_grad.fitting.pessimism import conformal_pessimism
from discrete_grad.fitting.reproduction import fit_reproduction
from discrete_grad.models import Aligner, BaseEnsemble
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.preferences.preference_model import (
    fit_preference_model,
    new_preference_model,
    reward_unit,
)
from discrete_grad.preferences.preferences import Preferences
from discrete_grad.rules import Rules
from discrete_grad.runs._aim_stages import aim_parts, calibrate_aims, traded
from discrete_grad.runs._aim_training import new_traded_generator, with_aims
from discrete_grad.runs._calibrate import Known, Name, write_calibration
from discrete_grad.runs._method import fit_under, fitting_method, run_method
from discrete_grad.runs._prepared import Observations, Prepared, load_prepared
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.runs.scorers._given import Scorers
from discrete_grad.sampling import isolated_seed
from discrete_grad.training import distributed
from discrete_grad.training.checkpoint import RunError, write_atomically
from discrete_grad.training.loop import derive_seed
from discrete_grad.training.snapshots import Snapshots

__all__ = ["STAGES", "Stage", "Work", "before_generator", "new_policy", "trained"]

_SCORERS = 2  # stages of models of the score, which come first


@dataclass(eq=False)
class Work:
    """The inputs of a fit's stages, and the models that they have made so far.

    Args:
        folder: of the run.
        config: of the fit.
        table: all rows, on the CPU.
        source: what the caller said of the table's origin, JSON.
        preferences: between rows, or None.
        device: where the models are.
        rules: that generated rows obey, or None.
        before: folder of an earlier fit, from whose weights the generators go on, or None.
        models: name of a stage -> its model, trained and frozen.
        scorers: that the fit is given in place of the estimators, or None.
    """

    folder: Path
    config: FitConfig
    table: Table
    source: dict[str, Any]
    preferences: Preferences | None
    device: torch.device
    rules: Rules | None = None
    before: Path | None = None
    models: dict[str, Any] = field(default_factory=dict)
    scorers: Scorers | None = None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those of a fit that trains its estimators; of further aims after the first's."""
        further = tuple(Stage(*part) for part in aim_parts(self))
        stages = (*STAGES[:_SCORERS], *further, *STAGES[_SCORERS:])
        return tuple(stage for stage in stages if stage.wanted(self))

    def weights(self, name: str) -> Path:
        """Path of the weights of a finished stage, or of the calibration."""
        return self.folder / "weights" / f"{name}.safetensors"

    @property
    def prepared_path(self) -> Path:
        """Path of the rows that the models learn from."""
        return self.folder / "prepared.safetensors"

    @cached_property
    def observations(self) -> Observations:
        """The table's rows, scaled and split: what a fit begins with."""
        judged = self.scorers is None or self.scorers.trains_judge
        return Observations(self.table, self.config, judged=judged)

    @cached_property
    def prepared(self) -> Prepared:
        """Rows that the models learn from, on their device, and the scales of their scores."""
        if self.prepared_path.is_file():
            found = load_prepared(self.prepared_path, self.table.schema)
        else:  # a fit that begins, or a run of a version that did not keep it
            found = self.observations.prepared()
        rows, judge_rows = (part.to(self.device) for part in (found.rows, found.judge_rows))
        return replace(found, rows=rows, judge_rows=judge_rows)

    @cached_property
    def guidance(self) -> dict[str, float]:
        """`pessimism` and `reward_unit`, see `Run`, by which the generator is trained."""
        path = self.folder / "guidance.json"
        if not path.is_file():  # before the generator is trained, or as for `prepared`
            return {"pessimism": _pessimism(self), "reward_unit": _reward_unit(self)}
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            numbers = {name: float(kept[name]) for name in ("pessimism", "reward_unit")}
            if not (0 <= numbers["pessimism"] < math.inf and 0 < numbers["reward_unit"] < math.inf):
                raise ValueError(f"numbers out of range: {numbers}")
            return numbers
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"{path} is damaged: {error!s:.300}") from error


@dataclass(frozen=True)
class Stage:
    """One model of a fit.

    Args:
        name: of the stage, in the log and of its weights.
        model: makes the model, untrained.
        trainer: makes the function that trains it, called with the model, `seed`, `log` and
            `checkpoint`.
        wanted: whether a fit has the stage.
    """

    name: str
    model: Callable[[Work], nn.Module]
    trainer: Callable[[Work], Callable[..., object]]
    wanted: Callable[[Work], bool] = lambda work: True


def _new_scorer(name: Name, work: Work) -> BaseEnsemble:
    schema, seed = work.table.schema, derive_seed(work.config.seed, name, "weights")
    config, rows = work.config.scorer(name), _rows_of(name, work)
    return new_ensemble(schema.space, schema.context_spec, config, seed=seed, rows=len(rows))


def _scorer_trainer(name: Name, work: Work) -> Callable[..., object]:
    return partial(
        fit_estimator,
        rows=_rows_of(name, work),
        config=work.config.scorer(name),
        stage=name,
        absolute=work.config.maximise == "median",
    )


def _rows_of(name: Name, work: Work) -> ScoredRows:
    return work.prepared.rows if name == "estimator" else work.prepared.judge_rows


def _new_generator(name: str, work: Work) -> Generator:
    schema = work.table.schema
    with isolated_seed(derive_seed(work.config.seed, name, "weights")):
        return Generator(schema.space, schema.context_spec, hidden=work.config.generator.hidden)


def _reproduction_trainer(name: Literal["reference", "naive"], work: Work) -> Callable[..., object]:
    """Reproduction of the observations; that of `naive` divides each loss by its score."""
    seen = work.observations
    divisors = seen.quantiles() if name == "naive" else torch.ones(len(seen.mine))
    rows = replace(seen.scored.part(seen.mine), scores=divisors).to(work.device)
    return partial(fit_reproduction, rows=rows, config=work.config.reproduction, stage=name)


def _new_aligner(work: Work) -> Aligner:
    with isolated_seed(derive_seed(work.config.seed, "aligner", "weights")):
        return Aligner(work.models["estimator"], work.config.aligner.projection_dim)


def _new_preference(work: Work) -> nn.Module:
    data, schema = _preferences(work), work.table.schema
    return new_preference_model(
        schema.space,
        schema.context_spec,
        work.config.preference,
        annotators=len(data.annotators),
        ties=data.has_ties,
        seed=derive_seed(work.config.seed, "preference", "weights"),
    )


def _preference_trainer(work: Work) -> Callable[..., object]:
    data = _preferences(work).to(work.device)
    return partial(fit_preference_model, preferences=data, config=work.config.preference)


def _preferences(work: Work) -> Preferences:
    if work.preferences is None:
        raise RunError(f"{work.folder} is a fit without preferences")
    return work.preferences


def new_policy(work: Work) -> nn.Module:
    """The generator, of the policy that the config names."""
    schema, config = work.table.schema, work.config.generator
    if traded(schema) > 1:
        return new_traded_generator(work)
    if config.policy == "independent":
        return _new_generator("generator", work)
    with isolated_seed(derive_seed(work.config.seed, "generator", "weights")):
        return AutoregressiveGenerator(schema.space, schema.context_spec, hidden=config.hidden)


def _independent_trainer(work: Work) -> Callable[..., object]:
    """The generator of independent features that an autoregressive one is compared with."""
    config = replace(work.config.generator, policy="independent")
    return partial(trained(work, config), stage="independent")


def _generator_trainer(work: Work) -> Callable[..., object]:
    before_generator(work)
    config = work.config.generator
    kept = Snapshots(work.folder / "trail", steps=config.steps, every=config.validate_every)
    return partial(trained(work, config), callback=kept)


def before_generator(work: Work) -> None:
    """Calibrate the finished models, and keep the guidance of the generator."""
    _calibrate(work)
    numbers = json.dumps(work.guidance, indent=1).encode()
    distributed.first(partial(write_atomically, work.folder / "guidance.json", numbers))


def trained(
    work: Work, config: GeneratorConfig, estimator: BaseEnsemble | None = None
) -> Callable[..., object]:
    """What trains a generator by the finished models, through the estimator or another."""
    models, estimator = work.models, work.models["estimator"] if estimator is None else estimator
    config = replace(fitting_method(config, estimator), pessimism=work.guidance["pessimism"])
    frozen = FrozenModels(
        estimator,
        models.get("judge", estimator),
        models["reference"],
        aligner=models.get("aligner"),
        preference=models.get("preference"),
        reward_unit=work.guidance["reward_unit"],
    )
    frozen, rows = with_aims(work, frozen)
    config = traded_config(config) if traded(work.table.schema) > 1 else config
    return partial(
        fit_under,
        rules=work.rules,
        frozen=frozen,
        rows=rows,
        method=run_method(work.table.schema.space, config, work.rules).to(work.device),
        config=config,
    )


def _calibrate(work: Work) -> None:
    path, seen, ready = work.weights("calibration"), work.observations, work.prepared
    missing = not path.is_file()
    distributed.barrier()  # all processes have looked before the first one writes
    if missing:
        mine, judged = (ready.rows, seen.mine), (ready.judge_rows, seen.judged)
        sides: dict[Name, tuple[ScoredRows, Tensor]] = {"estimator": mine, "judge": judged}
        fitted = [name for name in sides if work.weights(name).is_file()]  # and not given
        known = {n: Known(work.models[n], sides[n][0], seen.truth(sides[n][1])) for n in fitted}
        calibrate_aims(work)
        distributed.first(partial(write_calibration, path, known, ready.standard, work.config))


def _pessimism(work: Work) -> float:
    config = work.config.generator
    if not config.coverage:
        return config.pessimism
    unseen = work.observations.scored.take(work.observations.aside).to(work.device)
    return conformal_pessimism(work.models["estimator"], unseen, config.coverage)


def _reward_unit(work: Work) -> float:
    model = work.models.get("preference")
    return 1.0 if model is None else reward_unit(model, work.prepared.rows)


STAGES = (
    Stage("judge", partial(_new_scorer, "judge"), partial(_scorer_trainer, "judge")),
    Stage("estimator", partial(_new_scorer, "estimator"), partial(_scorer_trainer, "estimator")),
    *(
        Stage(name, partial(_new_generator, name), partial(_reproduction_trainer, name))
        for name in ("reference", "naive")
    ),
    Stage(
        "aligner",
        _new_aligner,
        lambda work: partial(fit_aligner, rows=work.prepared.rows, config=work.config.aligner),
        wanted=lambda work: bool(work.config.generator.alignment),
    ),
    Stage(
        "preference",
        _new_preference,
        _preference_trainer,
        wanted=lambda work: work.preferences is not None,
    ),
    Stage(
        "independent",
        partial(_new_generator, "independent"),
        _independent_trainer,
        wanted=lambda work: work.config.generator.policy == "autoregressive",
    ),
    Stage("generator", new_policy, _generator_trainer),
)
"""All stages in their order; a later one may use the models of those before it."""
