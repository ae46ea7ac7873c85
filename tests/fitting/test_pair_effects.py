"""Effects of pairs: the posterior in the tables' own terms, what is left out, what is learnt."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.data import ScoredRows
from discrete_grad.fitting import EstimatorConfig, fit_estimator, new_ensemble
from discrete_grad.fitting import pair_effects as pairs
from discrete_grad.fitting.pair_effects import agreements, fit_pair_effects
from discrete_grad.models import AnovaEnsemble
from discrete_grad.sampling import normal, random_codes, seeded
from discrete_grad.space import ContextSpec

SPACE = CategoricalSpace.from_sizes((3, 4, 2))


def noisy(space: CategoricalSpace, count: int) -> tuple[Tensor, Tensor]:
    """Rows whose scores have an effect of each pair of neighbours, and noise."""
    noise = seeded(0)
    codes = random_codes(space, count, generator=noise)
    sizes = space.sizes
    scores = 0.5 * normal((count,), generator=noise)
    for i in range(len(sizes)):
        j = (i + 1) % len(sizes)
        scores = scores + normal((sizes[i], sizes[j]), generator=noise)[codes[:, i], codes[:, j]]
    return codes, ((scores - scores.mean()) / scores.std()).float()


def features(space: CategoricalSpace, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Indicators of the categories and of their pairs, as ridge regression takes them."""
    flat = space.split(space.one_hot(codes, dtype=torch.float64))
    products = [a.unsqueeze(2) * b.unsqueeze(1) for a, b in combinations(flat, 2)]
    return torch.cat(flat, 1), torch.cat([product.flatten(1) for product in products], 1)


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_the_ridge_regression_on_pairs(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    codes, scores = noisy(SPACE, 60)
    weights = torch.randint(0, 3, (2, 60), generator=seeded(seed)).float()
    found: list[Tensor] = []
    maximise = pairs.maximise

    def noted(prior: Any, *rest: Tensor, **options: Any) -> None:
        maximise(prior, *rest, **options)
        found.append(prior.scales.detach().exp())

    monkeypatch.setattr(pairs, "maximise", noted)
    model = AnovaEnsemble(SPACE, members=2)
    assert fit_pair_effects(model, codes, scores, weights, seed=seed)
    single, pair, noise, level = found[0]
    rows = SPACE.enumerate()
    for member, own in enumerate(weights.double()):
        parts = zip(features(SPACE, codes), features(SPACE, rows), (single, pair), strict=True)
        known, asked = [], []
        for mine, theirs, variance in parts:
            known.append(mine * variance.sqrt())
            asked.append(theirs * variance.sqrt())
        x = torch.cat([*known, level.sqrt().expand(60, 1)], 1)
        gram = x.T @ (own.unsqueeze(1) * x) + (noise + 1e-4) * torch.eye(x.shape[1])
        fitted = torch.linalg.solve(gram, x.T @ (own * scores.double()))
        expected = torch.cat([*asked, level.sqrt().expand(len(rows), 1)], 1) @ fitted
        assert_close(model.predictions(rows)[member].double(), expected, rtol=1e-4, atol=1e-4)


def test_the_covariance_counts_agreeing_columns_and_their_pairs() -> None:
    first, second = SPACE.enumerate()[:5], SPACE.enumerate()
    singles = [features(SPACE, codes)[0] for codes in (first, second)]
    products = [features(SPACE, codes)[1] for codes in (first, second)]
    alike = agreements(first, second)
    assert_close(alike, singles[0] @ singles[1].T)
    assert_close(alike * (alike - 1) / 2, products[0] @ products[1].T)


def test_what_is_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(space: CategoricalSpace, count: int) -> bool:
        codes, scores = noisy(space, count)
        model = AnovaEnsemble(space)
        done = fit_pair_effects(model, codes, scores, torch.ones(1, count), seed=0)
        assert done == bool(len(model.groups))
        return done

    assert asked(SPACE, 20)
    assert not asked(CategoricalSpace.from_sizes((5,)), 20)
    assert not asked(CategoricalSpace.from_sizes((2,) * 64), 20)  # of 2,048 groups at most
    monkeypatch.setattr(pairs, "MOST_POINTS", 19)
    assert not asked(SPACE, 20)


def test_few_rows_of_many_pairs_are_learnt_by_it_alone() -> None:
    space = CategoricalSpace.from_sizes((8,) * 6)
    codes, scores = noisy(space, 600)
    shown, unseen = slice(0, 400), slice(400, 600)
    model = AnovaEnsemble(space)
    fit_pair_effects(model, codes[shown], scores[shown], torch.ones(1, 400), seed=0)
    both = torch.stack([model(codes[unseen]), scores[unseen]])
    assert torch.corrcoef(both)[0, 1] > 0.4


def test_context_columns_take_part_and_the_default_estimator_has_the_family() -> None:
    spec = ContextSpec({"shop": 3}, ["price"])
    codes, _ = noisy(SPACE, 90)
    shop, price = torch.arange(90) % 3, torch.rand(90, generator=seeded(1))
    context = torch.cat([torch.eye(3)[shop], price.unsqueeze(1)], 1)
    scores = (codes[:, 0] == shop).float() - 1 / 3
    config = EstimatorConfig(members=2, families=("pairs",))
    model = new_ensemble(SPACE, spec, config, seed=0, rows=90)
    fit_estimator(model, ScoredRows(codes, scores, context), config=config, seed=0)
    error = (model(codes, context) - scores).square().mean()
    assert error < 0.3 * scores.var()
    assert len(model.family(0).groups) == 5 + math.comb(5, 2)
    assert "pairs" in EstimatorConfig().families
