"""Softened models: the same values, the same weights, rows of either form, or a clear refusal."""

import copy
import inspect
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, LeaveOneOut, ReinMax
from discrete_grad.nn import soften
from tests.nn.zoo import (
    BODIES,
    CASES,
    SPACE,
    BufferOffsets,
    Case,
    Columns,
    Extras,
    Nested,
    Numeric,
    NumericOptional,
    NumericRequired,
    Tables,
    Unbound,
    batch_norm,
    linear,
)
from tests.strategies import random_logits

CODES = SPACE.enumerate()
NUMBERS = torch.randn(len(CODES), 10, generator=torch.Generator().manual_seed(1))

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def model_of(case: Case, body: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    model = case.model(batch_norm() if body is None else body).eval()
    for layer in model.modules():  # statistics as after some training
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    return model


def softened(case: Case, body: nn.Module | None = None) -> tuple[nn.Module, nn.Module]:
    model = model_of(case, body)
    return model, soften(model, SPACE, argument=case.argument, per_row=["x_num"])


# --- values and gradients -------------------------------------------------------------------------


@every_case
def test_hard_rows_in_either_form_give_the_values_of_the_model(case: Case) -> None:
    model, soft = softened(case)
    expected = case.call(model, CODES, NUMBERS)
    assert torch.equal(case.call(soft, CODES, NUMBERS), expected)
    assert torch.equal(case.call(soft, CODES.int(), NUMBERS), expected)
    assert_close(case.call(soft, SPACE.one_hot(CODES), NUMBERS), expected)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("reading", [Columns, BufferOffsets, Unbound])
def test_whatever_follows_the_tables(reading: type[Tables], body: str) -> None:
    case = Case(reading)
    torch.manual_seed(0)
    model, soft = softened(case, BODIES[body]())
    assert torch.equal(soft(CODES), model(CODES))
    assert_close(soft(SPACE.one_hot(CODES)), model(CODES), atol=1e-5, rtol=1e-5)
    for mode in (True, False):  # its random numbers are the model's too
        torch.manual_seed(5)
        expected = model.train(mode)(CODES)
        torch.manual_seed(5)
        assert torch.equal(soft.train(mode)(CODES), expected)


# a LayerNorm within: its value is no expectation
LINEAR = [case for case in CASES if case.model is not Nested]


@pytest.mark.parametrize("case", LINEAR, ids=str)
def test_soft_row_is_the_expected_embedding(case: Case) -> None:
    # where all that follows is linear, the value at the mean is the mean of the values
    model, soft = softened(case, linear())
    model.double()
    logits = random_logits(SPACE, scale=2.0, generator=3)
    p = SPACE.log_prob(logits, CODES).exp()
    numbers = NUMBERS[:1].double()
    values = case.call(model, CODES, numbers.expand(len(CODES), -1))
    value = case.call(soft.double(), SPACE.softmax(logits).unsqueeze(0), numbers)
    assert_close(value.squeeze(), (p * values).sum(), atol=1e-12, rtol=1e-12)


@every_case
def test_gradient_reaches_every_entry_of_the_row(case: Case) -> None:
    _, soft = softened(case, linear())
    row = SPACE.softmax(random_logits(SPACE, (4,)).float()).requires_grad_()
    case.call(soft, row, NUMBERS[:4]).sum().backward()
    assert row.grad is not None
    assert (row.grad != 0).all()


@pytest.mark.parametrize("case", [Case(Nested), Case(Extras)], ids=str)
def test_gradient_is_the_derivative(case: Case) -> None:
    _, soft = softened(case)
    rows = SPACE.softmax(random_logits(SPACE, (3,))).requires_grad_()
    assert torch.autograd.gradcheck(soft.double(), rows)


def test_parameters_get_the_gradient_of_the_model() -> None:
    model, soft = softened(Case(BufferOffsets))
    gradients = torch.autograd.grad(model(CODES).sum(), list(model.parameters()))
    for row in (CODES, SPACE.one_hot(CODES)):
        assert_close(torch.autograd.grad(soft(row).sum(), list(soft.parameters())), gradients)


@every_case
def test_any_leading_dimensions(case: Case) -> None:
    _, soft = softened(case)
    expected = case.call(soft, CODES, NUMBERS)
    for row in (CODES, SPACE.one_hot(CODES)):
        grid = case.call(soft, row.unflatten(0, (4, 6)), NUMBERS.unflatten(0, (4, 6)))
        assert_close(grid, expected.unflatten(0, (4, 6)))
        samples = case.call(soft, row.expand(3, *row.shape), NUMBERS)
        assert_close(samples, expected.expand(3, -1))
        assert_close(case.call(soft, row[5], NUMBERS[5]), expected[5])


@pytest.mark.parametrize("case", [Case(Columns), Case(BufferOffsets)], ids=str)
def test_no_rows(case: Case) -> None:
    _, soft = softened(case)
    for row in (CODES[:0], SPACE.one_hot(CODES[:0])):
        assert soft(row).shape == (0,)
        assert soft(row.expand(2, 0, -1)).shape == (2, 0)


class TwoHeads(Columns):
    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        score = super().forward(codes)
        return score, torch.stack([score, score], -1), self.tables[0].weight.sum()


def test_several_outputs() -> None:
    model, soft = softened(Case(TwoHeads))
    score, pair, total = soft(SPACE.one_hot(CODES).unflatten(0, (4, 6)))
    assert score.shape == (4, 6)
    assert_close(pair, model(CODES)[1].unflatten(0, (4, 6)))
    assert_close(total, model(CODES)[2])


def test_within_an_expectation() -> None:
    _, soft = softened(Case(Numeric))
    logits = torch.zeros(5, SPACE.width, requires_grad=True)
    numbers = NUMBERS[:5]
    for estimator in (LeaveOneOut(SPACE, samples=4), ReinMax(SPACE, samples=2)):
        value = estimator.expectation(lambda rows: soft(rows, numbers), logits)
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert value.shape == (5,)
        assert (gradient != 0).any(-1).all()


# --- the same layers ----------------------------------------------------------------------------


@every_case
def test_parameters_and_state_are_the_models(case: Case) -> None:
    model, soft = softened(case)
    ours, theirs = dict(soft.named_parameters()), dict(model.named_parameters())
    assert list(ours) == list(theirs)
    assert all(ours[name] is theirs[name] for name in theirs)
    assert list(soft.state_dict()) == list(model.state_dict())
    soft.load_state_dict(model.state_dict())
    state = {n: v + 1 if v.is_floating_point() else v for n, v in model.state_dict().items()}
    model.load_state_dict(state)
    assert torch.equal(case.call(soft, CODES, NUMBERS), case.call(model, CODES, NUMBERS))


@every_case
def test_a_call_leaves_the_model_as_it_was(case: Case) -> None:
    model = model_of(case)
    model.train()
    model.body.eval() if hasattr(model, "body") else model.model.body.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    values = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = {name: dict(vars(module)) for name, module in model.named_modules()}
    soft = soften(model, SPACE, argument=case.argument, per_row=["x_num"])
    assert {n: m.training for n, m in soft.named_modules() if n in modes} == modes
    case.call(soft, SPACE.one_hot(CODES), NUMBERS)
    assert {name: module.training for name, module in model.named_modules()} == modes
    for name, module in model.named_modules():
        now, then = dict(vars(module)), attributes[name]
        now.pop("last", None)  # the activation that one of the models keeps
        assert now.keys() == then.keys()
        assert all(now[key] is value for key, value in then.items())
    for name, value in model.state_dict().items():
        assert torch.equal(value, values[name])


@every_case
def test_copies(case: Case) -> None:
    model, soft = softened(case)
    with torch.no_grad():
        expected = case.call(model, CODES, NUMBERS).double()
    soft.double()  # after which the copies must not fall back on what the model was
    for copied in (copy.deepcopy(soft), pickle.loads(pickle.dumps(soft))):
        value = case.call(copied, SPACE.one_hot(CODES).double(), NUMBERS.double())
        assert value.dtype == torch.float64
        assert_close(value, expected, atol=1e-5, rtol=1e-5)
        assert list(copied.state_dict()) == list(model.state_dict())
        buffers = dict(copied.named_buffers())
        assert buffers.keys() == dict(soft.named_buffers()).keys()
        assert all(buffers[name].dtype == value.dtype for name, value in soft.named_buffers())
        shared = {id(p) for p in model.parameters()} & {id(p) for p in copied.parameters()}
        assert not shared
        assert not copied.training


def test_frozen_and_in_evaluation_mode() -> None:
    model, soft = softened(Case(Columns))
    soft.requires_grad_(False).eval()
    before = {name: value.clone() for name, value in soft.state_dict().items()}
    row = SPACE.one_hot(CODES).requires_grad_()
    soft(row).sum().backward()
    assert (row.grad != 0).any()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[n]) for n, value in soft.state_dict().items())
    soft.train()(row)
    assert not torch.equal(model.body[1].running_mean, before["body.1.running_mean"])


def test_arguments_are_the_models_own() -> None:
    model, soft = softened(Case(NumericOptional))
    for row in (CODES, SPACE.one_hot(CODES)):
        assert torch.equal(soft(row, None, scale=3.0), model(CODES, scale=3.0))
        assert torch.equal(soft(row, NUMBERS, latent=True), model(CODES, NUMBERS, latent=True))
    assert inspect.signature(soft.forward) == inspect.signature(model.forward)
    _, required = softened(Case(NumericRequired))
    with pytest.raises(TypeError):
        required(CODES)


def test_rows_that_do_not_fit() -> None:
    _, soft = softened(Case(Columns))
    with pytest.raises(ValueError, match="feature 'colour' has code 4; its codes are 0 to 3"):
        soft(torch.tensor([[0, 4, 0]]))
    with pytest.raises(ValueError, match="a flat row must be"):
        soft(torch.zeros(2, 8))
    with pytest.raises(TypeError, match="a flat row must be a floating tensor"):
        soft([[0, 1, 1]])
    with pytest.raises(TypeError, match="needs the row: argument 'codes'"):
        soft()


# --- transforms ---------------------------------------------------------------------------------


TRANSFORMED = [case for case in CASES if str(case) in {"Columns", "OffsetsOnDevice", "Extras"}]


@pytest.mark.parametrize("case", TRANSFORMED, ids=str)
def test_vmap(case: Case) -> None:
    model, soft = softened(case)
    rows = SPACE.one_hot(CODES)
    assert_close(torch.vmap(soft)(rows), model(CODES))
    gradients = torch.vmap(torch.func.grad(soft))(rows)
    rows.requires_grad_()
    assert_close(gradients, torch.autograd.grad(soft(rows).sum(), rows)[0])


@pytest.mark.parametrize("case", TRANSFORMED, ids=str)
def test_compile(case: Case) -> None:
    torch._dynamo.reset()
    model, soft = softened(case)
    compiled = torch.compile(soft, backend="aot_eager", fullgraph=True)
    assert_close(compiled(CODES), model(CODES))
    assert_close(compiled(SPACE.one_hot(CODES)), model(CODES))


@pytest.mark.parametrize("case", TRANSFORMED, ids=str)
def test_export(case: Case) -> None:
    model, soft = softened(case)
    rows = SPACE.one_hot(CODES)
    assert_close(torch.export.export(soft, (rows,)).module()(rows), model(CODES))


