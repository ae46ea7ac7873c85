"""Every trainer is called alike, is looked at after every step, and gives back its model."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from discrete_grad import CategoricalSpace, ReinMax, fitting, preferences
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting import (
    AlignerConfig,
    EstimatorConfig,
    FrozenModels,
    GeneratorConfig,
    ReproductionConfig,
    fit_aligner,
    fit_estimator,
    fit_generator,
    fit_reproduction,
    new_ensemble,
)
from discrete_grad.models import Aligner, Estimator, EstimatorEnsemble
from discrete_grad.policies import Generator
from discrete_grad.preferences import (
    PreferenceConfig,
    Preferences,
    fit_preference_model,
    new_preference_model,
)

SPACE = CategoricalSpace.from_sizes((2, 3))
CODES: Tensor = SPACE.enumerate().repeat(10, 1)
ROWS = ScoredRows(CODES, 1.0 + CODES.sum(-1))
OTHERS = CODES.roll(1, 0)
PAIRS = Preferences(CODES, OTHERS, (CODES.sum(-1) < OTHERS.sum(-1)).long())
SHORT: dict[str, Any] = {"steps": 4, "batch_size": 8, "validate_every": 2}
NETWORKS = EstimatorConfig(members=2, hidden=(8,), families=("networks",), **SHORT)
PREFERRED = PreferenceConfig(members=2, hidden=(8,), **SHORT)


def ensemble() -> EstimatorEnsemble:
    return EstimatorEnsemble([Estimator(SPACE) for _ in range(2)])


def generator() -> Generator:
    return Generator(space=SPACE, context=None)


def guided() -> dict[str, Any]:
    return {"frozen": FrozenModels(ensemble(), ensemble()), "method": ReinMax(SPACE)}


# trainer, its model, what it learns from, its config, further arguments
TRAINERS: list[tuple[Callable[..., nn.Module], Callable[[], nn.Module], Any, Any, Any]] = [
    (fit_aligner, lambda: Aligner(Estimator(SPACE), 4), ROWS, AlignerConfig(**SHORT), dict),
    (fit_estimator, lambda: new_ensemble(SPACE, None, NETWORKS, seed=0), ROWS, NETWORKS, dict),
    (fit_generator, generator, ROWS, GeneratorConfig(**SHORT), guided),
    (fit_reproduction, generator, ROWS, ReproductionConfig(**SHORT), dict),
    (
        fit_preference_model,
        lambda: new_preference_model(SPACE, None, PREFERRED, ties=False, seed=0),
        PAIRS,
        PREFERRED,
        dict,
    ),
]
every_trainer = pytest.mark.parametrize(
    ("trainer", "model", "rows", "config", "more"),
    TRAINERS,
    ids=lambda v: getattr(v, "__name__", ""),
)


def test_every_trainer_of_the_rooms_is_here() -> None:
    there = {name for name in fitting.__all__ if name.startswith("fit_")}
    there |= {name for name in preferences.__all__ if name.startswith("fit_")} - {"fit_dpo"}
    assert there == {trainer.__name__ for trainer, *_ in TRAINERS}


@every_trainer
def test_the_signature_is_the_same(
    trainer: Callable[..., Any], model: Any, rows: Any, config: Any, more: Any
) -> None:
    parameters = inspect.signature(trainer).parameters.values()
    kinds = [parameter.kind for parameter in parameters]
    assert kinds[:2] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 2
    assert set(kinds[2:]) == {inspect.Parameter.KEYWORD_ONLY}
    names = [parameter.name for parameter in parameters][2:]
    shared = ("config", "seed", "stage", "log", "checkpoint", "callback")
    assert [name for name in names if name in shared] == list(shared)


@every_trainer
def test_it_is_looked_at_after_every_step_and_returns_its_model_frozen(
    trainer: Callable[..., Any], model: Any, rows: Any, config: Any, more: Any
) -> None:
    looks: list[int] = []
    logged: dict[int, dict[str, float]] = {}
    made = model()
    found = trainer(
        made,
        rows,
        config=config,
        seed=0,
        stage="mine",
        log=lambda metrics, step: logged.update({step: metrics}),
        callback=lambda module, step: looks.append(step),
        **more(),
    )
    assert found is made
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert looks == [0, 1, 2, 3, 4]
    assert list(logged) == [2, 4]
    assert set(logged[4]) == {"mine/loss", "mine/held_out_loss"}
    assert all(torch.tensor(value).isfinite() for value in logged[4].values())
