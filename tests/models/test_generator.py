"""The generator, and different rows drawn from one of its distributions."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.models import Generator, distinct_rows
from discrete_grad.space import ContextSpec
from tests.strategies import random_logits, spaces

SPACE = CategoricalSpace({"cut": 3, "colour": 4, "shape": 2})
SPEC = ContextSpec({"shop": ["east", "west"]}, ["price"])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_with_context() -> None:
    torch.manual_seed(0)
    model, context = Generator(SPEC, SPACE, hidden=(8, 6)), torch.randn(5, 3)
    logits = model(context)
    assert logits.shape == (5, SPACE.width)
    assert_close(model(context[2]), logits[2])
    assert_close(model(context.expand(4, 5, 3)), logits.expand(4, 5, -1))
    uniform = torch.full((5,), torch.tensor(SPACE.num_rows).log().item())
    assert_close(SPACE.entropy(logits), uniform, atol=0.05, rtol=0)
    (logits * torch.randn(SPACE.width)).sum().backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


def test_without_context() -> None:
    model = Generator(None, SPACE)
    assert torch.equal(model(), torch.zeros(SPACE.width))
    assert [name for name, _ in model.named_parameters()] == ["logits"]
    SPACE.log_prob(model(), torch.tensor([0, 1, 1])).backward()
    assert (model.logits.grad != 0).all()


@pytest.mark.parametrize("spec", [None, SPEC], ids=["bare", "context"])
def test_copies(spec: ContextSpec | None) -> None:
    torch.manual_seed(0)
    inputs = () if spec is None else (torch.randn(5, 3),)
    model, other = Generator(spec, SPACE), Generator(spec, SPACE)
    other.load_state_dict(model.state_dict())
    for copied in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(*inputs), model(*inputs))


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"takes a context \(..., 3\), got none"):
        Generator(SPEC, SPACE)()
    with pytest.raises(ValueError, match=r"takes no context, got \(5, 3\)"):
        Generator(None, SPACE)(torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"context must be \(..., 3\) for \('shop', 'price'\)"):
        Generator(SPEC, SPACE)(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="hidden needs at least one width"):
        Generator(SPEC, SPACE, hidden=())


# --- different rows -------------------------------------------------------------------------------


def value(codes: Tensor) -> Tensor:
    """One for each row, in no simple order."""
    return torch.sin(17.0 * codes @ torch.arange(1.0, codes.shape[-1] + 1).pow(2))


@given(spaces(), st.integers(1, 40), st.booleans(), st.integers(0, 2**31))
def test_rows_are_different_allowed_and_ordered(
    space: CategoricalSpace, count: int, masked: bool, seed: int
) -> None:
    logits = random_logits(space, scale=2.0, masked=masked, generator=seed)
    rows = distinct_rows(space, logits, count, lambda c: value(c.float()), generator=seeded(seed))
    space.check_codes(rows)
    assert 1 <= len(rows) <= count
    assert len(rows.unique(dim=0)) == len(rows)
    assert (value(rows.float()).diff() <= 0).all()
    assert (space.log_prob(logits, rows) > -torch.inf).all()
    again = distinct_rows(space, logits, count, lambda c: value(c.float()), generator=seeded(seed))
    assert torch.equal(rows, again)
    allowed = sum(p > 0 for p in space.log_prob(logits, space.enumerate()).exp().tolist())
    if allowed <= 12:  # a pool of hundreds finds them all
        assert len(rows) == min(count, allowed)


def test_a_small_space_is_exhausted() -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    rows = distinct_rows(space, torch.zeros(5), 10, lambda codes: codes.sum(-1), generator=seeded())
    assert rows.tolist()[0] == [1, 2]
    assert rows.tolist()[-1] == [0, 0]
    assert len(rows) == 6


def test_forbidden_categories_never_appear() -> None:
    logits = torch.zeros(SPACE.width)
    logits[[0, 3, 4]] = -torch.inf  # leaves 2 * 2 * 2 rows
    rows = distinct_rows(SPACE, logits, 20, lambda codes: codes.sum(-1), generator=seeded())
    assert len(rows) == 8
    assert set(rows[:, 0].tolist()) == {1, 2}
    assert set(rows[:, 1].tolist()) == {2, 3}


def test_sharp_distributions_are_softened_until_there_are_enough() -> None:
    logits = 20 * SPACE.one_hot(torch.tensor([2, 1, 0]))
    rows = distinct_rows(SPACE, logits, 5, lambda codes: -codes.sum(-1), generator=seeded())
    assert len(rows) == 5
    alone = distinct_rows(SPACE, 1e4 * logits, 5, lambda codes: codes.sum(-1), generator=seeded())
    assert alone.tolist() == [[2, 1, 0]]


def test_the_most_likely_row_is_in_the_pool_and_the_best_are_kept() -> None:
    space = CategoricalSpace.from_sizes((50, 50))
    target = torch.tensor([7, 31])
    logits = 0.01 * space.one_hot(target)  # the most likely, but seldom drawn

    def closeness(codes: Tensor) -> Tensor:
        return -(codes != target).sum(-1)

    rows = distinct_rows(space, logits, 1, closeness, generator=seeded())
    assert rows.tolist() == [[7, 31]]


def test_global_state_is_untouched_and_a_seed_decides() -> None:
    space = CategoricalSpace.from_sizes((30, 30))
    before = torch.get_rng_state()
    draws = [
        distinct_rows(space, torch.zeros(60), 9, lambda c: c.sum(-1), generator=seeded(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("count", [0, -1])
def test_count_below_one(count: int) -> None:
    with pytest.raises(ValueError, match="count must be at least 1"):
        distinct_rows(SPACE, torch.zeros(SPACE.width), count, lambda codes: codes.sum(-1))


def test_logits_that_do_not_fit() -> None:
    def draw(logits: Tensor) -> Tensor:
        return distinct_rows(SPACE, logits, 2, lambda codes: codes.sum(-1))

    logits = torch.zeros(SPACE.width)
    with pytest.raises(ValueError, match=r"those of one distribution, got \(2, 9\)"):
        draw(logits.expand(2, -1))
    logits[-2:] = -torch.inf
    with pytest.raises(ValueError, match="feature 'shape' has every category masked"):
        draw(logits)
