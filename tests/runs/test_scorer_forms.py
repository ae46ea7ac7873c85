"""The forms in which scorers take rows, and what is said of those that answer badly."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from torch import Tensor, nn
from xgboost import XGBRegressor

from discrete_grad.data import Table, read_table
from discrete_grad.runs import OwnScorer
from discrete_grad.runs.scorers._bound import BoundScorer
from discrete_grad.runs.scorers._columns import RowColumns
from discrete_grad.runs.scorers._inspect import bind
from discrete_grad.runs.scorers._model import ScorerModel, answer_scale
from discrete_grad.runs.scorers._reference import imported
from discrete_grad.training import RunError

CPU = torch.device("cpu")


def frame(rows: int = 48) -> pd.DataFrame:
    """Text, whole numbers with a gap, a numeric context, and a score that they explain."""
    places = np.arange(rows)
    made = pd.DataFrame(
        {
            "cut": np.array(["fair", "good", "ideal"])[places % 3],
            "size": np.array([0, 1, 3, 7])[places // 3 % 4],
            "dose": np.array([0.1, 2020.0, 5.0, 0.3])[places // 12 % 4],
        }
    )
    made["price"] = made["cut"].str.len() + made["size"] + made["dose"] / 1000
    return made


@pytest.fixture(scope="module")
def table() -> Table:
    return read_table(frame(), score="price", context=["dose"])


def bound(scorer: Any, table: Table) -> BoundScorer:
    return bind(scorer if isinstance(scorer, OwnScorer) else OwnScorer(scorer), table, CPU)


def answers(scorer: BoundScorer, table: Table) -> Tensor:
    return scorer(table.codes, table.context)


def test_a_frame_has_the_values_of_the_table_to_the_last_digit(table: Table) -> None:
    columns = RowColumns(table.schema)
    given = columns.frame(table.codes.long(), table.context)
    pd.testing.assert_frame_equal(given, frame()[["cut", "size", "dose"]], check_dtype=False)
    assert given["dose"].unique().tolist() == [0.1, 2020.0, 5.0, 0.3]


def test_missing_values_are_no_categories_of_a_frame() -> None:
    cells = {"cut": ["fair", None, "ideal", None], "size": [1, 2, 3, 1], "price": [1.0, 2, 3, 4]}
    table = read_table(cells, score="price", missing="category")
    columns = RowColumns(table.schema)
    for form in ("categories", "text-categories"):
        cut = columns.frame(table.codes.long(), None, form)["cut"]
        assert [*cut.cat.categories] == ["fair", "ideal"]
        assert cut.cat.codes.tolist() == [0, -1, 1, -1]
    given = columns.frame(table.codes.long(), None, "frame")["cut"]
    assert given.isna().tolist() == [False, True] * 2


def test_written_numbers_are_numbers_and_a_bin_is_its_middle(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    made = frame(200).assign(code=["007", "1"] * 100, dose=np.arange(200) / 8)
    made.drop(columns="price").to_csv(path, index=False)
    written = read_table(path, score=None)
    columns = RowColumns(written.schema)
    codes = written.codes.long()
    assert columns.frame(codes, None)["size"].tolist()[:4] == ["0", "0", "0", "1"]
    given = columns.frame(codes, None, "numbers")
    assert given["size"].tolist()[:4] == [0, 0, 0, 1]
    assert set(given["code"]) == {"007", "1"}
    edges = written.schema.features[2].edges
    assert given["dose"].nunique() == len(edges) - 1
    assert (given["dose"] - made["dose"]).abs().max() <= max(np.diff(edges))
    # to add 1 is to mean numbers
    assert bound(lambda rows: rows["size"] + 1, written).form.takes == "numbers"
    assert bound(lambda rows: rows["dose"] + 1, written).form.takes == "numbers"
    with pytest.raises(RunError, match=r"in several forms: .*'numbers'.*'frame'"):
        bound(lambda rows: (rows["size"] == "7") * 1.0 + (rows["size"] == 1), written)


def transformed() -> Any:
    encode = make_column_transformer((OneHotEncoder(), ["cut"]), remainder="passthrough")
    return make_pipeline(encode, LinearRegression())


def categories(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.astype({"cut": "category", "size": "category"})


def test_fitted_models_of_every_form_answer_as_they_do_to_their_own_rows(table: Table) -> None:
    rows = frame()
    given = rows[["dose", "cut", "size"]]
    codes = np.column_stack([table.codes, rows["dose"]])
    values = np.column_stack([table.codes[:, 0], rows[["size", "dose"]]])
    hot = np.column_stack([table.schema.space.one_hot(table.codes.long()), rows["dose"]])
    trees = XGBRegressor(n_estimators=5, enable_categorical=True, n_jobs=1)
    texts = given.astype({"cut": "category"})
    models = {
        "frame": (transformed(), given),
        "categories": (trees, categories(given)),
        "text-categories": (clone(trees), texts),
        "one-hot": (LinearRegression(), hot),
    }
    for takes, (model, inputs) in models.items():
        model.fit(inputs, rows["price"])
        found = bound(model, table)
        assert (found.form.takes, found.differentiable) == (takes, False)
        expected = torch.from_numpy(np.asarray(model.predict(inputs), dtype=np.float64))
        torch.testing.assert_close(answers(found, table), expected)
    for takes, inputs in {"codes": codes, "values": values}.items():
        linear = LinearRegression().fit(inputs, rows["price"])
        with pytest.raises(RunError, match=r"takes rows in several forms: .*'values', .*'codes'"):
            bound(linear, table)
        found = bound(OwnScorer(linear, takes=takes), table)
        torch.testing.assert_close(answers(found, table), torch.from_numpy(linear.predict(inputs)))


def test_trees_of_a_frame_of_codes_may_mean_categories_or_text_alone(table: Table) -> None:
    rows = frame()
    coded = categories(rows[["cut", "size", "dose"]])
    for name in ("cut", "size"):
        coded[name] = coded[name].cat.codes
    trees = XGBRegressor(n_estimators=5, n_jobs=1).fit(coded, rows["price"])
    with pytest.raises(RunError, match=r"several forms: .*'text-categories', .*'categories', "):
        bound(trees, table)
    found = bound(OwnScorer(trees, takes="categories"), table)
    expected = torch.from_numpy(trees.predict(coded).astype(np.float64))
    torch.testing.assert_close(answers(found, table), expected)


def test_an_array_of_numbers_with_gaps_may_be_values_or_codes() -> None:
    rows = frame()[["size", "dose"]]
    numbers = read_table(rows, score=None, context=["dose"])
    linear = LinearRegression().fit(rows.to_numpy(), rows["size"])
    with pytest.raises(RunError, match=r"takes rows in several forms: .*'values', .*'codes', an"):
        bound(linear, numbers)
    said = bound(OwnScorer(linear, takes="values"), numbers)
    expected = torch.from_numpy(rows["size"].to_numpy(dtype=float))
    torch.testing.assert_close(answers(said, numbers), expected)


class LooksUp(nn.Module):
    """Embeddings by names; size is looked up by the number itself."""

    def __init__(self, sizes: int = 8) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({"cut": nn.Embedding(3, 1), "size": nn.Embedding(sizes, 1)})

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return sum(self.tables[name](batch[name]) for name in self.tables).squeeze(-1)


class LooksUpCodes(LooksUp):
    def forward(self, codes: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward({"cut": codes[:, 0], "size": codes[:, 1]})


@pytest.mark.parametrize("kind", [LooksUp, LooksUpCodes])
def test_whole_numbers_with_gaps_are_themselves_to_a_module(
    kind: type[LooksUp], table: Table
) -> None:
    model = kind().double()
    found = bound(model, table)
    assert found.differentiable
    numbers = torch.tensor(frame()["size"].tolist())
    tables = model.tables
    expected = (tables["cut"](table.codes[:, 0].long()) + tables["size"](numbers)).squeeze(-1)
    torch.testing.assert_close(answers(found, table), expected.detach())
    flat = table.schema.space.one_hot(table.codes.long()).requires_grad_()
    torch.testing.assert_close(found(flat, table.context).double(), expected.detach())
    # one with as many entries as there are categories knows them by their places
    places = bound(kind(sizes=4), table)
    assert answers(places, table).isfinite().all()


def test_noise_of_training_is_off_whatever_the_mode_of_the_model(table: Table) -> None:
    class Noisy(LooksUp):
        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return nn.functional.dropout(super().forward(batch), 0.5, self.training)

    model = Noisy().train()
    found = bound(model, table)
    once, again = (answers(found, table) for _ in range(2))
    assert torch.equal(once, again)
    assert (once != 0).all()
    with torch.no_grad():  # what becomes of the model later changes nothing
        model.tables["cut"].weight.zero_()
    assert torch.equal(answers(found, table), once)


class Convolves(nn.Module):
    """A front of one-hots with channels first, as models of DNA have it."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(4, 3, 2)

    def forward(self, rows: Tensor) -> Tensor:
        return self.front(rows).relu().mean((1, 2))


def test_channels_are_found_and_have_a_derivative() -> None:
    bases = {f"p{i}": ["A", "C", "G", "T"] * 3 for i in range(5)}
    dna = read_table(bases, score=None)
    found = bound(Convolves(), dna)
    assert (found.form.takes, found.differentiable) == ("channels", True)
    hot = nn.functional.one_hot(dna.codes.long(), 4).float().mT
    with torch.no_grad():
        torch.testing.assert_close(answers(found, dna), found.form.model(hot))


class Either(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return rows.float().sum(-1)


class EitherInContext(Either):
    def forward(self, rows: Tensor, context: Tensor) -> Tensor:
        return super().forward(rows) + context.sum(-1)


class Optional(nn.Module):
    """Takes codes, and a context where it is given one."""

    def forward(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        assert not codes.is_floating_point()
        return codes.double().sum(-1) + (0 if context is None else 100 + context.double().sum(-1))


def test_a_module_that_can_do_without_contexts_is_given_them(table: Table) -> None:
    assert table.context is not None
    found = bound(OwnScorer(Optional(), takes="codes"), table)
    sizes = torch.tensor([0.0, 1.0, 3.0, 7.0])[table.codes[:, 1].long()]
    expected = 100 + table.codes[:, 0] + sizes.double() + table.context.double().sum(-1)
    torch.testing.assert_close(answers(found, table), expected)


def test_a_scorer_is_asked_for_own_rows_as_for_others(table: Table) -> None:
    found = bound(OwnScorer(Optional(), takes="codes"), table)
    scale = answer_scale(found, answers(found, table), table.context)
    model, codes = ScorerModel(found, table.schema, scale), table.codes[:5].long()
    assert table.context is not None
    context = table.context[:5]
    own = model.predictions(codes.unsqueeze(0), context.unsqueeze(0), own_rows=True)
    assert own.shape == (1, 5)
    assert torch.equal(own, model.predictions(codes, context))


def test_a_form_that_is_not_unambiguous_is_asked_for(table: Table) -> None:
    for either in (Either(), EitherInContext()):
        with pytest.raises(RunError, match=r"forms: say by OwnScorer.*'codes', int64 codes"):
            bound(either, table)
        assert bound(OwnScorer(either, takes="one-hot"), table).form.takes == "one-hot"
    with pytest.raises(RunError, match=r"in none of the forms tried: 'dict' .*: TypeError"):
        bound(nn.Identity(), table)
    with pytest.raises(RunError, match=r"LogisticRegression is a classifier, .*predict_proba"):
        bound(LogisticRegression(), table)
    with pytest.raises(RunError, match="was fitted to a column 'weight', which is no feature"):
        bound(LinearRegression().fit(pd.DataFrame({"weight": [1, 2]}), [1, 2]), table)
    with pytest.raises(RunError, match="was fitted to 9 columns: rows have 3 as codes or values"):
        bound(LinearRegression().fit(np.ones((3, 9)), [1, 2, 3]), table)


def bad(rows: pd.DataFrame, answer: Any) -> Any:
    """Good answers to the trial, and a bad one to the row that nobody has tried."""
    if not ((rows["size"] == 7) & (rows["cut"] == "good")).any() or len(rows) > 40:
        return np.ones(len(rows))
    return answer(len(rows))


def raises(count: int) -> Any:
    raise KeyError("no such row")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda n: np.r_[np.nan, np.ones(n - 2), np.inf],
            r"must answer finite numbers, got nan for the",
        ),
        (lambda n: np.ones((n, 2)), r"2 rows by one number each, \(2,\) or \(2, 1\), got \(2, 2\)"),
        (lambda n: ["good"] * n, "it must answer numbers, got list of <U4"),
        (raises, "KeyError: 'no such row'"),
    ],
)
def test_a_bad_answer_is_told_with_its_row(answer: Any, message: str, table: Table) -> None:
    found = bound(lambda rows: bad(rows, answer), table)
    good, worst = torch.tensor([[0, 0]]), torch.tensor([[1, 3]])
    assert found(good, table.context[:1]).tolist() == [1.0]
    with pytest.raises(RunError, match=message) as told:
        found(torch.cat([worst, good]), table.context[:2])
    assert "(cut=good, size=7)" in str(told.value)


def test_no_rows_are_not_asked_about(table: Table) -> None:
    def refuses_none(rows: pd.DataFrame) -> Any:
        assert len(rows)
        return rows["size"] * 1.0

    found = bound(refuses_none, table)
    scale = answer_scale(found, answers(found, table), table.context)
    estimator = ScorerModel(found, table.schema, scale)
    assert estimator(table.codes[:0], table.context[:0]).shape == (0,)


def test_many_rows_are_asked_a_part_at_a_time(table: Table) -> None:
    seen: list[int] = []

    def counts(rows: pd.DataFrame) -> Any:
        seen.append(len(rows))
        return rows["size"] * 1.0

    found = bound(counts, table)
    seen.clear()
    assert len(found(torch.zeros(40_000, 2).long(), table.context[:1].expand(40_000, -1))) == 40_000
    assert max(seen) <= 2**14
    assert sum(seen) == sum(found.calls.values()) == 40_000


MODULE = """
import torch
class Best:
    def predict(self, rows): return rows["size"]
    class Inner:
        @staticmethod
        def make(): return best
best = Best()
def load(): return best
def broken(): return 1 / 0
def worth(rows): return rows["size"]
nothing = 3
"""


def test_references_are_imported_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_scorers.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    for name in ("best", "load", "Best", "Best.Inner.make"):
        assert type(imported(f"my_scorers:{name}", "scorer").model).__name__ == "Best"
    assert imported("my_scorers:worth", "scorer").name == "worth"
    assert sys.path == before
    for reference, message in {
        "my_scorers:absent": "AttributeError",
        "my_scorers:broken": "ZeroDivisionError: division by zero",
        "my_scorers:nothing": "a scorer is a torch module, a model with predict or a function",
        "no_such_module:load": f"cannot be imported in {tmp_path}: ModuleNotFoundError",
        "my_scorers": "must be written package.module:name, got 'my_scorers'",
    }.items():
        with pytest.raises(RunError, match=message):
            imported(reference, "scorer")
    del sys.modules["my_scorers"]
