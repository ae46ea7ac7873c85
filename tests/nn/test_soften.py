"""Softened models: the same values, the same weights, rows of either form, or a clear refusal."""

import copy
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
    return model, soften(model, SPACE, argument=case.argument)


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
def test_softening_leaves_the_model_as_it_was(case: Case) -> None:
    model = model_of(case)
    model.train()
    model.body.eval() if hasattr(model, "body") else model.model.body.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    values = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = {name: dict(vars(module)) for name, module in model.named_modules()}
    soft = soften(model, SPACE, argument=case.argument)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert {n: m.training for n, m in soft.named_modules() if n in modes} == modes
    for name, module in model.named_modules():
        assert vars(module).keys() == attributes[name].keys()
        assert all(vars(module)[key] is value for key, value in attributes[name].items())
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


def test_fixed_arguments() -> None:
    model, soft = softened(Case(NumericOptional))
    assert torch.equal(soft(CODES, None, scale=3.0, latent=False), model(CODES, scale=3.0))
    with pytest.raises(ValueError, match="x_num=None, its default"):
        soft(CODES, NUMBERS)
    with pytest.raises(ValueError, match="latent=False, its default"):
        soft(CODES, latent=True)
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


# --- refusals -----------------------------------------------------------------------------------


def refuse(model: nn.Module, message: str, space: CategoricalSpace = SPACE) -> None:
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    with pytest.raises(ValueError, match=message):
        soften(model, space)
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before


class BranchOnValues(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        if (codes[:, 0] > 1).any():
            codes = codes.flip(0)
        return super().forward(codes)


class NestedBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = BranchOnValues(linear())

    def forward(self, codes: Tensor) -> Tensor:
        return self.inner(codes)


class Loop(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return torch.stack([super(Loop, self).forward(row[None])[0] for row in codes])


class Length(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) / len(codes)


class BareAssert(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        assert isinstance(codes, Tensor)
        return super().forward(codes)


class Product(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes * 2)


class ScaledSum(BufferOffsets):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(torch.add(codes, self.offsets, alpha=2)))


class WrongOffsets(BufferOffsets):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes + self.offsets.view(3, 1)))


class ExpandedOffsets(BufferOffsets):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes + self.offsets.expand_as(codes)))


class Mixed(BufferOffsets):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(torch.stack([codes[:, 0], codes[:, 1] + 3], 1)))


class OneHotBeside(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + F.one_hot(codes[:, 1], 4).sum(-1)


class Comparison(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) * (codes[:, 2] == 1)


class RawValues(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + codes.float().sum(-1)


class Returned(Columns):
    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(codes), codes


class FunctionalLookup(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([F.embedding(codes[:, i], t.weight) for i, t in enumerate(self.tables)])


class Unread(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [self.tables[0](codes[:, 0]), self.tables[2](codes[:, 2]), self.tables[1].weight]
        return parts[0].sum(-1) + parts[1].sum(-1)


class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(9, 3)
        self.register_buffer("offsets", torch.tensor(SPACE.offsets))

    def forward(self, codes: Tensor) -> Tensor:
        return self.bag(codes + self.offsets).sum(-1)


class OneHotLayer(nn.Module):
    def forward(self, codes: Tensor) -> Tensor:
        return SPACE.one_hot(codes)


class NoTables(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.score = OneHotLayer(), nn.Linear(9, 1)

    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.encode(codes))


class OwnForward(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


class FunctionalDropout(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return F.dropout(super().forward(codes), 0.1, self.training)


class NoiseInTraining(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        score = super().forward(codes)
        if self.training:
            score = score + torch.randn_like(score)
        return score


class Counts(Columns):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, codes: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(codes)


REFUSED = {
    BranchOnValues: r"follow BranchOnValues.forward in 'if .*any\(\):': it branches on the values",
    Loop: r"follow Loop.forward in 'return .*': a loop over a tensor; use codes.unbind",
    Length: r"follow Length.forward in .* len of the codes .* use codes.shape\[0\]",
    BareAssert: r"BareAssert.forward in 'assert isinstance\(codes, Tensor\)': ",
    Product: r"Product: 'mul' in 'return .*codes \* 2.* the codes .*feature 'cut', 'colour'",
    ScaledSum: r"'add' in '.*alpha=2.*' is not a way of reading the codes",
    WrongOffsets: r"'add' in '.*view\(3, 1\).*' is not a way of reading the codes",
    ExpandedOffsets: r"'expand_as' in '.*' is not a way of reading the codes",
    Mixed: r"'stack' in '.*' is not a way of reading the codes",
    OneHotBeside: r"'one_hot' in '.*' is not a way .*\(feature 'colour'\)",
    Comparison: r"'eq' in '.*' is not a way .*\(feature 'shape'\)",
    RawValues: r"'float' in '.*' is not a way",
    Returned: r"Returned: 'output' hands on the codes",
    FunctionalLookup: r"'embedding' in '.*F.embedding.*' is not a way .*\(feature 'cut'\)",
    Unread: r"no nn.Embedding of Unread reads feature 'colour'",
    FunctionalDropout: r"'dropout' in '.*F.dropout.*' depends on self.training.*nn.Dropout",
    NoiseInTraining: r"'randn_like' in '.*' depends on self.training",
    Counts: r"Counts.forward changes buffer 'calls'",
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("model", REFUSED, ids=lambda model: model.__name__)
def test_refused_uses_of_codes(model: type[nn.Module], training: bool) -> None:
    refuse(model(linear()).train(training), REFUSED[model])


def test_a_refusal_changes_no_buffer() -> None:
    model = Counts(linear())
    refuse(model, "changes buffer")
    assert model.calls == 0


def test_refused_modules_are_named() -> None:
    refuse(NestedBranch(), r"follow module 'inner' \(BranchOnValues\) in 'if .*': it branches")
    refuse(Bags(), r"module 'bag' \(EmbeddingBag\) reads the codes; only an nn.Embedding may")
    refuse(nn.Sequential(Bags()), r"module '0.bag' \(EmbeddingBag\) reads the codes")
    refuse(NoTables(), r"module 'encode' \(OneHotLayer\) reads the codes; only an nn.Embedding")
    refuse(nn.Sequential(nn.Linear(3, 1)), r"module '0' \(Linear\) reads the codes")
    refuse(nn.Embedding(4, 2), r"Embedding: 'embedding' .* is not a way of reading the codes")


def test_refused_tables_are_named() -> None:
    def model_with(table: nn.Module) -> nn.Module:
        model = Columns(linear())
        model.tables[1] = table
        return model

    small = r"module 'tables.1' \(Embedding\) has 3 rows; feature 'colour' needs rows 0 to 3"
    refuse(model_with(nn.Embedding(3, 2)), small)
    refuse(model_with(nn.Embedding(4, 2, max_norm=1.0)), r"'tables.1' .*max_norm")
    refuse(model_with(OwnForward(4, 2)), r"'tables.1' \(OwnForward\) has a forward of its own")
    spectral = nn.utils.parametrizations.spectral_norm(nn.Embedding(4, 2))
    refuse(model_with(spectral), r"'tables.1' .* computes its weights")
    larger = CategoricalSpace.from_sizes((3, 4, 3))
    refuse(Columns(linear()), "feature 'x2' needs rows 0 to 2", larger)


def test_hooks_are_refused() -> None:
    for name in ("", "tables.2"):
        model = Columns(linear())
        model.get_submodule(name).register_forward_hook(lambda module, inputs, output: output * 2)
        refuse(model, "has forward hooks, which would not run")
    model = Columns(linear())
    model.body.register_forward_hook(lambda module, inputs, output: output * 2)
    assert torch.equal(soften(model, SPACE)(CODES), model(CODES))


def test_refused_spaces() -> None:
    four = CategoricalSpace.from_sizes((3, 4, 2, 5))
    refuse(Columns(linear()), "reads feature 'x3'", four)
    refuse(BufferOffsets(linear()), "is not a way of reading the codes", four)
    refuse(Columns(linear()), "column 2 of codes that have 2", CategoricalSpace.from_sizes((3, 4)))


def test_refused_arguments() -> None:
    with pytest.raises(TypeError, match="soften needs a module, got function"):
        soften(lambda codes: codes, SPACE)
    with pytest.raises(ValueError, match=r"no argument 'x', only \['x_cat', 'x_num'\]"):
        soften(Numeric(linear()), SPACE, argument="x")
    with pytest.raises(ValueError, match=r"forward has no argument None, only \[\]"):
        soften(soften(Columns(linear()), SPACE), SPACE)
