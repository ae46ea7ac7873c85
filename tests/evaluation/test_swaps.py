"""Effects of single swaps, against loops over every swap, and how they are compared."""

import math
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.evaluation import (
    Observed,
    mean_interval,
    spearman,
    swap_agreement,
    swap_effects,
)
from discrete_grad.evaluation.swap_agreement import SwapAgreement, _correlations, swap_report
from discrete_grad.evaluation.swaps import SwapEffects
from discrete_grad.gradient import on_codes
from discrete_grad.models import Estimator, EstimatorEnsemble, MultilinearEstimator
from discrete_grad.reporting import build_report
from discrete_grad.sampling import isolated_seed, random_codes, seeded
from tests.evaluation.subjects import make_subject

SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def curved(width: int, seed: int = 0) -> nn.Module:
    """A small network of flat rows, in float64."""
    with isolated_seed(seed):
        layers = nn.Linear(width, 6), nn.Tanh(), nn.Linear(6, 1)
        return nn.Sequential(*layers, nn.Flatten(0)).double().requires_grad_(False)


def by_loops(f: nn.Module, space: CategoricalSpace, row: Tensor) -> tuple[Tensor, Tensor]:
    """Exact and predicted effects `(D,)` of one row, a swap at a time."""
    flat = space.one_hot(row, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: f(x.unsqueeze(0))[0], flat)
    exact, predicted = (torch.zeros(space.width, dtype=torch.float64) for _ in range(2))
    for i, (offset, size) in enumerate(zip(space.offsets, space.sizes, strict=True)):
        own = int(row[i])
        for k in range(size):
            other = row.clone()
            other[i] = k
            swapped = space.one_hot(other, dtype=torch.float64)
            exact[offset + k] = f(swapped.unsqueeze(0))[0] - f(flat.unsqueeze(0))[0]
            predicted[offset + k] = (swapped - flat) @ jacobian
        assert exact[offset + own] == predicted[offset + own] == 0
    return exact, predicted


@given(SIZES, st.integers(1, 4), st.integers(1, 40))
def test_effects_are_those_of_a_loop_over_every_swap(
    sizes: list[int], rows: int, max_rows: int
) -> None:
    space = CategoricalSpace.from_sizes(sizes)
    f, codes = curved(space.width), random_codes(space, rows, generator=seeded(1))
    with torch.no_grad():
        effects = swap_effects(f, codes, space=space, max_rows=max_rows)
    for row, exact, predicted in zip(codes, effects.exact, effects.predicted, strict=True):
        expected = by_loops(f, space, row)
        torch.testing.assert_close(exact, expected[0], rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(predicted, expected[1], rtol=1e-9, atol=1e-13)


def test_every_swap_is_evaluated_once() -> None:
    space, seen = CategoricalSpace.from_sizes((3, 1, 4)), []

    def f(rows: Tensor) -> Tensor:
        seen.append(len(rows))
        return rows.square().sum(-1)

    swap_effects(f, random_codes(space, 7, generator=seeded(0)), space=space, max_rows=10)
    assert sum(seen) == 7 * (space.width - space.num_features + 1)
    assert max(seen) <= 10


@pytest.mark.parametrize("takes_codes", [False, True])
def test_a_model_that_takes_codes_is_given_the_swapped_rows_as_codes(takes_codes: bool) -> None:
    class Model:
        def __init__(self) -> None:
            self.takes_codes, self.seen = takes_codes, set[torch.dtype]()

        def __call__(self, rows: Tensor) -> Tensor:
            self.seen.add(rows.dtype)
            flat = rows if rows.is_floating_point() else space.one_hot(rows)
            return flat.square() @ torch.arange(7.0)

    space, model = CategoricalSpace.from_sizes((3, 4)), Model()
    effects = swap_effects(model, torch.tensor([[1, 3]]), space=space)
    assert effects.exact.tolist() == [[-1, 0, 1, -3, -2, -1, 0]]
    # the gradient is taken in the flat row
    assert model.seen == ({torch.float32, torch.int64} if takes_codes else {torch.float32})


SPEC = ContextSpec({"shop": 3}, ["price"])


def contexts(rows: int) -> Tensor:
    shop = torch.eye(3)[torch.arange(rows) % 3]
    return torch.cat([shop, torch.linspace(-1, 1, rows).unsqueeze(1)], 1).double()


def test_the_first_order_is_exact_for_a_multilinear_estimator() -> None:
    space = CategoricalSpace.from_sizes((3, 1, 4, 2, 2))
    with isolated_seed(0):
        estimator = MultilinearEstimator(space, context=SPEC, rank=3).double()
    codes = random_codes(space, 9, generator=seeded(0))
    effects = swap_effects(estimator, codes, contexts(9))
    torch.testing.assert_close(effects.predicted, effects.exact, rtol=1e-9, atol=1e-13)
    assert effects.exact[effects.swapped].ne(0).all()
    agreement = swap_agreement(effects)
    assert agreement.rank_correlation == (1, 1, 1)
    assert agreement.by_feature == ((1, 1, 1), None, (1, 1, 1), (1, 1, 1), (1, 1, 1))
    assert agreement.best_found == agreement.precision == (1, 1, 1)
    assert agreement.gain_share == (1, 1, 1)
    assert agreement.rows == 9


@pytest.mark.parametrize("context", [True, False])
def test_an_ensembles_effects_are_the_means_of_its_members(context: bool) -> None:
    space, spec = CategoricalSpace.from_sizes((3, 2, 5)), SPEC if context else None
    with isolated_seed(1):
        members = [Estimator(space, context=spec, hidden=(8,)).double() for _ in range(3)]
    codes, given_context = space.enumerate(), contexts(30) if context else None
    parts = [swap_effects(member, codes, given_context) for member in members]
    whole = swap_effects(EstimatorEnsemble(members), codes, given_context)
    for side in ("exact", "predicted"):
        mean = sum(getattr(part, side) for part in parts) / 3
        torch.testing.assert_close(getattr(whole, side), mean, rtol=1e-9, atol=1e-13)


def test_a_context_stays_with_its_row() -> None:
    space = CategoricalSpace.from_sizes((2, 2))
    codes, factor = torch.zeros(3, 2).long(), torch.tensor([[1.0], [10.0], [100.0]])
    effects = swap_effects(
        lambda row, context: row[:, 1] * context[:, 0], codes, factor, space=space, max_rows=2
    )
    assert effects.exact[:, 1].tolist() == effects.predicted[:, 1].tolist() == [1, 10, 100]


PLANTED = CategoricalSpace.from_sizes((3, 2))


def misleading(row: Tensor) -> Tensor:
    """Best where a feature's value is 1; from 0 the slope points on to the category of value 3."""
    value = row[:, :3] @ row.new_tensor([0.0, 1.0, 3.0])
    return -(value - 1).square() + 0.1 * row[:, 4]


def test_a_planted_function_misleads_the_first_order() -> None:
    codes = torch.zeros(1, 2).long()
    effects = swap_effects(misleading, codes, space=PLANTED, dtype=torch.float64)
    expected = torch.tensor([[0, 1, -3, 0, 0.1], [0, 2, 6, 0, 0.1]]).double()
    torch.testing.assert_close(torch.cat([effects.exact, effects.predicted]), expected)
    agreement = swap_agreement(effects, k=2)
    assert agreement.by_feature[0] is not None
    assert agreement.by_feature[0][0] == pytest.approx(-0.5)  # 0, 1, -3 by 0, 2, 6
    assert agreement.by_feature[1] == (1, -1, 1)  # one row: the interval is everything
    assert agreement.rank_correlation == (-0.5, -1, 1)  # 1, -3, .1 by 2, 6, .1
    assert agreement.best_found == agreement.gain_share == (0, 0, 1)
    assert agreement.precision == (0.5, 0, 1)


def effects_of(exact: list[list[float]], predicted: list[list[float]]) -> SwapEffects:
    """Of rows of code 0 in one feature."""
    space = CategoricalSpace.from_sizes((len(exact[0]),))
    codes = torch.zeros(len(exact), 1).long()
    return SwapEffects(space, codes, torch.tensor(exact), torch.tensor(predicted))


def test_shares_by_hand() -> None:
    exact = [[0, 4, 2, -1], [0, 4, 2, -1], [0, -1, -2, -3], [0, 1, 1, 1]]
    predicted = [[0, 1, 3, 2], [0, 9, 1, 2], [0, 5, 4, 3], [0, 3, 2, 1]]
    agreement = swap_agreement(effects_of(exact, predicted), k=2)
    assert agreement.rows == 3  # the last has nothing to be told apart
    assert agreement.best_found == (pytest.approx(2 / 3), 0, 1)
    assert agreement.gain_share is not None
    assert agreement.gain_share[0] == pytest.approx((0.5 + 1) / 2)  # of the two rows with a gain
    assert agreement.precision is not None
    assert agreement.precision[0] == pytest.approx((0.5 + 0.5 + 1) / 3)
    # among the categories, the row's own too, the last row has a best one
    assert agreement.by_feature[0] is not None
    values = [spearman(torch.tensor(e), torch.tensor(p)) for e, p in zip(exact, predicted)]  # noqa: B905
    assert agreement.by_feature[0][0] == pytest.approx(sum(values) / 4)


def test_a_swap_that_harms_reaches_no_gain() -> None:
    agreement = swap_agreement(effects_of([[0, 1, -5]], [[0, 1, 2]]))
    assert agreement.gain_share == (0, 0, 1)


def test_equals_of_the_best_count_as_best() -> None:
    agreement = swap_agreement(effects_of([[0, 2, 2, 1, 1]], [[0, 0, 9, 1, 8]]), k=3)
    assert agreement.best_found == (1, 0, 1)
    assert agreement.precision == (1, 0, 1)  # 2, 1 and the other 1


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_equal_effects_are_nothing_to_be_predicted(value: float) -> None:
    space = CategoricalSpace.from_sizes((2, 1, 3))
    f = lambda row: row.sum(-1) * value  # noqa: E731
    effects = swap_effects(f, space.enumerate(), space=space)
    assert effects.exact.eq(0).all()
    assert effects.predicted.eq(0).all()
    assert swap_agreement(effects) == SwapAgreement(0, None, (None,) * 3, None, None, None, 3)


def test_a_space_without_swaps() -> None:
    space = CategoricalSpace.from_sizes((1, 1))
    effects = swap_effects(lambda row: row.sum(-1), torch.zeros(2, 2).long(), space=space)
    assert swap_agreement(effects) == SwapAgreement(0, None, (None, None), None, None, None, 0)
    assert build_report(make_subject(space), samples=2)["swaps"] is None


def test_a_constant_prediction_has_no_rank_correlation() -> None:
    agreement = swap_agreement(effects_of([[0, 1, 2]], [[0, 0, 0]]))
    assert agreement.rank_correlation == (0, -1, 1)
    assert not any(map(math.isnan, agreement.rank_correlation))


def test_a_feature_that_the_estimator_ignores_is_not_ranked() -> None:
    space = CategoricalSpace.from_sizes((5, 40))
    with isolated_seed(0):
        estimator = Estimator(space)
    with torch.no_grad():
        estimator.embedding.weight[5:] = estimator.embedding.weight[5]
        # equal but for the last place
        estimator.embedding.weight[6:] *= 1 + 1e-7
    agreement = swap_agreement(swap_effects(estimator, space.enumerate()))
    assert agreement.by_feature[1] is None
    assert agreement.by_feature[0] is not None


def test_an_effect_is_no_rounding_error_of_another_row() -> None:
    space = CategoricalSpace.from_sizes((2, 2, 2))

    def f(flat: Tensor) -> Tensor:
        return 1e20 * flat[:, 1] * flat[:, 3] + 0.001 * flat[:, 5]

    codes = torch.tensor([[0, 0, 0], [1, 1, 0]])
    found = swap_effects(f, codes, space=space, dtype=torch.float64)
    for effects in (found.exact, found.predicted):
        assert effects[0].tolist() == [0, 0, 0, 0, 0, 0.001]
        assert effects[1, 5] == 0


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=2, max_size=9))
def test_rank_correlations_of_many_rows_are_those_of_each(pairs: list[tuple[int, int]]) -> None:
    exact, predicted = torch.tensor(pairs, dtype=torch.float64).T.contiguous()
    found = float(_correlations(torch.stack([exact, -exact]), torch.stack([predicted] * 2))[0])
    if exact.unique().numel() == 1:
        assert math.isnan(found)
    elif predicted.unique().numel() == 1:
        assert found == 0
    else:
        assert found == pytest.approx(spearman(exact, predicted), abs=1e-12)


def test_intervals_are_over_the_rows() -> None:
    space = CategoricalSpace.from_sizes((3, 4))
    f, codes = curved(space.width, seed=3), space.enumerate()
    whole = swap_agreement(swap_effects(f, codes, space=space), confidence=0.8)
    single = [swap_agreement(swap_effects(f, row.unsqueeze(0), space=space)) for row in codes]
    means = [one.rank_correlation[0] for one in single if one.rank_correlation]
    assert whole.rank_correlation == pytest.approx(mean_interval(means, 0.8))


def test_bad_input_is_told() -> None:
    space, row = PLANTED, torch.tensor([[2, 1]])
    with pytest.raises(TypeError, match="swap_effects needs the features"):
        swap_effects(misleading, row)
    with pytest.raises(ValueError, match="no derivative in the row"):
        swap_effects(on_codes(space, lambda codes: codes.sum(-1).float()), row, space=space)
    with pytest.raises(ValueError, match="no gradient"):
        swap_effects(lambda x: x.detach().sum(-1), row, space=space)
    weight = torch.ones((), requires_grad=True)
    with pytest.raises(ValueError, match="no gradient"):
        swap_effects(lambda x: weight * x.detach().sum(-1), row, space=space)
    with pytest.raises(ValueError, match=r"f must be finite, got nan at the row x0=1, x1=1"):
        swap_effects(lambda x: x.sum(-1) * (1 - 2 * x[:, 1]).sqrt(), row, space=space)
    several = torch.tensor([[0, 0], [1, 1], [0, 1], [1, 0]])
    with pytest.raises(ValueError, match=r"f must be finite, got nan at the row x0=1, x1=1$"):
        swap_effects(lambda x: x.sum(-1) * (1 - 2 * x[:, 1]).sqrt(), several, space=space)
    with pytest.raises(ValueError, match="the gradient of f must be finite"):
        swap_effects(lambda x: x[:, 0].sqrt(), row, space=space)
    with pytest.raises(ValueError, match="feature 'x0' has code 3"):
        swap_effects(misleading, row + 1, space=space)
    with pytest.raises(ValueError, match="N >= 1"):
        swap_effects(misleading, row[:0], space=space)
    with pytest.raises(ValueError, match=r"context must be \(1, C\)"):
        swap_effects(misleading, row, torch.zeros(2, 1), space=space)
    with pytest.raises(ValueError, match=r"values \(1,\), got \(\)"):
        swap_effects(lambda x: x.sum(), row, space=space)
    with pytest.raises(ValueError, match="max_rows"):
        swap_effects(misleading, row, space=space, max_rows=0)
    with (
        torch.inference_mode(),
        pytest.raises(ValueError, match=r"^a prediction of swaps by the gradient needs"),
    ):
        swap_effects(misleading, row, space=space)
    effects = swap_effects(misleading, row, space=space)
    with pytest.raises(ValueError, match="k must be"):
        swap_agreement(effects, k=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        swap_agreement(effects, confidence=95)


# --- in the report --------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", [0, 5])
def test_the_reports_maps_and_figures(shown: int) -> None:
    subject = make_subject(contexts=shown)
    part = build_report(subject, samples=4)["swaps"]
    logits = torch.atleast_2d(subject.policies["generator"](subject.contexts))
    codes = subject.space.argmax(logits)
    effects = swap_effects(subject.estimator, codes, subject.contexts)
    found = part["agreement"]["most likely rows"]
    assert found["rows"] == max(shown, 1)
    expected = asdict(swap_agreement(effects))
    assert found["rank_correlation"] == pytest.approx(expected["rank_correlation"])
    assert len(part["maps"]) == min(max(shown, 1), 3)
    for place, one in enumerate(part["maps"]):
        assert one["label"] == subject.labels[place]
        for i, feature in enumerate(one["features"]):
            block = subject.space.split(effects.exact[place])[i]
            assert [label for label, *_ in feature] == list(subject.space.categories[i])
            for k, (_, exact, predicted) in enumerate(feature):
                own = k == codes[place, i]
                assert (exact is None) == (predicted is None) == own
                assert own or exact == pytest.approx(float(block[k]), rel=1e-3)
    assert part["agreement"]["training rows"]["rows"] == 60


def test_training_rows_of_contexts_that_are_not_shown_are_left_out() -> None:
    seen = make_subject(contexts=3).observed
    context = torch.where(seen.context == 1, -1, seen.context)
    subject = make_subject(contexts=3, observed=Observed(seen.codes, seen.scores, context))
    part = swap_report(subject, torch.zeros(3, 3, dtype=torch.long))
    assert part is not None
    shown = context >= 0
    there = subject.contexts[context[shown]]
    expected = swap_agreement(swap_effects(subject.estimator, seen.codes[shown], there))
    assert part["agreement"]["training rows"] == asdict(expected)
    assert 0 < expected.rows < len(context)


def test_many_categories_and_features_are_cut_to_the_largest_effects() -> None:
    space = CategoricalSpace({"many": 200} | {f"x{i}": 2 for i in range(40)})
    subject = make_subject(space)
    one = build_report(subject, samples=2)["swaps"]["maps"][0]
    assert len(one["features"]) == 30
    many = one["features"][0]
    assert len(many) == 11
    logits = torch.atleast_2d(subject.policies["generator"](None))
    effects = swap_effects(subject.estimator, space.argmax(logits))
    weight = torch.maximum(effects.exact.abs(), effects.predicted.abs())[0, :200]
    kept = [int(label) for label, *_ in many]
    assert kept == sorted(kept)
    own = int(effects.codes[0, 0])
    assert set(kept) == {own, *weight.topk(10).indices.tolist()}


def test_an_estimator_without_a_gradient_has_no_swaps_in_the_report() -> None:
    class Lookup:
        def __call__(self, row: Tensor, context: Tensor | None = None, /) -> Tensor:
            hard = space.argmax(row) if row.is_floating_point() else row
            return hard.sum(-1).float()

        def std(self, row: Tensor, context: Tensor | None = None, /) -> Tensor:
            return torch.zeros(len(row))

    space = CategoricalSpace.from_sizes((2, 3))
    assert build_report(make_subject(space, estimator=Lookup()), samples=2)["swaps"] is None
