"""Parts of a scorer's way into a fit, each alone."""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from discrete_grad.data import NumericColumn, Schema, Table, Vocabulary
from discrete_grad.fitting import GeneratorConfig
from discrete_grad.fitting.score_scale import ScoreScale
from discrete_grad.gradient import LeaveOneOut, ReinMax, StraightThrough
from discrete_grad.models import MultilinearEstimator
from discrete_grad.policies import Generator
from discrete_grad.rules import Fix, Rules
from discrete_grad.runs import FitConfig, OwnScorer, _scorer_stages
from discrete_grad.runs._method import fitting_method, run_method
from discrete_grad.runs.scorers import _bound, _columns, _facts, _given, _inspect, _loaded
from discrete_grad.runs.scorers import _model as model_module
from discrete_grad.runs.scorers import _reference as reference
from discrete_grad.runs.scorers import _tensors as tensors
from discrete_grad.runs.scorers._bound import BoundScorer, FrameForm, numbers_of
from discrete_grad.runs.scorers._columns import RowColumns
from discrete_grad.runs.scorers._kept import ANSWERS, compare_answers, kept_answers
from discrete_grad.runs.scorers._model import ScorerModel, answer_scale
from discrete_grad.training import RunError
from discrete_grad.training.checkpoint import save_tensors

CPU = torch.device("cpu")
CUT, SIZE = Vocabulary("cut", ("fair", "good", "ideal")), Vocabulary("size", (0, 1, 3))
SHOP, DOSE = Vocabulary("shop", ("east", "west")), NumericColumn("dose", 2.0, 4.0)
SCHEMA = Schema((CUT, SIZE), (SHOP, DOSE), "price")
BARE = Schema((CUT, SIZE), (), "price")
CODES = torch.tensor([[0, 0], [1, 2], [2, 1], [0, 2]])
CONTEXT = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.5], [1.0, 0.0, 1.0], [0.0, 1.0, -0.5]])


def told(message: str) -> Any:
    return pytest.raises(RunError, match=f"^{re.escape(message)}$")


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "answers"),
    [
        ([1, 2], torch.tensor([1.0, 2.0]).double()),
        ((True, False), torch.tensor([1.0, 0.0]).double()),
        (np.array([[1.5], [2.5]], dtype=np.float32), torch.tensor([1.5, 2.5]).double()),
        (torch.tensor([3, 4]), torch.tensor([3.0, 4.0]).double()),
        (torch.tensor([[3.0], [4.0]]), torch.tensor([3.0, 4.0])),
        (torch.tensor([0.5, 1.0], dtype=torch.float16), torch.tensor([0.5, 1.0]).half()),
    ],
)
def test_numbers_of_whatever_is_answered(given: Any, answers: Tensor) -> None:
    found = numbers_of(given, 2)
    assert torch.equal(found, answers)
    assert found.dtype == answers.dtype


@pytest.mark.parametrize(
    ("given", "count", "message"),
    [
        (["good"], 1, "it must answer numbers, got list of <U4"),
        (np.array([1j]), 1, "it must answer numbers, got ndarray of complex128"),
        (None, 1, "it must answer numbers, got NoneType of object"),
        (
            torch.ones(1, 2),
            2,
            "it must answer 2 rows by one number each, (2,) or (2, 1), got (1, 2)",
        ),
        (1.0, 1000, "it must answer 1,000 rows by one number each, (1000,) or (1000, 1), got ()"),
    ],
)
def test_what_is_no_number_of_each_row_is_told(given: Any, count: int, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        numbers_of(given, count)


class Weighs(nn.Module):
    """A weight of each column of a flat row, and the sum of the context; keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.arange(1.0, 7.0))

    def forward(self, rows: Tensor, context: Tensor) -> Tensor:
        asked.append((len(rows), len(context)))
        return rows @ self.weights + 100 * context.sum(-1)


asked: list[tuple[int, int]] = []


def table(codes: Tensor = CODES, schema: Schema = SCHEMA) -> Table:
    context = CONTEXT[: len(codes)] if schema.context else None
    return Table(schema, codes, torch.arange(len(codes)).double(), context)


def bound_module() -> BoundScorer:
    return _inspect.bind(OwnScorer(Weighs(), takes="one-hot"), table(), CPU, "judge")


def test_a_module_is_asked_about_so_many_numbers_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    found = bound_module()
    flat = SCHEMA.space.one_hot(CODES)
    expected = flat @ torch.arange(1.0, 7.0) + 100 * CONTEXT.sum(-1)
    for most, parts in ((100, [4]), (18, [3, 1]), (17, [2, 2]), (5, [1] * 4)):
        monkeypatch.setattr(_bound, "_NUMBERS", most)
        asked.clear()
        assert torch.equal(found(flat, CONTEXT), expected)
        assert asked == [(part, part) for part in parts]
    assert found.calls == Counter({"other": 16})
    found.purpose = "generator"
    assert torch.equal(found(CODES, CONTEXT), expected)
    assert found.calls == Counter({"other": 16, "generator": 4})
    assert found.role == "the judge Weighs"


def frames(answer: Any) -> BoundScorer:
    scorer = OwnScorer(answer, takes="frame")
    columns = RowColumns(BARE)
    return BoundScorer(scorer, columns, FrameForm(scorer, columns, "frame"), CPU, "scorer")


def test_a_scorer_without_derivative_is_asked_about_one_hot_rows_alone() -> None:
    found = frames(lambda frame: frame["size"] * 1.0)
    flat = BARE.space.one_hot(CODES)
    for rows in (CODES, CODES.to(torch.uint8), flat, flat.double()):
        assert found(rows, None).tolist() == [0.0, 3.0, 1.0, 3.0]
    why = (
        r"has no derivative in the row \(it is no torch module\): a gradient estimator that needs "
        "none, such as LeaveOneOut, hands it one-hot rows alone"
    )
    for rows in (0.5 * flat, flat.clone().requires_grad_()):
        with pytest.raises(ValueError, match=why):
            found(rows, None)
    assert found(CODES[:0], None).shape == (0,)
    assert found(CODES[:0], None).dtype == torch.float32


def test_the_first_row_of_a_part_that_failed_is_named() -> None:
    def fails(frame: Any) -> Any:
        raise KeyError("no")

    with told(
        "the scorer test_the_first_row_of_a_part_that_failed_is_named.<locals>.fails failed on 3 "
        "rows from (cut=good, size=3) on: KeyError: 'no'"
    ):
        frames(fails)(CODES[1:], None)
    infinite = frames(lambda frame: np.where(frame["cut"] == "ideal", np.inf, 1.0))
    with pytest.raises(RunError, match=r"got inf for the row \(cut=ideal, size=1\)$"):
        infinite(BARE.space.one_hot(CODES), None)


# --- columns --------------------------------------------------------------------------------------


def test_columns_of_every_form() -> None:
    columns = RowColumns(SCHEMA)
    assert columns.names == ("cut", "size", "shop", "dose")
    named = columns.tensors(CODES, CONTEXT)
    assert [*named] == ["cut", "size", "shop", "dose"]
    assert named["shop"].tolist() == [0, 1, 0, 1]
    assert named["dose"].tolist() == [2.0, 4.0, 6.0, 0.0]
    values = [[0, 0, 0, 2], [1, 3, 1, 4], [2, 1, 0, 6], [0, 3, 1, 0]]
    assert columns.array(CODES, CONTEXT, "values").tolist() == values
    codes = [[0, 0, 0, 2], [1, 2, 1, 4], [2, 1, 0, 6], [0, 2, 1, 0]]
    assert columns.array(CODES, CONTEXT, "codes").tolist() == codes
    hot = columns.array(CODES, CONTEXT, "one-hot")
    assert hot[1].tolist() == [0, 1, 0, 0, 0, 1, 0, 1, 4]
    assert hot.shape[1] == columns.one_hot_width == 9
    assert {name: gap.tolist() for name, gap in columns.gaps.items()} == {"size": [0, 1, 3]}
    assert columns.context_tensors(None) == {}
    turned = RowColumns(Schema((CUT, SIZE), (DOSE, SHOP), "price"))
    assert [*turned.tensors(CODES, CONTEXT)] == ["cut", "size", "dose", "shop"]
    assert turned.array(CODES, CONTEXT, "values").tolist() == [
        [a, b, d, c] for a, b, c, d in values
    ]
    assert [*RowColumns(BARE).tensors(CODES, None)] == ["cut", "size"]


@pytest.mark.parametrize(
    ("values", "gaps", "written", "codes"),
    [
        ((0, 1, 2), False, False, True),
        ((1, 2, 3), True, False, False),
        ((-1, 0, 1), False, False, False),
        ((0.0, 1.0, 2.0), False, False, True),
        (("0", "1", "2"), False, True, True),
        (("0", "1", "3"), False, True, False),
        (("0", "1", "a"), False, False, True),
    ],
)
def test_what_numbers_a_column_has(
    values: tuple[Any, ...], gaps: bool, written: bool, codes: bool
) -> None:
    columns = RowColumns(Schema((Vocabulary("x", values), CUT), (), ""))
    assert (columns.gaps.keys() == {"x"}) is gaps
    assert columns.has_written_numbers is written
    assert columns.codes_are_values is codes


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["1", "-2", "30"], [1, -2, 30]),
        (["0.5", "1e3", "-2E-1", "7"], [0.5, 1000.0, -0.2, 7.0]),
        (["1", None], [1.0, math.nan]),
        (["007", "1"], None),
        (["1.", "1"], None),
        (["+1"], None),
        (["", "1"], None),
    ],
)
def test_text_that_is_a_number_in_every_category(texts: list[Any], numbers: Any) -> None:
    given = np.array(texts, dtype=object)
    found = _columns._as_numbers(given)
    if numbers is None:
        assert found is given
    else:
        assert found.dtype.kind == ("i" if all(type(n) is int for n in numbers) else "f")
        np.testing.assert_array_equal(found, np.array(numbers))
    plain = np.array([1, 2])
    assert _columns._as_numbers(plain) is plain


def test_categories_as_arrays() -> None:
    binned = Vocabulary("dose", ("[0, 1]", "(1, 4]"), ordered=True, edges=(0.0, 1.0, 4.0))
    assert _columns._as_array(binned).tolist() == [0.5, 2.5]
    gone = Vocabulary("dose", ("[0, 1]", "(1, 4]", None), ordered=True, edges=(0.0, 1.0, 4.0))
    np.testing.assert_array_equal(_columns._as_array(gone), [0.5, 2.5, math.nan])
    text = _columns._as_array(Vocabulary("cut", ("a", None)))
    assert (text.dtype, text.tolist()) == (object, ["a", None])
    assert _columns._as_array(Vocabulary("n", (1, 2))).dtype.kind == "i"
    numbers = _columns._as_array(Vocabulary("n", (1, 2, None)))
    np.testing.assert_array_equal(numbers, [1.0, 2.0, math.nan])


@pytest.mark.parametrize(
    ("raw", "scale", "rounded"),
    [
        (0.10000003, 0.2, 0.1),
        (0.1234567, 1.0, 0.123457),
        (2019.9996, 1000.0, 2020.0),
        (123456.7, 3e6, 123460.0),
        (1.2e-16, 1.5e-9, 0.0),  # of fifteen decimals
        (1.2e-16, 1.5e-10, 1.2e-16),
        (1.2e14, 1.5e21, 0.0),
        (1.2e14, 1.5e22, 1.2e14),
    ],
)
def test_numbers_as_they_were_before_they_were_standardised(
    raw: float, scale: float, rounded: float
) -> None:
    found = _columns._rounded(torch.tensor([raw], dtype=torch.float64), scale)
    assert found.item() == pytest.approx(rounded, rel=1e-12, abs=0)


# --- forms ----------------------------------------------------------------------------------------


def forms(*features: Vocabulary, context: bool) -> list[tuple[str, bool, bool]]:
    schema = Schema(features, (DOSE,) if context else (), "")
    return list(tensors.possible_forms(RowColumns(schema)))


def test_forms_that_the_columns_allow() -> None:
    two = Vocabulary("clasp", ("a", "b"))
    assert forms(CUT, two, context=False) == [
        *((name, False, False) for name in ("dict", "arguments", "codes", "one-hot")),
    ]
    assert forms(CUT, SIZE, context=True) == [
        *((name, False, kept) for name in ("dict", "arguments") for kept in (True, False)),
        *(("codes", shown, kept) for shown in (True, False) for kept in (True, False)),
        *((name, shown, False) for name in ("one-hot", "channels") for shown in (True, False)),
    ]


def test_columns_that_a_module_takes() -> None:
    class Some(nn.Module):
        def forward(self, size: Tensor, other: Tensor, cut: Tensor) -> None: ...

    class Any_(nn.Module):
        def forward(self, size: Tensor, **others: Tensor) -> None: ...

    given = {"cut": 1, "size": 2, "shop": 3}
    assert tensors._accepted(Some(), given) == {"size": 2, "cut": 1}
    assert tensors._accepted(Any_(), given) == given


def test_a_module_that_cannot_be_copied_is_told() -> None:
    class Stays(nn.Module):
        def __deepcopy__(self, memo: object) -> None:
            raise TypeError("not me")

    with told("the scorer Stays cannot be copied, and a fit must not change it: not me"):
        tensors.frozen_copy(Stays(), CPU)


class Soft(nn.Module):
    """Answers to flat rows by a function of them."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.answer(rows)
        return found


def raises(rows: Tensor) -> Tensor:
    if rows.requires_grad:
        raise ValueError("first line\nsecond line")
    return rows.sum(-1)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda rows: rows[:, 0], ""),
        (lambda rows: rows[:, 0].detach(), "no derivative reaches the row"),
        (raises, "first line"),
        (lambda r: r[:, 0] * (1 + 9e-4 * r.requires_grad), ""),
        (
            lambda r: r[:, 0] * (1 + 2e-3 * r.requires_grad),
            "answers to soft rows differ from those to codes by up to 0.002",
        ),
        (lambda r: r[:, 0] * 1e-8 + 9e-10 * r.requires_grad, ""),
        (
            lambda r: r[:, 0] * 1e-8 + 2e-9 * r.requires_grad,
            "answers to soft rows differ from those to codes by up to 2e-09",
        ),
    ],
)
def test_why_a_module_has_no_derivative(answer: Any, why: str) -> None:
    rows = table(schema=BARE)
    found = _inspect.bind(OwnScorer(Soft(answer), takes="one-hot"), rows, CPU)
    assert found.why_not == why
    assert found.differentiable is not bool(why)


def test_the_form_that_works_is_named_or_asked_for() -> None:
    module, frame = OwnScorer(nn.Identity()), OwnScorer(max)
    assert _inspect._only(module, ["codes"], {}, "scorer") == "codes"
    with told(
        "the scorer Identity takes rows in several forms: say by OwnScorer(model, takes=...) which "
        "is meant: 'codes', int64 codes (N, F); 'dict', one dict of columns (N,)"
    ):
        _inspect._only(module, ["codes", "dict"], {}, "scorer")
    with told(
        "the judge max takes rows in none of the forms tried: 'frame' (a pandas frame of the "
        "table's values): no; 'codes' (an array of codes of all categories): never. Other forms "
        "are 'numbers', 'categories', 'text-categories', 'values', 'one-hot': OwnScorer(model, "
        "takes=...)"
    ):
        _inspect._only(frame, [], {"frame": "no", "codes": "never"}, "judge")
    with told(
        "the judge Identity takes rows in none of the forms tried: 'codes' (int64 codes (N, F)): "
        "a; 'one-hot' (flat one-hot rows (N, D)): b; 'channels' (one-hot rows (N, K, F) of "
        "features of one size, as nn.Conv1d takes them): c; 'dict' (one dict of columns (N,)): d; "
        "'arguments' (columns (N,) as arguments of their names): e"
    ):
        every = ("codes", "one-hot", "channels", "dict", "arguments")
        _inspect._only(module, [], dict(zip(every, "abcde", strict=True)), "judge")  # type: ignore[arg-type]


def fitted(**facts: Any) -> OwnScorer:
    return OwnScorer(SimpleNamespace(predict=len, **facts))


@pytest.mark.parametrize(
    ("scorer", "values", "tried"),
    [
        (OwnScorer(max), (0, 1, 3), ["frame"]),
        (OwnScorer(max), ("0", "1", "3"), ["numbers", "frame"]),
        (fitted(), (0, 1, 3), ["frame"]),
        (fitted(n_features_in_=2), (0, 1, 3), ["values", "codes"]),
        (fitted(n_features_in_=2), (0, 1, 2), ["codes"]),
        (fitted(n_features_in_=6), (0, 1, 3), ["one-hot"]),
        (
            fitted(feature_names_in_=["size"], n_features_in_=1),
            (0, 1, 3),
            ["frame", "text-categories", "categories"],
        ),
    ],
)
def test_forms_that_a_model_is_tried_with(
    scorer: OwnScorer, values: tuple[Any, ...], tried: list[str]
) -> None:
    columns = RowColumns(Schema((CUT, Vocabulary("size", values)), (), ""))
    assert _inspect._likely_frames(scorer, columns, "scorer") == tried


def test_a_failure_is_told_in_one_short_line() -> None:
    def fails(text: str) -> Any:
        raise ValueError(text)

    assert _inspect._failed(lambda: [1.0], 1) == ""
    assert _inspect._failed(lambda: fails("one\ntwo"), 1) == "ValueError: one"
    assert _inspect._failed(lambda: fails("x" * 300), 1) == f"ValueError: {'x' * 188}"


# --- scales ---------------------------------------------------------------------------------------


def test_answers_are_scaled_context_by_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two shops with rows enough; in one all have the same answer."""
    monkeypatch.setattr("discrete_grad.fitting.score_scale._MIN_GROUP", 8)
    schema = Schema((CUT, SIZE), (SHOP,), "price")
    codes, shop = schema.space.enumerate().repeat(2, 1), torch.arange(2).repeat_interleave(9)
    context = torch.eye(2)[shop]
    answers = torch.where(shop == 0, 5.0, torch.arange(18.0)).double()
    bound: Any = SimpleNamespace(
        columns=SimpleNamespace(schema=schema), role="the scorer mine", calls=Counter()
    )
    scale = answer_scale(bound, answers, context)
    centre, spread = answers[9:].mean(), answers[9:].std(correction=0)
    whole = answers.std(correction=0)

    class Answers:
        def __call__(self, row: Tensor, given: Tensor | None) -> Tensor:
            return row.sum(-1).double()

    model = ScorerModel(Answers(), schema, scale)  # type: ignore[arg-type]
    asked = model.predictions(codes[8:10], context[[0, 9]])[0]
    expected = [(codes[8].sum() - 5) / whole, (codes[9].sum() - centre) / spread]
    assert asked.tolist() == pytest.approx([float(e) for e in expected], rel=2e-2, abs=2e-2)
    lead = model.predictions(codes[:3].unsqueeze(1), context[[0, 9, 9, 0]].unsqueeze(0))
    assert lead.shape == (1, 3, 4)
    for i in range(3):
        one = model.predictions(codes[i].expand(4, -1), context[[0, 9, 9, 0]])
        assert torch.equal(lead[:, i], one)
    lowered = Schema((CUT, SIZE), (SHOP,), "price", minimised=("price",))
    turned = ScorerModel(Answers(), lowered, scale)  # type: ignore[arg-type]
    low = turned.predictions(codes[9:10], context[9:10])[0]
    assert low.item() == pytest.approx(float((-codes[9].sum() - centre) / spread), rel=2e-2)
    assert model.num_members == 1
    with pytest.raises(TypeError, match="latent"):
        model.to_latent(codes)
    with told("the scorer mine answers 5 for every row of the table: there is nothing to maximise"):
        answer_scale(bound, torch.full((18,), 5.0).double(), context)


def test_without_scales_of_their_own_all_contexts_have_that_of_the_table() -> None:
    answers = torch.arange(4.0).double()
    bound: Any = SimpleNamespace(columns=SimpleNamespace(schema=SCHEMA), role="mine")
    scale = answer_scale(bound, answers, CONTEXT)
    assert isinstance(scale, ScoreScale)
    assert not len(scale.keys)
    model = ScorerModel(lambda row, context: row[:, 0].double(), SCHEMA, scale)  # type: ignore[arg-type]
    mean, spread = answers.mean(), answers.std(correction=0)
    expected = ((CODES[:, 0] - mean) / spread).float()
    torch.testing.assert_close(model.predictions(CODES, CONTEXT)[0], expected, rtol=0, atol=0.05)
    assert model_module.answer_scale is answer_scale


# --- what a fit is given --------------------------------------------------------------------------


def test_the_scores_of_a_table_without_are_the_answers() -> None:
    answers: Any = {"estimator": torch.arange(4.0).double()}
    plain = Table(Schema((CUT, SIZE), (), ""), CODES, torch.zeros(4).double(), None)
    made = _given.scored_table(plain, False, answers)
    assert made.schema.score == "scorer"
    assert made.scores is answers["estimator"]
    assert _given.scored_table(plain, True, answers) is plain
    for names, score in (
        (("scorer", "x"), "scorer's"),
        (("scorer", "scorer's"), "answer of the scorer"),
    ):
        features = tuple(Vocabulary(name, (1, 2, 3)) for name in names)
        taken = Table(Schema(features, (), ""), CODES, torch.zeros(4).double(), None)
        assert _given.scored_table(taken, False, answers).schema.score == score


def test_calls_are_added_to_those_that_were_kept(tmp_path: Path) -> None:
    bound = frames(lambda frame: frame["size"] * 1.0)
    bound.calls["student"] = 5
    scorers = _given.Scorers(
        table(schema=BARE), True, {"estimator": bound}, {"estimator": None}, {}, {"calls": {"a": 2}}
    )
    scorers.begin("generator")
    assert bound.purpose == "generator"
    scorers.save_facts(tmp_path)
    assert json.loads((tmp_path / "scorer.json").read_text()) == {"calls": {"a": 2, "student": 5}}
    assert bound.calls == Counter()
    bound(CODES, None)
    scorers.save_facts(tmp_path)
    assert scorers.facts["calls"] == {"a": 2, "student": 5, "generator": 4}


@pytest.mark.parametrize(
    ("had_scores", "roles", "judge"),
    [
        (True, ("estimator",), "trained"),
        (False, ("estimator",), "none"),
        (True, ("estimator", "judge"), "given"),
        (False, ("estimator", "judge"), "given"),
    ],
)
def test_who_judges(had_scores: bool, roles: tuple[str, ...], judge: str) -> None:
    bound: Any = dict.fromkeys(roles)
    scorers = _given.Scorers(table(schema=BARE), had_scores, bound, {}, {})
    assert _facts._judge(scorers) == judge
    assert scorers.trains_judge is (judge == "trained")


def test_answers_that_a_folder_keeps_are_those_of_its_table(tmp_path: Path) -> None:
    path, fine = tmp_path / ANSWERS, torch.arange(4.0).double()
    save_tensors(path, {"estimator": fine, "judge": fine + 1}, {})
    assert kept_answers(tmp_path, ["estimator"], 4).keys() == {"estimator"}
    kept = kept_answers(tmp_path, ["estimator", "judge"], 4)
    assert (kept["estimator"].tolist(), kept["judge"].tolist()) == ([0, 1, 2, 3], [1, 2, 3, 4])
    for judge in (None, fine[:3], fine.float(), fine.unsqueeze(1)):
        some = {} if judge is None else {"judge": judge.clone()}
        save_tensors(path, {"estimator": fine} | some, {})
        with told(f"{path} does not fit the run's table"):
            kept_answers(tmp_path, ["estimator", "judge"], 4)
    for wrong in (math.nan, math.inf):
        save_tensors(path, {"judge": torch.where(fine == 2, wrong, fine)}, {})
        with told(f"{path} is damaged: judge holds NaN or infinity"):
            kept_answers(tmp_path, ["judge"], 4)


def test_what_a_fit_is_given_instead_of_its_estimators() -> None:
    bare, unscored = table(schema=BARE), Schema((CUT, SIZE), (), "")
    without = Table(unscored, CODES, torch.full((4,), math.nan).double(), None)
    size = OwnScorer(lambda frame: frame["size"] * 1.0, takes="frame")
    cut = OwnScorer(lambda frame: (frame["cut"] == "good") * 1.0, takes="frame")
    assert _given.given_scorers(None, None, bare, CPU) is None
    with told("a judge is given along with a scorer, and there is none"):
        _given.given_scorers(None, cut, bare, CPU)
    with told("the table has no score: name its column, or give a scorer of the rows"):
        _given.given_scorers(None, None, without, CPU)
    made = _given.given_scorers(size, None, without, CPU)
    assert made is not None
    assert (made.had_scores, made.trains_judge, [*made.bound]) == (False, False, ["estimator"])
    assert made.table.scores.tolist() == [0, 3, 1, 3]
    assert made.agreement() is None
    assert made.scorer.calls == Counter({"rows of the table": 4})
    assert made.settings["scorer"]["reference"] is None
    both = _given.given_scorers(size, cut, bare, CPU)
    assert both is not None
    assert (both.had_scores, both.table) == (True, bare)
    assert both.answers["judge"].tolist() == [0, 1, 0, 0]
    assert both.agreement() == pytest.approx(0.632, abs=1e-3)  # of 0, 3, 1, 3 with 0, 1, 2, 3
    assert both.settings["judge"]["takes"] == "frame"

    def flat(frame: Any) -> Any:
        return frame["size"] * 0.0

    level = _given.given_scorers(OwnScorer(flat, takes="frame"), None, bare, CPU)
    assert level is not None
    assert level.agreement() is None
    with pytest.raises(RunError, match=r"flat answers 0 for every row of the table: there is no"):
        _facts.check_scorers(level, FitConfig())
    _facts.check_scorers(both, FitConfig())
    for name, why in (("alignment", "the latents of an est"), ("coverage", "an ensemble of est")):
        config = FitConfig(generator=GeneratorConfig(**{name: 0.5}))
        with pytest.raises(RunError, match=rf"^generator\.{name} needs {why}.*, got 0\.5$"):
            _facts.check_scorers(both, config)
    facts = _facts.scorer_facts(both)
    assert (facts["judge"], facts["rows"], facts["differentiable"]) == ("given", 4, False)
    assert (facts["why_not"], facts["takes"]) == ("it is no torch module", "frame")


def test_answers_may_differ_by_a_thousandth_of_their_spread() -> None:
    kept = torch.tensor([1.0, 3.0, 1.0, 3.0]).double()  # of spread 1
    bound: Any = SimpleNamespace(role="the scorer mine")
    for off in (9e-4, -9e-4):
        compare_answers(bound, kept[:2] + off, kept)
    with told(
        "the scorer mine is not that of the fit: to row 2 of the table it answers 3.002, and "
        "answered 3"
    ):
        compare_answers(bound, kept[:3] + torch.tensor([0.0, 2e-3, 1.0]), kept)


def test_how_a_missing_scorer_is_given() -> None:
    named = _loaded._how_to_give(Path("run"), "judge", "load", "my.module:load")
    assert named == (
        "the judge of run is asked for here, and is imported only when you name it, as its code is "
        "run: --judge my.module:load, in Python load_run(folder, judge='my.module:load')"
    )
    assert _loaded._how_to_give(Path("run"), "scorer", "Net", None) == (
        "the scorer of run, Net, was given as an object: load_run(folder, scorer=...) takes it "
        "again, and --scorer package.module:name one that can be imported"
    )
    given: Any = {"estimator": max, "judge": None}
    with told("run was fitted without a scorer"):
        _loaded.loaded_scorers(Path("run"), None, table(), CPU, given)
    given = {"estimator": None, "judge": None}
    assert _loaded.loaded_scorers(Path("run"), {}, table(), CPU, given) is None


# --- what a generator is trained by ---------------------------------------------------------------


def as_model(bound: BoundScorer) -> ScorerModel:
    answers = torch.arange(4.0).double()
    return ScorerModel(bound, bound.columns.schema, answer_scale(bound, answers, None))


@pytest.mark.parametrize(("samples", "taken"), [(1, 2), (2, 2), (5, 5)])
def test_a_scorer_without_derivative_is_maximised_by_a_method_that_needs_none(
    samples: int, taken: int
) -> None:
    black_box = as_model(frames(lambda frame: frame["size"] * 1.0))
    usual = GeneratorConfig(gradient_estimator="GumbelSoftmax", tau=0.5, samples=samples, steps=7)
    found = fitting_method(usual, black_box)
    assert found == replace(usual, gradient_estimator="LeaveOneOut", tau=None, samples=taken)
    needless = replace(found, samples=3)
    assert fitting_method(needless, black_box) is needless
    module = _inspect.bind(OwnScorer(Weighs(), takes="one-hot"), table(), CPU)
    with_derivative = as_model(module)
    assert module.differentiable
    for model in (with_derivative, MultilinearEstimator(BARE.space)):
        assert fitting_method(usual, model) is usual
        assert fitting_method(needless, model) is needless
    for model, compares in ((black_box, True), (with_derivative, False)):
        work: Any = SimpleNamespace(
            config=SimpleNamespace(generator=usual), models={"estimator": model}
        )
        assert _scorer_stages._compares(work) is compares


def test_generators_are_compared_by_rows_that_obey() -> None:
    asked: list[Tensor] = []

    def scorer(codes: Tensor, context: Tensor | None) -> Tensor:
        asked.append(codes)
        return codes.sum(-1).float()

    work: Any = SimpleNamespace(
        prepared=SimpleNamespace(rows=SimpleNamespace(context=None)),
        config=SimpleNamespace(seed=0),
        device=CPU,
        rules=Rules(BARE.space, [Fix("cut", "good")]),
        models={"estimator": scorer},
    )
    found = _scorer_stages._worth(work, Generator(BARE.space))
    assert (asked[0][:, 0] == 1).all()
    assert found["rows"] == len(asked[0])


def test_steps_are_trained_by_what_can_follow_them() -> None:
    steps = GeneratorConfig(policy="autoregressive", gradient_estimator="LeaveOneOut", samples=3)
    rules = Rules(BARE.space, [Fix("cut", "good")])
    for given in (None, rules):
        method = run_method(BARE.space, steps, given)
        assert isinstance(method, LeaveOneOut)
        assert method.samples == 3
    relaxed = run_method(BARE.space, replace(steps, gradient_estimator="ReinMax"), rules)
    assert isinstance(relaxed, ReinMax)
    with pytest.raises(ValueError, match=r"takes LeaveOneOut or a relaxation, got Reinforce$"):
        run_method(BARE.space, replace(steps, gradient_estimator="Reinforce"), None)
    alone = replace(steps, policy="independent", gradient_estimator="ReinMax")
    assert isinstance(run_method(BARE.space, alone, None), ReinMax)
    assert isinstance(run_method(BARE.space, alone, rules), StraightThrough)


# --- references -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "makes"),
    [
        (lambda: None, True),
        (lambda a=1, *b, **c: None, True),
        (lambda rows: None, False),
        (lambda a=1, *, rows: None, False),
        (nn.Identity, True),  # the class takes any arguments, and none
        (nn.Identity(), False),
        (OwnScorer(max), False),
        (SimpleNamespace(predict=len), False),
        (max, False),  # of which Python knows no arguments
        (3, False),
    ],
)
def test_what_is_called_for_the_model(found: Any, makes: bool) -> None:
    assert reference._makes(found) is makes


def test_the_current_folder_is_imported_from_while_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    with reference._current_folder():
        assert sys.path == [str(tmp_path), "elsewhere"]
    assert sys.path == ["elsewhere"]
    for known in ("", str(tmp_path)):
        monkeypatch.setattr(sys, "path", ["elsewhere", known])
        with reference._current_folder():
            assert sys.path == ["elsewhere", known]
        assert sys.path == ["elsewhere", known]


@pytest.mark.parametrize("given", ["a:b", "a.b.c:d.e", "_a1:_b2"])
def test_references(given: str) -> None:
    reference.check_reference(given)
    reference.check_reference(None)
    for wrong in (f"{given} ", f"1{given}", given.replace(":", "."), f"{given}:c", 3):
        with told(f"the judge must be written package.module:name, got {wrong!r}"):
            reference.check_reference(wrong, "judge")
