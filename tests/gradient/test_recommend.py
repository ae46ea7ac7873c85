"""The recommendation: exact where the truth is known, within its budget, and honest about ties."""

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from discrete_grad import (
    CategoricalSpace,
    DoubleControlVariate,
    Enumerate,
    GradientEstimator,
    GumbelSoftmax,
    LeaveOneOut,
    Rebar,
    Reinforce,
    Relaxation,
    Softmax,
    on_codes,
)
from discrete_grad.gradient import catalogue, recommend, table
from discrete_grad.gradient._candidates import gradients

SPACE = CategoricalSpace.from_sizes((2, 3, 2))
LOGITS = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def linear(rows: Tensor) -> Tensor:
    return rows @ WEIGHTS


def cubic(rows: Tensor) -> Tensor:
    return (rows @ WEIGHTS) ** 3


def test_a_linear_f_needs_no_more_than_the_mean_field() -> None:
    found = recommend(SPACE, linear, 2, LOGITS)
    errors = {m.name: m.error for m in found.ranked}
    assert found.reference == "enumeration"
    assert found.reference_error == 0
    assert errors["Softmax"] < 1e-20
    assert errors["LeaveOneOut"] > 0.1


def test_every_candidate_keeps_to_the_budget_and_uses_it() -> None:
    budget = 25
    found = recommend(SPACE, cubic, budget, LOGITS, repeats=16)
    assert {m.name for m in found.ranked} | set(found.skipped) == set(catalogue()) - {"Enumerate"}
    for m in found.ranked:
        assert m.cost <= budget
    costs = {m.name: m.cost for m in found.ranked}
    assert costs["LeaveOneOut"] == 25
    assert costs["ReinMax"] == 24
    assert costs["LocalExpectation"] == 25 // 5 * 5


def test_the_error_is_the_variance_where_there_is_no_bias() -> None:
    found = recommend(SPACE, cubic, 4, LOGITS, candidates={"LeaveOneOut": LeaveOneOut})
    leaf = LOGITS.clone().requires_grad_()
    exact = torch.autograd.grad(Enumerate(SPACE).expectation(cubic, leaf), leaf)[0]
    many = LOGITS.expand(20_000, -1).clone().requires_grad_()
    noise = torch.Generator().manual_seed(5)
    value = LeaveOneOut(SPACE, samples=4).expectation(cubic, many, generator=noise).sum()
    errors = (torch.autograd.grad(value, many)[0] - exact).square().sum(-1)
    expected = (errors.mean() / exact.square().sum()).item()
    assert abs(found.ranked[0].error - expected) < 3 * found.ranked[0].half_width


@pytest.mark.parametrize(
    ("method", "more"),
    [
        (Reinforce(SPACE), 1),  # its baseline is a buffer
        (LeaveOneOut(SPACE), 0),
        (DoubleControlVariate(SPACE, learn_alpha=True), 0),  # a parameter stays as it is
    ],
)
def test_a_running_baseline_settles_in_a_call_that_does_not_count(
    method: GradientEstimator, more: int
) -> None:
    calls: list[int] = []

    def f(rows: Tensor) -> Tensor:
        calls.append(rows.shape[1])
        return cubic(rows)

    found = gradients(method, f, LOGITS, 20, torch.Generator().manual_seed(0))
    assert calls == [3] * more + [3, 3, 3, 3, 3, 3, 2]
    assert found.shape == (20, SPACE.width)


def test_the_call_that_settles_it_comes_first() -> None:
    class Counting(MeanField):
        """Gradients of as much as it has been called."""

        calls: Tensor

        def __init__(self) -> None:
            super().__init__(SPACE)
            self.register_buffer("calls", torch.zeros(()))

        def expectation(self, f: Any, logits: Tensor, **options: Any) -> Tensor:
            self.calls += 1
            return float(self.calls) * logits.sum(-1)

    found = gradients(Counting(), cubic, LOGITS, 20, torch.Generator().manual_seed(0))
    assert found[:, 0].tolist() == [2.0 + i // 3 for i in range(20)]


@pytest.mark.slow
def test_a_black_box_leaves_out_what_needs_its_derivative() -> None:
    table = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    f = on_codes(SPACE, lambda codes: table[(codes * torch.tensor([6, 2, 1])).sum(-1)])
    found = recommend(SPACE, f, 12, LOGITS, repeats=16)
    measured = {m.name for m in found.ranked}
    assert "LeaveOneOut" in measured
    assert not any(catalogue()[name].facts.needs_derivative for name in measured)
    assert "black box" in found.skipped["ReinMax"]


def test_a_large_space_is_compared_with_many_samples() -> None:
    space = CategoricalSpace.from_sizes((10,) * 6)
    weights = torch.randn(60, generator=torch.Generator().manual_seed(3))
    found = recommend(
        space,
        lambda rows: torch.tanh(rows @ weights),
        8,
        torch.zeros(60),
        candidates={name: catalogue()[name] for name in ("LeaveOneOut", "StraightThrough")},
        repeats=64,
    )
    assert "leave-one-out samples" in found.reference
    assert 0 < found.reference_error < 0.1
    assert "against" in str(found)


def test_the_same_seed_gives_the_same_ranking_and_leaves_the_global_state() -> None:
    state = torch.get_rng_state()
    a, b = (recommend(SPACE, cubic, 6, LOGITS, repeats=16, seed=3) for _ in range(2))
    assert [(m.name, m.error) for m in a.ranked] == [(m.name, m.error) for m in b.ranked]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("budget", "repeats"), [(0, 64), (4, 2)])
def test_wrong_numbers(budget: int, repeats: int) -> None:
    with pytest.raises(ValueError, match="budget must be >= 1 and repeats >= 16"):
        recommend(SPACE, linear, budget, LOGITS, repeats=repeats)


# --- candidates of one's own ------------------------------------------------------------------


class MeanField(Relaxation):
    """Declares nothing of itself."""

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return self.space_of(logits).softmax(logits)


class Twice(GradientEstimator):
    """Two evaluations a sample and no derivative, undeclared."""

    min_samples = 2

    def expectation(
        self, f: Any, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        inner = LeaveOneOut(self.space, samples=2 * self.samples)
        return inner.expectation(f, logits, generator=generator)


def measured(candidates: Any, budget: int = 9, **more: Any) -> Any:
    return recommend(SPACE, cubic, budget, LOGITS, candidates=candidates, repeats=16, **more)


def test_classes_without_facts_are_counted_and_named() -> None:
    found = measured({"mine": MeanField, "twice": Twice, "ours": Softmax})
    methods = {m.name: m for m in found.ranked}
    assert methods["mine"].cost == methods["mine"].method.samples * 2 == 8
    assert methods["twice"].cost == methods["twice"].method.samples * 2 == 8
    assert methods["mine"].error == pytest.approx(methods["ours"].error)
    assert set(found.unknown) == {"mine", "twice"}
    assert "MeanField declares no `facts`: its cost was counted; its bias" in str(found)
    assert measured({"ours": Softmax}).unknown == {}
    batched = recommend(SPACE, cubic, 9, LOGITS.expand(3, -1), candidates={"m": MeanField})
    assert batched.ranked[0].cost == 8


def test_partials() -> None:
    names = {tau: partial(GumbelSoftmax, tau=tau) for tau in (0.2, 2.0)}
    found = measured({str(tau): candidate for tau, candidate in names.items()})
    methods = {m.name: m.method for m in found.ranked}
    assert {name: m.tau for name, m in methods.items()} == {"0.2": 0.2, "2.0": 2.0}
    assert all(m.samples == 4 for m in methods.values())
    assert measured({"two": partial(Twice)}, budget=20).best.samples == 10


def test_instances_are_copied_and_keep_their_samples() -> None:
    instance = Rebar(SPACE, samples=1).double()
    before = {name: value.clone() for name, value in instance.state_dict().items()}
    found = measured({"as it is": instance, "dear": LeaveOneOut(SPACE, samples=10)})
    assert found.best is not instance
    assert found.best.samples == 1
    assert found.skipped == {"dear": "costs 10, more than the budget of 9"}
    for name, value in instance.state_dict().items():
        assert torch.equal(value, before[name])
    elsewhere = Softmax(CategoricalSpace.from_sizes((7,)))
    found = measured({"ours": Softmax(SPACE), "elsewhere": elsewhere, "none": Softmax()})
    assert [m.name for m in found.ranked] == ["ours"]
    assert found.skipped["elsewhere"].startswith("was made for CategoricalSpace(x0: 7), not")
    assert set(found.skipped) == {"elsewhere", "none"}


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        (3, "'int' object is not callable"),
        (nn.Linear, "unexpected keyword argument 'samples'"),
        (lambda space, samples: nn.Linear(2, 2), "Linear is no gradient estimator"),
        (partial(GumbelSoftmax, taw=1.0), "unexpected keyword argument 'taw'"),
    ],
)
def test_anything_else_is_named(candidate: Any, message: str) -> None:
    with pytest.raises(TypeError, match=rf"candidates\['it'\] must be a .*{message}"):
        measured({"it": candidate})


def test_a_module_in_training_mode_is_warned_of() -> None:
    f = nn.Sequential(nn.Linear(7, 1), nn.Dropout(0.5), nn.Flatten(-2)).double()
    with pytest.warns(UserWarning, match=r"f is Sequential in training mode.*f.eval\(\)"):
        recommend(SPACE, f, 4, LOGITS, candidates={"Softmax": Softmax}, repeats=16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recommend(SPACE, f.eval(), 4, LOGITS, candidates={"Softmax": Softmax}, repeats=16)


def test_the_table_has_a_line_for_each() -> None:
    lines = table().splitlines()
    assert len(lines) == 2 + len(catalogue())
    assert all(line.count("|") == 9 for line in lines)
