"""Every trainer is called alike, is looked at after every step, and returns its history."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from discrete_grad import (
    CategoricalSpace,
    Reinforce,
    ReinMax,
    fitting,
    preferences,
    reinforcement,
    weighting,
)
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
    learn_teacher,
    make_gradient_estimator,
    new_ensemble,
)
from discrete_grad.fitting.estimator import held_out_parts
from discrete_grad.fitting.generator import _GeneratorObjective
from discrete_grad.models import Aligner, Estimator, EstimatorEnsemble
from discrete_grad.policies import Generator
from discrete_grad.preferences import (
    DPOConfig,
    PreferenceConfig,
    Preferences,
    fit_dpo,
    fit_preference_model,
    new_preference_model,
)
from discrete_grad.reinforcement import (
    DistillConfig,
    ReinforceConfig,
    distill,
    distill_guidance,
    distill_rows,
    reinforce,
)
from discrete_grad.runs import FitConfig
from discrete_grad.sampling import isolated_seed
from discrete_grad.training import Checkpoint, History, JsonLinesLog, LoopConfig
from discrete_grad.training.loop import Step, derive_seed
from discrete_grad.weighting import PrefixValue, RewardWeighted, fit_prefix_value
from discrete_grad.weighting.prefix_value import PrefixValueConfig

SPACE = CategoricalSpace.from_sizes((2, 3))
CODES: Tensor = SPACE.enumerate().repeat(10, 1)
ROWS = ScoredRows(CODES, 1.0 + CODES.sum(-1))
OTHERS = CODES.roll(1, 0)
PAIRS = Preferences(CODES, OTHERS, (CODES.sum(-1) < OTHERS.sum(-1)).long())
SHORT: dict[str, Any] = {"steps": 4, "batch_size": 8, "validate_every": 2}
NETWORKS = EstimatorConfig(members=2, hidden=(8,), families=("networks",), **SHORT)
PREFERRED = PreferenceConfig(members=2, hidden=(8,), **SHORT)
DISTILLED = DistillConfig(samples=4, **SHORT)
LEARNT = ReinforceConfig(group=4, **SHORT)
VALUED = PrefixValueConfig(**SHORT)


def ensemble() -> EstimatorEnsemble:
    return EstimatorEnsemble([Estimator(SPACE) for _ in range(2)])


def generator() -> Generator:
    return Generator(space=SPACE, context=None)


def guided() -> dict[str, Any]:
    return {"frozen": FrozenModels(ensemble(), ensemble()), "method": ReinMax(SPACE)}


def reward(codes: Tensor, context: Tensor | None) -> Tensor:
    return codes.sum(-1).float()


def prefix_value() -> PrefixValue:
    with isolated_seed(0):
        return PrefixValue(SPACE, hidden=(8,))


TARGET = RewardWeighted(Generator(SPACE), reward, 1.0)

# trainer, its model, what it learns from, its config, further arguments
TRAINERS: list[tuple[Callable[..., History], Callable[[], nn.Module], Any, Any, Any]] = [
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
    (fit_dpo, generator, PAIRS, DPOConfig(**SHORT), lambda: {"reference": generator()}),
    (fit_prefix_value, prefix_value, CODES, VALUED, lambda: {"log_weight": CODES.sum(-1).float()}),
    (reinforce, generator, reward, LEARNT, dict),
    (distill, generator, TARGET, DISTILLED, dict),
    (distill_guidance, generator, generator(), DISTILLED, dict),
    (distill_rows, generator, generator(), DISTILLED, lambda: {"reward": reward}),
]
FREE = (fit_prefix_value, reinforce, distill, distill_guidance, distill_rows)
"""Those after which the model learns on, and nothing is held out but in `reinforce`."""

NAMES = {trainer.__name__ for trainer, *_ in TRAINERS}

every_trainer = pytest.mark.parametrize(
    ("trainer", "model", "rows", "config", "more"),
    TRAINERS,
    ids=lambda v: v.__name__ if inspect.isfunction(v) and v.__name__ in NAMES else "",
)


def test_every_trainer_of_the_rooms_is_here() -> None:
    rooms = (fitting, preferences, weighting, reinforcement)
    there = {name for room in rooms for name in room.__all__ if name.startswith("fit_")}
    there |= {n for n in reinforcement.__all__ if n.startswith(("distill", "reinforce"))}
    assert there == NAMES


@every_trainer
def test_the_signature_is_the_same(
    trainer: Callable[..., Any], model: Any, rows: Any, config: Any, more: Any
) -> None:
    parameters = inspect.signature(trainer).parameters.values()
    kinds = [parameter.kind for parameter in parameters]
    given = kinds.index(inspect.Parameter.KEYWORD_ONLY)
    assert given >= 2
    assert set(kinds[:given]) == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert set(kinds[given:]) == {inspect.Parameter.KEYWORD_ONLY}
    names = [parameter.name for parameter in parameters][given:]
    shared = ("config", "seed", "stage", "log", "checkpoint", "callback")
    assert [name for name in names if name in shared] == list(shared)


@every_trainer
@pytest.mark.parametrize("given", [{}, {"steps": 3}, LoopConfig()], ids=["empty", "dict", "other"])
def test_a_config_of_another_kind_is_named(
    trainer: Callable[..., Any], model: Any, rows: Any, config: Any, more: Any, given: Any
) -> None:
    kind, got = type(config).__name__, type(given).__name__
    made = rf": {kind}\(\*\*it\) makes one" if isinstance(given, dict) else "$"
    wanted = rf"config of {trainer.__name__} must be of class {kind}, got {got}{made}"
    with pytest.raises(TypeError, match=wanted):
        trainer(model(), rows, config=given, seed=0, **more())


@pytest.mark.parametrize("given", [{}, {"steps": 3}])
def test_configs_of_what_is_made_are_named(given: Any) -> None:
    made: dict[str, Callable[[], Any]] = {
        "config of new_ensemble must be of class Est": lambda: new_ensemble(
            SPACE, None, given, seed=0
        ),
        "config of new_preference_model must be of class Pref": lambda: new_preference_model(
            SPACE, None, given, seed=0
        ),
        "config of make_gradient_estimator must be of class Gen": lambda: make_gradient_estimator(
            SPACE, given
        ),
        "config of learn_teacher must be of class Est": lambda: learn_teacher(
            SPACE, reward, config=given
        ),
        "estimator of a FitConfig must be of class Est": FitConfig(estimator=given).check,
    }
    for message, call in made.items():
        with pytest.raises(TypeError, match=rf"{message}\w+, got dict: \w+\(\*\*it\) makes one"):
            call()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("reinmax", "ReinMax"),
        ("Reinmaxx", "ReinMax"),
        ("leave_one_out", "LeaveOneOut"),
        ("GumbelSoftMax", "GumbelSoftmax"),
    ],
)
def test_the_nearest_gradient_estimator_is_named(name: str, nearest: str) -> None:
    config = GeneratorConfig(gradient_estimator=name)
    wanted = rf"no gradient estimator is called '{name}': did you mean {nearest}\? There are Adapt"
    with pytest.raises(ValueError, match=wanted):
        make_gradient_estimator(SPACE, config)


def test_a_temperature_is_that_of_the_gradient_estimator() -> None:
    method = make_gradient_estimator(SPACE, GeneratorConfig(gradient_estimator="ReinMax", tau=1.3))
    assert isinstance(method, ReinMax)
    assert method.tau == 1.3
    with pytest.raises(ValueError, match=r"LeaveOneOut has no temperature, got tau=1\.3"):
        make_gradient_estimator(SPACE, GeneratorConfig(gradient_estimator="LeaveOneOut", tau=1.3))


def test_a_reference_without_logits_is_named() -> None:
    frozen = FrozenModels(ensemble(), ensemble(), reference=nn.Linear(2, 2))
    config = GeneratorConfig(**SHORT)
    with pytest.raises(TypeError, match=r"^the reference of fit_generator needs a policy with"):
        fit_generator(
            generator(), ROWS, frozen=frozen, method=ReinMax(SPACE), config=config, seed=0
        )


@pytest.mark.parametrize("value", [2**31, 10**23])
def test_counts_have_a_range(value: int) -> None:
    for name in ("steps", "batch_size", "patience", "validate_every", "checkpoint_every"):
        with pytest.raises(ValueError, match=f"{name} must be below 2,147,483,648, got {value}"):
            LoopConfig(**{name: value}).check()
        LoopConfig(**{name: 2**31 - 1}).check()
    with pytest.raises(ValueError, match="learning_rate must be finite and above 0"):
        LoopConfig(learning_rate=10**400).check()


@every_trainer
def test_it_is_looked_at_after_every_step_and_returns_its_history(
    trainer: Callable[..., Any], model: Any, rows: Any, config: Any, more: Any
) -> None:
    looks: list[int] = []
    logged: dict[int, dict[str, float]] = {}
    models: set[int] = set()
    made = model()
    history = trainer(
        made,
        rows,
        config=config,
        seed=0,
        stage="mine",
        log=lambda metrics, step: logged.update({step: metrics}),
        callback=lambda module, step: (looks.append(step), models.add(id(module))),
        **more(),
    )
    assert models == {id(made)}
    assert not made.training
    assert any(parameter.requires_grad for parameter in made.parameters()) == (trainer in FREE)
    assert all(parameter.grad is None for parameter in made.parameters())
    assert looks == [0, 1, 2, 3, 4]
    assert isinstance(history, History)
    assert history.steps == tuple(logged) == (2, 4)
    assert history.losses == tuple(metrics["mine/loss"] for metrics in logged.values())
    held_out = "mine/held_out_loss"
    assert history.held_out_losses == tuple(m[held_out] for m in logged.values() if held_out in m)
    assert bool(history.held_out_losses) == (trainer not in FREE or trainer is reinforce)
    assert history.kept_step in (2, 4)
    assert all(torch.tensor(value).isfinite() for value in logged[4].values())


def changed(rows: Any, places: Tensor) -> Any:
    """The rows, or pairs, with other scores, or answers, at these places."""
    if isinstance(rows, Preferences):
        return replace(rows, outcome=(rows.outcome + torch.isin(torch.arange(60), places)) % 2)
    return replace(rows, scores=rows.scores.index_add(0, places, 1.0 + places % 5))


@pytest.mark.parametrize(
    ("place", "options"),
    [(0, {"mined_share": 0.5}), (1, {"held_out": 0.2}), (3, {}), (4, {"held_out": 0.2})],
    ids=["aligner", "estimator", "reproduction", "preference"],
)
def test_what_is_held_out_is_looked_at_and_not_learnt_from(
    place: int, options: dict[str, Any]
) -> None:
    trainer, model, rows, config, _ = TRAINERS[place]
    config = replace(config, patience=0, **options)
    seed, own = derive_seed(0, "mine", "rows"), slice(None)
    if "held_out" in options:  # of the first of two members, which the second learns from
        held_out, own = held_out_parts(len(rows), config, seed)[0], slice(1)
    else:
        held_out = ROWS.split_places(seed=seed)[1]
    made = []
    for given in (rows, changed(rows, held_out)):
        with isolated_seed(0):
            learner = model()
        history = trainer(learner, given, config=config, seed=0, stage="mine")
        made.append((learner.state_dict(), history))
    (weights, history), (others, other) = made
    assert other.held_out_losses != history.held_out_losses
    for name, tensor in weights.items():
        assert torch.equal(others[name][own], tensor[own]), name


@every_trainer
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not(
    trainer: Callable[..., Any], model: Any, rows: Any, config: Any, more: Any, tmp_path: Path
) -> None:
    def made() -> nn.Module:
        with isolated_seed(0):
            return model()

    config = replace(config, checkpoint_every=2)
    state = Checkpoint(tmp_path / "state.safetensors", JsonLinesLog(tmp_path / "log.jsonl"))

    def stop(module: nn.Module, step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    def train(learner: nn.Module, **options: Any) -> History:
        with isolated_seed(1):
            arguments = more()
        return trainer(learner, rows, config=config, seed=0, **arguments, **options)

    whole, broken, resumed = made(), made(), made()
    history = train(whole)
    with pytest.raises(KeyboardInterrupt):
        train(broken, checkpoint=state, callback=stop)
    rest = train(resumed, checkpoint=state)
    assert (rest.steps, rest.losses) == (history.steps[1:], history.losses[1:])
    assert rest.kept_step == history.kept_step
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_a_generator_is_judged_by_the_judge_and_its_terms_remember_apart() -> None:
    """Neither the estimator that trains it, nor one baseline for the score and the alignment."""
    with isolated_seed(0):
        estimator, judge = (EstimatorEnsemble([Estimator(SPACE)]) for _ in range(2))
    method = Reinforce(SPACE, samples=2)
    config = GeneratorConfig(alignment=1.0, batch_size=8)
    frozen = FrozenModels(estimator, judge, aligner=Aligner(estimator))
    generator = Generator(SPACE)
    objective = _GeneratorObjective(generator, frozen, ROWS, method, config)
    assert objective.validate() == -judge(SPACE.argmax(generator()))
    assert objective.validate() != -estimator(SPACE.argmax(generator()))
    objective(Step(0, "generator", 0))
    score, alignment = objective.method.state_dict(), objective.align_method.state_dict()
    assert not torch.equal(score["baseline"], alignment["baseline"])
