"""Fits by a scorer of one's own: whatever kind it is, and whatever it does wrong."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from discrete_grad.data import Table, read_table
from discrete_grad.runs import FitConfig, OwnScorer, Run, fit, generate, load_run, write_report
from discrete_grad.runs.scorers._inspect import bind
from discrete_grad.training import RunError
from tests.runs.small import small_config

CPU = torch.device("cpu")
CUTS, SHADES, SHOPS = ("fair", "good", "ideal"), (0, 1, 2, 3), ("east", "west")
BEST = {"east": ("ideal", 1), "west": ("good", 3)}


def columns(rows: int = 48, *, score: bool = True) -> dict[str, list[Any]]:
    """Every row twice, without a score or with that of `truth` in tens."""
    made: dict[str, list[Any]] = {"cut": [], "shade": [], "shop": [], "dose": []}
    for i in range(rows):
        made["cut"].append(CUTS[i % 3])
        made["shade"].append(SHADES[i // 3 % 4])
        made["shop"].append(SHOPS[i // 12 % 2])
        made["dose"].append(0.1 * (i % 5))
    if score:
        pairs = zip(*made.values(), strict=True)
        made["price"] = [10 * truth(*pair) for pair in pairs]
    return made


def truth(cut: str, shade: int, shop: str, dose: float) -> float:
    """2 for the best row of a shop, 1 for one that shares a feature with it, plus the dose."""
    best = BEST[shop]
    return float((cut == best[0]) + (shade == best[1])) + dose


def table(*, score: bool = True) -> Table:
    """The columns as a table with two contexts."""
    name = "price" if score else None
    context = ["shop:categorical", "dose"]
    return read_table(columns(score=score), score=name, context=context)


class ByName(nn.Module):
    """Embeddings in a ModuleDict, a dict batch, and numbers in the table's units."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"cut": 3, "shade": 4}
        self.tables = nn.ModuleDict({n: nn.Embedding(k, 2) for n, k in sizes.items()})
        with torch.no_grad():
            for name, kind in (("cut", CUTS), ("shade", SHADES)):
                place = ("cut", "shade").index(name)
                likes = [[float(value == BEST[s][place]) for s in SHOPS] for value in kind]
                self.tables[name].weight.copy_(torch.tensor(likes))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        likes = sum(self.tables[name](batch[name]) for name in self.tables)
        here = likes.gather(1, batch["shop"].unsqueeze(1)).squeeze(1)
        return 10 * (here + batch["dose"])


class ByArguments(ByName):
    """The same with columns as arguments, one of which it does not take."""

    def forward(self, shade: Tensor, shop: Tensor, cut: Tensor) -> Tensor:  # type: ignore[override]
        likes = self.tables["cut"](cut) + self.tables["shade"](shade)
        return 10 * likes.gather(1, shop.unsqueeze(1))


class ByCodes(ByName):
    """The same on codes, with the encoded context, in which the shops come first."""

    def forward(self, codes: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        codes = codes.long()
        likes = self.tables["cut"](codes[:, 0]) + self.tables["shade"](codes[:, 1])
        return 10 * (likes * context[:, :2]).sum(-1)


class ByOneHot(nn.Module):
    """The same on flat rows."""

    def __init__(self) -> None:
        super().__init__()
        tables = ByName().tables.values()
        self.likes = nn.Parameter(torch.cat([t.weight for t in tables]).detach().clone())

    def forward(self, rows: Tensor, context: Tensor) -> Tensor:
        return 10 * (rows @ self.likes * context[:, :2]).sum(-1, keepdim=True)


class Compares(ByCodes):
    """A module that looks at the value of a code: nothing can be softened."""

    def forward(self, codes: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        bonus = codes[:, 0] == 2
        return super().forward(codes, context) + bonus


def of_frame(frame: Any) -> list[float]:
    """The truth, of a frame of the table's own values."""
    rows = zip(frame["cut"], frame["shade"], frame["shop"], frame["dose"], strict=True)
    return [10 * truth(*row) for row in rows]


def few(**changes: Any) -> FitConfig:
    """A fit of a second."""
    config = small_config()
    generator = replace(config.generator, steps=120, checkpoint_every=200, **changes)
    quick = {"steps": 20, "checkpoint_every": 200}
    judge, reproduction = replace(config.judge, **quick), replace(config.reproduction, **quick)
    return replace(config, judge=judge, reproduction=reproduction, generator=generator)


def best_rows(run: Run) -> dict[str, tuple[Any, Any]]:
    """Shop -> the most likely row."""
    schema = run.table.schema
    context = schema.encode_context({"shop": SHOPS, "dose": [0.2, 0.2]})
    found = schema.decode_features(schema.space.argmax(run.generator(context)))
    return dict(zip(SHOPS, zip(found["cut"], found["shade"], strict=True), strict=True))


SOFT = {"dict": ByName, "arguments": ByArguments, "codes": ByCodes, "one-hot": ByOneHot}


@pytest.mark.parametrize("takes", SOFT)
def test_the_form_of_a_module_is_found_and_has_a_derivative(takes: str) -> None:
    rows = table()
    bound = bind(OwnScorer(SOFT[takes]()), rows, CPU)
    assert bound.form.takes == takes
    assert bound.differentiable
    space = rows.schema.space
    flat = space.one_hot(rows.codes.long()).requires_grad_()
    soft, hard = bound(flat, rows.context), bound(rows.codes, rows.context)
    torch.testing.assert_close(soft, hard)
    dose = 0 if takes != "dict" else torch.tensor(columns()["dose"])
    expected = torch.tensor(columns()["price"]) - 10 * torch.tensor(columns()["dose"])
    torch.testing.assert_close(hard, expected + 10 * dose)
    assert torch.autograd.grad(soft.sum(), flat)[0].abs().sum() > 0


@pytest.fixture(scope="module")
def by_name(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, ByName]:
    """A fit by a dict model of a table without scores; the model was in training mode."""
    model = ByName().train()
    folder = tmp_path_factory.mktemp("by name") / "run"
    return fit(table(score=False), folder, few(), scorer=model), model


def test_the_generator_finds_what_the_scorer_likes(by_name: tuple[Run, ByName]) -> None:
    run, _ = by_name
    assert best_rows(run) == BEST
    assert not (run.folder / "weights" / "estimator.safetensors").exists()
    assert not run.has_judge
    assert run.table.schema.score == "scorer"
    assert len(run.rows) == len(run.table)  # none is kept for a judge


def test_the_model_itself_stays_as_it_was(by_name: tuple[Run, ByName]) -> None:
    _, model = by_name
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_generated_rows_have_the_scorers_own_answers(by_name: tuple[Run, ByName]) -> None:
    run, _ = by_name
    given = {"shop": ["east"], "dose": [7.0]}
    context = run.table.schema.encode_context(given)
    with pytest.warns(UserWarning, match="dose"):
        written = generate(run, given, context, rows=2, new_only=False)
    assert (written["cut"][0], written["shade"][0]) == BEST["east"]
    # far beyond every score of the table, and yet exact
    assert written["estimated_score"] == pytest.approx([90.0, 80.0])
    assert "judge_score" not in written


def test_the_best_row_comes_first_whatever_the_generator_likes(by_name: tuple[Run, ByName]) -> None:
    run, _ = by_name
    contrary = copy.deepcopy(run.generator)
    last = list(contrary.parameters())[-2:]
    with torch.no_grad():
        for parameter in last:
            parameter.neg_()
    columns_of = {"shop": ["east", "west"], "dose": [0.1, 0.1]}
    contexts = run.table.schema.encode_context(columns_of)
    written = generate(
        replace(run, generator=contrary), columns_of, contexts, rows=4, new_only=False
    )
    scores = written["estimated_score"]
    assert scores[:4] == sorted(scores[:4], reverse=True)
    firsts = zip(written["cut"][::4], written["shade"][::4], strict=True)
    assert dict(zip(SHOPS, firsts, strict=True)) == BEST


def test_the_report_says_who_scores(by_name: tuple[Run, ByName]) -> None:
    run, _ = by_name
    report = write_report(run)
    page = (run.folder / "report.html").read_text()
    assert report["estimator"]["scorer"]["calls"]["generator"] > 0
    assert "There is no judge" in page
    assert "no estimator was trained" in page
    entries = {entry["name"]: entry for entry in report["average"]}
    assert entries["generator, most likely row"]["judged"] is None


def test_a_run_is_loaded_with_its_scorer_alone(by_name: tuple[Run, ByName]) -> None:
    run, model = by_name
    again = load_run(run.folder, scorer=model)
    assert best_rows(again) == BEST
    assert again.scorer_facts["calls"] == run.scorer_facts["calls"]
    assert again.has_judge is run.has_judge
    other = ByName()
    with torch.no_grad():
        other.tables["cut"].weight[0] += 1
    with pytest.raises(RunError, match=r"is not that of the fit: to row 1 of the table"):
        load_run(run.folder, scorer=other)


def test_calls_are_the_rows_that_the_scorer_saw(tmp_path: Path) -> None:
    seen = []

    def counts(frame: Any) -> list[float]:
        seen.append(len(frame))
        return of_frame(frame)

    run = fit(table(), tmp_path / "run", few(gradient_estimator="LeaveOneOut"), scorer=counts)
    tried = 48  # to find the form out
    assert sum(run.scorer_facts["calls"].values()) == sum(seen) - tried
    assert run.scorer_facts["judge"] == "trained"
    assert best_rows(run) == BEST
    assert "comparison" not in run.scorer_facts
    assert run.scorer_facts["agreement"] == pytest.approx(1.0)
