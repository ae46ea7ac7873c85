"""Boosted trees written as tables: what the trees themselves predict, for every row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.fitting import trees
from discrete_grad.fitting.trees import fit_trees, has_trees
from discrete_grad.models import AnovaEnsemble
from discrete_grad.sampling import normal, random_codes, seeded
from discrete_grad.space import ContextSpec

xgboost = pytest.importorskip("xgboost")

# few categories are split one by one, many in two halves; one column is ordered, one says nothing
SPACE = CategoricalSpace({"a": 2, "b": 3, "c": 12, "d": 9, "e": 1}, ordered=("d",))
ROWS = SPACE.enumerate()


def noisy(count: int = 1500, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random rows; some categories are in none of them."""
    generator = seeded(seed)
    codes = random_codes(SPACE, count, generator=generator)
    codes[:, 2] = torch.where(codes[:, 2] >= 10, 3, codes[:, 2])
    codes[:, 3] = torch.where(codes[:, 3] == 4, 5, codes[:, 3])
    a, b, c, d, _ = codes.unbind(-1)
    scores = 1.0 * (a == 1) * (c % 2) + 0.1 * d - 0.7 * (b == 1) * (d > 5) + 5.0
    noise = 0.3 * normal((count,), generator=generator)
    return codes, (scores + noise).float()


def folds(count: int, members: int = 3) -> Tensor:
    """Each member but the last holds out rows of its own."""
    weights = torch.ones(members, count)
    for member in range(members - 1):
        weights[member, member::8] = 0
    return weights


@pytest.fixture
def boosters(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The boosters of the fits."""
    made: list[Any] = []
    boosted = trees._boosted

    def noted(*arguments: Any) -> Any:
        made.append(boosted(*arguments))
        return made[-1]

    monkeypatch.setattr(trees, "_boosted", noted)
    return made


def predicted(booster: Any, model: AnovaEnsemble, rows: Tensor) -> Tensor:
    """The booster's own predictions."""
    kinds = ["int" if ordered else "c" for ordered in model.joint.ordered]
    matrix = xgboost.DMatrix(
        rows.numpy().astype(np.float32), feature_types=kinds, enable_categorical=True
    )
    return torch.from_numpy(booster.predict(matrix))


@pytest.mark.parametrize("depth", [3, 2, 1])
def test_tables_are_the_trees_for_every_row_even_of_categories_that_no_row_has(
    boosters: list[Any], monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    monkeypatch.setattr(trees, "_DEPTHS", (depth,))
    codes, scores = noisy()
    model = AnovaEnsemble(SPACE)
    assert fit_trees(model, codes, scores, folds(1500), seed=0)
    assert model.num_members == len(boosters) == 3
    assert max(len(shape) for shape in model.shapes) == depth
    own = [predicted(booster, model, ROWS) + scores.mean() for booster in boosters]
    assert_close(model.predictions(ROWS), torch.stack(own), rtol=0, atol=2e-5)


def test_ordered_columns_are_cut_in_two_places_of_their_order() -> None:
    space = CategoricalSpace({"d": 9}, ordered=("d",))
    codes = torch.arange(9).repeat(60).unsqueeze(1)
    scores = (codes[:, 0] > 5).float()
    model = AnovaEnsemble(space)
    keep = codes[:, 0] != 7
    fit_trees(model, codes[keep], scores[keep], torch.ones(1, int(keep.sum())), seed=0)
    # 7 was not seen: it lies between two that are alike
    assert_close(
        model(torch.arange(9).unsqueeze(1)), (torch.arange(9) > 5).float(), atol=0.02, rtol=0
    )


def test_context_columns_are_columns(boosters: list[Any]) -> None:
    spec, (codes, scores) = ContextSpec({"shop": 3}, ["price"]), noisy()
    model = AnovaEnsemble(SPACE, context=spec)
    generator = seeded(1)
    shop = torch.randint(3, (1500,), generator=generator)
    price = normal((1500,), generator=generator).float()
    context = torch.cat([torch.eye(3)[shop], price.unsqueeze(1)], 1)
    model.joint.fit(context)
    joint = model.joint(codes, context)
    changed = scores + (shop == 1) * (codes[:, 0] == 0) + (price > 0)
    fit_trees(model, joint, changed, folds(1500, 2), seed=0)
    own = [predicted(booster, model, joint) + changed.mean() for booster in boosters]
    assert_close(model.predictions(codes, context), torch.stack(own), rtol=0, atol=2e-5)
    assert float((model(codes, context) - changed).square().mean()) < 0.15


def test_boosting_stops_by_the_rows_held_out(
    boosters: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, train, model = list[Any](), xgboost.train, AnovaEnsemble(SPACE)
    monkeypatch.setattr(xgboost, "train", lambda *a, **o: whole.append(train(*a, **o)) or whole[-1])
    codes, scores = noisy()
    fit_trees(model, codes, scores, folds(1500), seed=0)
    *members, everything = (booster.num_boosted_rounds() for booster in boosters)
    assert all(5 < rounds < 1000 for rounds in members)
    assert everything == 1000  # there is nothing to stop it
    assert whole[0].num_boosted_rounds() == members[0] + 50
    aside, truth = codes[::8], scores[::8] - scores.mean()
    around = range(members[0] - 3, members[0] + 4)
    errors = {r: float((predicted(whole[0][:r], model, aside) - truth).norm()) for r in around}
    assert min(errors, key=lambda rounds: errors[rounds]) == members[0]


def test_a_member_learns_nothing_from_rows_it_holds_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # the rows held out say when to stop: with one round they say nothing
    monkeypatch.setattr(trees, "_ROUNDS", 1)
    codes, scores = noisy()
    weights, changed = folds(1500), scores.clone()
    mine = weights[0] == 0
    changed[mine] = changed[mine].flip(0)  # of the same mean
    before, after = AnovaEnsemble(SPACE), AnovaEnsemble(SPACE)
    fit_trees(before, codes, scores, weights, seed=0)
    fit_trees(after, codes, changed, weights, seed=0)
    assert_close(after.predictions(ROWS)[0], before.predictions(ROWS)[0], rtol=0, atol=1e-6)
    assert not torch.equal(after.predictions(ROWS)[1], before.predictions(ROWS)[1])


def test_weights_count_as_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_ROUNDS", 20)
    codes, scores = noisy(400)
    counts = 1 + torch.arange(400) % 3
    repeated = torch.arange(400).repeat_interleave(counts)
    model = AnovaEnsemble(SPACE)

    def boosted(places: Tensor, weights: Tensor) -> Tensor:
        rows, targets = codes[places].numpy(), scores[places].numpy()
        booster = trees._boosted(model, rows, targets, weights.float().numpy(), 3)
        return predicted(booster, model, codes)

    literal = boosted(repeated, torch.ones(len(repeated)))
    assert_close(boosted(torch.arange(400), counts), literal, rtol=0, atol=1e-4)
    plain = boosted(torch.arange(400), torch.ones(400))
    assert not torch.allclose(plain, literal, atol=1e-2)


def test_more_cells_than_allowed_make_trees_less_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, scores = noisy()
    model = AnovaEnsemble(SPACE)
    monkeypatch.setattr(trees, "_MOST_CELLS", 27)
    assert fit_trees(model, codes, scores, folds(1500, 2), seed=0)
    assert max(map(len, model.shapes)) == 1
    monkeypatch.setattr(trees, "_MOST_CELLS", 5)
    monkeypatch.setattr(trees, "_effects", None)  # no table is made that is then too large
    before = model.predictions(ROWS)
    assert not fit_trees(model, codes, scores, folds(1500, 2), seed=0)
    assert torch.equal(model.predictions(ROWS), before)


def test_scores_that_are_all_equal_are_a_constant() -> None:
    codes, _ = noisy(200)
    model = AnovaEnsemble(SPACE)
    assert fit_trees(model, codes, torch.full((200,), 2.5), folds(200, 2), seed=0)
    assert_close(model.predictions(ROWS), torch.full((2, len(ROWS)), 2.5))


def test_of_many_rows_some_are_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_MOST_ROWS", 300)
    codes, scores = noisy()
    values = []
    for seed in (0, 0, 1):
        model = AnovaEnsemble(SPACE)
        fit_trees(model, codes, scores, folds(1500, 2), seed=seed)
        values.append(model.predictions(ROWS))
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_it_says_whether_the_extra_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_trees()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not has_trees()
