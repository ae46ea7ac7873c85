"""Estimators: either form of a row, contexts that broadcast, an ensemble equal to its members."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.models import (
    BaseEstimator,
    Estimator,
    EstimatorEnsemble,
    MultilinearEstimator,
)
from discrete_grad.space import ContextSpec
from tests.strategies import random_logits

SPACE = CategoricalSpace({"cut": 3, "colour": 4, "shape": 2})
SPEC = ContextSpec({"shop": ["east", "west"]}, ["price"])
CODES = SPACE.enumerate()
KINDS = ("estimator", "dropout", "multilinear")


def make(kind: str, context: ContextSpec | None = None, seed: int = 0) -> BaseEstimator:
    torch.manual_seed(seed)
    if kind == "multilinear":
        return MultilinearEstimator(SPACE, context=context, rank=5)
    dropout = 0.5 if kind == "dropout" else 0.0
    return Estimator(SPACE, context=context, dim=4, hidden=(16, 8), dropout=dropout)


def contexts(count: int) -> Tensor:
    return torch.randn(count, SPEC.width, generator=torch.Generator().manual_seed(2))


every_kind = pytest.mark.parametrize("kind", KINDS)
with_or_without_context = pytest.mark.parametrize("spec", [None, SPEC], ids=["bare", "context"])


# --- one estimator --------------------------------------------------------------------------------


@every_kind
@with_or_without_context
def test_either_form_of_a_row(kind: str, spec: ContextSpec | None) -> None:
    model = make(kind, spec).eval()
    context = None if spec is None else contexts(len(CODES))
    score, latent = model(CODES, context), model.to_latent(CODES, context)
    assert score.shape == (len(CODES),)
    assert latent.shape == (len(CODES), 5 if kind == "multilinear" else 8)
    assert torch.equal(model(SPACE.one_hot(CODES), context), score)
    assert torch.equal(model.to_latent(SPACE.one_hot(CODES), context), latent)
    assert score.unique().numel() == len(CODES)


@every_kind
def test_leading_dimensions_and_contexts_broadcast(kind: str) -> None:
    model, context = make(kind, SPEC).eval(), contexts(6)
    grid = CODES.unflatten(0, (4, 6))  # (samples, batch, F)
    expected = torch.stack([model(rows, context) for rows in grid])
    for rows in (grid, SPACE.one_hot(grid)):
        assert_close(model(rows, context), expected)
        assert_close(model(rows[:, :1], context)[0], model(CODES[:1], context))
        assert_close(model(rows[0, 0], context[0]), expected[0, 0])
        assert_close(model(CODES[0], context), model(CODES[:1].expand(6, -1), context))
        assert model(rows[:0], context).shape == (0, 6)
    bare = make(kind).eval()
    assert_close(bare(SPACE.one_hot(grid)), bare(CODES).unflatten(0, (4, 6)))


@every_kind
def test_gradients_reach_row_context_and_parameters(kind: str) -> None:
    model = make(kind, SPEC).eval().double()
    rows = SPACE.softmax(random_logits(SPACE, (3,))).requires_grad_()
    context = contexts(3).double().requires_grad_()
    assert torch.autograd.gradcheck(model, (rows, context))
    model(rows, context).sum().backward()
    assert (rows.grad != 0).all()
    assert (context.grad != 0).all()
    assert all(parameter.grad is not None for parameter in model.parameters())


@every_kind
def test_context_errors(kind: str) -> None:
    bare, model = make(kind), make(kind, SPEC)
    with pytest.raises(ValueError, match=r"takes no context, got \(24, 3\)"):
        bare(CODES, contexts(24))
    with pytest.raises(ValueError, match=r"takes a context \(..., 3\), got none"):
        model(CODES)
    with pytest.raises(ValueError, match=r"context must be \(..., 3\) for \('shop', 'price'\)"):
        model(CODES, torch.zeros(24, 2))
    with pytest.raises(ValueError, match="feature 'colour' has code 4"):
        bare(torch.tensor([0, 4, 0]))


@pytest.mark.parametrize("hidden", [(), (8, 0)])
def test_hidden_widths(hidden: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="hidden needs at least one width above 0"):
        Estimator(SPACE, hidden=hidden)


@every_kind
@with_or_without_context
def test_copies_of_an_estimator(kind: str, spec: ContextSpec | None) -> None:
    model = make(kind, spec).eval()
    context = None if spec is None else contexts(len(CODES))
    other = make(kind, spec, seed=1).eval()
    other.load_state_dict(model.state_dict())
    for copied in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(CODES, context), model(CODES, context))


def test_dropout_only_in_training() -> None:
    model = make("dropout")
    assert not torch.equal(model.train()(CODES), model(CODES))
    assert torch.equal(model.eval()(CODES), model(CODES))


@every_kind
def test_compile(kind: str) -> None:
    torch._dynamo.reset()
    model, context = make(kind, SPEC).eval(), contexts(len(CODES))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for rows in (CODES, SPACE.one_hot(CODES)):
        assert_close(compiled(rows, context), model(rows, context))


# --- ensembles ------------------------------------------------------------------------------------


def members(kind: str, spec: ContextSpec | None = None) -> list[BaseEstimator]:
    return [make(kind, spec, seed).eval() for seed in range(3)]


@every_kind
@with_or_without_context
def test_ensemble_is_its_members(kind: str, spec: ContextSpec | None) -> None:
    models = members(kind, spec)
    ensemble = EstimatorEnsemble(models).eval()
    assert ensemble.num_members == 3
    context = None if spec is None else contexts(len(CODES))
    for rows in (CODES, SPACE.softmax(random_logits(SPACE, (len(CODES),)).float())):
        scores = torch.stack([model(rows, context) for model in models])
        assert_close(ensemble.predictions(rows, context), scores)
        assert_close(ensemble(rows, context), scores.mean(0))
        assert_close(ensemble.std(rows, context), scores.std(0, correction=0))
        assert_close(ensemble.min(rows, context), scores.amin(0))
        latents = [model.to_latent(rows, context) for model in models]
        assert_close(ensemble.to_latent(rows, context), torch.cat(latents, -1))


@every_kind
def test_ensemble_on_rows_of_each_members_own(kind: str) -> None:
    models = members(kind, SPEC)
    ensemble = EstimatorEnsemble(models).eval()
    rows, context = CODES[:21].unflatten(0, (3, 7)), contexts(21).unflatten(0, (3, 7))
    expected = torch.stack([m(r, c) for m, r, c in zip(models, rows, context, strict=True)])
    assert_close(ensemble.predictions(rows, context, own_rows=True), expected)
    bare = EstimatorEnsemble(members(kind)).eval()
    expected = torch.stack([m(r) for m, r in zip(members(kind), rows, strict=True)])
    assert_close(bare.predictions(SPACE.one_hot(rows), own_rows=True), expected)


@every_kind
def test_ensemble_gradients_are_the_members(kind: str) -> None:
    models = members(kind)
    ensemble = EstimatorEnsemble(models).eval()
    weights = torch.randn(3, len(CODES))
    rows = SPACE.one_hot(CODES).requires_grad_()
    (weights * ensemble.predictions(rows)).sum().backward()
    gradient = rows.grad.clone()
    rows.grad = None
    for model, weight in zip(models, weights, strict=True):
        (weight * model(rows)).sum().backward()
    assert_close(gradient, rows.grad)
    own = {
        name: [dict(m.named_parameters())[name].grad for m in models]
        for name in models[0].state_dict()
    }
    assert len(own) == len(ensemble.stacked)
    for name, gradients in own.items():
        assert_close(ensemble.stacked[name.replace(".", "/")].grad, torch.stack(gradients))


def test_ensemble_copies_the_members_parameters() -> None:
    models = members("estimator")
    ensemble = EstimatorEnsemble(models)
    expected = ensemble(CODES)
    with torch.no_grad():
        for parameter in models[0].parameters():
            parameter.zero_()
    assert torch.equal(ensemble(CODES), expected)
    assert models[0].head.weight.device.type == "cpu"
    names = {f"stacked.{name.replace('.', '/')}" for name in models[0].state_dict()}
    assert set(ensemble.state_dict()) == names
    assert {name for name, _ in ensemble.named_parameters()} == names


@every_kind
def test_copies_of_an_ensemble(kind: str) -> None:
    ensemble = EstimatorEnsemble(members(kind)).eval().double()
    expected = ensemble(CODES)
    assert expected.dtype == torch.float64
    other = EstimatorEnsemble([make(kind, seed=seed) for seed in (7, 8, 9)]).eval().double()
    other.load_state_dict(ensemble.state_dict())
    for copied in (other, copy.deepcopy(ensemble), pickle.loads(pickle.dumps(ensemble))):
        assert torch.equal(copied(CODES), expected)
        assert not {id(p) for p in copied.parameters()} & {id(p) for p in ensemble.parameters()}


def test_ensemble_dropout_only_in_training_and_different_for_each_member() -> None:
    ensemble = EstimatorEnsemble([make("dropout")] * 3)
    scores = ensemble.train().predictions(CODES)
    assert not torch.equal(scores, ensemble.predictions(CODES))
    assert not torch.equal(scores[0], scores[1])
    scores = ensemble.eval().predictions(CODES)
    assert_close(scores, make("dropout").eval()(CODES).expand(3, -1))
    assert_close(ensemble.std(CODES), torch.zeros(len(CODES)), atol=1e-6, rtol=0)


def test_ensemble_of_one() -> None:
    ensemble = EstimatorEnsemble(members("estimator")[:1])
    assert_close(ensemble(CODES), make("estimator")(CODES))
    assert torch.equal(ensemble.std(CODES), torch.zeros(len(CODES)))


class WithBuffer(Estimator):
    def __init__(self) -> None:
        super().__init__(SPACE)
        self.norm = nn.BatchNorm1d(8)


def test_ensemble_errors() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        EstimatorEnsemble([])
    with pytest.raises(ValueError, match="the same architecture"):
        EstimatorEnsemble([make("estimator"), make("dropout")])
    with pytest.raises(ValueError, match=r"must have no buffers: \['norm.running_mean'"):
        EstimatorEnsemble([WithBuffer(), WithBuffer()])
    with pytest.raises(ValueError, match="takes no context"):
        EstimatorEnsemble(members("estimator"))(CODES, contexts(24))


@with_or_without_context
def test_many_rows_are_looked_up_as_few_are_computed(spec: ContextSpec | None) -> None:
    members = [make("estimator", spec, seed) for seed in range(3)]
    ensemble = EstimatorEnsemble(members)
    codes = CODES.repeat(8, 1)
    context = None if spec is None else contexts(len(codes))
    assert ensemble._folds(codes)
    assert not ensemble._folds(codes[:9])
    many = ensemble.predictions(codes, context)
    expected = torch.stack([member(codes, context) for member in members])
    assert_close(many, expected)
    few = ensemble.predictions(codes[:9], None if context is None else context[:9])
    assert_close(few, many[:, :9])
