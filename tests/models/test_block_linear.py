"""Sums of tables and Gaussian processes: linear in every feature's block, exact at every row."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, StraightThrough
from discrete_grad.models import AnovaEnsemble, BaseEnsemble, KernelEnsemble, anova, kernel
from discrete_grad.sampling import normal, seeded, uniform
from discrete_grad.space import ContextSpec
from tests.strategies import BATCHES, random_logits, spaces

SPACE = CategoricalSpace({"a": 2, "b": 3, "c": 4, "d": 1}, ordered=("c",))
SPECS = {
    "none": None,
    "one-hot": ContextSpec({"shop": 3, "day": 2}, ["price"]),
    "embedded": ContextSpec({"shop": 3, "day": 2}, ["price"], embedded=True),
    "numeric": ContextSpec({}, ["price"]),
}
MEMBERS = 3


def table_sum(space: CategoricalSpace, spec: ContextSpec | None, seed: int = 0) -> AnovaEnsemble:
    """Random tables of all groups of one, two and three columns, in float64."""
    model = AnovaEnsemble(space, context=spec, members=MEMBERS)
    columns = range(len(model.joint.sizes))
    model.arrange([g for size in (1, 2, 3) for g in combinations(columns, size)])
    model = model.double()
    generator = seeded(seed)
    model.cells = normal(model.cells.shape, generator=generator)
    model.offsets = normal((MEMBERS,), generator=generator)
    return model


def process(space: CategoricalSpace, spec: ContextSpec | None, seed: int = 0) -> KernelEnsemble:
    """Random points, weights and correlations, in float64."""
    model = KernelEnsemble(space, context=spec, members=MEMBERS).double()
    generator, sizes = seeded(seed), model.joint.sizes
    points = [torch.randint(size, (7,), generator=generator) for size in sizes]
    alike = 0.1 + 0.8 * uniform((len(sizes), 3), generator=generator)
    weights = normal((7, MEMBERS), generator=generator)
    offsets = normal((MEMBERS,), generator=generator)
    model.place(alike, torch.stack(points, 1), weights, offsets)
    return model


Maker = Callable[..., AnovaEnsemble | KernelEnsemble]
KINDS: dict[str, Maker] = {"anova": table_sum, "kernel": process}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
specs = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def made(make: Maker, spec: ContextSpec | None) -> AnovaEnsemble | KernelEnsemble:
    """A model whose bins of the price lie between -1 and 1."""
    model = make(SPACE, spec)
    if spec is not None:
        shown = torch.zeros(160, spec.width)
        shown[:, -1] = torch.linspace(-1, 1, 160)
        model.joint.fit(shown)
    return model


def contexts(spec: ContextSpec | None, *shape: int, seed: int = 1) -> Tensor | None:
    """Random contexts `(*shape, C)` in float64."""
    if spec is None:
        return None
    generator = seeded(seed)
    parts = [normal((*shape, len(spec.numeric)), generator=generator)]
    if spec.categorical is not None:
        sizes = spec.categorical.sizes
        codes = [torch.randint(k, shape, generator=generator) for k in sizes]
        stacked = torch.stack(codes, -1)
        one_hot = spec.categorical.one_hot(stacked, dtype=torch.float64)
        parts.insert(0, stacked.double() if spec.embedded else one_hot)
    return torch.cat(parts, -1)


def soft_rows(space: CategoricalSpace, *shape: int, seed: int = 0) -> Tensor:
    """Probabilities `(*shape, D)` in float64."""
    return space.softmax(random_logits(space, shape, scale=2.0, generator=seed))


def generic(model: BaseEnsemble, row: Tensor, context: Tensor | None = None) -> Tensor:
    """The path of soft rows, whatever the row."""
    if isinstance(model, AnovaEnsemble):
        return model.soft(row, context)
    assert isinstance(model, KernelEnsemble)
    return model.soft(row, context)


def value_and_slope(
    predict: Callable[[Tensor], Tensor], row: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """Predictions `(M, ...)`, and the gradient at the row of their sum weighted by `share`."""
    row = row.clone().requires_grad_()
    value = predict(row)
    (slope,) = torch.autograd.grad((value * share).sum(), row)
    return value.detach(), slope


@kinds
@given(space=spaces(max_features=4, max_size=4), seed=st.integers(0, 2**31))
def test_the_value_at_probabilities_is_the_expected_score(
    make: Maker, space: CategoricalSpace, seed: int
) -> None:
    model, rows = make(space, None, seed), space.enumerate()
    logits = random_logits(space, (3,), scale=3.0, masked=True, generator=seed)
    chance = space.log_prob(logits.unsqueeze(1), rows).exp()
    expected = model.predictions(rows) @ chance.T
    assert_close(model.predictions(space.softmax(logits)), expected, rtol=1e-11, atol=1e-11)


@kinds
@specs
def test_it_is_so_in_every_context(make: Maker, spec: ContextSpec | None) -> None:
    model, rows = made(make, spec), SPACE.enumerate()
    soft, context = soft_rows(SPACE, 5), contexts(spec, 5)
    chance = SPACE.log_prob(soft.log().unsqueeze(1), rows).exp()
    shown = None if context is None else context.unsqueeze(1)
    each = model.predictions(rows.expand(5, -1, -1), shown)
    expected = (each * chance).sum(-1)
    assert_close(model.predictions(soft, context), expected, rtol=1e-11, atol=1e-11)


@kinds
@specs
@pytest.mark.parametrize("shape", BATCHES)
def test_hard_rows_have_the_value_and_gradient_of_soft_ones(
    make: Maker, spec: ContextSpec | None, shape: tuple[int, ...]
) -> None:
    model = made(make, spec)
    codes = SPACE.argmax(random_logits(SPACE, shape, generator=3))
    row, context = SPACE.one_hot(codes, dtype=torch.float64), contexts(spec, *shape)
    share = normal((MEMBERS, *shape), generator=seeded(4))
    fast = value_and_slope(lambda r: model.predictions(r, context), row, share)
    slow = value_and_slope(lambda r: generic(model, r, context), row, share)
    assert fast[0].shape == (MEMBERS, *shape)
    for one, other in zip(fast, slow, strict=True):
        assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert_close(model.predictions(codes, context), fast[0], rtol=0, atol=0)


@kinds
@specs
def test_rows_and_contexts_are_broadcast(make: Maker, spec: ContextSpec | None) -> None:
    if spec is None:
        return
    model, share = made(make, spec), torch.ones(MEMBERS, 2, 4, dtype=torch.float64)
    context = contexts(spec, 4)
    for shape in ((2, 1), (2, 4)):
        codes = SPACE.argmax(random_logits(SPACE, shape, generator=5))
        row = SPACE.one_hot(codes, dtype=torch.float64)
        fast = value_and_slope(lambda r: model.predictions(r, context), row, share)
        slow = value_and_slope(lambda r: generic(model, r, context), row, share)
        assert_close(fast, slow, rtol=1e-12, atol=1e-12)
        assert_close(model.predictions(codes, context), fast[0])
        each = [model.predictions(codes.expand(2, 4, -1)[:, i], context[i]) for i in range(4)]
        assert_close(fast[0], torch.stack(each, -1))


@kinds
@specs
def test_the_gradient_says_what_each_single_swap_changes(
    make: Maker, spec: ContextSpec | None
) -> None:
    model, rows = made(make, spec), SPACE.enumerate()
    context = contexts(spec, len(rows))
    share = normal((MEMBERS, len(rows)), generator=seeded(6))
    row = SPACE.one_hot(rows, dtype=torch.float64)
    value, slope = value_and_slope(lambda r: model.predictions(r, context), row, share)
    gains = SPACE.swap_gains(slope, rows)
    for feature, (start, size) in enumerate(zip(SPACE.offsets, SPACE.sizes, strict=True)):
        for category in range(size):
            swapped = rows.clone()
            swapped[:, feature] = category
            change = (share * (model.predictions(swapped, context) - value)).sum(0)
            assert_close(gains[:, start + category], change, rtol=1e-10, atol=1e-10)


@kinds
def test_rows_are_worked_off_in_parts(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPECS["one-hot"]
    model, rows = made(make, spec), SPACE.enumerate()
    row, context = SPACE.one_hot(rows, dtype=torch.float64), contexts(spec, len(rows))
    share = normal((MEMBERS, len(rows)), generator=seeded(6))
    whole = value_and_slope(lambda r: model.predictions(r, context), row, share)
    for module in (anova, kernel):
        monkeypatch.setattr(module, "_CHUNK", 1)
    parts = value_and_slope(lambda r: model.predictions(r, context), row, share)
    assert_close(parts, whole, rtol=1e-13, atol=1e-13)


@kinds
@pytest.mark.parametrize("feature", range(2))
def test_a_row_that_is_soft_by_a_hair_is_not_taken_for_a_hard_one(
    make: Maker, feature: int
) -> None:
    model = made(make, None)
    row = SPACE.one_hot(torch.tensor([[1, 2, 0, 0]]), dtype=torch.float64)
    hair = torch.zeros_like(row)
    hair[0, SPACE.offsets[feature]] = 1e-9
    share = torch.ones(MEMBERS, 1, dtype=torch.float64)
    value, slope = value_and_slope(model.predictions, row, share)
    moved, _ = value_and_slope(model.predictions, row + hair, share)
    change = ((moved - value).sum() / 1e-9).item()
    assert change == pytest.approx(slope[0, SPACE.offsets[feature]].item(), rel=1e-4)


@kinds
def test_float32_and_float64_rows_of_a_float32_model(make: Maker) -> None:
    spec = SPECS["one-hot"]
    double = made(make, spec)
    single, rows = copy.deepcopy(double).float(), SPACE.enumerate()
    context = contexts(spec, len(rows))
    expected = double.predictions(rows, context)
    soft = soft_rows(SPACE, len(rows))
    for dtype in (torch.float32, torch.float64):
        row = SPACE.one_hot(rows, dtype=dtype).requires_grad_()
        value = single.predictions(row, context.to(dtype))
        assert value.dtype == dtype
        assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)
        value.sum().backward()
        assert row.grad.dtype == dtype
        softly = single.predictions(soft.to(dtype), context.to(dtype))
        assert softly.dtype == dtype
        assert_close(softly.double(), double.predictions(soft, context), rtol=1e-4, atol=1e-5)


@kinds
@specs
def test_every_member_scores_its_own_rows(make: Maker, spec: ContextSpec | None) -> None:
    model = made(make, spec)
    codes = SPACE.argmax(random_logits(SPACE, (MEMBERS, 5), generator=7))
    context = contexts(spec, MEMBERS, 5)
    own = [
        model.predictions(codes[m], None if context is None else context[m])[m]
        for m in range(MEMBERS)
    ]
    for rows in (codes, SPACE.one_hot(codes, dtype=torch.float64)):
        assert_close(model.predictions(rows, context, own_rows=True), torch.stack(own))


@kinds
def test_mean_spread_and_least_of_the_members(make: Maker) -> None:
    model, rows = made(make, None), SPACE.enumerate()
    values = model.predictions(rows)
    assert model.num_members == MEMBERS
    assert_close(model(rows), values.mean(0))
    assert_close(model.std(rows), values.std(0, correction=0))
    assert_close(model.min(rows), values.amin(0))


@kinds
def test_a_drawn_row_is_one_for_all_members(make: Maker) -> None:
    model, rows = made(make, None), SPACE.enumerate()
    logits = (100 * SPACE.one_hot(rows, dtype=torch.float64)).requires_grad_()
    values = model.sample_predictions(logits, StraightThrough(SPACE), generator=seeded(0))
    assert_close(values, model.predictions(rows))
    values.sum().backward()
    assert bool(logits.grad.isfinite().all())


@kinds
@specs
def test_it_is_saved_and_loaded_into_a_model_of_another_shape(
    make: Maker, spec: ContextSpec | None
) -> None:
    model, rows = made(make, spec), SPACE.enumerate()
    context = contexts(spec, len(rows))
    other = type(model)(SPACE, context=spec, members=1).double()
    other.load_state_dict(model.state_dict())
    row = SPACE.one_hot(rows, dtype=torch.float64)
    share = torch.ones(MEMBERS, len(rows), dtype=torch.float64)
    for again in (other, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert again.num_members == MEMBERS
        for one, two in zip(
            value_and_slope(lambda r, m=again: m.predictions(r, context), row, share),
            value_and_slope(lambda r: model.predictions(r, context), row, share),
            strict=True,
        ):
            assert torch.equal(one, two)
        assert torch.equal(again.to_latent(rows, context), model.to_latent(rows, context))


@kinds
def test_the_state_of_another_space_is_refused(make: Maker) -> None:
    for sizes in ((2, 3), (2, 3, 5, 1), (2, 3, 4, 1, 2)):
        other = make(CategoricalSpace.from_sizes(sizes), None)
        before = made(make, None)
        if (make is process) == (len(sizes) == 4) and len(sizes) != 5:
            continue  # tables of some columns, or points with as many, say nothing of the others
        with pytest.raises(RuntimeError, match="of this model's columns"):
            before.load_state_dict(other.state_dict())
    broken = made(make, None).state_dict()
    del broken["offsets"]
    with pytest.raises(RuntimeError, match="offsets"):
        made(make, None).load_state_dict(broken)


@kinds
def test_it_works_under_torch_func(make: Maker) -> None:
    spec = SPECS["one-hot"]
    model = made(make, spec)
    codes = SPACE.argmax(random_logits(SPACE, (5,), generator=7))
    row, context = SPACE.one_hot(codes, dtype=torch.float64), contexts(spec, 5)
    expected = model.predictions(codes, context)
    assert_close(torch.vmap(model.predictions, (0, 0), 1)(row, context), expected)
    one = torch.vmap(lambda c: model.predictions(row[0], c), 0, 1)(context)
    assert_close(one, model.predictions(codes[:1].expand(5, -1), context))
    share = torch.ones(MEMBERS, 5, dtype=torch.float64)
    _, slope = value_and_slope(lambda r: model.predictions(r, context), row, share)
    each = torch.vmap(torch.func.grad(lambda r, c: model.predictions(r, c).sum()))(row, context)
    assert_close(each, slope)


@kinds
@specs
def test_context_columns_of_many_categories_take_no_more_memory_than_they_have(
    make: Maker, spec: ContextSpec | None
) -> None:
    if spec is None or not spec.embedded:
        return
    # a table of all pairs of categories would take 40 GB
    many = ContextSpec({"plane": 100_000}, embedded=True)
    kind = type(made(make, spec))
    model = kind(SPACE, context=many, members=2)
    value = model.predictions(SPACE.enumerate(), torch.full((24, 1), 99_999.0))
    assert torch.equal(value, torch.zeros(2, 24))


@kinds
def test_bad_rows_are_told(make: Maker) -> None:
    model = made(make, None)
    with pytest.raises(ValueError, match="feature 'b' has code 3"):
        model.predictions(torch.tensor([[0, 3, 0, 0]]))
    with pytest.raises(ValueError, match="flat row"):
        model.predictions(torch.zeros(2, 9))
    with pytest.raises(ValueError, match="takes no context"):
        model.predictions(torch.tensor([[0, 0, 0, 0]]), torch.zeros(1, 2))
