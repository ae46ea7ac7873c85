"""How a softened model is called: arguments, columns, methods, frozen models."""

import copy
import inspect
import pickle
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.nn import soften
from tests.nn.zoo import SPACE, WORKING, Style, batch_norm, linear
from tests.nn.zoo.calls import (
    ColumnArgumentsAndNumbers,
    DoubleStarAndNumbers,
    Numeric,
    NumericOptional,
    StarColumns,
)
from tests.nn.zoo.columns import Columns

CODES = SPACE.enumerate()
ROWS = SPACE.one_hot(CODES)
NUMBERS = torch.randn(len(CODES), 10, generator=torch.Generator().manual_seed(1))


class Ordinals(nn.Module):
    """Numbers of the categories, read by products of integers."""

    def __init__(self, product: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.product = product
        self.register_buffer("values", torch.arange(SPACE.sizes[0]))

    def forward(self, codes: Tensor) -> Tensor:
        return self.product(F.one_hot(codes[:, 0], SPACE.sizes[0]), self.values).float()


@pytest.mark.parametrize(
    "product", [torch.matmul, lambda a, b: a @ b, lambda a, b: torch.einsum("nk,k->n", a, b)]
)
def test_one_hots_times_integers(product: Callable[[Tensor, Tensor], Tensor]) -> None:
    model = Ordinals(product)
    assert torch.equal(soften(model, SPACE)(ROWS), model(CODES))
    soft = SPACE.softmax(torch.randn(5, SPACE.width))
    first = soft[:, : SPACE.sizes[0]]
    assert_close(soften(model, SPACE)(soft), first @ model.values.float())


# --- arguments ------------------------------------------------------------------------------------


def test_arguments_and_defaults_are_the_models_own() -> None:
    model = NumericOptional(linear())
    soft = soften(model, SPACE)
    for row in (CODES, ROWS):
        assert torch.equal(soft(row, None, scale=3.0), model(CODES, scale=3.0))
        assert torch.equal(soft(row, NUMBERS, latent=True), model(CODES, NUMBERS, latent=True))
    with pytest.raises(TypeError):
        soft(ROWS, unknown=1)


@pytest.mark.parametrize("style", [s for s in WORKING if "columns" not in s.options], ids=str)
def test_signature_is_the_models_own(style: Style) -> None:
    model = style.model(linear())
    assert inspect.signature(style.soften(model).forward) == inspect.signature(model.forward)


def test_a_row_takes_the_place_of_columns_in_the_signature() -> None:
    def names(kind: type[nn.Module], columns: str) -> list[str]:
        soft = soften(kind(linear()), SPACE, columns=columns)
        return list(inspect.signature(soft.forward).parameters)

    assert names(StarColumns, "args") == ["row"]
    assert names(ColumnArgumentsAndNumbers, "args") == ["row", "x_num"]
    assert names(DoubleStarAndNumbers, "kwargs") == ["row", "x_num"]
    with pytest.raises(ValueError, match="columns='args' needs 3 arguments, got 2"):
        soften(Numeric(linear()), SPACE, columns="args")
    with pytest.raises(ValueError, match="are no single argument, got argument='x_num'"):
        soften(Numeric(linear()), SPACE, columns="kwargs", argument="x_num")


class Weighted(Columns):
    """A shared argument and one that has an entry for each row."""

    def forward(self, codes: Tensor, weights: Tensor, context: Tensor | None = None) -> Tensor:
        score = super().forward(codes) * 0 + weights.sum()
        return score if context is None else score + context.sum(-1)


def test_an_argument_as_long_as_the_batch_is_not_taken_for_rows() -> None:
    soft = soften(Weighted(linear()), SPACE, per_row=[])
    samples = ROWS[:4].expand(8, 4, -1)
    assert_close(soft(samples, torch.ones(4)), torch.full((8, 4), 4.0))


def test_tensors_beside_samples_must_be_declared() -> None:
    soft = soften(Weighted(linear()), SPACE)
    assert soft(ROWS[:4], torch.ones(4)).shape == (4,)  # nothing to repeat
    with pytest.raises(ValueError, match=r"'weights' comes with rows .* \(8, 4\); say whether"):
        soft(ROWS[:4].expand(8, 4, -1), torch.ones(4))
    assert soft(ROWS[:4].expand(8, 4, -1), torch.tensor(1.0)).shape == (8, 4)


def test_contexts_are_per_row_by_their_name() -> None:
    soft = soften(Weighted(linear()), SPACE)
    context = torch.arange(4.0).unsqueeze(-1)
    value = soft(ROWS[:4].expand(8, 4, -1), torch.tensor(0.0), context)
    assert_close(value, torch.arange(4.0).expand(8, 4))
    named = soft(codes=ROWS[:4].expand(8, 4, -1), weights=torch.tensor(0.0), context=context)
    assert torch.equal(named, value)


def test_numbers_of_one_for_each_row() -> None:
    class Scaled(Columns):
        def forward(self, codes: Tensor, scale: Tensor) -> Tensor:
            return super().forward(codes) * scale

    model = Scaled(linear())
    soft = soften(model, SPACE, per_row={"scale": 0})
    expected = model(CODES[:3], torch.arange(3.0))
    for rows in (CODES[:3], ROWS[:3]):
        assert_close(soft(rows.expand(3, 3, -1), torch.arange(3.0)), expected.expand(3, 3))
    with pytest.raises(ValueError, match=r"'scale' is for rows \(2,\), the rows are \(3, 3\)"):
        soft(ROWS[:3].expand(3, 3, -1), torch.arange(2.0))
    with pytest.raises(ValueError, match="'scale' has shape"):
        soft(ROWS[0], torch.ones(2, 3))


# --- methods --------------------------------------------------------------------------------------


class WithLatent(Columns):
    def to_latent(self, codes: Tensor) -> Tensor:
        return torch.cat([table(codes[:, i]) for i, table in enumerate(self.tables)], -1)

    def explain(self, hint: str, codes: Tensor) -> Tensor:
        return self.to_latent(codes) * len(hint)


def test_latents() -> None:
    model = WithLatent(linear())
    soft = soften(model, SPACE, methods=["to_latent", "explain"])
    expected = model.to_latent(CODES)
    for row in (CODES, ROWS):
        assert_close(soft.to_latent(row), expected)
        assert_close(soft.to_latent(row.expand(2, *row.shape)), expected.expand(2, -1, -1))
        assert_close(soft.explain("ab", row), 2 * expected)
    assert inspect.signature(soft.to_latent) == inspect.signature(model.to_latent)
    assert not hasattr(soften(Columns(linear()), SPACE), "to_latent")
    assert_close(pickle.loads(pickle.dumps(soften(model, SPACE))).to_latent(ROWS), expected)


# --- frozen models --------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [lambda m: m, copy.deepcopy], ids=["itself", "a copy"])
def test_frozen_whatever_is_called_above(copied: Callable[[nn.Module], nn.Module]) -> None:
    model = Columns(batch_norm()).train()
    soft = copied(soften(model, SPACE, frozen=True))
    whole = nn.Sequential(nn.Linear(4, SPACE.width), soft).train()
    whole.requires_grad_(True)
    before = {name: value.clone() for name, value in soft.state_dict().items()}
    row = ROWS.clone().requires_grad_()
    value = soft(row)
    value.sum().backward()
    assert row.grad is not None
    assert row.grad.any()
    assert not soft.training
    assert all(p.grad is None for p in (*model.parameters(), *soft.parameters()))
    assert all(torch.equal(value, before[n]) for n, value in soft.state_dict().items())
    assert torch.equal(soft(CODES), copy.deepcopy(model).eval()(CODES))
    # the model itself goes on as before
    assert model.training
    assert model.body[1].training
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("part", [0, 1])
def test_a_frozen_model_is_left_as_it_was(part: int) -> None:
    class Fails(Columns):
        def forward(self, codes: Tensor) -> Tensor:
            raise RuntimeError("no")

    def state() -> list[bool]:
        modes = [module.training for module in model.modules()]
        return modes + [parameter.requires_grad for parameter in model.parameters()]

    for kind in (Columns, Fails):
        model = kind(batch_norm())
        model.body[part].eval().requires_grad_(False)  # the others learn
        before = state()
        assert len(set(before)) == 2
        with pytest.raises(RuntimeError, match="no") if kind is Fails else nullcontext():
            soften(model, SPACE, frozen=True)(ROWS)
        assert state() == before


def test_modes_of_a_model_that_is_not_frozen() -> None:
    model = Columns(batch_norm())
    soft = soften(model, SPACE)
    soft.requires_grad_(False).eval()
    assert not any(module.training for module in model.modules())
    row = ROWS.clone().requires_grad_()
    soft(row).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    before = model.body[1].running_mean.clone()
    soft.train()(ROWS)
    assert model.training
    assert not torch.equal(model.body[1].running_mean, before)


def test_a_space_of_one_feature() -> None:
    space = CategoricalSpace({"cut": 3})
    model = nn.Sequential(nn.Embedding(3, 2), nn.Flatten(), nn.Linear(2, 1))
    codes = space.enumerate()
    assert_close(soften(model, space)(space.one_hot(codes)), model(codes))
