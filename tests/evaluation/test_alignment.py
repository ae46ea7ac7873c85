"""The measures of a metric against loops, and the aligner beside its baselines."""

import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from discrete_grad.evaluation import alignment_metrics, compare_metrics, spearman
from discrete_grad.evaluation._pair_measures import (
    anchor_spearman,
    precision_share,
    triplet_share,
    weighted_mean,
)
from discrete_grad.evaluation.alignment import AlignmentFigure, Similarity, _interval
from discrete_grad.evaluation.row_pairs import pairs_of_kind
from discrete_grad.hamming import HammingIndex
from discrete_grad.models import Aligner, Estimator
from discrete_grad.space import CategoricalSpace, ContextSpec

SPACE = CategoricalSpace.from_sizes((3, 4, 3, 3))
CODES = SPACE.enumerate()


@st.composite
def pair_tables(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Similarities, distances and known pairs `(A, P)`, with ties; no anchor without a pair."""
    shape = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    levels = draw(st.sampled_from([2, 4, 1000]))
    similarity, distance = torch.randint(levels, (2, *shape), generator=random).double()
    known = torch.rand(shape, generator=random) < 0.7
    known[:, 0] = True
    return similarity, distance, known


@given(pair_tables(), st.data())
def test_rank_correlation_of_repeated_anchors(
    table: tuple[Tensor, Tensor, Tensor], data: st.DataObject
) -> None:
    similarity, distance, known = table
    anchors = range(len(known))
    drawn = [data.draw(st.lists(st.sampled_from(anchors), min_size=1)) for _ in range(3)]
    times = torch.tensor([[float(draw.count(i)) for i in anchors] for draw in drawn]).double()
    values = anchor_spearman(similarity, distance, known, times)
    for value, draw in zip(values.tolist(), drawn, strict=True):
        x = torch.cat([similarity[i][known[i]] for i in draw])
        y = torch.cat([-distance[i][known[i]] for i in draw])
        expected = spearman(x, y)
        if math.isnan(expected):
            assert math.isnan(value) or len(x) == 1 or min(len(x.unique()), len(y.unique())) == 1
        else:
            assert value == pytest.approx(expected, abs=1e-9)


@given(pair_tables())
def test_triplets_by_loops(table: tuple[Tensor, Tensor, Tensor]) -> None:
    for row, s, d, known in zip(triplet_share(*table).tolist(), *table, strict=True):
        kept = [(s[j].item(), d[j].item()) for j in range(len(s)) if known[j]]
        counted = [(a[0] > b[0]) + (a[0] == b[0]) / 2 for a in kept for b in kept if a[1] < b[1]]
        expected = sum(counted) / len(counted) if counted else math.nan
        assert row == pytest.approx(expected, nan_ok=True)


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 5))
def test_precision_without_ties(seed: int, nearest: int, pairs: int) -> None:
    random = torch.Generator().manual_seed(seed)
    similarity, distance = torch.rand(2, 3, pairs, generator=random)
    known = torch.rand(3, pairs, generator=random) < 0.7
    values = precision_share(similarity, distance, known, nearest).tolist()
    for value, s, d, some in zip(values, similarity, distance, known, strict=True):
        if int(some.sum()) <= nearest:
            assert math.isnan(value)
            continue
        picked = some.nonzero()[:, 0]
        chosen = set(picked[s[some].argsort(descending=True)[:nearest]].tolist())
        near = set(picked[d[some].argsort()[:nearest]].tolist())
        assert value == pytest.approx(len(chosen & near) / nearest)


def test_precision_with_ties() -> None:
    similarity = torch.tensor([[5.0, 4.0, 4.0, 4.0, 1.0]])
    distance = torch.tensor([[1.0, 9.0, 2.0, 2.0, 0.0]])
    known = torch.ones(1, 5, dtype=torch.bool)
    # the first, and one of three of which two are as near as the third nearest
    assert precision_share(similarity, distance, known, 3).item() == pytest.approx((1 + 4 / 3) / 3)
    assert precision_share(-distance, distance, known, 3).item() == 1


def test_precision_of_a_constant_is_chance() -> None:
    distance = torch.arange(6.0).expand(2, -1)
    known = torch.ones(2, 6, dtype=torch.bool)
    assert precision_share(torch.zeros(2, 6), distance, known, 3).tolist() == [0.5, 0.5]


def test_mean_leaves_out_what_is_not_defined() -> None:
    times = torch.tensor([[1.0, 1.0, 1.0], [0.0, 3.0, 1.0], [0.0, 0.0, 2.0]])
    values = weighted_mean(torch.tensor([2.0, 6.0, math.nan]), times)
    assert values[:2].tolist() == [4, 6]
    assert values[2].isnan()


# --- comparing ----------------------------------------------------------------------------------


def truth(behaviour: Tensor) -> Similarity:
    several = behaviour.reshape(len(behaviour), -1)
    return lambda a, b: -(several[a] - several[b]).norm(dim=-1)


def by_name(figures: list[AlignmentFigure]) -> dict[tuple[str, str, str], AlignmentFigure]:
    return {(f.pairs, f.metric, f.measure): f for f in figures}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("several", [False, True])
def test_the_truth_is_perfect_and_its_opposite_the_worst(several: bool) -> None:
    random = torch.randn(len(CODES), 3, generator=seeded(), dtype=torch.float64)
    behaviour = random if several else random[:, 0]
    right = truth(behaviour)
    metrics = {"truth": right, "first": truth(random[:, 0]), "wrong": lambda a, b: -right(a, b)}
    figures = by_name(
        compare_metrics(metrics, CODES, behaviour, resamples=30, nearest=2, generator=seeded())
    )
    for pairs in ("random", "hamming 1", "far"):
        assert figures[pairs, "truth", "spearman"].value == pytest.approx(1)
        assert figures[pairs, "wrong", "spearman"].value == pytest.approx(-1)
        for measure in ("triplet", "precision"):
            assert figures[pairs, "truth", measure].value == 1
            assert figures[pairs, "truth", measure].low == 1
        assert figures[pairs, "wrong", "triplet"].value == 0
        # one of three scores is not the whole behaviour
        assert (figures[pairs, "first", "spearman"].value < 0.9) == several
        gain = figures[pairs, "truth - wrong", "triplet"]
        assert (gain.value, gain.low, gain.high) == (1, 1, 1)


def test_intervals_hold_the_value_and_shrink_with_anchors() -> None:
    score = torch.randn(len(CODES), generator=seeded())
    noisy = score + torch.randn(len(CODES), generator=seeded(1))
    widths = []
    for anchors in (10, 108):
        found = compare_metrics(
            {"noisy": truth(noisy)}, CODES, score, anchors=anchors, generator=seeded()
        )
        for figure in found:
            assert figure.low <= figure.value <= figure.high
        widths.append(sum(figure.high - figure.low for figure in found))
    assert widths[1] < 0.6 * widths[0]


def test_bootstrap_covers_what_other_anchors_would_have_said() -> None:
    space = CategoricalSpace.from_sizes((4, 4, 4, 4, 4))
    codes = space.enumerate()
    score = torch.randn(len(codes), generator=seeded())
    metrics = {"noisy": truth(score + torch.randn(len(codes), generator=seeded(1)))}

    def triplet(anchors: int, seed: int) -> AlignmentFigure:
        figures = compare_metrics(
            metrics, codes, score, anchors=anchors, pairs=8, resamples=200, generator=seeded(seed)
        )
        return by_name(figures)["hamming 1", "noisy", "triplet"]

    whole = triplet(len(codes), 0).value
    inside = [f.low <= whole <= f.high for f in (triplet(40, seed) for seed in range(20))]
    assert sum(inside) >= 15  # of 20; 19 expected, 15 or more with probability 0.9997


def test_pairs_stay_within_a_context() -> None:
    """The context shifts the score by far more than the features do."""
    codes, shop = CODES.repeat(2, 1), torch.arange(2).repeat_interleave(len(CODES)).float()
    score = codes.sum(-1) + 1000 * shop
    context = shop.unsqueeze(-1)

    def metric(a: Tensor, b: Tensor) -> Tensor:
        return -(codes[a].sum(-1) - codes[b].sum(-1)).abs().float()

    figures = compare_metrics(
        {"features": metric}, codes, score, context=context, resamples=5, generator=seeded()
    )
    assert [figure.value for figure in figures] == [pytest.approx(1)] * 9
    mixed = compare_metrics({"features": metric}, codes, score, resamples=5, generator=seeded())
    assert by_name(mixed)["random", "features", "spearman"].value < 0.9


def test_the_aligner_beside_its_baselines() -> None:
    torch.manual_seed(0)
    spec = ContextSpec(numeric=["price"])
    aligner = Aligner(Estimator(SPACE, context=spec, hidden=(8,)), 4)
    context = torch.arange(2.0).repeat_interleave(54).unsqueeze(-1)
    behaviour = torch.randn(len(CODES), 2, generator=seeded())
    figures = by_name(
        alignment_metrics(
            aligner, CODES, behaviour, context=context, resamples=3, pairs=54, generator=seeded()
        )
    )
    names = ["aligner", "estimate", "latent", "hamming"]
    assert {f.metric for f in figures.values()} == {
        *names,
        *(f"aligner - {name}" for name in names[1:]),
    }
    # all pairs of a context, by hand
    both = [(i, j) for i in range(108) for j in range(108) if i != j and (i < 54) == (j < 54)]
    a, b = torch.tensor(both).unbind(1)
    distance = (behaviour[a] - behaviour[b]).norm(dim=-1)
    with torch.no_grad():
        latent = aligner.estimator.to_latent(CODES, context)
        score = aligner.estimator(CODES, context)
        sides = {
            "aligner": aligner(CODES[a], CODES[b], context[a]),
            "estimate": -(score[a] - score[b]).abs(),
            "latent": torch.cosine_similarity(latent[a], latent[b], -1),
            "hamming": -(CODES[a] != CODES[b]).sum(-1).float(),
        }
    for name, side in sides.items():
        value = figures["random", name, "spearman"].value
        assert value == pytest.approx(spearman(side, -distance), abs=2e-3)
        difference = figures["random", "aligner", "spearman"].value - value
        if name != "aligner":
            gain = figures["random", f"aligner - {name}", "spearman"].value
            assert gain == pytest.approx(difference)
    assert math.isnan(figures["hamming 1", "hamming", "spearman"].value)  # a constant
    assert figures["hamming 1", "hamming", "triplet"].value == 0.5


def test_without_a_pair_of_a_kind() -> None:
    codes = torch.tensor([[0, 0], [1, 1], [2, 2]])
    score = torch.tensor([0.0, 1.0, 5.0])
    figures = by_name(compare_metrics({"truth": truth(score)}, codes, score, resamples=3))
    nothing = figures["hamming 1", "truth", "spearman"]
    assert nothing.anchors == 0
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.low)
    assert figures["far", "truth", "triplet"].value == 1


def test_the_same_seed_says_the_same() -> None:
    score = torch.randn(len(CODES), generator=seeded())
    metrics = {"noisy": truth(score + torch.randn(len(CODES), generator=seeded(1)))}
    first, second, other = (
        compare_metrics(metrics, CODES, score, anchors=20, resamples=20, generator=seeded(seed))
        for seed in (0, 0, 1)
    )
    assert first == second
    assert first != other


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"codes": CODES[:1], "behaviour": torch.zeros(1)}, "N >= 2"),
        ({"behaviour": torch.zeros(5)}, r"behaviour must be \(108,\)"),
        ({"context": torch.zeros(5, 1)}, r"context must be \(108, C\)"),
        ({"behaviour": torch.zeros(108).index_fill(0, torch.tensor([7, 9]), math.nan)}, "row 7"),
        ({"anchors": 0}, "anchors must be at least 1"),
        ({"nearest": 0}, "nearest must be at least 1"),
        ({"confidence": 1.0}, "confidence must lie"),
    ],
)
def test_bad_input(wrong: dict[str, object], message: str) -> None:
    arguments = {"codes": CODES, "behaviour": torch.zeros(108)} | wrong
    with pytest.raises(ValueError, match=message):
        compare_metrics({"truth": truth(torch.zeros(108))}, **arguments)


def test_the_settings_of_an_aligner_are_those_of_a_metric() -> None:
    """So a call that leaves them out is one of 256 anchors at most, of 300 rows."""
    ours, theirs = (inspect.signature(f).parameters for f in (alignment_metrics, compare_metrics))
    shared = ("anchors", "pairs", "nearest", "resamples", "confidence")
    assert [ours[name].default for name in shared] == [theirs[name].default for name in shared]
    space = CategoricalSpace.from_sizes((5, 5, 12))
    codes, aligner = space.enumerate(), Aligner(Estimator(space))
    found = alignment_metrics(aligner, codes, codes.sum(-1).float(), resamples=2)
    assert {figure.anchors for figure in found if figure.pairs == "random"} == {256}


def test_the_interval_is_that_of_the_draws_alone() -> None:
    assert _interval(torch.tensor([100.0, 1.0, 1.0, 1.0]), 0.95) == (100.0, 1.0, 1.0)


def test_rows_are_far_apart_from_half_of_their_features_on() -> None:
    codes = torch.tensor([[0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    rows, others, known = pairs_of_kind("far", HammingIndex(codes), torch.tensor([0]), 2)
    assert (rows.tolist(), others[known].tolist()) == ([0], [1])
