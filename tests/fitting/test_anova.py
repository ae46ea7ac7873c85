"""Tables of effects, fitted: the mixed model's solution, and of each member's own rows alone."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.fitting import anova
from discrete_grad.fitting.anova import anova_groups, fit_anova
from discrete_grad.models import AnovaEnsemble
from discrete_grad.sampling import normal, random_codes, seeded, uniform

SPACE = CategoricalSpace.from_sizes((2, 3, 4))


def noisy(count: int, seed: int = 0, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """Random rows; effects of two features, and of one pair of them."""
    generator = seeded(seed)
    codes = random_codes(SPACE, count, generator=generator)
    a, b, c = codes.unbind(-1)
    scores = 0.8 * (a == 1) - 0.5 * (b == 2) + ((b + c) % 3 == 1) - 0.4
    return codes, scores + noise * normal((count,), generator=generator)


def fitted(codes: Tensor, scores: Tensor, weights: Tensor, **options: int) -> AnovaEnsemble:
    model = AnovaEnsemble(SPACE, groups=anova_groups(SPACE.sizes, len(codes)))
    fit_anova(model, codes, scores, weights, **options)
    return model


@pytest.mark.parametrize("learn", [False, True])
def test_it_solves_the_normal_equations_of_the_mixed_model(
    monkeypatch: pytest.MonkeyPatch, learn: bool
) -> None:
    codes, scores = noisy(80)
    weights = torch.stack([torch.ones(80), 3 * uniform((80,), generator=seeded(5))]).double()
    tables: dict[int, tuple[Tensor, Tensor]] = {}
    update = anova._Table.update

    def noted(table: anova._Table, residual: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        tables[id(table)] = (noise, (noise / table.variance).expand(table.size, -1))
        return update(table, residual, noise)

    monkeypatch.setattr(anova._Table, "update", noted)
    monkeypatch.setattr(anova, "_TOLERANCE", 0.0)
    if not learn:
        monkeypatch.setattr(anova, "_learn_variances", lambda tables: None)
    model = fitted(codes, scores, weights, sweeps=300)
    cells = len(model.cells)
    design = torch.zeros(80, cells, dtype=torch.float64).scatter(1, model.places(codes), 1.0)
    ridge = torch.cat([prior for _, prior in tables.values()])
    assert ridge.shape == (cells, 2)
    for member, weight in enumerate(weights):
        mean = (weight * scores).sum() / weight.sum()
        assert_close(model.offsets[member], mean)
        gram = design.T @ (weight.unsqueeze(1) * design) + ridge[:, member].diag()
        exact = torch.linalg.solve(gram, design.T @ (weight * (scores - mean)))
        assert_close(model.cells[:, member], exact, rtol=0, atol=1e-4)


def test_a_planted_pair_is_found_and_other_tables_vanish() -> None:
    codes, _ = noisy(3000)
    a, c = codes[:, 0], codes[:, 2]
    planted = torch.tensor([[1.0, -1.0, 0.5, -0.5], [-1.0, 1.0, -0.5, 0.5]])
    scores = planted[a, c] + 0.5 * normal((3000,), generator=seeded(1))
    model = fitted(codes, scores, torch.ones(1, 3000))
    rows = SPACE.enumerate()
    assert_close(model(rows).float(), planted[rows[:, 0], rows[:, 2]], rtol=0, atol=0.12)
    for index, group in enumerate(model.groups.tolist()):
        table = model.cells[model.first[index] : model.first[index + 1]].float()
        strength = table.square().mean().sqrt().item()
        if group == [0, 2, -1]:
            assert_close(table.view(2, 4), planted, rtol=0, atol=0.1)
        else:
            assert strength < 0.05, group


def test_variances_of_empty_tables_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, scores = noisy(2000)
    additive = scores - 1.0 * ((codes[:, 1] + codes[:, 2]) % 3 == 1)
    found: list[Tensor] = []
    learn = anova._learn_variances

    def noted(tables: list[anova._Table]) -> None:
        learn(tables)
        found[:] = [table.variance for table in tables]

    monkeypatch.setattr(anova, "_learn_variances", noted)

    def variances(scores: Tensor) -> dict[tuple[int, ...], float]:
        model = fitted(codes, scores, torch.ones(1, 2000).double())
        groups = map(tuple, model.groups.tolist())
        return dict(zip(groups, torch.cat(found).tolist(), strict=True))

    paired, alone = variances(scores), variances(additive)
    assert paired[1, 2, -1] > 0.1
    # pooled with the one that is not empty, the others keep some of it
    assert max(paired[0, 1, -1], paired[0, 2, -1]) < 0.05
    assert max(alone[0, 1, -1], alone[0, 2, -1], alone[1, 2, -1], alone[0, 1, 2]) < 1e-3
    assert alone[0, -1, -1] > 0.05


def test_a_table_without_rows_stays_0_and_a_member_without_any_does_too() -> None:
    codes, scores = noisy(200)
    codes[:, 0] = 0
    model = fitted(codes, scores, torch.stack([torch.ones(200), torch.zeros(200)]).double())
    assert bool(model.cells.isfinite().all())
    assert float(model.cells[1, 0]) == 0  # the category that no row has
    assert torch.equal(model.cells[:, 1], torch.zeros_like(model.cells[:, 1]))


def test_scores_that_are_all_equal_give_no_nan() -> None:
    codes, scores = noisy(50)
    model = fitted(codes, torch.zeros_like(scores), torch.ones(2, 50).double())
    assert_close(model.predictions(codes), torch.zeros(2, 50).double(), rtol=0, atol=1e-6)


def test_a_weight_counts_as_so_many_equal_rows() -> None:
    codes, scores = noisy(60)
    counts = torch.randint(0, 4, (60,), generator=seeded(2))
    repeated = torch.arange(60).repeat_interleave(counts)
    kept = counts > 0
    weighted = fitted(codes, scores, counts.unsqueeze(0).double())
    literal = fitted(
        codes[repeated], scores[repeated], torch.ones(1, len(repeated), dtype=torch.float64)
    )
    assert bool(kept.any())
    assert bool((~kept).any())
    rows = SPACE.enumerate()
    assert_close(weighted(rows), literal(rows), rtol=1e-9, atol=1e-9)


def test_a_member_does_not_see_the_rows_that_weigh_0() -> None:
    codes, scores = noisy(120)
    weights = torch.ones(3, 120).double()
    weights[0, :40] = weights[1, 40:80] = 0
    changed = scores.clone()
    changed[:40] += 100 * normal((40,), generator=seeded(3))
    before, after = (fitted(codes, s, weights, sweeps=12) for s in (scores, changed))
    # the other members' sweeps may be more: their number is fixed by the tolerance of all
    assert_close(after.cells[:, 0], before.cells[:, 0], rtol=0, atol=5e-3)
    assert not torch.allclose(after.cells[:, 1], before.cells[:, 1], atol=0.5)
    assert not torch.allclose(after.cells[:, 2], before.cells[:, 2], atol=0.5)


def test_members_are_fitted_as_each_would_be_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anova, "_TOLERANCE", 0.0)
    codes, scores = noisy(120)
    weights = torch.ones(3, 120).double()
    weights[0, :40] = weights[1, 40:80] = 0
    together = fitted(codes, scores, weights)
    for member in range(3):
        kept = weights[member] > 0
        alone = fitted(codes[kept], scores[kept], torch.ones(1, int(kept.sum())).double())
        same = len(alone.cells)
        assert_close(together.cells[:same, member], alone.cells[:, 0], rtol=1e-9, atol=1e-9)


def test_inputs_are_not_changed() -> None:
    codes, scores = noisy(60)
    weights = torch.ones(2, 60).double()
    before = [tensor.clone() for tensor in (codes, scores, weights)]
    fitted(codes, scores, weights)
    for one, other in zip(before, (codes, scores, weights), strict=True):
        assert torch.equal(one, other)


def test_groups_of_few_columns_are_all_singles_pairs_and_triples() -> None:
    expected = [g for size in (1, 2, 3) for g in combinations(range(4), size)]
    assert sorted(anova_groups((2, 2, 2, 2), 1000)) == sorted(expected)
    assert max(map(len, anova_groups((2, 2, 2, 2), 31))) == 2  # 32 cells of triples
    assert max(map(len, anova_groups((2, 2, 2, 2), 32))) == 3


def test_pairs_with_the_fewest_cells_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [2 + (7 * i) % 11 for i in range(30)]
    monkeypatch.setattr(anova, "_MOST_GROUPS", 30 + 50)
    groups = anova_groups(sizes, 10**6)

    def cells(pair: tuple[int, ...]) -> int:
        return math.prod(sizes[c] for c in pair)

    expected = sorted(combinations(range(30), 2), key=cells)[:50]
    assert groups == [(c,) for c in range(30)] + expected
    monkeypatch.setattr(anova, "_MOST_CELLS", sum(sizes) + sum(map(cells, expected[:20])))
    assert anova_groups(sizes, 10**6) == groups[: 30 + 20]


def test_more_columns_than_groups_may_be_have_no_pairs() -> None:
    # a slice from the end would have taken millions of pairs
    assert anova_groups((2,) * 3000, 10**6) == [(c,) for c in range(3000)]
    many = anova_groups((2,) * 2000, 10**6)
    assert len(many) == 2048
    assert many[2000:2002] == [(0, 1), (0, 2)]
