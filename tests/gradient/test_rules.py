"""Gradient estimators under rules, exactly: by enumeration of the rows that obey."""

from __future__ import annotations

import inspect
import itertools
import pickle
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import (
    IMLE,
    AdaptiveIMLE,
    CategoricalSpace,
    DeterministicStraightThrough,
    Enumerate,
    GradientEstimator,
    LeaveOneOut,
    Reinforce,
    Softmax,
    StraightThrough,
    gradient,
)
from discrete_grad.gradient.imle import _target_difference
from discrete_grad.nn import SoftEmbedding
from discrete_grad.rules import Exactly, Fix, Forbid, Law, Rules, When, Within
from discrete_grad.testing import row_function
from tests.strategies import random_logits

SPACE = CategoricalSpace.from_sizes((2, 3, 3))
RULES = Rules(SPACE, [Forbid({"x0": 0, "x1": [0, 1]}), Within([0, 0, 0], edits=2)])
SUBSETS = CategoricalSpace.from_sizes((2,) * 6)
EXACTLY = Rules(SUBSETS, [Exactly(3, {name: 1 for name in SUBSETS.names})])
LAYERS = (AdaptiveIMLE, DeterministicStraightThrough, IMLE, Softmax, StraightThrough)
METHODS = (*LAYERS, Enumerate, LeaveOneOut, Reinforce)


def truth(rules: Rules, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Flat rows `(R, D)` that obey, and their probabilities, differentiable."""
    rows = rules.enumerate()
    flat = rules.space.one_hot(rows, dtype=logits.dtype)
    return flat, rules.space.log_prob(logits, rows).softmax(-1)


def true_gradient(rules: Rules, logits: Tensor, f: object) -> Tensor:
    leaf = logits.clone().requires_grad_()
    flat, p = truth(rules, leaf)
    return torch.autograd.grad(p @ f(flat), leaf)[0]  # type: ignore[operator]


def gradient_of(method: GradientEstimator, logits: Tensor, f: object) -> Tensor:
    leaf = logits.clone().requires_grad_()
    value = method.expectation(f, leaf, generator=torch.Generator().manual_seed(1))  # type: ignore
    return torch.autograd.grad(value.sum(), leaf)[0]


# --- the argument ---------------------------------------------------------------------------------


def test_those_that_take_rules_say_so() -> None:
    for name, cls in gradient.catalogue().items():
        takes = "rules" in inspect.signature(cls).parameters
        assert takes == (cls.facts.with_rules is not None) == (cls in METHODS), name
    with pytest.raises(TypeError, match="unexpected keyword argument 'rules'"):
        gradient.ReinMax(rules=RULES)


@pytest.mark.parametrize("cls", METHODS)
def test_the_space_is_that_of_the_rules(cls: type[GradientEstimator]) -> None:
    assert cls(rules=RULES).space == SPACE  # type: ignore[call-arg]
    assert cls(SPACE, rules=RULES).rules is RULES  # type: ignore[call-arg]
    assert "2 rules" in repr(cls(rules=RULES))  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"the space is .*, that of the rules"):
        cls(SUBSETS, rules=RULES)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="rules must be Rules"):
        cls(rules=[Fix("x0", 0)])  # type: ignore[call-arg]
    context = CategoricalSpace({"country": 2})
    given = Rules(SPACE, [When({"country": 0}, [Fix("x0", 0)])], context=context)
    with pytest.raises(ValueError, match="knows no context"):
        cls(rules=given)  # type: ignore[call-arg]


@pytest.mark.parametrize("cls", METHODS)
def test_masks_that_leave_no_row_are_refused(cls: type[GradientEstimator]) -> None:
    logits = torch.zeros(2, 8)
    logits[1, [1, 4]] = -torch.inf
    with pytest.raises(ValueError, match=r"element 1 of the batch leave no row that obeys Forbid"):
        cls(rules=RULES).expectation(lambda rows: rows[..., 0], logits)  # type: ignore[call-arg]


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [RULES, EXACTLY])
@pytest.mark.parametrize("cls", [StraightThrough, Softmax])
def test_the_marginals_gradient_is_exact_on_additive_functions(
    cls: type[StraightThrough | Softmax], rules: Rules
) -> None:
    logits, f = random_logits(rules.space), row_function(rules.space, "additive")
    assert_close(gradient_of(cls(rules=rules), logits, f), true_gradient(rules, logits, f))
    # what couples features is another matter, even if multilinear
    bent = row_function(rules.space, "multilinear")
    difference = gradient_of(Softmax(rules=rules), logits, bent) - true_gradient(
        rules, logits, bent
    )
    assert difference.abs().max() > 1e-3


def test_for_subsets_straight_through_is_simple() -> None:
    """J is the covariance of the inclusions under the conditional law: SIMPLE's gradient."""
    logits = random_logits(SUBSETS)
    flat, p = truth(EXACTLY, logits)
    mean = p @ flat
    covariance = (flat - mean).T @ (p.unsqueeze(-1) * (flat - mean))
    leaf = logits.clone().requires_grad_()
    row = StraightThrough(rules=EXACTLY)(leaf, generator=torch.Generator().manual_seed(0))
    assert SUBSETS.argmax(row).sum() == 3
    slopes = torch.randn(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert_close(torch.autograd.grad(row, leaf, slopes)[0], covariance @ slopes)


@pytest.mark.parametrize("make", [LeaveOneOut, partial(Reinforce, samples=2)])
def test_the_score_function_is_unbiased(
    make: type[GradientEstimator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pair of rows that obey, each weighted by its probability."""
    logits, f = random_logits(SPACE), row_function(SPACE, "cubic")
    rows = RULES.enumerate()
    pairs = torch.tensor(list(itertools.product(range(len(rows)), repeat=2)))
    p = truth(RULES, logits)[1]
    weights = p[pairs].prod(-1)
    drawn = rows[pairs].movedim(1, 0)  # (2, pairs, F)
    monkeypatch.setattr(Law, "sample", lambda self, count, generator: drawn)
    method = make(rules=RULES) if make is not LeaveOneOut else LeaveOneOut(rules=RULES, samples=2)
    gradients = gradient_of(method, logits.expand(len(pairs), -1), f)
    assert_close(weights @ gradients, true_gradient(RULES, logits, f))


def test_enumeration_is_over_rows_that_obey() -> None:
    logits, f = random_logits(SPACE, (2,)), row_function(SPACE, "cubic")
    method, seen = Enumerate(rules=RULES), []

    def counted(rows: Tensor) -> Tensor:
        seen.append(len(rows))
        return f(rows)

    value = method.expectation(counted, logits)
    assert seen == [RULES.num_rows] == [method.cost(SPACE).evaluations]
    for element in range(2):
        flat, p = truth(RULES, logits[element])
        assert_close(value[element], p @ f(flat))
        expected = true_gradient(RULES, logits[element], f)
        assert_close(gradient_of(method, logits, f)[element], expected)
    few = RULES.num_rows - 1
    with pytest.raises(ValueError, match=f"allow {few + 1} rows, more than max_rows={few}"):
        Enumerate(rules=RULES, max_rows=few).expectation(f, logits)


def test_the_rows_of_imle_are_the_best_that_obey() -> None:
    perturbed, g = random_logits(SPACE, (50,)), random_logits(SPACE, (50,), generator=1)
    flat = SPACE.one_hot(RULES.enumerate(), dtype=torch.float64)
    here, there = (flat[(v @ flat.T).argmax(-1)] for v in (perturbed, perturbed - 2 * g))
    got = _target_difference(SPACE, perturbed, g, 2.0, RULES)
    assert_close(got, (here - there) / 2)
    assert got.any()
    # so is the row that the layer's gradient points away from
    leaf = perturbed.clone().requires_grad_()
    row = IMLE(rules=RULES, step=2.0)(leaf, generator=torch.Generator().manual_seed(0))
    target = row - 2 * torch.autograd.grad(row, leaf, 3 * g)[0]
    assert (row.sum(0) != target.sum(0)).any()
    assert RULES.allows(SPACE.argmax(target)).all()


def test_without_noise_the_row_is_the_mode() -> None:
    logits = random_logits(SPACE, (20,))
    flat = SPACE.one_hot(RULES.enumerate(), dtype=torch.float64)
    best = flat[(logits @ flat.T).argmax(-1)]
    assert torch.equal(DeterministicStraightThrough(rules=RULES)(logits), best)


# --- as layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_layers_obey_in_every_dtype(cls: type[StraightThrough], dtype: torch.dtype) -> None:
    layer = pickle.loads(pickle.dumps(cls(rules=RULES)))
    leaf = random_logits(SPACE, (40, 2), scale=3.0, generator=2).to(dtype).requires_grad_()
    row = layer(leaf)
    assert row.dtype == dtype
    if cls is not Softmax:
        assert set(row.flatten().tolist()) == {0.0, 1.0}
        assert RULES.allows(SPACE.argmax(row)).all()
    weights = torch.randn(8, generator=torch.Generator().manual_seed(0)).to(dtype)
    (slope,) = torch.autograd.grad((row * weights).sum(), leaf)
    assert slope.isfinite().all()
    assert layer(leaf[:0]).shape == (0, 2, 8)


@pytest.mark.parametrize("cls", LAYERS)
def test_layers_obey_under_vmap(cls: type[StraightThrough]) -> None:
    layer, logits = cls(rules=RULES).eval(), random_logits(SPACE, (5,))
    rows = torch.vmap(layer, randomness="different")(logits)
    assert RULES.allows(SPACE.argmax(rows)).all() or cls is Softmax
    slopes = torch.vmap(torch.func.grad(lambda x: layer(x)[0]), randomness="different")(logits)
    assert slopes.isfinite().all()


def test_an_embedding_draws_rows_that_obey() -> None:
    method = StraightThrough(rules=RULES)
    assert method.pullback() is None
    embedding = SoftEmbedding(SPACE, 4)
    logits = random_logits(SPACE, (30,)).float()
    allowed = embedding(RULES.enumerate())
    drawn = embedding.sample(logits, method)
    distance = (drawn.unsqueeze(1) - allowed).abs().flatten(2).amax(-1)
    assert (distance.amin(1) < 1e-6).all()


def test_a_tempered_softmax_conditions_tempered_logits() -> None:
    logits = random_logits(SPACE, (3,))
    expected = RULES.condition(logits / 0.5).marginals()
    assert_close(Softmax(rules=RULES, tau=0.5)(logits), expected)


@pytest.mark.slow
def test_a_layer_compiles_and_exports() -> None:
    space = CategoricalSpace.from_sizes((3, 2))
    layer = StraightThrough(rules=Rules(space, [Forbid({"x0": 1, "x1": 0})]))
    leaf = random_logits(space, (4,)).requires_grad_()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    exported = torch.export.export(layer, (leaf.detach(),)).module()
    for rows in (compiled(leaf), exported(leaf.detach())):
        assert layer.rules.allows(space.argmax(rows)).all()
    weights = torch.arange(5.0, dtype=torch.float64)
    slopes = [
        torch.autograd.grad(rows @ weights, leaf, torch.ones(4))
        for rows in (compiled(leaf), layer(leaf))
    ]
    assert_close(*slopes)
