"""Students of teachers whose every answer is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from discrete_grad.data import ScoredRows
from discrete_grad.fitting import EstimatorConfig, Fidelity, Teacher, learn_teacher, predict_teacher
from discrete_grad.fitting._drawn_rows import draw_rows, rows_near
from discrete_grad.fitting.teacher import Agreement
from discrete_grad.space import CategoricalSpace, ContextSpec

SMALL = CategoricalSpace({"cut": ["fair", "good", "ideal"], "shade": 4, "size": 2, "shop": 5})
LARGE = CategoricalSpace.from_sizes((6,) * 8)
SPEC = ContextSpec({"market": 2}, ["price"])
QUICK = EstimatorConfig(
    families=("networks", "anova"),
    members=1,
    hidden=(32,),
    dim=8,
    steps=300,
    batch_size=128,
    weight_decay=0.0,
    scaling=False,
)
TABLES = EstimatorConfig(families=("anova",), members=2)


def additive(codes: Tensor, context: Tensor | None) -> Tensor:
    """Far from mean 0 and variance 1."""
    return 1000 + 50 * codes[:, 0] - 20 * (codes[:, 1] - 2) ** 2 + 7 * codes[:, -1]


def table(space: CategoricalSpace, count: int = 300, *, context: bool = False) -> ScoredRows:
    """Rows of few categories of each feature, in contexts of a numeric price above 5."""
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(2, (count, space.num_features), generator=generator)
    market = torch.eye(2)[torch.randint(2, (count,), generator=generator)]
    price = 5 + torch.rand(count, 1, generator=generator)
    return ScoredRows(codes, torch.zeros(count), torch.cat([market, price], 1) if context else None)


class Recording:
    """A teacher that keeps what it was asked about."""

    def __init__(self, answer: Teacher) -> None:
        self.answer = answer
        self.codes: list[Tensor] = []
        self.contexts: list[Tensor] = []

    def __call__(self, codes: Tensor, context: Tensor | None) -> Any:
        self.codes.append(codes)
        if context is not None:
            self.contexts.append(context)
        return self.answer(codes, context)


# --- fidelity -------------------------------------------------------------------------------------


def test_an_additive_black_box_is_learnt_exactly_from_all_rows_of_a_small_space() -> None:
    student, fidelity = learn_teacher(SMALL, additive, config=TABLES)
    assert fidelity.asked == SMALL.num_rows
    assert fidelity.near is None
    assert fidelity.uniform.r2 == pytest.approx(1, abs=1e-3)
    assert fidelity.uniform.spearman == pytest.approx(1, abs=1e-3)
    assert not fidelity.uniform.unseen
    rows, spread = SMALL.enumerate(), 49.0
    assert (student(rows) - additive(rows, None)).abs().max() < 0.1 * spread
    assert not any(p.requires_grad for p in student.parameters())
    assert not student.training


def test_networks_alone_answer_in_the_teachers_unit_too() -> None:
    config = EstimatorConfig(families=("networks",), members=1, hidden=(16,), steps=400)
    student, fidelity = learn_teacher(SMALL, additive, config=config)
    assert fidelity.uniform.r2 > 0.9
    assert abs(float(student(SMALL.enumerate()).mean()) - 1000) < 100


def test_fidelity_is_that_of_the_student_on_rows_it_has_not_learnt_from() -> None:
    teacher = Recording(additive)
    student, fidelity = learn_teacher(LARGE, teacher, table(LARGE), count=400, config=TABLES)
    asked, *judged = teacher.codes
    assert len(asked) == fidelity.asked == 400
    seen = set(map(tuple, asked.tolist()))
    assert fidelity.near is not None
    for codes, agreement in zip(judged, [fidelity.uniform, fidelity.near], strict=True):
        assert agreement.unseen
        assert agreement.rows == len(codes) > 3000
        assert not seen & set(map(tuple, codes.tolist()))
        truth, answers = additive(codes, None).float(), student(codes)
        r2 = 1 - (answers - truth).square().mean() / truth.var(correction=0)
        assert agreement.r2 == pytest.approx(float(r2), abs=1e-4)
    # those near the table hold its categories in all but 4 features
    assert int((judged[1] > 1).sum(1).max()) <= 4
    assert int((judged[0] > 1).sum(1).max()) > 4


def test_a_teacher_of_noise_is_reported_as_not_learnt() -> None:
    def noise(codes: Tensor, context: Tensor | None) -> Tensor:
        return torch.sin(1e4 * (codes * torch.arange(1, 9).sqrt()).sum(1))

    _, fidelity = learn_teacher(LARGE, noise, count=500, config=QUICK)
    assert fidelity.uniform.r2 < 0.2


def test_a_gradient_points_uphill_on_the_teacher() -> None:
    student, _ = learn_teacher(LARGE, _interacting, table(LARGE), count=5000, config=QUICK)
    codes, _ = rows_near(LARGE, table(LARGE), 200, seed=5)
    flat = LARGE.one_hot(codes).requires_grad_()
    (slope,) = torch.autograd.grad(student(flat).sum(), flat)
    promised = LARGE.swap_gains(slope, codes)
    best = promised.argmax(-1)
    swapped = codes.scatter(1, (best // 6).unsqueeze(1), (best % 6).unsqueeze(1))
    gained = _interacting(swapped, None) - _interacting(codes, None)
    assert float((gained > 0).float().mean()) > 0.9


def _interacting(codes: Tensor, context: Tensor | None) -> Tensor:
    x = codes.float()
    return 30 * x[:, 0] - 40 * (x[:, 1] - 3).abs() + 25 * ((codes[:, 2] + codes[:, 3]) % 4 == 1)


def test_a_seed_decides_everything_and_the_global_state_is_untouched() -> None:
    before = torch.get_rng_state()
    rows = table(LARGE)

    def learnt(seed: int) -> tuple[Tensor, Fidelity, Tensor]:
        teacher = Recording(additive)
        student, fidelity = learn_teacher(LARGE, teacher, rows, count=300, config=QUICK, seed=seed)
        return student(rows.codes), fidelity, torch.cat(teacher.codes)

    first, again, other = learnt(1), learnt(1), learnt(2)
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1]
    assert torch.equal(first[2], again[2])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[2][:300], other[2][:300])
    assert torch.equal(before, torch.get_rng_state())


def test_contexts_are_the_tables_and_reach_teacher_and_student() -> None:
    def by_market(codes: Tensor, context: Tensor | None) -> Tensor:
        assert context is not None
        return codes[:, 0] * (2 * context[:, 0] - 1)

    rows, teacher = table(SMALL, context=True), Recording(by_market)
    student, fidelity = learn_teacher(SMALL, teacher, rows, context=SPEC, count=2000, config=QUICK)
    assert fidelity.asked == 2000 // SMALL.num_rows * SMALL.num_rows
    assert fidelity.uniform.r2 > 0.98
    assert rows.context is not None
    known = set(map(tuple, rows.context.tolist()))
    for context in teacher.contexts:
        assert len(set(map(tuple, context.tolist()))) > 100
        assert set(map(tuple, context.tolist())) <= known
    row = torch.tensor([[2, 0, 0, 0]])
    east, west = (student(row, torch.tensor([[m, 1 - m, 5.5]])).item() for m in (1.0, 0.0))
    assert east == pytest.approx(2, abs=0.3)
    assert west == pytest.approx(-2, abs=0.3)


# --- bad teachers ---------------------------------------------------------------------------------


def _raises(codes: Tensor, context: Tensor | None) -> Tensor:
    raise KeyError("no such row")


def _two_bad(codes: Tensor, context: Tensor | None) -> Tensor:
    first, second = ((codes == torch.tensor(row)).all(1) for row in ((1, 3, 0, 2), (2, 0, 1, 1)))
    answers = torch.where(first, torch.nan, additive(codes, None))
    return torch.where(second, torch.inf, answers)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (lambda c, x: torch.zeros(len(c), 1), r"120 rows by \(120,\) numbers, got \(120, 1\)"),
        (lambda c, x: 3.0, r"got \(\)"),
        (lambda c, x: np.zeros(7), r"got \(7,\)"),
        (lambda c, x: None, r"failed on 120 rows from \(cut=fair, shade=0, size=0, shop=0\) on"),
        (_raises, r"the teacher failed on 120 rows .* KeyError: 'no such row'"),
        (_two_bad, r"finite numbers, got nan for the row \(cut=good, shade=3, size=0, shop=2\)"),
        (lambda c, x: additive(c, x) / 0.0, r"finite numbers, got inf for the row \(cut=fair"),
        (lambda c, x: additive(c, x).double() * 1e39, r"finite numbers, got 9.2e\+41"),
        (lambda c, x: torch.full((len(c),), 0.1), r"answers 0.1 for every one of 120 rows"),
        (lambda c, x: torch.zeros(len(c)), r"answers 0 for every one of 120 rows"),
    ],
)
def test_a_bad_teacher_is_named(teacher: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learn_teacher(SMALL, teacher, config=TABLES)


def test_other_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"contexts of .*market.* are drawn from a table's rows"):
        learn_teacher(SMALL, additive, context=SPEC)
    with pytest.raises(ValueError, match=r"contexts of .*market.* are drawn from a table's rows"):
        learn_teacher(SMALL, additive, table(SMALL), context=SPEC)
    with pytest.raises(ValueError, match="context of 3 numbers, but no context spec"):
        learn_teacher(SMALL, additive, table(SMALL, context=True))
    wide = ScoredRows(torch.zeros(5, 4, dtype=torch.long), torch.zeros(5), torch.zeros(5, 7))
    with pytest.raises(ValueError, match=r"context must be \(\.\.\., 3\) .* got \(5, 7\)"):
        learn_teacher(SMALL, additive, wide, context=SPEC)
    with pytest.raises(ValueError, match="got count=0"):
        learn_teacher(SMALL, additive, count=0)
    with pytest.raises(ValueError, match="a table of 0"):
        learn_teacher(SMALL, additive, table(SMALL, 0))
    with pytest.raises(ValueError, match="feature 'size'"):
        learn_teacher(SMALL, additive, ScoredRows(torch.full((4, 4), 2), torch.zeros(4)))


def test_a_teacher_is_asked_in_parts_and_keeps_nothing_of_ours() -> None:
    def greedy(codes: Tensor, context: Tensor | None) -> Tensor:
        answers = additive(codes, context)
        codes.zero_()
        return answers

    teacher = Recording(greedy)
    _, fidelity = learn_teacher(LARGE, teacher, count=40_000, config=TABLES)
    assert [len(codes) for codes in teacher.codes[:3]] == [16_384, 16_384, 7232]
    # had the zeros reached the student, it would have seen one row only
    assert fidelity.uniform.r2 > 0.98


# --- adapters -------------------------------------------------------------------------------------


class Seeing:
    """A fitted model of so many columns that answers by the last of them."""

    def __init__(self, columns: int) -> None:
        self.n_features_in_ = columns

    def predict(self, shown: Any) -> Any:
        assert isinstance(shown, np.ndarray)
        assert shown.dtype == np.float32
        return shown[:, -1] + 10 * shown[:, 0]


def test_fitted_models_see_codes_or_one_hot_rows_and_then_the_context() -> None:
    codes, context = torch.tensor([[2, 3, 1, 4], [0, 1, 0, 1]]), torch.tensor([[1.0], [2.0]])
    assert predict_teacher(Seeing(4), SMALL)(codes, None).tolist() == [24, 1]
    assert predict_teacher(Seeing(5), SMALL)(codes, context).tolist() == [21, 2]
    one_hot = predict_teacher(Seeing(14), SMALL, encode="one-hot")
    assert one_hot(codes, None).tolist() == [1, 10]


def test_fitted_models_that_do_not_fit_are_named() -> None:
    with pytest.raises(TypeError, match="function has none"):
        predict_teacher(additive, SMALL)
    with pytest.raises(ValueError, match="must be 'codes' or 'one-hot', got 'ordinal'"):
        predict_teacher(Seeing(4), SMALL, encode="ordinal")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Seeing was fitted to 14 columns, .* codes .* have 4"):
        learn_teacher(SMALL, predict_teacher(Seeing(14), SMALL))


def test_a_scikit_learn_model_is_learnt() -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    codes = LARGE.enumerate(max_rows=LARGE.num_rows)[:: LARGE.num_rows // 2000]
    trees = ensemble.HistGradientBoostingRegressor(max_iter=50).fit(
        codes, _interacting(codes, None)
    )
    student, fidelity = learn_teacher(
        LARGE,
        predict_teacher(trees, LARGE),
        ScoredRows(codes, torch.zeros(len(codes))),
        config=QUICK,
        count=5000,
    )
    assert fidelity.near is not None
    assert min(fidelity.near.r2, fidelity.uniform.r2) > 0.95
    truth = torch.as_tensor(trees.predict(codes))
    assert (student(codes) - truth).square().mean() < 0.05 * truth.var()


# --- rows -----------------------------------------------------------------------------------------


def test_all_rows_of_a_small_space_are_asked_about_once_or_as_often_in_contexts() -> None:
    codes, context = draw_rows(SMALL, None, SMALL.num_rows, seed=0)
    assert torch.equal(codes, SMALL.enumerate())
    assert context is None
    codes, _ = draw_rows(SMALL, table(SMALL), 500, seed=0)
    assert torch.equal(codes, SMALL.enumerate())
    codes, context = draw_rows(SMALL, table(SMALL, context=True), 500, seed=0)
    assert torch.equal(SMALL.row_number(codes).bincount(), torch.full((120,), 4))
    assert context is not None
    assert context.shape == (480, 3)


def test_rows_of_a_large_space_are_of_four_kinds() -> None:
    rows = table(LARGE)
    codes, _ = draw_rows(LARGE, rows, 4000, seed=0)
    # the table has 300 rows, so 700 of their share are swapped rows
    own, swapped, mixed, uniform = codes.split([300, 1700, 1000, 1000])
    assert torch.equal(own.sort(0).values, rows.codes.sort(0).values)
    nearest = (swapped.unsqueeze(1) != rows.codes).sum(-1).amin(1)
    assert set(nearest.tolist()) == {0, 1, 2, 3, 4}
    assert (mixed < 2).all()
    assert int((mixed.unsqueeze(1) != rows.codes).sum(-1).amin(1).max()) > 0
    counts = torch.stack([column.bincount(minlength=6) for column in uniform.unbind(1)])
    assert (counts - 1000 / 6).abs().max() < 60
    assert codes.dtype == torch.int64


def test_a_larger_table_gives_a_quarter_and_a_seed_the_same_rows() -> None:
    rows = table(LARGE, 3000, context=True)
    drawn = [draw_rows(LARGE, rows, 1000, seed=seed) for seed in (4, 4, 5)]
    known = set(map(tuple, rows.codes.tolist()))
    assert all(row in known for row in map(tuple, drawn[0][0][:250].tolist()))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert drawn[0][1] is not None
    assert drawn[1][1] is not None
    assert torch.equal(drawn[0][1], drawn[1][1])
    assert not torch.equal(drawn[0][0], drawn[2][0])


def test_fidelity_reads_as_text() -> None:
    seen = Agreement(1.0, 0.5, 120, False)
    text = str(Fidelity(1200, seen, Agreement(0.91, 0.92, 4000, True)))
    assert text.splitlines() == [
        "1,200 rows asked",
        "rows near the table: R^2 0.910, rank correlation 0.920 (4,000 rows not learnt from)",
        "uniform rows: R^2 1.000, rank correlation 0.500 (120 of the rows learnt from)",
    ]
