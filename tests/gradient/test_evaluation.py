"""Chunks of rows, equal rows once, and how many rows f sees."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, Enumerate, IndeCateR, LocalExpectation
from discrete_grad.gradient import _evaluation as evaluation
from discrete_grad.gradient._evaluation import evaluate_codes
from discrete_grad.gradient.base import GradientEstimator
from discrete_grad.sampling import random_codes
from discrete_grad.testing._check_calling_f import Net
from tests.gradient import contract
from tests.gradient.cases import CASES, Case
from tests.gradient.contract import RAGGED, TINY, function, seeded
from tests.strategies import random_logits

CHUNKED = (Enumerate, IndeCateR, LocalExpectation)
chunked = pytest.mark.parametrize("cls", CHUNKED, ids=lambda cls: cls.__name__)


class Counter(nn.Module):
    """Remembers the shapes of the rows it was given."""

    def __init__(self, f: contract.Function) -> None:
        super().__init__()
        self.f, self.shapes = f, []

    def forward(self, rows: Tensor) -> Tensor:
        self.shapes.append(tuple(rows.shape))
        return self.f(rows)

    @property
    def rows(self) -> int:
        """Rows of one element of the batch."""
        return sum(shape[0] for shape in self.shapes)


def run(
    estimator: GradientEstimator, f: contract.Function, logits: Tensor
) -> tuple[Counter, tuple[Tensor, Tensor]]:
    counter = Counter(f)
    result = contract.value_and_gradient(estimator, counter, logits, generator=seeded())
    return counter, result


# --- the declared cost ------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("space", [TINY, RAGGED, CategoricalSpace.from_sizes((2, 2, 5))], ids=str)
def test_f_sees_as_many_rows_as_declared(case: Case, space: CategoricalSpace) -> None:
    estimator = case.estimator(space)
    if not estimator.facts.needs_derivative:
        counter, _ = run(estimator, function(space, "quadratic"), random_logits(space, (3, 2)))
        assert counter.rows == estimator.cost(space).evaluations
        # one that asks f at soft rows uses their slopes, and those of the rows drawn
        assert estimator.cost(space).backward == (counter.rows if case.soft_calls else 0)
        assert all(shape[1:] == (3, 2, space.width) for shape in counter.shapes)


def test_costs_by_hand() -> None:
    # RAGGED has sizes 2, 1, 3, 3
    assert LocalExpectation(RAGGED).cost(RAGGED).evaluations == 6
    assert LocalExpectation(RAGGED, samples=4).cost(RAGGED).evaluations == 24
    assert IndeCateR(RAGGED).cost(RAGGED).evaluations == 90
    assert Enumerate(RAGGED).cost(RAGGED).evaluations == 18


# --- chunks -----------------------------------------------------------------------------------


@chunked
@pytest.mark.parametrize("max_batch", [1, 7, 12, 25, 10_000])
def test_chunks_change_nothing_but_the_size_of_a_call(
    cls: type[LocalExpectation], max_batch: int
) -> None:
    logits, f = random_logits(RAGGED, (3, 2), masked=True), function(RAGGED, "cubic")
    whole, expected = run(cls(RAGGED, samples=2), f, logits)
    parts, mine = run(cls(RAGGED, samples=2, max_batch=max_batch), f, logits)
    assert parts.rows == whole.rows
    assert len(whole.shapes) == 1
    # one slice of the batch is 6 rows, and the least that a call can hold
    assert max(shape[0] for shape in parts.shapes) * 6 <= max(max_batch, 6)
    assert len(parts.shapes) == -(-whole.rows // max(1, max_batch // 6))
    for a, b in zip(mine, expected, strict=True):
        assert torch.equal(a, b)


def test_parameters_of_f_learn_from_every_chunk() -> None:
    net, logits = Net(RAGGED), random_logits(RAGGED, (3,)).requires_grad_()
    gradients = []
    for max_batch in (None, 6):
        estimator = LocalExpectation(RAGGED, samples=2, max_batch=max_batch)
        value = estimator.expectation(net, logits, generator=seeded()).sum()
        gradients.append(torch.autograd.grad(value, [*net.parameters(), logits]))
    for whole, parts in zip(*gradients, strict=True):
        assert_close(parts, whole)


@chunked
@pytest.mark.parametrize("max_batch", [0, -1, 2.0, "3"])
def test_bad_max_batch(cls: type[LocalExpectation], max_batch: int) -> None:
    with pytest.raises(ValueError, match="max_batch must be None or an integer >= 1, got"):
        cls(RAGGED, max_batch=max_batch)


def test_a_chunk_of_another_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"flat rows \(4, 9\) to values \(4,\), got \(\)"):
        Enumerate(RAGGED, max_batch=4).expectation(lambda rows: rows.sum(), torch.zeros(9))


# --- equal rows once --------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [IndeCateR, LocalExpectation])
@pytest.mark.parametrize("max_batch", [None, 10])
def test_equal_rows_are_evaluated_once(cls: type[LocalExpectation], max_batch: int | None) -> None:
    logits, f = random_logits(RAGGED, (3, 2), masked=True), function(RAGGED, "cubic")
    every, expected = run(cls(RAGGED, samples=20), f, logits)
    once, mine = run(cls(RAGGED, samples=20, deduplicate=True, max_batch=max_batch), f, logits)
    assert once.rows <= RAGGED.num_rows < every.rows == cls(RAGGED, samples=20).cost(RAGGED).total
    for a, b in zip(mine, expected, strict=True):
        assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_as_many_rows_as_the_element_with_most_different_ones() -> None:
    codes = torch.tensor([[[0, 0], [1, 1]], [[0, 0], [0, 2]], [[0, 0], [1, 1]], [[0, 1], [1, 0]]])
    seen = []

    def f(rows: Tensor) -> Tensor:
        seen.append(TINY.argmax(rows))
        return rows @ torch.arange(5.0)

    values = evaluate_codes(TINY, f, codes, dtype=torch.float32, deduplicate=True)
    (rows,) = seen
    assert rows.shape == (3, 2, 2)  # the second element has three different rows
    assert {tuple(row) for row in rows[:, 0].tolist()} == {(0, 0), (0, 1)}
    assert {tuple(row) for row in rows[:, 1].tolist()} == {(1, 1), (0, 2), (1, 0)}
    assert_close(values, TINY.one_hot(codes) @ torch.arange(5.0))


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_equal_rows_of_different_elements_are_kept_apart(shape: tuple[int, ...]) -> None:
    # f has a context for each element of the batch
    codes = random_codes(TINY, 50 * 6, generator=seeded()).view(-1, *shape, 2)
    context = torch.randn(shape, generator=seeded(1), dtype=torch.float64)
    table = torch.randn(5, generator=seeded(2), dtype=torch.float64)

    def f(rows: Tensor) -> Tensor:
        return (rows @ table + context) ** 2

    expected = f(TINY.one_hot(codes, dtype=torch.float64))
    counter = Counter(f)
    mine = evaluate_codes(TINY, counter, codes, dtype=torch.float64, deduplicate=True)
    assert_close(mine, expected)
    assert counter.rows == 6


def test_the_gradient_of_f_counts_every_copy_of_a_row() -> None:
    net, codes = Net(TINY), random_codes(TINY, 40, generator=seeded()).view(20, 2, 2)
    gradients = []
    for deduplicate in (False, True):
        values = evaluate_codes(TINY, net, codes, dtype=torch.float64, deduplicate=deduplicate)
        weights = torch.arange(40.0, dtype=torch.float64).view(20, 2)
        gradients.append(torch.autograd.grad((weights * values).sum(), list(net.parameters())))
    for once, every in zip(*gradients, strict=True):
        assert_close(once, every)


def test_nothing_to_evaluate() -> None:
    codes = torch.zeros(4, 0, 2, dtype=torch.long)
    f = function(TINY, "cubic")
    for options in ({}, {"deduplicate": True}, {"max_batch": 2}):
        assert evaluate_codes(TINY, f, codes, dtype=torch.float64, **options).shape == (4, 0)


def test_transforms_evaluate_every_row() -> None:
    estimator = LocalExpectation(RAGGED, samples=3, deduplicate=True)
    counter = Counter(function(RAGGED, "cubic"))
    logits = random_logits(RAGGED, (5,))

    def one(leaf: Tensor) -> Tensor:
        return estimator.expectation(counter, leaf)

    values = torch.func.vmap(torch.func.grad(one), randomness="different")(logits)
    assert values.isfinite().all()
    assert counter.rows == 18
    torch.compiler.reset()
    f = function(RAGGED, "cubic")
    compiled = torch.compile(estimator.expectation, backend="aot_eager", fullgraph=True)
    assert compiled(f, logits).isfinite().all()


# --- planted bugs -----------------------------------------------------------------------------


def max_batch_ignored(*arguments: object, max_batch: int, **options: object) -> Tensor:
    return evaluate_codes(*arguments, **options)


def without_elements(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Rows merged across the elements of the batch."""
    flat = codes.flatten(0, -2)
    different, index = flat.unique(dim=0, return_inverse=True)
    kept = different.view(-1, *[1] * (codes.dim() - 2), codes.shape[-1])
    return kept.expand(-1, *codes.shape[1:-1], -1), index.view(codes.shape[:-1]) * 0


def first_row_only(codes: Tensor) -> tuple[Tensor, Tensor]:
    return codes[:1], torch.zeros(codes.shape[:-1], dtype=torch.long)


def nothing_merged(codes: Tensor) -> tuple[Tensor, Tensor]:
    where = torch.arange(len(codes)).view(-1, *[1] * (codes.dim() - 2))
    return codes, where.expand(codes.shape[:-1])


@pytest.mark.parametrize("bug", [without_elements, first_row_only, nothing_merged])
def test_a_wrong_merger_is_caught(bug: type[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_distinct", bug)
    with pytest.raises(AssertionError):
        test_equal_rows_of_different_elements_are_kept_apart((4,))


def test_a_chunk_that_is_too_large_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discrete_grad.gradient.enumerate.evaluate_codes", max_batch_ignored)
    with pytest.raises(AssertionError):
        test_chunks_change_nothing_but_the_size_of_a_call(Enumerate, 7)
