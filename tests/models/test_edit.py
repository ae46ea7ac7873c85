"""Edits of rows, against lists of all rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from discrete_grad import CategoricalSpace, edit, on_codes
from discrete_grad.models import Edits, Estimator, LeafEnsemble
from discrete_grad.models.editing import Worth
from discrete_grad.reporting import edit_history_plot, edits_plot
from discrete_grad.rules import Exactly, Fix, Forbid, Rules
from discrete_grad.sampling import isolated_seed

SPACE = CategoricalSpace({"a": ["x", "y"], "b": 3, "c": 2, "d": 3})
ROWS = SPACE.enumerate()


def linear(seed: int, outputs: int = 1) -> nn.Linear:
    with isolated_seed(seed):
        return nn.Linear(SPACE.width, outputs, bias=False).double().requires_grad_(False)


def flat(codes: Tensor) -> Tensor:
    return SPACE.one_hot(codes, dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), most=st.integers(0, 4), price=st.sampled_from([0.0, 0.2]))
def test_of_an_additive_model_it_finds_the_best_edits_of_all(
    seed: int, most: int, price: float
) -> None:
    model, start = linear(seed), ROWS[[seed % len(ROWS)]]
    found = edit(model, start, space=SPACE, edits=most, edit_price=price, fixed=["c"])
    changes = (ROWS != start).sum(1)
    worth = model(flat(ROWS)).squeeze(1)
    fine = (changes <= most) & (ROWS[:, 2] == start[0, 2])
    best = (worth - price * changes).masked_fill(~fine, -torch.inf).max()
    torch.testing.assert_close(found.after[0] - price * found.changed.sum(), best)
    assert found.changed.sum() <= most
    # the gains of an additive model add up, and what is lost is what was gained
    torch.testing.assert_close(found.alone.sum(1), found.after - found.before)
    torch.testing.assert_close(found.alone, found.back)
    assert (found.back >= price - 1e-12)[found.changed].all()
    assert torch.equal(found.pruned, found.codes)


def test_what_a_row_is_worth() -> None:
    first, second = linear(0, 2), linear(1)
    models: list[Any] = [first, lambda row: second(row).squeeze(1)]
    start = ROWS[[7]]
    outputs = torch.cat([first(flat(ROWS)), second(flat(ROWS))], 1)

    def best(**options: Any) -> float:
        return float(edit(models, start, space=SPACE, restarts=20, **options).after)

    assert best() == pytest.approx(float(outputs.mean(1).max()))
    weights = torch.tensor([1.0, 0.0, -2.0]).double()
    assert best(weights=(1, 0, -2)) == pytest.approx(float((outputs @ weights).max()))
    target = outputs[20]
    assert best(target=target.tolist()) == pytest.approx(0)
    error = (outputs - 0.3).square()
    assert best(target=0.3) == pytest.approx(-float(error.mean(1).min()))
    error = error @ weights.abs()
    assert best(target=0.3, weights=(1, 0, 2)) == pytest.approx(-float(error.min()))


def either(row: Tensor) -> Tensor:
    """Worth of y, or of b=2, whichever there is; and a little of d=2."""
    return torch.maximum(row[:, 1], row[:, 4]) + 0.1 * row[:, 9]


def test_changes_that_do_not_matter_are_taken_back() -> None:
    start, after = torch.tensor([[0, 0, 0, 0]]), torch.tensor([1, 2, 0, 2])
    black_box = on_codes(SPACE, lambda codes: 1.0 * (codes == after).all(-1))
    # a needle: only all three changes together are worth anything
    found = edit(black_box, start, space=SPACE, restarts=200, seed=3)
    assert torch.equal(found.codes[0], after)
    assert found.alone.tolist() == [[0, 0, 0, 0]]
    assert found.back.tolist() == [[1, 1, 0, 1]]
    assert torch.equal(found.pruned, found.codes)
    rules = Rules(SPACE, [Fix("a", "y"), Fix("b", 2)])
    found = edit(either, start, space=SPACE, rules=rules)
    assert torch.equal(found.codes[0], after)
    assert torch.equal(found.pruned, found.codes)  # the rules want both
    found = edit(either, start, space=SPACE, target=0.0, rules=rules, edits=2)
    assert found.words(0) == ("a: x -> y", "b: 0 -> 2")
    free = edit([either, lambda row: row[:, 4]], start, space=SPACE, weights=(1, 1e-9))
    assert free.needed.sum() <= free.changed.sum()
    loose = edit(either, start, space=SPACE, tolerance=0.2)
    assert loose.codes[0, 3] == 2
    assert loose.pruned[0, 3] == 0
    torch.testing.assert_close(loose.after - loose.kept, torch.tensor([0.1]).double())


def test_pruning_takes_back_one_of_two_that_say_the_same() -> None:
    """Both changes are worth nothing once the other is there, yet one must stay."""
    space = CategoricalSpace.from_sizes((2, 2, 2))

    def f(row: Tensor) -> Tensor:
        one, two, three = row[:, 1], row[:, 3], row[:, 5]
        return torch.maximum(one, two) + 3 * one * two * three - 2 * three * (1 - one * two)

    start = torch.zeros(1, 3).long()
    rules = Rules(space, [Fix("x0", 1), Fix("x1", 1), Fix("x2", 0)])
    found = edit(f, start, space=space, rules=rules)
    assert found.back.tolist() == [[0, 0, 0]]
    assert found.needed.sum() == 2  # the rules
    found = edit(f, start, space=space, edits=2)
    assert found.after == 1
    assert found.needed.sum() == 1


def test_unknown_places_are_filled_in_at_no_price() -> None:
    start = torch.tensor([[0, -1, 0, -1], [1, 2, 1, 0]])
    model = linear(5)
    found = edit(model, start, space=SPACE, edit_price=100.0)
    worth = model(flat(ROWS)).squeeze(1)
    kept = (ROWS[:, 0] == 0) & (ROWS[:, 2] == 0)
    assert torch.equal(found.codes[0], ROWS[worth.masked_fill(~kept, -9).argmax()])
    assert not found.changed.any()
    assert torch.equal(found.start[1], start[1])
    rules = Rules(SPACE, [Forbid({"b": [1, 2], "d": [1, 2]})])
    found = edit(model, start, space=SPACE, edits=0, rules=rules, restarts=9)
    kept &= rules.allows(ROWS)
    assert torch.equal(found.codes[0], ROWS[worth.masked_fill(~kept, -9).argmax()])


def test_unknown_places_are_not_filled_with_what_must_not_be_written() -> None:
    model, start = linear(5), torch.tensor([[0, -1, 0, -1]])
    price = torch.zeros(SPACE.width).double()
    best = edit(model, start, space=SPACE, edits=0).codes
    price[SPACE.columns(best)[0, [1, 3]]] = torch.inf
    found = edit(model, start, space=SPACE, edit_price=price, edits=0, evaluations=1)
    worth = model(flat(ROWS)).squeeze(1)
    kept = (ROWS[:, [0, 2]] == 0).all(1) & (ROWS[:, [1, 3]] != best[0, [1, 3]]).all(1)
    assert torch.equal(found.codes[0], ROWS[worth.masked_fill(~kept, -9).argmax()])


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_rules_are_obeyed_by_what_is_pruned_too(seed: int) -> None:
    rules = Rules(SPACE, [Exactly(2, {"a": "y", "b": 1, "c": 1, "d": 1})])
    with isolated_seed(seed):
        estimator = Estimator(SPACE, hidden=(8,)).eval()
    start = ROWS[torch.tensor([seed % 36, (7 * seed) % 36])]
    found = edit(estimator, start, rules=rules, edits=4, tolerance=1.0)
    assert rules.allows(found.codes).all()
    assert rules.allows(found.pruned).all()
    assert (found.after - found.kept <= 1 + 1e-9).all()


def test_prices_by_name_and_of_contexts() -> None:
    model = linear(2)
    gains = model.weight[0].split(list(SPACE.sizes))
    start = torch.zeros(2, 4).long()
    best = [int(part.argmax()) for part in gains]
    prices = {"a": 100.0, "b": 0.0}
    found = edit(model, start, space=SPACE, edit_price=prices)
    assert found.codes[0].tolist() == [0, *best[1:]]
    sign = torch.tensor([[1.0], [-1.0]]).double()
    found = edit(
        lambda row, context: model(row.double()).squeeze(1) * context[:, 0],
        start,
        sign,
        space=SPACE,
        fixed=torch.tensor([True, False, False, True]),
        edit_price=torch.zeros(SPACE.width),
    )
    worst = [int(part.argmin()) for part in gains]
    assert found.codes.tolist() == [[0, *best[1:3], 0], [0, *worst[1:3], 0]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fixed": ["e"]}, "there is no feature 'e'"),
        ({"edit_price": {"e": 1.0}}, "there is no feature 'e'"),
        ({"fixed": torch.tensor([1, 0])}, r"fixed must be booleans \(4,\)"),
        ({"target": (1.0, 2.0)}, "target must be one for each of 1 outputs"),
        ({"target": float("nan")}, "target must be finite"),
        ({"weights": (1.0, 2.0)}, "weights must be one for each of 1 outputs"),
        ({"tolerance": -1.0}, "tolerance must be from 0 on"),
        ({"edit_price": -1.0}, "edit_price must be from 0 on"),
        ({"edit_price": {"a": -1.0}}, "edit_price must be from 0 on, and no NaN, got -1"),
        ({"edit_price": torch.zeros(3)}, r"edit_price must be a number, \(D,\) or \(N, D\), with"),
    ],
)
def test_what_it_refuses(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        edit(linear(0), ROWS, space=SPACE, **options)


def test_worths_of_any_number_of_rows_are_wide() -> None:
    for count in (0, 2):
        found = edit(linear(0).float(), ROWS[:count], space=SPACE)
        assert {found.before.dtype, found.after.dtype, found.kept.dtype} == {torch.float64}
        assert len(found.before) == count


def test_rows_asked_about_in_parts_keep_their_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sign = linear(2), torch.tensor([[1.0], [-1.0], [2.0]]).double()

    def ask() -> Edits:
        return edit(
            lambda row, context: model(row.double()).squeeze(1) * context[:, 0],
            ROWS[[0, 9, 35]],
            sign,
            space=SPACE,
        )

    whole = ask()
    monkeypatch.setattr("discrete_grad.models._row_values._ROWS", 2)
    parts = ask()
    for name in ("codes", "before", "after", "alone", "back", "kept"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))


def test_rows_and_models_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="edit needs a model"):
        edit([], ROWS, space=SPACE)
    with pytest.raises(ValueError, match="codes"):
        edit(linear(0), ROWS - 2, space=SPACE)
    with pytest.raises(ValueError, match=r"a model must give \(36,\) or \(36, L\)"):
        edit(lambda row: row.sum(), ROWS, space=SPACE)


def test_plots_show_every_row_and_change() -> None:
    pytest.importorskip("matplotlib")
    found = edit(linear(3), ROWS[:3], space=SPACE)
    assert isinstance(found, Edits)
    assert "row 3" in edit_history_plot(found)
    drawn = edits_plot(found, 1)
    assert found.words(1)
    for text in found.words(1):
        assert text.replace(">", "&gt;") in drawn
    some = found.at(torch.tensor([2, 0]))
    assert torch.equal(some.codes, found.codes[[2, 0]])
    assert torch.equal(some.history[1], found.history[0])


def test_models_that_read_codes_are_asked_for_codes() -> None:
    model = LeafEnsemble(SPACE, torch.ones(SPACE.width, 1).bool(), torch.ones(1))
    linear = lambda row: row.sum(-1)  # noqa: E731
    for models, codes in (((model,), True), ((linear,), False), ((model, linear), False)):
        assert Worth(models, SPACE, None, None).takes_codes is codes
    with pytest.raises(ValueError, match="edit needs a model, got none"):
        Worth((), SPACE, None, None)
