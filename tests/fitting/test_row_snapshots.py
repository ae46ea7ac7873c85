"""Numbers of what fits do with rows and scores before and after training, as they were.

`python -m tests.fitting.test_row_snapshots` writes the numbers anew, to be read before they are
committed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from discrete_grad import ContextSpec
from discrete_grad.data import ScoredRows
from discrete_grad.fitting import (
    ScoreScale,
    stacking,
)
from discrete_grad.fitting._coverage import Coverage
from discrete_grad.fitting._drawn_rows import draw_rows, rows_near
from discrete_grad.fitting.aims import at_tradeoff, fit_chance, with_tradeoffs
from discrete_grad.fitting.calibration import Calibration
from discrete_grad.fitting.hard_pairs import mine_hard_pairs, with_swaps
from discrete_grad.fitting.judge_split import judge_split
from discrete_grad.fitting.pessimism import conformal_pessimism
from discrete_grad.fitting.repeats import learning_rows
from discrete_grad.fitting.score_scale import interpolate, scale_behaviour
from discrete_grad.models import (
    Estimator,
    EstimatorEnsemble,
)
from discrete_grad.policies import Generator
from discrete_grad.sampling import isolated_seed, permutation, random_codes, seeded, uniform
from tests.fitting.small_rows import (
    BOTH,
    CODES,
    CONTEXT,
    LARGE,
    NOISE,
    PLAIN,
    ROWS,
    SCORES,
    SHARED,
    SHOP,
    SHOPS,
    SPACE,
    SPEC,
    WEIGHTS,
)
from tests.kept_numbers import Case, check_numbers, keep_numbers

FILE = Path(__file__).parent / "row_snapshots.json"


def chances() -> list[Any]:
    met = (SCORES > 0.6).float() * 0.75 + NOISE[:, 4] / 4
    return [fit_chance(SCORES, met), fit_chance(SCORES, met, WEIGHTS[0]), fit_chance(-SCORES, met)]


def tradeoffs() -> list[Any]:
    more = with_tradeoffs(ROWS, 3, seed=17)
    assert more.context is not None
    with isolated_seed(18):
        spec = ContextSpec({"shop": 2}, ["price", "a", "b", "c"])
        made = Generator(SPACE, spec, hidden=(4,))
    aimed = at_tradeoff(made, SPEC, torch.tensor([0.2, 0.3, 0.5]))
    some = [float(len(more)), *more.scores[60:64].tolist()]
    return [some, *more.context[4000:4003], aimed.logits(CONTEXT[:2])]


def calibrations() -> list[Any]:
    group = SHOP.repeat(20)
    predicted = SCORES.repeat(20) + uniform((1200,), generator=seeded(19)).float()
    found = Calibration.fit(predicted, SCORES.repeat(20).double(), group, 1)
    assert found is not None
    asked = torch.linspace(-3, 3, 9)
    return [found.apply(asked, torch.zeros(9).long()), found.apply(asked, torch.ones(9).long())]


def scales() -> list[Any]:
    scores, context = SCORES.repeat(4).double() * 3 + 7, CONTEXT.repeat(4, 1)
    found: list[Any] = []
    asked, scaled = torch.linspace(-9, 30, 9, dtype=torch.float64), torch.linspace(-4, 4, 9)
    for kind in ("rank", "standard", "raw"):
        scale = ScoreScale.fit(kind, scores, context, SPEC)
        for place in (0, 1):
            shown = CONTEXT[SHOP == place][:9]
            found += [scale.apply(asked, shown), scale.invert(scaled, shown)]
        found += [scale.apply(asked), *scale.observed(context[:5], 5)]
    several = torch.stack([scores, scores.square()], 1)
    behaviour = scale_behaviour("rank", several, context, SPEC)
    assert behaviour is not None
    knots = torch.tensor([0.0, 1.0, 1.0, 1.0, 3.0, 4.0, 4.0])
    heights = torch.tensor([0.0, 2.0, 3.0, 5.0, 6.0, 8.0, 9.0])
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, 3.5, 4.0, 5.0])
    ends = [interpolate(knots, heights, x, share=share) for share in (0.1, 0.5)]
    return [*found, behaviour[:6].flatten(), *ends, interpolate(heights, knots, x)]


def splits() -> list[Any]:
    few = ScoredRows(CODES[:12].repeat(5, 1)[:50], SCORES[:50], CONTEXT[:12].repeat(5, 1)[:50])
    found: list[Any] = []
    for rows, spec in ((ROWS, SPEC), (few, SPEC), (few, None)):
        for mixed in (True, False):
            found += judge_split(rows, 0.3, seed=20, spec=spec, mixed=mixed)
    return found


def coverage() -> list[Any]:
    """Rare categories on either side, which rows must be moved for."""
    noise = uniform((40, 4), generator=seeded(30))
    codes = (15 * noise[:, :3].square()).long()
    further = (5 * noise[:, 3:]).long() - 1
    found: list[Any] = []
    for share in (0.05, 0.5, 0.9):
        side = noise[:, 1] > share
        made = Coverage([codes, further], side)
        for step in ("reach", "other", "give back"):
            if step == "give back":
                made.give_back(int(side.sum()))
            else:
                made.reach(step == "other")
            found += [made.side, [made.complete()]]
        found += [side for pair in made.counts for side in pair]
    return found


def merged() -> list[Any]:
    """Of many different rows, of which nearly all or few of those possible are there."""
    noise = uniform((210, 5), generator=seeded(28)).float()
    again = ScoredRows(
        random_codes(LARGE, 70, generator=seeded(29)).repeat(3, 1),
        noise[:, 0],
        torch.eye(2)[torch.arange(70) % 2].repeat(3, 1),
        behaviour=noise[:, :2],
        counts=1 + (5 * noise[:, 2]).long(),
        spread=noise[:, 3],
    )
    found: list[Any] = []
    for possible in (70, 71):
        rows = learning_rows(again, possible)
        assert rows.behaviour is not None
        assert rows.counts is not None
        assert rows.spread is not None
        found += [[float(len(rows))], rows.scores[:9], rows.counts[:9], rows.spread[:9]]
        found += [rows.behaviour[:5].flatten()]
    return found


def drawn() -> list[Any]:
    rows = ScoredRows(random_codes(LARGE, 9, generator=seeded(21)), SCORES[:9], CONTEXT[:9])
    codes, context = draw_rows(LARGE, rows, 30, seed=22)
    near, shown = rows_near(LARGE, rows, 6, seed=23)
    every, _ = draw_rows(SPACE, ROWS, 50, seed=24)
    assert context is not None
    assert shown is not None
    return [codes.flatten(), context[:, 2], near.flatten(), shown[:, 2], every.sum(0)]


def pairs() -> list[Any]:
    swapped, pseudo = with_swaps(
        replace(BOTH, context=SHOPS),
        SPACE,
        lambda codes, context: torch.stack([codes.sum(1) / 3.0, codes[:, 0] - 1.0], 1),
        40,
        generator=seeded(25),
    )
    found: list[Any] = [swapped.codes[60:].flatten(), swapped.scores[60:], pseudo.nonzero()[:, 0]]
    for rows, marked, more in (
        (SHARED, None, {}),
        (swapped, pseudo, {"positives": 2, "negatives": 3, "small": 0.4, "large": 0.6}),
        (PLAIN, None, {"most": 7}),
    ):
        mined = mine_hard_pairs(rows, pseudo=marked, generator=seeded(26), **more)
        found += [mined.anchors, mined.positives.flatten(), mined.negatives.flatten()]
    return found


def pessimism() -> list[Any]:
    with isolated_seed(27):
        made = [Estimator(SPACE, context=SPEC, dim=4, hidden=(6,)) for _ in range(3)]
    model = EstimatorEnsemble(made)
    return [[conformal_pessimism(model, ROWS, coverage) for coverage in (0.55, 0.8, 0.9)]]


CASES: dict[str, Case] = {
    "chances": chances,
    "trade-offs": tradeoffs,
    "calibrations": calibrations,
    "scales": scales,
    "splits": splits,
    "coverage": coverage,
    "merged": merged,
    "drawn": drawn,
    "hard pairs": pairs,
    "pessimism": pessimism,
}


def test_of_more_rows_than_fit_some_are_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacking, "_MOST_ROWS", 5)
    assert stacking._some(5, 3).tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(stacking._some(9, 3), permutation(9, generator=seeded(3))[:5])


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_as_before(name: str) -> None:
    check_numbers(FILE, name, CASES[name])


if __name__ == "__main__":
    keep_numbers(FILE, CASES)
