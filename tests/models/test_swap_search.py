"""Search by swaps, against searches that look at every row."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from discrete_grad import CategoricalSpace
from discrete_grad.gradient import on_codes
from discrete_grad.models import Estimator, swap_search
from discrete_grad.rules import AtMost, Exactly, Fix, Forbid, OneOf, Rules, When, Within
from discrete_grad.sampling import isolated_seed, random_codes, seeded

SPACE = CategoricalSpace.from_sizes((2, 3, 1, 4))
SEEDS = st.integers(0, 2**31)


def table_score(seed: int) -> Callable[[Tensor], Tensor]:
    values = torch.randn(SPACE.num_rows, generator=seeded(seed), dtype=torch.float64)
    strides = torch.tensor([12, 4, 4, 1])
    return lambda codes: values[(codes * strides).sum(-1)]


def network(space: CategoricalSpace, seed: int) -> nn.Module:
    """A function of flat rows whose gradient is far from exact."""
    with isolated_seed(seed):
        layers = nn.Linear(space.width, 8), nn.Tanh(), nn.Linear(8, 1)
        network = nn.Sequential(*layers, nn.Flatten(0)).double().requires_grad_(False)
    layers[0].weight.mul_(8)
    return network


class Asked(nn.Module):
    """A function that keeps all rows it is asked for; a gradient is asked at a flat row."""

    def __init__(self, f: Callable[[Tensor], Tensor], space: CategoricalSpace) -> None:
        super().__init__()
        self.f, self.space = f, space
        self.rows: list[Tensor] = []
        self.slopes: list[Tensor] = []

    def forward(self, rows: Tensor) -> Tensor:
        (self.slopes if rows.requires_grad else self.rows).append(self.space.argmax(rows.detach()))
        return self.f(rows)


def slow_ascent(score: Callable[[Tensor], Tensor], row: Tensor) -> Tensor:
    while True:
        swaps = SPACE.swaps(row)
        best = swaps[score(swaps).argmax()]
        if not score(best[None]) > score(row[None]):
            return row
        row = best


@settings(deadline=None)
@given(seed=SEEDS)
def test_without_a_gradient_it_makes_the_best_swap_each_time(seed: int) -> None:
    score, rows = table_score(seed), SPACE.enumerate()
    slow = torch.stack([slow_ascent(score, row) for row in rows])
    found = swap_search(on_codes(SPACE, score), rows, space=SPACE)
    assert torch.equal(found.codes, slow)
    assert torch.equal(found.values, score(slow))


@settings(deadline=None)
@given(seed=SEEDS, top=st.integers(1, 5), price=st.sampled_from([0.0, 0.1, 0.5]))
def test_it_ends_where_no_swap_is_better_and_asks_for_no_row_twice(
    seed: int, top: int, price: float
) -> None:
    space = CategoricalSpace.from_sizes((3, 1, 4, 2, 3))
    asked = Asked(network(space, seed % 100), space)
    start = random_codes(space, 3, generator=seeded(seed))
    found = swap_search(
        asked, start, space=space, top=top, patience=None, price=price, restarts=seed % 2
    )

    def worth(codes: Tensor) -> Tensor:
        edits = (codes != start.view(3, *[1] * (codes.dim() - 2), 5)).sum(-1)
        return (
            asked.f(space.one_hot(codes, dtype=torch.float64).flatten(0, -2)).view(codes.shape[:-1])
            - price * edits
        )

    torch.testing.assert_close(found.values, worth(found.codes))
    assert (found.values >= worth(start)).all()
    rows = torch.cat(asked.rows)
    assert len(rows.unique(dim=0)) == len(rows)
    assert int(found.evaluations.sum()) == len(rows) + len(torch.cat(asked.slopes))
    if not seed % 2:  # of a climb without restarts the end is the best
        swaps = worth(space.swaps(found.codes))
        assert (swaps <= found.values.unsqueeze(1) + 1e-12).all()


def test_restarts_find_what_one_climb_does_not() -> None:
    values = torch.full((27,), -9.0)
    values[[0, 13, 26]] = torch.tensor([1.0, 2.0, 3.0])  # 000, 111, 222: peaks of their own
    space = CategoricalSpace.from_sizes((3, 3, 3))
    f = on_codes(space, lambda codes: values[space.row_number(codes)])
    start = torch.zeros(1, 3).long()
    assert swap_search(f, start, space=space).values == 1
    found = swap_search(f, start, space=space, restarts=40)
    assert found.values == 3
    assert found.codes.tolist() == [[2, 2, 2]]
    assert found.history[0][:, 1].tolist() in ([1, 3], [1, 2, 3])
    assert int(found.evaluations) <= 27


def test_every_restart_begins_near_the_best_row_known() -> None:
    """Nothing is gained anywhere, so that climbs end where they begin: 3 swaps from the best."""
    space = CategoricalSpace.from_sizes((2,) * 16)
    start = torch.zeros(1, 16).long()
    asked = Asked(lambda rows: 1.0 * (space.argmax(rows) == 0).all(-1), space)
    swap_search(asked, start, space=space, top=None, patience=None, restarts=8)
    distances = torch.cat(asked.rows).sum(-1)
    assert distances.max() == 4  # and a swap beside it


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS)
def test_rules_and_edits_are_never_broken_and_pairs_cross(seed: int) -> None:
    """Of a linear function the best row is found, as the law of the rules knows it."""
    space = CategoricalSpace.from_sizes((2, 2, 2, 2, 3))
    cells = {f"x{i}": 1 for i in range(4)}
    rules = Rules(space, [Exactly(2, cells), Forbid({"x0": 1, "x4": 2})])
    weights = torch.randn(space.width, generator=seeded(seed), dtype=torch.float64)
    asked = Asked(lambda row: row.double() @ weights, space)
    start = rules.enumerate()[[seed % rules.num_rows]]
    found = swap_search(asked, start, space=space, rules=rules, edits=3, top=4)
    seen = torch.cat(asked.rows)
    assert rules.allows(seen).all()
    assert ((seen != start).sum(-1) <= 3).all()
    within = Rules(space, [*rules.rules, Within(start[0], 3)]).enumerate()
    swaps = space.swaps(found.codes[0])
    near = torch.cat([swaps, space.swaps(swaps).flatten(0, 1)])
    near = near[(near.unsqueeze(1) == within).all(-1).any(1)]
    # every allowed row within two swaps is no better
    best = (space.one_hot(near, dtype=torch.float64) @ weights).max()
    assert best <= found.values[0] + 1e-12


def test_a_start_that_breaks_the_rules_is_mended_and_edits_count_from_it() -> None:
    rules = Rules(SPACE, [Fix("x0", 1), OneOf("x3", [2, 3])])
    start = torch.tensor([[0, 1, 0, 0]])
    f = on_codes(SPACE, lambda codes: 1.0 * codes.sum(-1))
    found = swap_search(f, start, space=SPACE, rules=rules, price=0.25)
    assert found.codes.tolist() == [[1, 2, 0, 3]]
    assert found.values.tolist() == [6 - 0.75]
    found = swap_search(f, start, space=SPACE, rules=rules, edits=2)
    assert found.codes.tolist() == [[1, 1, 0, 3]]
    with pytest.raises(ValueError, match="the nearest row that obeys is 2 edits away"):
        swap_search(f, start, space=SPACE, rules=rules, edits=1)


def test_prices_forbid_and_unknown_places_are_free() -> None:
    f = on_codes(SPACE, lambda codes: 1.0 * codes.sum(-1))
    rows = torch.zeros(1, 4).long()
    price = torch.tensor([0, 0.5, 0, 0.9, torch.inf, 0, 0, 0.1, 2.5, 2.5])
    found = swap_search(f, rows, space=SPACE, price=price)
    assert found.codes.tolist() == [[1, 1, 0, 1]]
    torch.testing.assert_close(found.values, torch.tensor([3 - 1.5]).double())
    start = torch.tensor([[0, -1, 0, -1]])
    found = swap_search(f, rows, space=SPACE, price=price, start=start, edits=0)
    assert found.codes.tolist() == [[0, 1, 0, 3]]
    assert found.values == 4


def test_it_stays_where_it_is_allowed_and_leaves_its_input_alone() -> None:
    start = torch.zeros(1, 4).long()
    f = on_codes(SPACE, lambda codes: codes.sum(-1).float())
    found = swap_search(f, start, space=SPACE, allowed=lambda c: (c != 0).sum(-1) <= 1)
    assert found.codes.tolist() == [[0, 0, 0, 3]]
    assert not start.any()
    rules = Rules(SPACE, [AtMost(1, {"x0": 1, "x1": [1, 2]})])
    rows = rules.enumerate()
    found = swap_search(f, rows, space=SPACE, rules=rules, allowed=lambda c: c[:, 3] < 3)
    assert rules.allows(found.codes).all()
    assert (found.codes[rows[:, 3] < 3, 3] == 2).all()


@pytest.mark.parametrize("top", [None, 2])
def test_a_budget_is_kept_row_by_row(top: int | None) -> None:
    space = CategoricalSpace.from_sizes((4,) * 6)
    start = random_codes(space, 5, generator=seeded(0))
    whole = swap_search(network(space, 0), start, space=space, top=top, patience=None)
    for budget in (1, 2, 7, 19):
        asked = Asked(network(space, 0), space)
        found = swap_search(
            asked, start, space=space, top=top, patience=None, evaluations=budget, restarts=3
        )
        assert (found.evaluations <= budget).all()
        assert int(found.evaluations.sum()) == sum(map(len, asked.rows + asked.slopes))
        first = torch.stack([one[0, 1] for one in whole.history])
        assert (found.values >= first).all()
    assert (whole.evaluations.min() < whole.evaluations.max()).item()  # they end one by one
    for row, found_row in zip(start, whole.codes, strict=True):
        alone = swap_search(network(space, 0), row[None], space=space, top=top, patience=None)
        assert torch.equal(alone.codes[0], found_row)


def test_a_context_stays_with_its_row_and_shares_its_values() -> None:
    space = CategoricalSpace.from_sizes((2, 2))
    sign, calls = torch.tensor([[1.0], [-1.0], [1.0]]), []

    def f(rows: Tensor, context: Tensor) -> Tensor:
        calls.extend([] if rows.requires_grad else [len(rows)])
        return rows[:, 1] * context[:, 0] + rows[:, 3]

    start = torch.tensor([[0, 0], [0, 0], [1, 0]])
    found = swap_search(f, start, sign, space=space, patience=None)
    assert found.codes.tolist() == [[1, 1], [0, 1], [1, 1]]
    assert sum(calls) <= 8  # four rows in either context


def test_rows_climbed_in_parts_keep_their_contexts_rules_and_prices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = CategoricalSpace({"shop": 3})
    some = [When({"shop": s}, [Fix("x3", s)]) for s in range(3)]
    context = torch.tensor([[2], [0], [1], [1], [2]])
    start, price = SPACE.enumerate()[[3, 20, 7, 15, 0]], torch.rand(5, 10, generator=seeded(0))
    options: dict[str, Any] = {
        "space": SPACE,
        "price": price.double(),
        "rules": Rules(SPACE, some, context=shop),
        "rule_context": context,
    }

    def f(rows: Tensor, context: Tensor) -> Tensor:
        return rows[:, 4] * context[:, 0] + rows[:, 1]

    whole = swap_search(f, start, context.double(), **options)
    assert whole.codes[:, 3].tolist() == context[:, 0].tolist()
    # the room exports the function under the module's name
    module = importlib.import_module("discrete_grad.models.swap_search")
    monkeypatch.setattr(module, "_NUMBERS", 2 * SPACE.width)
    parts = swap_search(f, start, context.double(), **options)
    assert torch.equal(parts.codes, whole.codes)
    assert torch.equal(parts.values, whole.values)


def test_an_estimator_is_asked_for_codes() -> None:
    with isolated_seed(0):
        estimator = Estimator(SPACE, hidden=(8,)).eval()
    codes = SPACE.enumerate()
    found = swap_search(estimator, codes, patience=None)
    assert (found.values >= estimator(codes)).all()
    assert (estimator(SPACE.swaps(found.codes)) <= estimator(found.codes).unsqueeze(1)).all()


def test_memory_does_not_grow_with_the_number_of_swaps() -> None:
    """A row of 2,000 features has 6,000 swaps: together they would be 12 million codes."""
    space = CategoricalSpace.from_sizes((4,) * 2000)
    most = []

    def score(codes: Tensor) -> Tensor:
        most.append(codes.numel())
        return (codes == 3).double().sum(-1)

    start = torch.full((1, 2000), 3)
    start[0, :2] = 0
    found = swap_search(on_codes(space, score), start, space=space)
    assert found.values == 2000
    assert max(most) <= 2**17


def test_it_takes_no_rows_and_spaces_without_a_choice() -> None:
    f = on_codes(SPACE, table_score(0))
    none = swap_search(f, torch.zeros(0, 4).long(), space=SPACE)
    assert none.codes.shape == (0, 4)
    assert none.values.dtype == torch.float64
    one = CategoricalSpace.from_sizes((1, 1))
    row = torch.zeros(1, 2, dtype=torch.long)
    for function in (on_codes(one, lambda c: c.sum(-1).float()), lambda flat: flat.sum(-1)):
        found = swap_search(function, row, space=one)
        assert torch.equal(found.codes, row)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top": 0}, "top must be at least 1, got 0"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"evaluations": 0}, "evaluations must be at least 1"),
        ({"restarts": -1}, "restarts must be at least 0"),
        ({"edits": -1}, "edits must be at least 0"),
        ({"price": -1.0}, "price must be from 0 on"),
        (
            {"price": torch.zeros(3)},
            r"price must be a number, \(D,\) or \(N, D\), with N=24 and D=10",
        ),
        ({"price": torch.zeros(3, 10)}, r"with N=24 and D=10, got \(3, 10\)"),
        ({"start": torch.zeros(1, 4).long()}, "codes and start must be"),
        ({"context": torch.zeros(1, 1)}, r"context must be \(24, C\)"),
    ],
)
def test_what_it_refuses(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        swap_search(lambda row: row.sum(-1), SPACE.enumerate(), space=SPACE, **options)


def test_values_that_are_no_numbers_are_errors_and_forbidden_rows_are_not() -> None:
    with pytest.raises(ValueError, match=r"got nan at codes \[0, 0, 0, 0\]"):
        swap_search(lambda row: row.sum(-1) / 0 * 0, SPACE.enumerate(), space=SPACE)
    with pytest.raises(ValueError, match="x1"):
        swap_search(lambda row: row.sum(-1), torch.tensor([[0, 3, 0, 0]]), space=SPACE)

    def f(row: Tensor) -> Tensor:
        return torch.where(row[:, 0] == 1, -torch.inf, row[:, 9])

    found = swap_search(f, torch.zeros(1, 4).long(), space=SPACE)
    assert found.codes.tolist() == [[1, 0, 0, 3]]
