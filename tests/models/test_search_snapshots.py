"""Rows that every search finds in a rough landscape, as they were when last looked at.

`python -m tests.models.test_search_snapshots` writes the numbers anew, to be read before they are
committed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.gradient import on_codes
from discrete_grad.models import (
    Edits,
    SwapSearch,
    best_rows,
    edit,
    most_likely_rows,
    swap_search,
)
from discrete_grad.models.front_search import best_front
from discrete_grad.models.pareto import non_dominated, spread_front, tradeoff_grid
from discrete_grad.rules import AtMost, Forbid, Rules
from discrete_grad.sampling import random_codes, seeded
from tests.kept_numbers import Case, check_numbers, cut_small, keep_numbers
from tests.models.test_snapshots import CODES, CONTEXT, NOISE, SPACE, networks, products

FILE = Path(__file__).parent / "search_snapshots.json"
LARGE = CategoricalSpace.from_sizes((3, 5, 2, 4, 3, 6))
LARGE_CODES = random_codes(LARGE, 12, generator=seeded(3))
WORTH = NOISE[:23, 11] * 4 - 1
PAIRS = torch.triu(NOISE[30:53, :23] * 3 - 1.5, 1)


def rough(flat: Tensor) -> Tensor:
    """A worth of large rows that has effects of pairs: no single swap leads to the best row."""
    return flat @ WORTH + ((flat @ PAIRS) * flat).sum(-1)


def fronts() -> list[Any]:
    values = NOISE[:60, :3].round(decimals=1)
    grid, several = tradeoff_grid(2, 5), tradeoff_grid(3, 12)
    found: list[Any] = [non_dominated(values), grid, several]
    found += [spread_front(values, count, seed=seed) for count, seed in ((3, 0), (5, 1), (99, 2))]

    def worth(codes: Tensor) -> Tensor:
        flat = LARGE.one_hot(codes)
        return torch.stack([rough(flat), -(flat @ WORTH.flip(0))], 1)

    for evaluations in (40, 300, 5000):
        for options in (
            {},
            {"allowed": lambda codes: codes[:, 0] != codes[:, 4], "seed": 3},
            {"barred": lambda codes: codes[:, 1] == 2},
        ):
            codes, found_values = best_front(
                LARGE, LARGE_CODES, worth, evaluations=evaluations, **options
            )
            order = found_values[:, 0].argsort()
            found += [codes[order][:6], found_values[order][:6]]
    return found


def told(found: SwapSearch) -> list[Any]:
    return [found.codes, found.values, found.evaluations, *found.history]


def searches() -> list[Any]:
    names = LARGE.names
    rules = Rules(
        LARGE, [Forbid({names[0]: "1", names[1]: "2"}), AtMost(2, dict.fromkeys(names[:4], "0"))]
    )
    priced = NOISE[:3, :23] * 2
    unknown = LARGE_CODES[:3].clone()
    unknown[0, 1] = unknown[2, 4] = -1
    found: list[Any] = []
    for options in (
        {},
        {"top": 3, "patience": 2, "restarts": 3, "seed": 4},
        {"top": None, "price": 0.4, "edits": 2},
        {"top": 4, "patience": None, "price": priced, "start": unknown},
        {"top": 2, "rules": rules, "edits": 3, "price": priced[0]},
        {"top": 5, "evaluations": 40, "restarts": 2},
        {"allowed": lambda codes: codes[:, 5] != 3, "top": 2, "rules": rules, "restarts": 1},
    ):
        found += told(swap_search(rough, LARGE_CODES[:3], space=LARGE, **options))
    found += told(
        swap_search(
            on_codes(LARGE, lambda c: c.float().sin().sum(-1)), LARGE_CODES[:2], space=LARGE
        )
    )
    found += told(swap_search(networks(), CODES[:3], CONTEXT[:3], top=2, restarts=1))
    return found


def changes(found: Edits) -> list[Any]:
    parts = [found.codes, found.before, found.after, found.alone, found.back, found.pruned]
    return [*parts, found.kept, found.evaluations, *found.history]


def editing() -> list[Any]:
    rows = LARGE_CODES[:3].clone()
    rows[1, 2] = rows[1, 5] = -1
    names = LARGE.names
    rules = Rules(LARGE, [Forbid({names[3]: "0"})])
    found: list[Any] = []
    for options in (
        {"edit_price": 0.3, "restarts": 1},
        {"target": 2.5, "edits": 2, "tolerance": 0.5, "fixed": [names[0]]},
        {"weights": (-1.0,), "edit_price": {names[1]: 0.7, names[5]: 0.2}, "rules": rules},
        {"edit_price": NOISE[:3, :23], "evaluations": 50, "fixed": torch.arange(6) == 4, "seed": 3},
    ):
        found += changes(edit(rough, rows, space=LARGE, **options))
    several = [networks(seed=13), products()]
    options = {"target": (0.5, -0.5), "weights": (2.0, 1.0), "edit_price": 0.01}
    return [*found, *changes(edit(several, CODES[:3], CONTEXT[:3], space=SPACE, **options))]


def likely() -> list[Any]:
    logits = NOISE[:4, :23] * 5
    logits[0, 4] = -torch.inf

    def score(codes: Tensor, where: Tensor) -> Tensor:
        return rough(LARGE.one_hot(codes)) + where * codes[:, 1]

    names = LARGE.names
    rules = Rules(LARGE, [Forbid({names[0]: "1", names[1]: "2"}), Forbid({names[3]: "0"})])
    barred = lambda codes, where: (codes[:, 2] == 1) & (where > 1)  # noqa: E731
    found: list[Any] = [*most_likely_rows(LARGE, logits.view(2, 2, -1), 7)]
    for evaluations, options in (
        (10_000, {"barred": barred}),
        (300, {"distance": 2, "seed": 1}),
        (600, {"barred": barred, "starts": LARGE_CODES}),
        (400, {"rules": rules, "distance": 3}),
        (400, {"rules": rules, "starts": LARGE_CODES[:8].view(4, 2, 6), "seed": 2}),
    ):
        found += best_rows(LARGE, logits, score, 16, evaluations=evaluations, **options)
    return found


CASES: dict[str, Case] = {
    "fronts": fronts,
    "searches": searches,
    "edits": editing,
    "best rows": likely,
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_as_before(name: str) -> None:
    check_numbers(FILE, name, CASES[name])


# how many numbers are worked off at a time
PARTS = {
    "_obeying._MOST": 40,
    "_row_values._CODES": 30,
    "_row_values._FLAT": 70,
    "_swap_climb._CODES": 25,
    "protocol._NUMBERS": 69,
    "row_pool._ROWS_SCORED": 7,
    "row_pool._SCORED": 60,
}


@pytest.mark.parametrize("name", ["searches", "edits", "best rows"])
def test_numbers_are_the_same_in_small_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_small(monkeypatch, "models", PARTS)
    check_numbers(FILE, name, CASES[name])


if __name__ == "__main__":
    keep_numbers(FILE, CASES)
