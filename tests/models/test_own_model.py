"""Models as users write them, through all that takes one, beside the library's with its weights."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec, LeaveOneOut, ReinMax
from discrete_grad.data import ScoredRows
from discrete_grad.evaluation import (
    Observed,
    Subject,
    TrainingContexts,
    alignment_metrics,
    context_robustness,
    exploitation_report,
    swap_agreement,
    swap_effects,
)
from discrete_grad.fitting import (
    AlignerConfig,
    EstimatorConfig,
    FrozenModels,
    GeneratorConfig,
    conformal_pessimism,
    fit_aligner,
    fit_estimator,
    fit_generator,
)
from discrete_grad.fitting.estimator import held_out_parts, members_of
from discrete_grad.models import (
    Aligner,
    Estimator,
    EstimatorEnsemble,
    MixedEnsemble,
    PreferenceModel,
    RowModel,
    StackedEnsemble,
)
from discrete_grad.models.own import OwnEstimator, as_estimator
from discrete_grad.models.protocol import ask
from discrete_grad.nn import soften
from discrete_grad.policies import Generator, IndependentPolicy
from discrete_grad.reinforcement import adversarial_reward, aligner_reward
from discrete_grad.reporting import build_report, render_html
from discrete_grad.sampling import isolated_seed, random_codes, seeded
from discrete_grad.training.loop import derive_seed
from discrete_grad.weighting import RewardWeighted

SPACE = CategoricalSpace({"cut": 3, "colour": 4, "shape": 2})
SPEC = ContextSpec({"shop": 2})
CODES = random_codes(SPACE, 40, generator=seeded(0))
CONTEXT = torch.eye(2)[torch.arange(40) % 2]
SCORES = CODES.sum(-1) - 4.0 * ((CODES[:, 0] == 2) & (CODES[:, 1] == 3)) + CONTEXT[:, 1]
HARD = SPACE.one_hot(CODES)

contexts = pytest.mark.parametrize("spec", [None, SPEC], ids=["bare", "context"])


class Twin(nn.Module):
    """The library's estimator with its weights, as a user would write it: codes `(N, F)` alone."""

    def __init__(self, like: Estimator) -> None:
        super().__init__()
        self.tables = nn.ModuleDict()
        for name, table in zip(SPACE.names, like.embedding.weight.split(SPACE.sizes), strict=True):
            self.tables[name] = nn.Embedding.from_pretrained(table.detach().clone(), freeze=False)
        self.trunk, self.head = copy.deepcopy(like.trunk), copy.deepcopy(like.head)

    def to_latent(self, codes, context=None):
        parts = [table(codes[:, i]) for i, table in enumerate(self.tables.values())]
        return self.trunk(torch.cat(parts if context is None else [*parts, context], -1))

    def forward(self, codes, context=None):
        return self.head(self.to_latent(codes, context)).squeeze(-1)


class InContext(Twin):
    def forward(self, codes, context):
        return super().forward(codes, context)


class Latents(Twin):
    def forward(self, codes):
        return self.to_latent(codes)


class LatentsInContext(Twin):
    def forward(self, codes, context):
        return self.to_latent(codes, context)


def softened(like: Estimator) -> nn.Module:
    """A softened twin, with latents."""
    bare = like.context_spec is None
    soft = soften((Twin if bare else InContext)(like), SPACE)
    soft.to_latent = soften((Latents if bare else LatentsInContext)(like), SPACE)
    return soft.eval()


class Flat(nn.Module):
    """A network of one-hot rows and a context: what any module of the user's may be."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(SPACE.width + 2, 8), nn.Tanh())
        self.head = nn.Linear(8, 1)

    def to_latent(self, row, context):
        assert row.dim() == context.dim() == 2
        assert row.is_floating_point()
        return self.layers(torch.cat([row, context], 1))

    def forward(self, row, context):
        return self.head(self.to_latent(row, context))[:, 0]


class Alike(nn.Module):
    """An aligner of the user's, of any two rows `(N, D)`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, a, b, context=None):
        assert a.dim() == b.dim() == 2
        given = [] if context is None else [context]
        a, b = (self.model.to_latent(row, *given) for row in (a, b))
        return torch.cosine_similarity(a, b, dim=-1)


class Heads(nn.Module, IndependentPolicy):
    """A generator of the user's: a head for each feature."""

    space = SPACE

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(2, size) for size in SPACE.sizes)

    def logits(self, context=None):
        return torch.cat([head(context) for head in self.heads], -1)


def library(spec: ContextSpec | None, seed: int = 0) -> Estimator:
    with isolated_seed(seed):
        model = Estimator(SPACE, context=spec, dim=4, hidden=(8,))
        model.head.weight.data *= 10  # so that differences are no rounding
        return model.eval()


def pair(spec: ContextSpec | None, seed: int = 0) -> tuple[Estimator, nn.Module]:
    return library(spec, seed), softened(library(spec, seed))


def context_of(spec: ContextSpec | None) -> Tensor | None:
    return None if spec is None else CONTEXT


def rows_of(spec: ContextSpec | None) -> ScoredRows:
    return ScoredRows(CODES, (SCORES - SCORES.mean()) / SCORES.std(), context_of(spec))


def assert_near(a: Any, b: Any) -> None:
    """The same numbers in nested dicts and lists; float32 leaves a few parts in 10,000."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_near(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_near(x, y)
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
    else:
        assert a == b


# --- a softened copy of the library's estimator gives its numbers --------------------------------


@contexts
def test_it_is_an_estimator_of_any_rows(spec: ContextSpec | None) -> None:
    ours, own = pair(spec)
    wrapped = as_estimator("a test", own, SPACE)
    context, soft = context_of(spec), SPACE.softmax(torch.randn(5, 40, SPACE.width))
    for row in (CODES, HARD, soft, CODES.expand(3, 40, 3), CODES[:0], HARD[:, None]):
        given = context
        if context is not None and row.shape[:1] == (0,):
            given = context[:0]
        if context is not None and row.dim() == 3 and row.shape[1] == 1:
            given = context[:, None]
        assert_close(wrapped(row, given), ours(row, given))
        assert_close(wrapped.to_latent(row, given), ours.to_latent(row, given))
    if spec is None:
        assert_close(wrapped(CODES[0]), ours(CODES[0]))
        assert wrapped(CODES[0]).shape == ()
    assert as_estimator("a test", ours) is ours
    assert isinstance(own, RowModel)


def test_many_codes_are_asked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, own = pair(SPEC)
    seen: list[int] = []
    own.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    monkeypatch.setattr("discrete_grad.models.protocol._NUMBERS", 9 * SPACE.width)
    assert_close(as_estimator("a test", own, SPACE)(CODES, CONTEXT), ours(CODES, CONTEXT))
    assert seen == [9, 9, 9, 9, 4]


@contexts
def test_ensemble(spec: ContextSpec | None) -> None:
    pairs = [pair(spec, seed) for seed in range(3)]
    ours = EstimatorEnsemble([a for a, _ in pairs])
    own = EstimatorEnsemble([b for _, b in pairs], space=SPACE, context=spec)
    assert own.num_members == ours.num_members == 3
    context, logits = context_of(spec), torch.randn(40, SPACE.width)
    for method in ("predictions", "forward", "std", "min", "to_latent"):
        for row in (CODES, HARD, CODES.expand(2, 40, 3)):
            found, expected = (getattr(e, method)(row, context) for e in (own, ours))
            assert_close(found, expected)
    each = torch.stack([CODES, CODES.flip(0), CODES.roll(1, 0)])
    shown = None if context is None else torch.stack([context, context.flip(0), context.flip(0)])
    found, expected = (e.predictions(each, shown, own_rows=True) for e in (own, ours))
    assert_close(found, expected)
    drawn = [
        e.sample_predictions(logits, ReinMax(SPACE), context, generator=seeded(3))
        for e in (own, ours)
    ]
    assert_close(*drawn)
    mixed = MixedEnsemble([ours, own]).predictions(CODES, context)
    assert_close(mixed, torch.cat([ours.predictions(CODES, context)] * 2))
    copied = pickle.loads(pickle.dumps(own))
    assert_close(copied.predictions(CODES, context), own.predictions(CODES, context))


def test_members_are_copied_and_may_differ() -> None:
    with isolated_seed(0):
        members = [library(SPEC), Flat(), Flat()]
    ensemble = EstimatorEnsemble(members, space=SPACE, context=SPEC)
    before = ensemble.predictions(CODES, CONTEXT)
    assert_close(before[0], members[0](CODES, CONTEXT))
    assert_close(before[1], members[1](HARD, CONTEXT))
    members[1].head.weight.data.zero_()
    assert torch.equal(ensemble.predictions(CODES, CONTEXT), before)
    assert ensemble.context_spec == SPEC


def test_members_of_another_space_are_refused() -> None:
    own, other = OwnEstimator(Flat(), SPACE), Estimator(CategoricalSpace({"cut": 3}))
    with pytest.raises(ValueError, match="must have the same space"):
        EstimatorEnsemble([own, other, own])


@contexts
@pytest.mark.parametrize("mixed", [False, True], ids=["alone", "mixed"])
def test_an_ensemble_of_ones_own_is_fitted(spec: ContextSpec | None, mixed: bool) -> None:
    pairs = [pair(spec, seed) for seed in range(3)]
    both = []
    for members, space in (([a for a, _ in pairs], None), ([b for _, b in pairs], SPACE)):
        parts = [members[:1], members[1:]] if mixed else [members]
        ensembles = [EstimatorEnsemble(part, space=space) for part in parts]
        ensemble = MixedEnsemble(ensembles) if mixed else ensembles[0]
        ensemble.requires_grad_(True)
        config = EstimatorConfig(
            members=3, families=("networks",), steps=60, validate_every=2, patience=30
        )
        config = replace(config, learning_rate=0.05)
        history = fit_estimator(ensemble, rows_of(spec), config=config, seed=0)
        both.append((ensemble, history))
    (ours, expected), (own, found) = both
    assert_near(found.held_out_losses, expected.held_out_losses)
    context = context_of(spec)
    # the best weights differ from the last ones, member by member
    assert_close(
        own.predictions(CODES, context), ours.predictions(CODES, context), rtol=1e-2, atol=1e-3
    )


class Statistics(nn.Module):
    """State of no dimension, a buffer and a parameter, and statistics of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(SPACE.width, 8), nn.BatchNorm1d(8), nn.Tanh())
        self.head, self.scale = nn.Linear(8, 1), nn.Parameter(torch.tensor(1.0))

    def forward(self, row: Tensor) -> Tensor:
        return self.scale * self.head(self.layers(row))[:, 0]


def test_a_model_in_training_is_asked_about_the_whole_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("discrete_grad.models.protocol._NUMBERS", 9 * SPACE.width)
    model = Statistics()
    expected = copy.deepcopy(model)(SPACE.one_hot(CODES))
    assert_close(ask(model, SPACE, (CODES,), None), expected)
    parts = copy.deepcopy(model)
    with torch.no_grad():  # nobody learns from it, and all flat rows need not fit
        ask(parts, SPACE, (CODES,), None)
    assert parts.layers[1].num_batches_tracked == 1 + -(-len(CODES) // 9)


def test_each_member_keeps_its_own_best_state() -> None:
    with isolated_seed(0):
        ensemble = EstimatorEnsemble([Statistics() for _ in range(3)], space=SPACE)
    config = EstimatorConfig(members=3, steps=40, learning_rate=0.3, validate_every=1, patience=40)
    rows, states, losses = rows_of(None), [], []
    held_out = held_out_parts(len(rows), config, derive_seed(0, "estimator", "rows"))

    def look(model: Any, step: int) -> None:
        mode = model.training
        with torch.no_grad():
            found = model.eval().predictions(CODES[held_out], own_rows=True)
        model.train(mode)
        losses.append((found - rows.scores[held_out]).square().mean(1))
        states.append(copy.deepcopy(model.state_dict()))

    fit_estimator(ensemble, rows, config=config, seed=0, callback=look)
    best = torch.stack(losses[1:]).argmin(0) + 1
    assert len(set(best.tolist())) > 1
    for name, value in ensemble.state_dict().items():
        member = int(name.split(".")[1])
        assert torch.equal(value, states[best[member]][name]), name


def test_the_tensors_of_each_member_are_known() -> None:
    parts = [
        EstimatorEnsemble([library(None)]),
        EstimatorEnsemble([flat(0), flat(1)], space=SPACE),
        EstimatorEnsemble([library(None), library(None)]),
    ]
    mixed = MixedEnsemble(parts)
    found = {}
    for name in mixed.state_dict():
        owner = re.match(r"ensembles\.\d+\.(own\.\d)?", name)
        assert owner is not None
        found.setdefault(owner[0], set()).add(tuple(range(5)[members_of(mixed, name)]))
    assert found == {
        "ensembles.0.": {(0,)},
        "ensembles.1.own.0": {(1,)},
        "ensembles.1.own.1": {(2,)},
        "ensembles.2.": {(3, 4)},
    }


@contexts
def test_aligner(spec: ContextSpec | None) -> None:
    ours, own = pair(spec)
    with isolated_seed(1):
        expected = Aligner(ours, 6)
    with isolated_seed(1):
        found = Aligner(own, 6, space=SPACE, context=spec)
    assert found.space == SPACE
    context = context_of(spec)
    config = AlignerConfig(steps=20, validate_every=5, mined_share=0.3, pseudo_labels=1.0)
    for fitted in (False, True):
        if fitted:
            histories = [
                fit_aligner(a, rows_of(spec), config=config, seed=0) for a in (found, expected)
            ]
            assert_near(histories[0].losses, histories[1].losses)
        pairs = [a(CODES.expand(2, 40, 3), HARD.flip(0), context) for a in (found, expected)]
        assert_close(*pairs, rtol=1e-3, atol=1e-4)
    assert not any(p.requires_grad for p in own.parameters())
    figures = [
        alignment_metrics(
            a, CODES, SCORES, context=context, resamples=5, nearest=2, generator=seeded(0)
        )
        for a in (found, expected)
    ]
    for a, b in zip(*figures, strict=True):
        assert (a.pairs, a.metric, a.measure) == (b.pairs, b.metric, b.measure)
        assert a.value == pytest.approx(b.value, abs=0.02, nan_ok=True)
    rewards = [aligner_reward(a, CODES[0])(CODES, context) for a in (found, expected)]
    assert_close(*rewards, rtol=1e-3, atol=1e-4)


@contexts
@pytest.mark.parametrize("changes", [{}, {"alignment": 0.5}, {"pessimism": 1.0}, {"trust": 1.0}])
def test_fit_generator(spec: ContextSpec | None, changes: dict[str, float]) -> None:
    config = GeneratorConfig(steps=20, validate_every=5, batch_size=16, **changes)
    both = []
    for which in range(2):
        estimator, judge = pair(spec, 0)[which], pair(spec, 1)[which]
        with isolated_seed(1):
            aligner = Aligner(estimator, 6, space=SPACE, context=spec)
            generator = Generator(SPACE, spec, hidden=(8,))
        frozen = FrozenModels(estimator, judge, aligner=aligner)
        history = fit_generator(
            generator, rows_of(spec), frozen=frozen, method=ReinMax(SPACE), config=config, seed=0
        )
        both.append((history, generator.logits(None if spec is None else torch.eye(2))))
        assert not any(p.requires_grad for p in estimator.parameters())
    assert_near(both[0][0].losses, both[1][0].losses)
    assert_near(both[0][0].held_out_losses, both[1][0].held_out_losses)
    assert_close(both[0][1], both[1][1], rtol=1e-3, atol=1e-3)


@contexts
def test_swaps(spec: ContextSpec | None) -> None:
    ours, own = pair(spec)
    context = context_of(spec)
    expected = swap_effects(ours, CODES, context)
    found = swap_effects(own, CODES, context, space=SPACE)
    assert_close(found.exact, expected.exact)
    assert_close(found.predicted, expected.predicted)
    agreement = [swap_agreement(effects).rank_correlation for effects in (found, expected)]
    assert agreement[0] == pytest.approx(agreement[1], abs=1e-3)


def subject_of(spec: ContextSpec | None, which: int) -> Subject:
    context = context_of(spec)
    with isolated_seed(2):
        policies = {name: Generator(SPACE, spec, hidden=(8,)) for name in ("first", "last")}
    return Subject(
        space=SPACE,
        contexts=None if spec is None else torch.eye(2),
        labels=["all rows"] if spec is None else ["east", "west"],
        observed=Observed(CODES, SCORES, torch.arange(40) % (1 if spec is None else 2)),
        estimator=pair(spec, 0)[which],
        judge=pair(spec, 1)[which],
        to_units=lambda scaled, context: 2 * scaled + 1,
        policies=policies,
        held_out={name: rows_of(spec) for name in ("estimator", "judge")},
        trail={0: policies["first"], 5: policies["last"]},
        reference=policies["first"],
        training_contexts=None
        if spec is None or context is None
        else TrainingContexts(spec, context),
    )


@contexts
def test_report(spec: ContextSpec | None) -> None:
    expected, found = (build_report(subject_of(spec, which), samples=16) for which in range(2))
    assert_near(found, expected)
    subject, entry = subject_of(spec, 1), found["contexts"][0]["entries"][0]
    row = torch.tensor([SPACE.categories[i].index(c) for i, c in enumerate(entry["row"])])
    shown = () if spec is None else (torch.eye(2)[:1],)
    for name, key in (("estimator", "estimated"), ("judge", "judged")):
        value = getattr(subject, name)(SPACE.one_hot(row.unsqueeze(0)), *shown)
        assert entry[key] == pytest.approx(2 * value.item() + 1, rel=1e-4)
    assert found["swaps"] is not None
    assert found["exploitation"] is not None
    assert (found["robustness"] is None) == (spec is None)
    assert found["held_out"]["judge"]["rmse"] > 0
    stds = {entry["estimated_std"] for entry in found["average"]}
    assert stds == {0.0}
    assert "<html" in render_html(found)


def test_parts_of_the_report_alone() -> None:
    trail = {step: torch.full((2, SPACE.width), 0.1 * step) for step in range(3)}
    found, expected = (
        exploitation_report(subject_of(SPEC, which), trail, torch.zeros(2, SPACE.width), samples=4)
        for which in (1, 0)
    )
    assert_near(found, expected)
    found, expected = (
        context_robustness(subject_of(SPEC, which), draws=8, samples=2) for which in (1, 0)
    )
    assert_near(found, expected)


@contexts
def test_conformal_pessimism_and_preferences(spec: ContextSpec | None) -> None:
    pairs = [pair(spec, seed) for seed in range(3)]
    ours = EstimatorEnsemble([a for a, _ in pairs])
    own = EstimatorEnsemble([b for _, b in pairs], space=SPACE, context=spec)
    found, expected = (conformal_pessimism(e, rows_of(spec), 0.8) for e in (own, ours))
    assert found == pytest.approx(expected, rel=1e-3)
    context = context_of(spec)
    found, expected = (
        PreferenceModel(e).differences(CODES, CODES.flip(0), context) for e in (own, ours)
    )
    assert_close(found, expected)


# --- a plain module, an aligner and a generator of one's own -------------------------------------


def flat(seed: int) -> Flat:
    with isolated_seed(seed):
        return Flat()


@pytest.mark.parametrize("method", [ReinMax(SPACE, samples=2), LeaveOneOut(SPACE, samples=4)])
def test_nothing_of_the_library_but_the_fit(method: Any) -> None:
    model, judge = flat(0), flat(1)
    with isolated_seed(2):
        generator = Heads()
    before = judge(SPACE.one_hot(SPACE.argmax(generator.logits(torch.eye(2)))), torch.eye(2)).mean()
    frozen = FrozenModels(
        model, model, reference=Heads().requires_grad_(False), aligner=Alike(judge)
    )
    config = GeneratorConfig(steps=60, batch_size=32, alignment=0.1, reference_kl=0.01)
    fit_generator(generator, rows_of(SPEC), frozen=frozen, method=method, config=config, seed=0)
    likely = SPACE.argmax(generator.logits(torch.eye(2)))
    every = SPACE.enumerate().repeat(2, 1)
    values = model(SPACE.one_hot(every), torch.eye(2).repeat_interleave(SPACE.num_rows, 0))
    best = values.view(2, -1).quantile(0.9, dim=1)
    assert (model(SPACE.one_hot(likely), torch.eye(2)) >= best).all()
    assert before.isfinite()
    assert not model.training
    assert not any(p.requires_grad for p in [*model.parameters(), *generator.parameters()])


def test_an_ensemble_of_ones_own_is_a_reward() -> None:
    model, policy = flat(0), Generator(SPACE, SPEC, hidden=(8,))
    reward = EstimatorEnsemble([model], space=SPACE)
    rows, context = SPACE.enumerate(), torch.eye(2)
    exact = RewardWeighted(policy, reward, beta=0.5).exact(context)
    values = [model(SPACE.one_hot(rows), c.expand(len(rows), 2)) for c in context]
    density = torch.stack(values, 1).double() / 0.5 + policy.log_prob(rows.unsqueeze(1), context)
    assert_close(exact.probs, density.softmax(0))
    shaken = adversarial_reward(reward, context_radius=0.1)(rows.unsqueeze(1), context)
    assert (shaken.mean(0) < torch.stack(values).mean(1)).all()


def test_an_aligner_of_ones_own_is_a_reward() -> None:
    alike, codes = Alike(flat(0)), CODES[:6].view(2, 3, 3)
    reward = aligner_reward(alike, CODES[0], space=SPACE)(codes, CONTEXT[:3])
    expected = alike(
        SPACE.one_hot(CODES[:6]), HARD[:1].expand(6, -1), CONTEXT[:3].repeat(2, 1)
    ).view(2, 3)
    assert_close(reward, expected)


def test_a_projection_of_ones_own_is_fitted_and_measured() -> None:
    class Own(nn.Module):
        space = SPACE

        def __init__(self) -> None:
            super().__init__()
            self.estimator, self.head = flat(0), nn.Linear(8, 3)

        def project(self, row, context):
            return self.head(self.estimator.to_latent(row, context))

    with isolated_seed(0):
        own = Own()
    config = AlignerConfig(steps=5, pseudo_labels=0.5, mined_share=0.3)
    history = fit_aligner(own, rows_of(SPEC), config=config, seed=0)
    assert all(loss > 0 for loss in history.losses)
    figures = alignment_metrics(own, CODES, SCORES, context=CONTEXT, resamples=5)
    assert {"aligner", "latent", "estimate"} <= {figure.metric for figure in figures}


def test_a_float64_model_takes_codes() -> None:
    model = flat(0).double()
    found = as_estimator("a test", model, SPACE)(CODES, CONTEXT.double())
    assert found.dtype == as_estimator("a test", Bare().double(), SPACE)(CODES).dtype
    assert found.dtype == torch.float64
    with_latent = Bare().double()
    with_latent.to_latent = lambda row: with_latent.score(row)
    assert as_estimator("a test", with_latent, SPACE).to_latent(CODES).dtype == torch.float64
    assert swap_effects(model, CODES, CONTEXT.double(), space=SPACE).exact.dtype == torch.float64


# --- missing parts are named ---------------------------------------------------------------------


class Nothing:
    """No model at all."""


def fitted(frozen: FrozenModels, generator: Any = None, **changes: Any) -> Any:
    config = GeneratorConfig(steps=1, **changes)
    generator = generator or Heads()
    rows = rows_of(SPEC)
    return fit_generator(
        generator, rows, frozen=frozen, method=ReinMax(SPACE), config=config, seed=0
    )


class Bare(nn.Module):
    """A score without latents."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(SPACE.width, 1)

    def forward(self, row):
        return self.score(row)[:, 0]


class Column(Bare):
    def forward(self, row):
        return self.score(row)


class Elsewhere(Bare):
    space = CategoricalSpace.from_sizes((2, 2))


def subject_with(**changes: Any) -> Subject:
    return replace(subject_of(None, 1), **changes)


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Aligner(Bare(), space=SPACE), TypeError, "Aligner needs a model with `to_latent"),
    (lambda: Aligner(flat(0), context=SPEC), TypeError, "Flat has no `space`: give `space=`"),
    (lambda: Aligner(flat(0), space=SPACE), TypeError, "called with 1 tensors.*'context'"),
    (
        lambda: Aligner(library(None), space=Elsewhere.space),
        ValueError,
        "an Aligner is for rows of .*x0: 2, x1: 2.*Estimator for rows of .*cut: 3",
    ),
    (lambda: EstimatorEnsemble([Bare()]), TypeError, "EstimatorEnsemble needs the features"),
    (
        lambda: EstimatorEnsemble([Bare(), Elsewhere()], space=SPACE),
        ValueError,
        "an EstimatorEnsemble is for rows of",
    ),
    (
        lambda: EstimatorEnsemble([Nothing()], space=SPACE),  # type: ignore[list-item]
        TypeError,
        r"needs a model with `forward\(row, context\)`; Nothing has none",
    ),
    (
        lambda: EstimatorEnsemble([Column()], space=SPACE)(CODES),
        ValueError,
        r"Column must answer 40 rows by a tensor \(40,\), got \(40, 1\)",
    ),
    (
        lambda: EstimatorEnsemble([Bare()], space=SPACE).to_latent(CODES),
        TypeError,
        "a latent needs a model with `to_latent.*Bare has none",
    ),
    (
        lambda: EstimatorEnsemble([Bare()], space=SPACE)(CODES, CONTEXT),
        TypeError,
        "Bare is called with 2 tensors, rows before a context: too many positional",
    ),
    (
        lambda: fitted(FrozenModels(Nothing(), flat(0))),  # type: ignore[arg-type]
        TypeError,
        "the estimator of fit_generator needs a model with `forward",
    ),
    (
        lambda: fitted(FrozenModels(flat(0), None)),  # type: ignore[arg-type]
        TypeError,
        "the judge of fit_generator needs a model with `forward",
    ),
    (
        lambda: fitted(FrozenModels(flat(0), Elsewhere())),
        ValueError,
        "the judge of fit_generator is for rows of",
    ),
    (
        lambda: fitted(FrozenModels(flat(0), flat(1)), generator=flat(0)),
        TypeError,
        "Flat as a generator is called with contexts .N, C.: missing a required",
    ),
    (
        lambda: fitted(FrozenModels(flat(0), flat(1), reference=flat(0)), reference_kl=1.0),  # type: ignore[arg-type]
        TypeError,
        "the reference of fit_generator needs a policy with `logits",
    ),
    (
        lambda: fitted(FrozenModels(flat(0), flat(1), aligner=Bare()), alignment=1.0),
        TypeError,
        "Bare is called with 3 tensors",
    ),
    (
        lambda: fit_aligner(Alike(flat(0)), rows_of(SPEC), config=AlignerConfig(), seed=0),
        TypeError,
        "fit_aligner needs a model with `space`; Alike has none",
    ),
    (
        lambda: alignment_metrics(Alike(flat(0)), CODES, SCORES),
        TypeError,
        "alignment_metrics needs a model with `project",
    ),
    (lambda: aligner_reward(Alike(flat(0)), CODES[0]), TypeError, "aligner_reward needs the feat"),
    (
        lambda: conformal_pessimism(Bare(), rows_of(None), 0.8),  # type: ignore[arg-type]
        TypeError,
        "conformal_pessimism needs a model with `predictions",
    ),
    (
        lambda: MixedEnsemble([Bare()]),  # type: ignore[list-item]
        TypeError,
        "MixedEnsemble needs a model with `predictions",
    ),
    (
        lambda: StackedEnsemble({"own": Bare()}),  # type: ignore[dict-item]
        TypeError,
        "StackedEnsemble needs a model with `predictions",
    ),
    (lambda: PreferenceModel(Bare()), TypeError, "PreferenceModel needs a model with `predictions"),  # type: ignore[arg-type]
    (lambda: swap_effects(Bare(), CODES), TypeError, "Bare has no `space`: give `space=`"),
    (lambda: subject_with(judge=Nothing()), TypeError, "a report needs a model with `forward"),
    (
        lambda: build_report(subject_with(estimator=Column())),
        ValueError,
        r"Column must answer .* rows by a tensor",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_a_missing_part_is_named(call: Callable[[], Any], error: type, message: str) -> None:
    with pytest.raises(error, match=re.compile(message, re.DOTALL)):
        call()


def test_an_answer_is_checked_whatever_it_is() -> None:
    with pytest.raises(ValueError, match=r"must answer 40 rows by a tensor \(40,\), got float"):
        ask(lambda row: 3.0, SPACE, (CODES,), None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match=r"by a tensor \(40, L\), got \(40,\)"):
        ask(lambda row: row[:, 0], SPACE, (CODES,), None, width="L")
    for rows, context, fault in (
        (CODES, CONTEXT[:7], r"rows and context must go together, got \(40, 3\), \(7, 2\)"),
        (CODES + 3, CONTEXT, "feature 'cut' has code"),
        (HARD[:, 1:], CONTEXT, "a flat row must be"),
    ):
        with pytest.raises(ValueError, match=fault):
            ask(flat(0), SPACE, (rows,), context)
    own = OwnEstimator(torch.nn.Flatten(0), SPACE)
    with pytest.raises(ValueError, match=r"Flatten must answer"):
        own(CODES)


# --- the documented way --------------------------------------------------------------------------


def test_the_page_changes_ten_lines() -> None:
    page = (Path(__file__).parents[2] / "docs" / "own_model.md").read_text(encoding="utf-8")
    changed = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[1].splitlines()
    lines = [line for line in changed if line.strip() and "import" not in line]
    assert 0 < len(lines) <= 10
