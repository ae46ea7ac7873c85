"""Softened models: the same values, the same weights, rows of either form, or a clear refusal."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, LeaveOneOut, ReinMax
from discrete_grad.nn import soften
from tests.nn.zoo import BODIES, REFUSED, SPACE, STYLES, WORKING, Style, batch_norm, linear
from tests.nn.zoo.__main__ import outcome
from tests.nn.zoo.bags import BagMax
from tests.nn.zoo.calls import Numeric
from tests.nn.zoo.columns import Columns, Nested, Unbound
from tests.nn.zoo.offsets import Mixed
from tests.nn.zoo.one_hots import OneHotEach
from tests.nn.zoo.one_table import BufferOffsets, Extras
from tests.strategies import random_logits

CODES = SPACE.enumerate()
NUMBERS = torch.randn(len(CODES), 10, generator=torch.Generator().manual_seed(1))

every_style = pytest.mark.parametrize("style", WORKING, ids=str)


def styles(*models: type[nn.Module]) -> pytest.MarkDecorator:
    chosen = [style for style in STYLES if style.model in models]
    return pytest.mark.parametrize("style", chosen, ids=str)


def model_of(style: Style, body: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    model = style.model(batch_norm() if body is None else body).eval()
    for layer in model.modules():  # statistics as after some training
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    return model


def softened(style: Style, body: nn.Module | None = None) -> tuple[nn.Module, nn.Module]:
    model = model_of(style, body)
    return model, style.soften(model)


# --- values and gradients -------------------------------------------------------------------------


def test_the_zoo_is_as_large_as_the_page_says() -> None:
    page = Path(__file__).parents[2].joinpath("docs/soften.md").read_text(encoding="utf-8")
    counts = f"the {len(STYLES)} styles", f"{len(WORKING)} work and {len(REFUSED)} are refused"
    assert all(count in page.replace("\n", " ") for count in counts)
    assert outcome(WORKING[0]) == "works"
    assert outcome(REFUSED[0]).startswith("refused: 'gt' in 'if (codes[:, 0] > 1).any():'")


@every_style
def test_hard_rows_in_either_form_give_the_values_of_the_model(style: Style) -> None:
    model, soft = softened(style)
    expected = style.on_codes(model, CODES, NUMBERS)
    assert torch.equal(style.call(soft, CODES, NUMBERS), expected)
    assert_close(style.call(soft, SPACE.one_hot(CODES), NUMBERS), expected)


def test_codes_of_other_integers() -> None:
    model = Columns(linear())
    assert torch.equal(soften(model, SPACE)(CODES.int()), model(CODES))


@every_style
def test_values_and_gradients_are_those_of_a_version_by_hand(style: Style) -> None:
    model, soft = softened(style)
    model.double()
    # rows that need not sum to 1, so that every entry's weight counts
    row = torch.rand(
        24, SPACE.width, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    sought = [row.requires_grad_(), *(p for p in model.parameters() if p.requires_grad)]
    numbers = NUMBERS.double()
    results = style.call(soft, row, numbers), model.hand(row, numbers)
    assert_close(*results, atol=1e-11, rtol=1e-11)
    gradients = [torch.autograd.grad(r.square().sum(), sought, allow_unused=True) for r in results]
    for ours, by_hand in zip(*gradients, strict=True):
        zero = torch.zeros(())
        assert_close(zero if ours is None else ours, zero if by_hand is None else by_hand)
    assert gradients[0][0].any()


@pytest.mark.parametrize("body", BODIES)
@styles(Columns, BufferOffsets, Unbound)
def test_whatever_follows_the_tables(style: Style, body: str) -> None:
    torch.manual_seed(0)
    model, soft = softened(style, BODIES[body]())
    assert torch.equal(soft(CODES), model(CODES))
    assert_close(soft(SPACE.one_hot(CODES)), model(CODES), atol=1e-5, rtol=1e-5)
    for mode in (True, False):  # its random numbers are the model's too
        torch.manual_seed(5)
        expected = model.train(mode)(CODES)
        torch.manual_seed(5)
        assert torch.equal(soft.train(mode)(CODES), expected)


@styles(Nested, Extras, BagMax, OneHotEach)
def test_gradient_is_the_derivative(style: Style) -> None:
    _, soft = softened(style)
    rows = SPACE.softmax(random_logits(SPACE, (3,))).requires_grad_()
    assert torch.autograd.gradcheck(soft.double(), rows)


def test_parameters_get_the_gradient_of_the_model() -> None:
    model = BufferOffsets(linear())
    soft = soften(model, SPACE)
    gradients = torch.autograd.grad(model(CODES).sum(), list(model.parameters()))
    for row in (CODES, SPACE.one_hot(CODES)):
        assert_close(torch.autograd.grad(soft(row).sum(), list(soft.parameters())), gradients)


@every_style
def test_any_leading_dimensions(style: Style) -> None:
    _, soft = softened(style)
    expected = style.call(soft, CODES, NUMBERS)
    for row in (CODES, SPACE.one_hot(CODES)):
        grid = style.call(soft, row.unflatten(0, (4, 6)), NUMBERS.unflatten(0, (4, 6)))
        assert_close(grid, expected.unflatten(0, (4, 6)))
        samples = style.call(soft, row.expand(3, *row.shape), NUMBERS)
        assert_close(samples, expected.expand(3, -1))
        assert_close(style.call(soft, row[5], NUMBERS[5]), expected[5])


@styles(Columns, BufferOffsets)
def test_no_rows(style: Style) -> None:
    _, soft = softened(style)
    for row in (CODES[:0], SPACE.one_hot(CODES[:0])):
        assert soft(row).shape == (0,)
        assert soft(row.expand(2, 0, -1)).shape == (2, 0)


class TwoHeads(Columns):
    def forward(self, codes: Tensor) -> dict[str, Tensor | tuple[Tensor, ...]]:
        score = super().forward(codes)
        pair = torch.stack([score, score], -1)
        return {"score": score, "rest": (pair, self.tables[0].weight.sum())}


def test_several_outputs() -> None:
    model = TwoHeads(linear())
    outputs = soften(model, SPACE)(SPACE.one_hot(CODES).unflatten(0, (4, 6)))
    assert outputs["score"].shape == (4, 6)
    pair, total = outputs["rest"]
    assert_close(pair, model(CODES)["rest"][0].unflatten(0, (4, 6)))
    assert_close(total, model(CODES)["rest"][1])


def test_within_an_expectation() -> None:
    soft = soften(Numeric(batch_norm()).eval(), SPACE, per_row=["x_num"])
    logits = torch.zeros(5, SPACE.width, requires_grad=True)
    numbers = NUMBERS[:5]
    for estimator in (LeaveOneOut(SPACE, samples=4), ReinMax(SPACE, samples=2)):
        value = estimator.expectation(lambda rows: soft(rows, numbers), logits)
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert value.shape == (5,)
        assert (gradient != 0).any(-1).all()


# --- the same layers ----------------------------------------------------------------------------


@every_style
def test_parameters_and_state_are_the_models(style: Style) -> None:
    model, soft = softened(style)
    ours, theirs = dict(soft.named_parameters()), dict(model.named_parameters())
    assert list(ours) == list(theirs)
    assert all(ours[name] is theirs[name] for name in theirs)
    assert list(soft.state_dict()) == list(model.state_dict())
    soft.load_state_dict(model.state_dict())
    state = {n: v + 1 if v.is_floating_point() else v for n, v in model.state_dict().items()}
    model.load_state_dict(state)
    expected = style.on_codes(model, CODES, NUMBERS)
    assert_close(style.call(soft, SPACE.one_hot(CODES), NUMBERS), expected)


@every_style
def test_a_call_leaves_the_model_as_it_was(style: Style) -> None:
    model = model_of(style)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    values = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = {name: dict(vars(module)) for name, module in model.named_modules()}
    soft = style.soften(model)
    assert {n: m.training for n, m in soft.named_modules() if n in modes} == modes
    style.call(soft, SPACE.one_hot(CODES), NUMBERS)
    assert {name: module.training for name, module in model.named_modules()} == modes
    for name, module in model.named_modules():
        now, then = dict(vars(module)), attributes[name]
        now.pop("last", None)  # the activation that one of the models keeps
        assert now.keys() == then.keys()
        assert all(now[key] is value for key, value in then.items())
    for name, value in model.state_dict().items():
        if "_u" not in name and "_v" not in name:  # spectral norm, in training
            assert torch.equal(value, values[name])


@every_style
def test_copies(style: Style) -> None:
    model, soft = softened(style)
    with torch.no_grad():
        expected = style.on_codes(model, CODES, NUMBERS).double()
    soft.double()  # after which the copies must not fall back on what the model was
    copies = [copy.deepcopy(soft)]
    if not any(nn.utils.parametrize.is_parametrized(m) for m in model.modules()):
        copies.append(pickle.loads(pickle.dumps(soft)))  # torch pickles no parametrisation
    for copied in copies:
        value = style.call(copied, SPACE.one_hot(CODES).double(), NUMBERS.double())
        assert value.dtype == torch.float64
        assert_close(value, expected, atol=1e-5, rtol=1e-5)
        assert list(copied.state_dict()) == list(model.state_dict())
        buffers = dict(copied.named_buffers())
        assert buffers.keys() == dict(soft.named_buffers()).keys()
        assert all(buffers[name].dtype == value.dtype for name, value in soft.named_buffers())
        shared = {id(p) for p in model.parameters()} & {id(p) for p in copied.parameters()}
        assert not shared
        assert not copied.training


# --- transforms ---------------------------------------------------------------------------------


@styles(Columns, BufferOffsets, Extras, OneHotEach)
def test_vmap(style: Style) -> None:
    model, soft = softened(style)
    rows = SPACE.one_hot(CODES)
    assert_close(torch.vmap(soft)(rows), model(CODES))
    gradients = torch.vmap(torch.func.grad(soft))(rows)
    rows.requires_grad_()
    assert_close(gradients, torch.autograd.grad(soft(rows).sum(), rows)[0])


@pytest.mark.slow
@styles(Columns, BufferOffsets, Extras, OneHotEach, Mixed)
def test_compile(style: Style) -> None:
    torch._dynamo.reset()
    model, soft = softened(style)
    compiled = torch.compile(soft, backend="aot_eager", fullgraph=True)
    assert_close(compiled(CODES), model(CODES))
    assert_close(compiled(SPACE.one_hot(CODES)), model(CODES))


class StackedTooFar(BufferOffsets):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [codes[:, 0], codes[:, 1] + 3, codes[:, 2] + 11]
        return self.score(self.table(torch.stack(parts, 1)))


def test_compiled_codes_beyond_a_table_are_refused_when_they_run() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(soften(StackedTooFar(linear()), SPACE), backend="aot_eager")
    with pytest.raises(RuntimeError, match="the table has too few rows for a feature"):
        compiled(SPACE.one_hot(CODES))


@styles(Columns, BufferOffsets, Extras, OneHotEach, Mixed)
def test_export(style: Style) -> None:
    model, soft = softened(style)
    rows = SPACE.one_hot(CODES)
    shapes = ({0: torch.export.Dim("rows", min=2)},)
    program = torch.export.export(soft, (rows,), dynamic_shapes=shapes).module()
    assert_close(program(rows), model(CODES))
    assert_close(program(rows[:5]), model(CODES[:5]))


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("style", REFUSED, ids=str)
def test_refused_models_say_why_and_are_left_as_they_were(style: Style) -> None:
    model = model_of(style)
    attributes = {name: dict(vars(module)) for name, module in model.named_modules()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    soft = style.soften(model)
    rows = SPACE.softmax(random_logits(SPACE, (4,)).float()).requires_grad_()
    with pytest.raises((TypeError, ValueError), match=style.refused):
        style.call(soft, rows, NUMBERS)
    for name, module in model.named_modules():
        assert vars(module).keys() == attributes[name].keys()
        assert all(vars(module)[key] is value for key, value in attributes[name].items())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    pickle.dumps(model)


def test_refused_spaces() -> None:
    two = soften(Columns(linear()), CategoricalSpace.from_sizes((3, 4)))
    with pytest.raises(IndexError, match="out of"):
        two(torch.rand(2, 7))
    larger = CategoricalSpace.from_sizes((3, 4, 3))
    with pytest.raises(ValueError, match="the table has 2 rows; feature 'x2' needs rows 0 to 2"):
        soften(Columns(linear()), larger)(torch.rand(2, 10))


def test_refused_arguments() -> None:
    with pytest.raises(TypeError, match="soften needs a module, got function"):
        soften(lambda codes: codes, SPACE)
    with pytest.raises(ValueError, match=r"no argument 'x', only \['x_cat', 'x_num'\]"):
        soften(Numeric(linear()), SPACE, argument="x")
    with pytest.raises(ValueError, match="columns must be one of dict, tuple, args, kwargs"):
        soften(Columns(linear()), SPACE, columns="list")


def test_rows_that_do_not_fit() -> None:
    soft = soften(Columns(linear()), SPACE)
    with pytest.raises(ValueError, match="feature 'colour' has code 4; its codes are 0 to 3"):
        soft(torch.tensor([[0, 4, 0]]))
    with pytest.raises(ValueError, match="a flat row must be"):
        soft(torch.zeros(2, 8))
    with pytest.raises(TypeError, match="a flat row must be a floating tensor"):
        soft([[0, 1, 1]])
    with pytest.raises(TypeError, match="needs the row: argument 'codes'"):
        soft()
