"""The scale of the scores: monotone, invertible, per context."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from discrete_grad.fitting import ScoreScale
from discrete_grad.space import ContextSpec

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=300)
KINDS = st.sampled_from(["rank", "standard", "raw"])


def tensor(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(SCORES, KINDS)
def test_order_is_kept_and_nothing_is_lost_to_infinity(values: list[float], kind: str) -> None:
    scores = tensor(values).sort().values
    scaled = ScoreScale.fit(kind, scores, None, None).apply(scores)
    assert torch.isfinite(scaled).all()
    assert (scaled.diff() >= -1e-5).all()


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=129, unique=True), KINDS)
def test_inverse_undoes_apply(values: list[float], kind: str) -> None:
    scores = tensor(values)
    scale = ScoreScale.fit(kind, scores, None, None)
    back = scale.invert(scale.apply(scores))
    assert_close(back, scores, rtol=1e-3, atol=1e-3 * (scores.max() - scores.min()).item() + 1e-6)


def test_ranks_have_mean_0_and_variance_1_whatever_the_scores() -> None:
    scores = torch.randn(1000, generator=torch.Generator().manual_seed(0)).double().exp() * 1e5
    scaled = ScoreScale.fit("rank", scores, None, None).apply(scores)
    assert_close(scaled.mean().item(), 0.0, rtol=0, atol=5e-3)
    assert_close(scaled.std().item(), 1.0, rtol=0, atol=5e-3)


def test_ties_share_the_middle_of_their_ranks() -> None:
    scores = tensor([0.0] * 50 + [1.0] * 50)
    scaled = ScoreScale.fit("rank", scores, None, None).apply(scores)
    assert_close(scaled.unique(), torch.tensor([-1.0, 1.0]) * math.sqrt(3) / 2, rtol=0, atol=0.03)


@pytest.mark.parametrize("kind", ["rank", "standard"])
def test_each_context_has_a_scale_of_its_own(kind: str) -> None:
    spec = ContextSpec({"shop": ["east", "west", "new"]}, ["price"])
    context = torch.zeros(210, 4)
    context[:100, 0] = context[100:200, 1] = context[200:, 2] = 1
    scores = torch.linspace(0, 1, 210, dtype=torch.float64)
    scores[100:] += 1000
    scale = ScoreScale.fit(kind, scores, context, spec)
    scaled = scale.apply(scores, context)
    assert_close(scaled[:100], scaled[100:200], rtol=0, atol=1e-3)
    assert_close(scale.invert(scaled, context), scores, rtol=1e-3, atol=0.02)
    # ten rows are too few for a scale: they are placed among all
    assert scaled[200:].min() > 0
    alone = scale.apply(scores[3:4], context[3:4])
    assert torch.equal(alone, scaled[3:4])


def test_the_scale_goes_on_beyond_the_scores_seen() -> None:
    scale = ScoreScale.fit("rank", torch.linspace(0, 1, 500, dtype=torch.float64), None, None)
    beyond = scale.invert(torch.tensor([-math.sqrt(3), math.sqrt(3), 2 * math.sqrt(3)]))
    assert_close(beyond, tensor([0.0, 1.0, 1.5]), rtol=0, atol=1e-2)


def test_constant_scores_of_a_context_scale_to_0() -> None:
    scores = torch.full((60,), 7.0, dtype=torch.float64)
    for kind in ("rank", "standard"):
        scale = ScoreScale.fit(kind, scores, None, None)
        scaled = scale.apply(scores)
        assert_close(scaled, torch.zeros(60), rtol=0, atol=1e-6)
        assert torch.equal(scale.invert(scaled), scores)


def test_the_best_rows_below_an_outlier_keep_their_ranks() -> None:
    scores = torch.cat([torch.linspace(0, 1, 1499, dtype=torch.float64), tensor([1e6])])
    scaled = ScoreScale.fit("rank", scores, None, None).apply(scores).double()
    ranks = torch.linspace(-math.sqrt(3), math.sqrt(3), 1500, dtype=torch.float64)
    assert_close(scaled, ranks, rtol=0, atol=4e-3)


@pytest.mark.parametrize("unit", [1e-320, 1e-300, 1e300])
@pytest.mark.parametrize("kind", ["rank", "standard"])
def test_scores_of_any_size_are_scaled(kind: str, unit: float) -> None:
    scores = torch.randn(200, generator=torch.Generator().manual_seed(0)).double() * unit
    scale = ScoreScale.fit(kind, scores, None, None)
    scaled = scale.apply(scores)
    assert torch.isfinite(scaled).all()
    assert 0.9 < scaled.std().item() < 1.1
    assert torch.isfinite(scale.invert(torch.tensor([-1e3, 0.0, 1e3]))).all()


def test_contexts_of_many_columns_keep_their_own_scales() -> None:
    """Nine columns of 256 categories have more combinations than 64 bits can count."""
    spec = ContextSpec({f"c{i}": 256 for i in range(9)})
    codes = torch.zeros(200, 9, dtype=torch.long)
    codes[100:, 0] = 1
    context = torch.nn.functional.one_hot(codes, 256).flatten(1).float()
    scores = torch.arange(200, dtype=torch.float64)
    scale = ScoreScale.fit("rank", scores, context, spec)
    scaled = scale.apply(scores, context)
    torch.testing.assert_close(scaled[:100], scaled[100:])


def test_from_50_rows_on_a_context_has_a_scale_of_its_own() -> None:
    spec = ContextSpec(categorical={"shop": ["a", "b", "c"]})
    context = torch.eye(3)[[0] * 49 + [1] * 50 + [2] * 51]
    scale = ScoreScale.fit("rank", torch.arange(150.0).double(), context, spec)
    assert scale.groups(torch.eye(3), 3).tolist() == [2, 0, 1]


def test_each_combination_of_two_columns_has_a_scale_of_its_own() -> None:
    spec = ContextSpec({"shop": 2, "size": 3})
    different = torch.tensor([[*a, *b] for a in torch.eye(2).tolist() for b in torch.eye(3)])
    context = different.repeat_interleave(50, 0)
    scale = ScoreScale.fit("rank", torch.arange(300.0).double(), context, spec)
    assert scale.groups(different, 6).tolist() == [0, 1, 2, 3, 4, 5]
