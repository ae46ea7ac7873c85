"""The aligner: a frozen estimator, and a cosine that can be learnt."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.models import Aligner, Estimator, EstimatorEnsemble, MultilinearEstimator
from discrete_grad.objectives import rank_n_contrast
from discrete_grad.space import ContextSpec
from tests.strategies import random_logits

SPACE = CategoricalSpace({"cut": 3, "colour": 4, "shape": 2})
SPEC = ContextSpec(numeric=["price", "weight"])
CODES = SPACE.enumerate()


def make(kind: str = "estimator", context: ContextSpec | None = None) -> Aligner:
    torch.manual_seed(0)
    if kind == "multilinear":
        return Aligner(MultilinearEstimator(SPACE, context=context), 6)
    models = [Estimator(SPACE, context=context, hidden=(8,), dropout=0.5) for _ in range(3)]
    return Aligner(EstimatorEnsemble(models) if kind == "ensemble" else models[0], 6)


@pytest.mark.parametrize("kind", ["estimator", "ensemble", "multilinear"])
@pytest.mark.parametrize("spec", [None, SPEC], ids=["bare", "context"])
def test_cosine(kind: str, spec: ContextSpec | None) -> None:
    aligner = make(kind, spec)
    context = None if spec is None else torch.randn(24, 2)
    other = SPACE.softmax(random_logits(SPACE, (24,)).float())
    cosine = aligner(CODES, other, context)
    assert cosine.shape == (24,)
    assert (cosine.abs() <= 1 + 1e-6).all()
    assert_close(aligner(other, CODES, context), cosine)
    assert_close(aligner(CODES, SPACE.one_hot(CODES), context), torch.ones(24))
    projected = aligner.project(CODES, context)
    assert projected.shape == (24, 6)
    assert_close(projected.norm(dim=-1), torch.ones(24))
    assert_close((projected * aligner.project(other, context)).sum(-1), cosine)


def test_leading_dimensions() -> None:
    aligner = make(context=SPEC)
    rows, context = SPACE.one_hot(CODES).unflatten(0, (4, 6)), torch.randn(6, 2)
    expected = torch.stack([aligner(r, CODES[:6], context) for r in rows])
    assert_close(aligner(rows, CODES[:6], context), expected)


@pytest.mark.parametrize("kind", ["estimator", "ensemble", "multilinear"])
def test_estimator_is_frozen_and_rows_get_gradients(kind: str) -> None:
    aligner = make(kind)
    before = {name: value.clone() for name, value in aligner.estimator.state_dict().items()}
    trained = {name for name, p in aligner.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in aligner.named_parameters() if name[:9] != "estimator"}
    row = SPACE.softmax(random_logits(SPACE, (24,)).float()).requires_grad_()
    optimizer = torch.optim.SGD(aligner.parameters(), lr=0.1)
    aligner.train()(row, CODES.flip(0)).sum().backward()
    optimizer.step()
    assert (row.grad != 0).any(-1).all()
    assert all(p.grad is None for p in aligner.estimator.parameters())
    assert all(p.grad is not None for p in aligner.trunk.parameters())
    for name, value in aligner.estimator.state_dict().items():
        assert torch.equal(value, before[name])


def test_estimator_stays_in_evaluation_mode() -> None:
    aligner = make()
    assert not any(module.training for module in aligner.estimator.modules())
    assert aligner.train() is aligner
    nn.Sequential(aligner).train()
    assert aligner.training
    assert aligner.trunk.training
    assert not any(module.training for module in aligner.estimator.modules())
    assert torch.equal(aligner.project(CODES), aligner.project(CODES))  # no dropout
    assert not aligner.eval().training


def test_copies() -> None:
    aligner = make("ensemble")
    other = make("ensemble")
    with torch.no_grad():
        other.head.weight.zero_()
    other.load_state_dict(aligner.state_dict())
    for copied in (other, copy.deepcopy(aligner), pickle.loads(pickle.dumps(aligner))):
        assert torch.equal(copied.project(CODES), aligner.project(CODES))
        copied.train()
        assert not copied.estimator.training
        assert not any(p.requires_grad for p in copied.estimator.parameters())


def test_learns_which_rows_behave_alike() -> None:
    aligner = make()
    scores = CODES[:, 0].float()  # nothing else matters
    optimizer = torch.optim.Adam(aligner.parameters(), lr=1e-2)
    for _ in range(150):
        loss = rank_n_contrast(aligner.project(CODES), scores)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    cosine = aligner(CODES.unsqueeze(0), CODES.unsqueeze(1)).detach()
    distance = (scores.unsqueeze(0) - scores.unsqueeze(1)).abs()
    means = [cosine[distance == d].mean().item() for d in (0, 1, 2)]
    assert means[0] > means[1] + 0.1
    assert means[1] > means[2] + 0.1
