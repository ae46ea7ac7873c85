"""Leaves of trees against a loop over them."""

import pytest
import torch
from torch import Tensor

from discrete_grad.models import LeafEnsemble, leaves
from discrete_grad.space import CategoricalSpace

SPACE = CategoricalSpace({"cut": 3, "shade": 4, "size": 2})


def drawn(count: int = 40) -> LeafEnsemble:
    generator = torch.Generator().manual_seed(0)
    allowed = torch.rand(SPACE.width, count, generator=generator) < 0.6
    return LeafEnsemble(SPACE, allowed, torch.randn(count, generator=generator), 1.5)


def by_loop(model: LeafEnsemble, codes: Tensor) -> Tensor:
    scores = []
    for row in SPACE.columns(codes).tolist():
        reached = [all(model.allowed[c, i] for c in row) for i in range(len(model.values))]
        scores.append(1.5 + float(model.values[torch.tensor(reached)].sum()))
    return torch.tensor(scores)


def test_a_row_scores_the_sum_of_the_leaves_it_falls_into() -> None:
    model, codes = drawn(), SPACE.enumerate()
    expected = by_loop(model, codes)
    assert torch.allclose(model(codes), expected, atol=1e-5)
    assert torch.allclose(model(SPACE.one_hot(codes)), expected, atol=1e-5)
    assert model.predictions(codes.view(2, 12, 3)).shape == (1, 2, 12)
    assert torch.allclose(model.predictions(codes[None], own_rows=True)[0], expected, atol=1e-5)
    assert torch.equal(model.to_latent(codes).sum(1), (model.to_latent(codes) == 1).sum(1).float())


def test_a_soft_row_scores_the_expectation() -> None:
    model = drawn().double()
    logits = torch.randn(5, SPACE.width, generator=torch.Generator().manual_seed(1)).double()
    rows = SPACE.enumerate()
    chance = SPACE.log_prob(logits.unsqueeze(1), rows).exp()
    exact = (chance * model(SPACE.one_hot(rows, dtype=torch.float64))).sum(1)
    assert torch.allclose(model(SPACE.softmax(logits)), exact)


def test_the_gradient_is_every_single_swap_and_the_same_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, codes = drawn(), SPACE.enumerate()

    def slope() -> Tensor:
        flat = SPACE.one_hot(codes).requires_grad_()
        (gradient,) = torch.autograd.grad(model(flat).sum(), flat)
        return SPACE.swap_gains(gradient, codes)

    whole = slope()
    gains = model(SPACE.swaps(codes)) - model(codes).unsqueeze(1)
    others = SPACE.one_hot(codes) == 0
    assert torch.allclose(whole[others].view(gains.shape), gains, atol=1e-5)
    monkeypatch.setattr(leaves, "_ROWS", 5)
    monkeypatch.setattr(leaves, "_CHUNK", 7 * 5 * SPACE.num_features)
    assert torch.allclose(slope(), whole, atol=1e-5)


def test_a_model_is_saved_and_loaded() -> None:
    model, other = drawn(), LeafEnsemble(SPACE, torch.ones(9, 40), torch.zeros(40))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(SPACE.enumerate()), model(SPACE.enumerate()))


def test_no_rows_have_no_scores() -> None:
    assert drawn()(torch.empty(0, 3, dtype=torch.long)).shape == (0,)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"must be \(9, L\) .* got \(9, 3\) for \(2,\)"):
        LeafEnsemble(SPACE, torch.ones(9, 3), torch.zeros(2))
    with pytest.raises(ValueError, match=r"got \(9, 0\) for \(0,\)"):
        LeafEnsemble(SPACE, torch.ones(9, 0), torch.zeros(0))
    with pytest.raises(ValueError, match="takes no context"):
        drawn()(SPACE.enumerate(), torch.zeros(24, 2))
    with pytest.raises(ValueError, match="a flat row must be"):
        drawn()(torch.zeros(5, 7))
    with pytest.raises(ValueError, match="feature 'shade' has code 4"):
        drawn()(torch.tensor([[0, 4, 0]]))
