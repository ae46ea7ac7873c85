"""The preference benchmark's yardsticks on worlds small enough to see through."""

import math

import pytest
import torch
from torch.testing import assert_close

from benchmarks import preferences, preferences_tables
from benchmarks.preferences import joined, percentiles, problem, worth
from benchmarks.preferences_world import World
from discrete_grad import CategoricalSpace
from discrete_grad.preferences import Preferences
from discrete_grad.sampling import normal, random_indices, seeded
from discrete_grad.weighting import tilt

SPACE = CategoricalSpace.from_sizes((2, 3, 4))


def world() -> World:
    score = normal((24,), generator=seeded(0)).double()
    truth = (score - score.mean()) / score.std()
    held_out = random_indices(24, (2, 500), generator=seeded(1))
    return World(SPACE, SPACE.enumerate(), truth, held_out)


def test_accuracy() -> None:
    """Of the truth, of its reverse, and of the order of two groups, whose ties are no guess."""
    given = world()
    assert given.accuracy(given.truth.exp()) == 1
    assert given.accuracy(-given.truth) == 0
    groups = (given.truth > 0).double()
    first, second = given.held_out
    apart = (groups[first] != groups[second]).sum() / (first != second).sum()
    assert given.accuracy(groups) == pytest.approx(float(apart))


def test_one_answer_in_ten_is_flipped() -> None:
    given = world()
    pairs = given.pairs(20_000, seeded(2))
    first, second = (given.truth[SPACE.row_number(rows)] for rows in (pairs.first, pairs.second))
    right = ((first > second) == (pairs.outcome == 0)).double().mean()
    assert abs(right - 0.9) < 0.01
    clean = given.pairs(20_000, seeded(3), temperature=0.5, reliability=1.0)
    first, second = (given.truth[SPACE.row_number(rows)] for rows in (clean.first, clean.second))
    told = (clean.outcome == 0).double() - (2 * (first - second)).sigmoid()
    assert abs(told.mean()) < 0.01
    assert abs((told * (first - second)).mean()) < 0.01


def test_percentiles() -> None:
    values = torch.tensor([3.0, 1.0, 1.0, 7.0])
    assert_close(percentiles(values), torch.tensor([62.5, 25.0, 25.0, 87.5]).double())


def test_worth() -> None:
    """The reference is worth nothing; where the proxy is the truth they are one, to the top."""
    given = world()
    asked = problem(given, given.truth, 0.01)
    figures = worth(asked, asked.uniform)
    assert figures["true percentile"] == figures["proxy percentile"] == 50
    assert figures["kl"] == 0 == pytest.approx(figures["true"], abs=1e-6)
    best = worth(asked, tilt(asked.uniform, asked.reward, asked.beta))
    assert best["share"] == pytest.approx(1, abs=1e-5)
    assert best["true"] == best["proxy"] == pytest.approx(float(given.truth.max()), abs=1e-3)
    assert best["kl"] == pytest.approx(math.log(24), abs=0.01)
    other = worth(problem(given, -given.truth, 0.01), tilt(asked.uniform, asked.reward, 0.01))
    assert other["true percentile"] == pytest.approx(100 - other["proxy percentile"], abs=1e-3)


def test_pairs_of_two_rounds() -> None:
    codes = SPACE.enumerate()[:4]
    one = Preferences(codes[:2], codes[2:], torch.tensor([0, 1]))
    other = Preferences(codes[:1], codes[3:], torch.tensor([1]))
    both = joined(one, other)
    assert both.outcome.tolist() == [0, 1, 1]
    assert torch.equal(both.first[2], codes[0])
    assert torch.equal(both.second, codes[[2, 3, 3]])


def test_active_choice_asks_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round fits a model to all the pairs so far, of which the first are the random ones."""
    fitted, seen = preferences.fitted, list[Preferences]()

    def noted(config: preferences.Config, given: World, pairs: Preferences, seed: int) -> object:
        seen.append(pairs)
        return fitted(config, given, pairs, seed)

    monkeypatch.setattr(preferences, "fitted", noted)
    models = preferences.asked(preferences.Config(quick=True), world(), 0)
    assert list(models) == [250, 500] == [len(pairs) for pairs in seen]
    start = world().pairs(2000, seeded(0)).take(torch.arange(250))
    for pairs in seen:
        assert torch.equal(pairs.first[:250], start.first)
        assert torch.equal(pairs.outcome[:250], start.outcome)


def test_tables_of_few_results() -> None:
    start = {"kl": 0.0, "true": 0.0, "proxy": 0.0, "true percentile": 50.0}
    start |= {"proxy percentile": 50.0, "share": 0.0, "beta": 5.0, "accuracy": 0.9}
    high = start | {"kl": 4.0, "true": 1.5, "proxy": 2.0, "true percentile": 95.0}
    high |= {"proxy percentile": 97.0, "share": 0.9, "beta": 0.1}
    end = high | {"kl": 9.0, "true": 1.25, "true percentile": 80.0, "proxy percentile": 99.0}
    model = {"accuracy": 0.875, "reliability": 0.92, "optima": [start, high, end]}
    path = [start, high, end]
    cells = {
        "random/protein_structure/0": {"models": {"2000": model}, "paths": {"2000/0.1": path}},
        "active/protein_structure/0": {"models": {"2000": model | {"accuracy": 0.9375}}},
        "random/other/0": {"models": {"2000": model}, "paths": {}},
        "dpo/factorised/0": {"1": high, "seconds": 1.0},
        "clean/0.1/2000/0": high | {"seconds": 1.0},
    }
    models, policies, optima, direct, clean, failed = preferences_tables.tables({"cells": cells})
    assert [row[:4] for row in models.rows] == [
        ("protein_structure", "at random", "2,000", "0.875"),
        ("protein_structure", "chosen", "2,000", "0.938"),
        ("other", "at random", "2,000", "0.875"),
    ]
    assert [row[5] for row in models.rows] == ["-", "0.0625", "-"]
    # scores part at the second point, 2 against 1.5; places at the third, 1% against 20%
    assert policies.rows[0][5:] == (
        *("1", "20", "3", "1.5", "0.25"),
        *("2.00 (1 of 1)", "3.00 (1 of 1)"),
    )
    assert optima.rows[0][6:-1] == ("1.5", "0.1", "2", "0.25", "1 of 1", "3.00 (1 of 1)")
    assert direct.rows == [("factorised", "1", "0.9", "1.5", "5", "2")]
    assert clean.rows == [("0.1", "2,000", "0.9", "0.9", "1.5", "2")]
    assert failed.rows == [("none", "")]
