"""A black box on codes: its context, repeated for the samples, and its copies."""

import copy
import pickle

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import (
    CategoricalSpace,
    Enumerate,
    LeaveOneOut,
    LocalExpectation,
    Reinforce,
    ReinMax,
    SumAndSample,
    on_codes,
)
from discrete_grad.sampling import normal, seeded

SPACE = CategoricalSpace.from_sizes((2, 3))
TABLE = normal((2, 6), generator=seeded(0)).double()
CONTEXT = torch.tensor([[0.0], [1.0], [-2.0], [0.5]]).double()


def box(codes: Tensor, context: Tensor) -> Tensor:
    """Without broadcasting: a context for each row."""
    assert codes.shape[:-1] == context.shape[:-1]
    first, second = TABLE[:, SPACE.row_number(codes)]
    return first + context[..., 0] * second


def alone(codes: Tensor) -> Tensor:
    return TABLE[0][SPACE.row_number(codes)]


@pytest.mark.parametrize("method", [Enumerate(SPACE), LocalExpectation(SPACE, samples=2000)])
def test_every_element_of_the_batch_has_its_context(method: Enumerate) -> None:
    logits = normal((4, 5), generator=seeded(1)).double()
    found = method.expectation(on_codes(SPACE, box, CONTEXT), logits, generator=seeded(2))
    rows = SPACE.enumerate()
    probs = SPACE.log_prob(logits, rows.unsqueeze(1)).exp()
    values = box(rows.unsqueeze(1).expand(-1, 4, -1), CONTEXT.expand(6, 4, 1))
    tolerance = 1e-9 if isinstance(method, Enumerate) else 0.3
    assert_close(found, (probs * values).sum(0), atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", [LeaveOneOut, Reinforce, SumAndSample])
def test_methods_without_a_derivative(name: type[LeaveOneOut]) -> None:
    logits = torch.zeros(4, 5, dtype=torch.float64, requires_grad=True)
    f = on_codes(SPACE, box, CONTEXT)
    name(SPACE, samples=5).expectation(f, logits, generator=seeded(0)).sum().backward()
    assert logits.grad is not None
    assert (logits.grad != 0).any(-1).all()


def test_batches_of_any_shape() -> None:
    rows = SPACE.one_hot(SPACE.enumerate())
    single = on_codes(SPACE, box, CONTEXT[1])(rows)
    assert_close(single, TABLE[0] + TABLE[1])
    grid = on_codes(SPACE, box, CONTEXT.view(2, 2, 1))(rows.view(6, 1, 1, 5).expand(6, 2, 2, 5))
    assert_close(grid.flatten(1), TABLE[0].unsqueeze(1) + TABLE[1].unsqueeze(1) * CONTEXT[:, 0])


@pytest.mark.parametrize("shape", [(3, 1), (5, 2, 4, 1), ()])
def test_a_context_of_another_batch_is_refused(shape: tuple[int, ...]) -> None:
    rows = SPACE.one_hot(SPACE.enumerate()[:4])
    with pytest.raises(ValueError, match=r"the context of a black box must be \(\*batch, C\)"):
        on_codes(SPACE, box, torch.zeros(shape))(rows.expand(2, 4, 5))


@pytest.mark.parametrize("context", [None, CONTEXT])
def test_it_pickles_and_copies(context: Tensor | None) -> None:
    f = on_codes(SPACE, alone if context is None else box, context)
    rows = SPACE.one_hot(SPACE.enumerate()[:4]).double().expand(3, 4, 5)
    for copied in (pickle.loads(pickle.dumps(f)), copy.deepcopy(f)):
        assert torch.equal(copied(rows), f(rows))


def test_it_has_no_derivative() -> None:
    for f in (on_codes(SPACE, alone), on_codes(SPACE, box, CONTEXT)):
        with pytest.raises(ValueError, match="no derivative in the row"):
            ReinMax(SPACE).expectation(f, torch.zeros(4, 5, requires_grad=True))
