"""Where the checks of direction and scale look: functions whose gradient is known by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.testing import _check_direction as direction
from discrete_grad.testing import _check_numerics as numerics
from discrete_grad.testing import _check_random as random
from discrete_grad.testing import _check_rows as rows
from discrete_grad.testing import _check_rules as under_rules
from discrete_grad.testing import exact
from discrete_grad.testing._check_gradient import check_sums_to_zero
from discrete_grad.testing.exact import NotEnumerableError, exact_gradient
from discrete_grad.testing.statistics import MeanTest
from discrete_grad.testing.subject import Scene, SkipCheck, Subject
from tests.testing.bugs import LAYER, Layer
from tests.testing.test_messages import FIRST, changed

SPACE = CategoricalSpace({"cut": ["fair", "good"], "one": 1, "colour": 3, "many": 5, "size": 4})
LOGITS = torch.linspace(-0.3, 0.3, SPACE.width).double().cos()
SCENE = Scene(SPACE, LOGITS)


def test_every_category_of_small_features_is_probed() -> None:
    assert direction._chosen(SCENE) == [
        (0, 0),
        *((2, k) for k in range(3)),
        *((4, k) for k in range(4)),
    ]
    wide = Scene(CategoricalSpace.from_sizes((3,) * 9), torch.zeros(27))
    assert direction._chosen(wide) == [(i, 0) for i in range(9)]  # each third of 27
    thirteen = Scene(CategoricalSpace.from_sizes((4, 4, 3, 2, 2)), torch.zeros(15))
    assert len(direction._chosen(thirteen)) == 7
    twelve = Scene(CategoricalSpace.from_sizes((4, 4, 4)), torch.zeros(12))
    assert len(direction._chosen(twelve)) == 12


def test_additive_probes() -> None:
    probes = direction.additive_probes(SCENE)
    columns = [0, 3, 4, 5, 11, 12, 13, 14]
    assert [probe.what for probe in probes[:2]] == [
        "f = 1 where feature 'cut' is 'fair', else 0",
        "f = 1 where feature 'colour' is '0', else 0",
    ]
    for probe, column in zip(probes, columns, strict=True):
        flat = torch.rand(4, SPACE.width)
        assert torch.equal(probe.f(flat), flat[:, column])
        assert_close(probe.truth, exact_gradient(probe.f, LOGITS, SPACE))
        assert probe.part == slice(0, SPACE.width)


def test_multilinear_probes() -> None:
    probes = direction.multilinear_probes(SCENE)
    flat = torch.rand(4, SPACE.width)
    expected = (1 + flat[:, 1]) * (1 + flat[:, 4]) * (1 + flat[:, 12])
    truth = exact_gradient(probes[0].f, LOGITS, SPACE)
    parts = [slice(0, 2), slice(3, 6), slice(11, 15)]
    for probe, part, name in zip(probes, parts, ["cut", "colour", "size"], strict=True):
        assert probe.what == (
            f"f doubled by each feature in its second category, seen in feature {name!r}"
        )
        assert_close(probe.f(flat), expected)
        assert probe.part == part
        assert_close(probe.truth[part], truth[part])
        assert probe.truth.count_nonzero() == part.stop - part.start


def test_a_gradient_of_nothing_has_no_direction() -> None:
    x, y = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])
    assert direction._cosine(x, y) == pytest.approx(0.96)
    assert direction._cosine(0 * x, y) == 0
    assert direction._cosine(1e-11 * x, y) == 0


def test_figures_of_a_test_in_words() -> None:
    zero = torch.zeros(1)
    test = MeanTest(
        estimated=zero, expected=zero, error=zero, samples=12_345, threshold=0.12345,
        detects=0.5, power=0.99923, false_alarm=3e-10,
    )  # fmt: skip
    assert direction._worth(test) == (
        " (12,345 samples; up to 0.123 too far is taken for chance, so a false alarm has "
        "probability 3e-10; 0.5 too far is found with probability 0.9992)"
    )
    probe = direction.additive_probes(SCENE)[0]
    assert direction._direction_message(probe, "mean", 0.94999) == (
        "f = 1 where feature 'cut' is 'fair', else 0: the mean gradient has cosine 0.94999 with "
        "the true one, at least 0.95 is needed"
    )


def test_the_length_that_is_claimed() -> None:
    probe = direction.additive_probes(SCENE)[0]

    def check(bias: str, slope: float) -> None:
        claims = SimpleNamespace(bias=bias, slope=(0.5, 2.0))
        subject: Any = SimpleNamespace(claims=claims)
        direction._require_claimed(subject, probe, slope, 0.1, ", so far")

    for slope in (0.41, 2.09):
        check("biased", slope)
    for slope in (0.91, 1.09):
        check("none", slope)
    start = f"^{probe.what}: the expected gradient has "
    for bias, slope, told in (
        ("biased", 0.39, "0.39 times the true one's length along it, expected 0.5 to 2, so far"),
        ("biased", 2.11, "2.11 times the true one's length along it, expected 0.5 to 2, so far"),
        ("none", 0.89, "0.89 times the true one's length along it, expected 1, so far"),
        ("none", 1.11, "1.11 times the true one's length along it, expected 1, so far"),
    ):
        with pytest.raises(AssertionError, match=f"{start}{told}$"):
            check(bias, slope)


def constant(gradient: Tensor, asked: list[tuple[int, int]]) -> Any:
    """Draws that are all alike."""

    def draw(count: int, seed: int) -> Tensor:
        asked.append((count, seed))
        return gradient.expand(count, -1)

    return draw


@pytest.mark.parametrize(
    ("length", "fine"), [(1.0, True), (0.05, True), (2e-9, True), (-1.0, False), (5e-11, False)]
)
def test_a_mean_gradient_has_a_direction_however_short(length: float, fine: bool) -> None:
    """Short of a billionth of the true one's length, which is a tenth here."""
    probe = direction.additive_probes(SCENE)[0]
    probe = replace(probe, truth=0.1 * probe.truth / probe.truth.norm())
    asked: list[tuple[int, int]] = []
    draw = constant(length * probe.truth / probe.truth.norm(), asked)
    if fine:
        direction._require_mean_direction(SimpleNamespace(seed=4), probe, draw)  # type: ignore[arg-type]
    else:
        with pytest.raises(AssertionError, match=r"the mean gradient has cosine -?[01]"):
            direction._require_mean_direction(SimpleNamespace(seed=4), probe, draw)  # type: ignore[arg-type]
    assert asked[0] == (2000, -5)


def test_an_enumerated_gradient_that_points_elsewhere() -> None:
    probe = direction.additive_probes(SCENE)[0]
    direction._require_direction(LAYER, probe, 0.01 * probe.truth)  # type: ignore[arg-type]
    told = f"^{probe.what}: the expected gradient has cosine -1 .* is needed, by enumeration$"
    with pytest.raises(AssertionError, match=told):
        direction._require_direction(LAYER, probe, -probe.truth)  # type: ignore[arg-type]


@pytest.mark.parametrize(("length", "counted"), [(2.0, 1.0), (0.2, 1.0), (0.05, 0.5)])
def test_a_direction_counts_whatever_the_length_from_a_tenth_on(
    length: float, counted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = MeanTest(
        estimated=torch.zeros(1), expected=torch.zeros(1), error=torch.zeros(1), samples=1,
        threshold=0.1, detects=1.0, power=1.0, false_alarm=0.0,
    )  # fmt: skip
    given: list[tuple[Tensor, float]] = []
    monkeypatch.setattr(
        direction, "_mean_along", lambda *of, scale: given.append((of[-1], scale)) or found
    )
    probe = direction.additive_probes(SCENE)[0]
    gradient = length * probe.truth
    direction._require_mean_direction(SimpleNamespace(seed=0), probe, constant(gradient, []))  # type: ignore[arg-type]
    ((weights, scale),) = given
    # of a gradient along the true one this is how far above the least cosine it is
    assert (weights @ gradient).item() == pytest.approx(counted * (direction.COSINE - 1))
    assert scale == 2


def test_a_shorter_gradient_is_looked_at_more_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    found = MeanTest(
        estimated=torch.ones(1), expected=torch.zeros(1), error=torch.zeros(1), samples=1,
        threshold=0.1, detects=1.0, power=1.0, false_alarm=0.0,
    )  # fmt: skip
    scales = []
    monkeypatch.setattr(direction, "mean_test", lambda *_, scale: scales.append(scale) or found)
    probe = direction.additive_probes(SCENE)[0]
    for bias, least in (("biased", 0.2), ("biased", 0.45), ("biased", 0.7), ("none", 0.2)):
        claims = SimpleNamespace(bias=bias, slope=(least, 1.6))
        direction._require_mean_slope(SimpleNamespace(claims=claims), probe, max)  # type: ignore[arg-type]
    assert scales == pytest.approx([0.4, 0.9, 1.0, 2.0])


# --- noise ----------------------------------------------------------------------------------------


def test_calls_until_two_draws_must_differ() -> None:
    uniform = Scene(CategoricalSpace.from_sizes((2, 4)), torch.zeros(6))
    assert random._calls_needed(uniform) == math.ceil(14 * math.log(10) / math.log(8))
    many = Scene(CategoricalSpace.from_sizes((10,) * 20), torch.zeros(200))
    assert random._calls_needed(many) == 2
    with pytest.raises(SkipCheck, match=r"^its rows are all but certain$"):
        random._calls_needed(Scene(CategoricalSpace({"x": 2}), torch.tensor([0.0, 6.0])))


def noise(calls: int = 3, samples: int = 2) -> Tensor:
    """`(calls, samples, 16, 1)`, no two alike."""
    return torch.arange(calls * samples * 16.0).view(calls, samples, 16, 1)


def test_draws_that_are_alike_in_every_call() -> None:
    random._require_different(noise())
    once = noise()
    once[0, 0, 3] = once[0, 0, 5]
    random._require_different(once)  # in one call alone: by chance
    pair = noise()
    pair[:, 1, 6] = pair[:, 1, 11]
    with pytest.raises(AssertionError) as caught:
        random._require_different(pair)
    told = "elements (1, 2) and (2, 3) of a batch (4, 4) had the same noise in each of 3 calls"
    assert str(caught.value) == told
    sample = noise(samples=3)
    sample[:, 2, 7] = sample[:, 1, 7]
    with pytest.raises(AssertionError) as caught:
        random._require_different(sample)
    told = "samples 1 and 2 of an element had the same noise in each of 3 calls"
    assert str(caught.value) == told
    shared = noise()
    shared[:, 0] = shared[:, 0, :1]
    with pytest.raises(AssertionError) as caught:
        random._require_different(shared)
    told = "all elements of the batch had the same noise in each of 3 calls"
    assert str(caught.value) == told


class Flattened(torch.nn.Module):
    """Gives f the rows of all elements at once, so that none is told from a sample."""

    def expectation(self, f: Any, logits: Tensor, *, generator: Any = None) -> Tensor:
        return f(logits.flatten(0, -2)).view(logits.shape[:-1])


def test_draws_that_no_element_claims_are_told_by_the_results() -> None:
    batch = LOGITS * torch.arange(1, 7).view(2, 3, 1)
    drawn = random._drawn(Flattened(), lambda rows: rows.sum(-1), batch, None)  # type: ignore[arg-type]
    assert drawn.shape == (1, 6, 1 + SPACE.width)
    assert_close(drawn[0, :, 0], batch.sum(-1).flatten())
    assert (drawn[..., 1:] == 1).all()


# --- laws -----------------------------------------------------------------------------------------


def test_the_category_that_is_furthest_off_is_named() -> None:
    space = CategoricalSpace({"cut": 2, "colour": ["red", "green", "blue"]})
    logits = torch.tensor([0.5, 0.5, 0.7, 0.2, 0.1]).log().double()
    codes = torch.zeros(10_000, 2, dtype=torch.long)
    codes[::2, 0] = 1
    codes[:2000, 1], codes[2000:3000, 1] = 1, 2
    rows._require_marginals(space, codes, logits, torch.float32)
    codes[2000:2600, 1] = 1  # 26% where 20% are due, and 4% for 10%; 70% as they should be
    codes[3000:3010, 1] = 1
    with pytest.raises(AssertionError) as caught:
        rows._require_marginals(space, codes, logits, torch.float32)
    assert str(caught.value).startswith(
        "feature 'colour' does not follow softmax(logits) in torch.float32: category 'green' has "
        "probability 0.2, drawn 2,610 times in 10,000 rows (0.261), p = "
    )


def test_shares_are_told_to_four_digits() -> None:
    space, codes = CategoricalSpace({"cut": 3}), torch.tensor([[0], [1], [0]] * 700)
    told = r"'0' has probability 0\.3333, drawn 1,400 times in 2,100 rows \(0\.6667\), p = "
    with pytest.raises(AssertionError, match=told):
        rows._require_marginals(space, codes, torch.zeros(3).double(), torch.float64)


def test_hard_rows() -> None:
    space = CategoricalSpace.from_sizes((2, 2))
    hard = torch.tensor([[[1.0, 0, 0, 1]]])
    assert exact._is_hard(space, hard)
    assert not exact._is_hard(space, torch.tensor([[[0.5, 0.5, 0, 1]]]))
    assert not exact._is_hard(space, torch.tensor([[[1.0, 1, 0, 1]]]))
    assert not exact._is_hard(space, torch.cat([hard, 0 * hard]))


def test_draws_that_bring_up_every_tuple() -> None:
    law = torch.tensor([0.5, 0.25, 0.25, 0.0]).double()
    for samples in (1, 2):
        misses = math.log(3**samples / 1e-12)
        assert exact.draws_needed(law, samples) == pytest.approx(misses * 4**samples)
    assert exact.draws_needed(law, 2000) == math.exp(700)


def one_feature(size: int) -> Scene:
    return Scene(CategoricalSpace({"x": size}), torch.zeros(size).double())


def test_rows_are_counted_where_each_is_due_twenty_times(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr(rows, "g_test", lambda counts, law: counted.append(len(counts)) or 1.0)
    subject = Subject(Layer, facts=LAYER)
    for size, tests in ((10, [10, 10]), (11, [11])):
        counted.clear()
        rows.require_law(subject, one_feature(size), torch.float64, draws=200)
        assert counted == tests


def test_too_many_rows_to_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(rows, "rows_seen", lambda *_, seed: torch.empty(asked[-1], 2, 10))
    method = SimpleNamespace(samples=2000)
    subject: Any = SimpleNamespace(method=lambda scene: method, seed=0)
    asked.append(1000)
    rows._require_draws(subject, one_feature(10), 10_000)
    asked.append(1001)
    told = r"^f is given 1001 rows a call: too many to count 10,000 of each$"
    with pytest.raises(SkipCheck, match=told):
        rows._require_draws(subject, one_feature(10), 10_000)
    asked.append(2001)
    with pytest.raises(SkipCheck, match=r"^f is given 2001 rows for 2000 samples: not all"):
        rows._require_draws(subject, one_feature(10), 1)
    del method.samples
    rows._require_draws(subject, one_feature(10), 1)


@pytest.mark.parametrize(
    ("dtype", "off", "fine"),
    [
        (torch.float32, 9e-5, True),
        (torch.float32, 1.2e-4, False),
        (torch.float64, 1.2e-4, False),
        (torch.bfloat16, 0.012, True),
        (torch.float16, 0.018, True),
        (torch.float16, 0.022, False),
        (torch.bfloat16, 0.03, False),
    ],
)
def test_how_far_from_1_a_soft_row_may_sum(dtype: torch.dtype, off: float, fine: bool) -> None:
    soft = torch.tensor([[0.5, 0.5, 0.25, 0.75 - off], [0.5, 0.5, 0.25, 0.75]]).to(dtype)
    space = CategoricalSpace({"cut": 2, "colour": 2})
    if fine:
        rows._require_inside(space, soft)
    else:
        with pytest.raises(
            AssertionError, match=r"^feature 'colour': a soft row must sum to 1, off"
        ):
            rows._require_inside(space, soft)


def test_a_mean_of_rows_that_obey_lies_where_all_their_equations_hold() -> None:
    space, rules = under_rules.SPACE, under_rules.RULES
    allowed = space.one_hot(rules.enumerate(), dtype=torch.float64)
    weights = torch.rand(5, len(allowed), generator=torch.Generator().manual_seed(0)).double()
    means = weights.softmax(-1) @ allowed
    assert under_rules._is_mean(means)
    assert under_rules._is_mean(means + 5e-7)
    around = allowed - allowed.mean(0)
    _, values, directions = torch.linalg.svd(around, full_matrices=True)
    across = directions[int((values > 1e-9).sum()) :]
    assert len(across) >= 3
    for way in across:
        assert not under_rules._is_mean(means + 1e-4 * way)
    outwards = allowed.mean(0) - allowed.mean()  # from where no feature is known
    assert not under_rules._is_mean(means + 1e-4 * outwards)


@pytest.mark.parametrize(
    ("largest", "off", "fine"),
    [(0.5, 5e-10, True), (0.5, 1.5e-9, False), (4.0, 3e-9, True), (4.0, 5e-9, False)],
)
def test_how_far_from_0_a_gradient_may_sum(largest: float, off: float, fine: bool) -> None:
    def sized(gradient: Tensor, logits: Tensor) -> Tensor:
        return largest * gradient / gradient.abs().max() + off * FIRST

    subject = Subject(changed(gradient=sized), facts=LAYER, name="mine")
    if fine:
        check_sums_to_zero(subject)
    else:
        with pytest.raises(AssertionError, match="must sum to 0"):
            check_sums_to_zero(subject)


@pytest.mark.parametrize(("truth", "scale"), [(0.05, 0.1), (-0.05, 0.1), (-0.7, 0.7), (3.0, 3.0)])
def test_a_value_near_0_is_looked_at_less_closely(
    truth: float, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    test = MeanTest(
        estimated=torch.ones(1), expected=torch.zeros(1), error=torch.ones(1), samples=1,
        threshold=2.0, detects=1.0, power=1.0, false_alarm=0.0,
    )  # fmt: skip
    monkeypatch.setattr(rows, "mean_test", lambda *arguments: given.append(arguments) or test)
    subject = Subject(Layer, facts=LAYER)
    rows._require_mean_value(subject, lambda r: r.sum(-1), torch.tensor(truth, dtype=torch.float64))
    ((asked, sampler, expected, sized),) = given
    assert (asked, expected.tolist(), sized) == (subject, [truth], pytest.approx(scale))
    assert sampler(7, 0).tolist() == [[4.0]] * 7


# --- outcomes -------------------------------------------------------------------------------------


def test_draws_that_may_be_alike_by_chance() -> None:
    space = CategoricalSpace({"x": 2})
    alike = torch.tensor([1.0, 0.0]).expand(1, 64, 2)
    for first, chance in ((0.72, False), (0.73, True), (1 - 1e-11, True), (1 - 1e-13, False)):
        law = torch.tensor([first, 1 - first], dtype=torch.float64)
        assert exact._might_be_chance(space, alike, law) is chance
        both = alike.expand(2, 64, 2)  # of two samples
        root = torch.tensor([first**0.5, 1 - first**0.5], dtype=torch.float64)
        assert exact._might_be_chance(space, both, root) is chance
    soft = torch.tensor([0.5, 0.5]).expand(1, 64, 2)
    assert not exact._might_be_chance(space, soft, torch.tensor([0.9, 0.1]).double())


def test_how_many_draws_bring_up_every_tuple() -> None:
    space, law = CategoricalSpace({"x": 5}), torch.tensor([0.25] * 4 + [0.0]).double()
    hard = torch.eye(5)[:1].expand(3, 5).unsqueeze(0)
    assert exact._draws_needed(space, hard, law, 10**6) == 20_000
    assert exact._draws_needed(space, hard, law, 10_000) == 10_000
    rare = torch.tensor([0.5, 0.4999, 0.0001, 0.0, 0.0]).double()
    needed = exact.draws_needed(rare, 1)
    assert exact._draws_needed(space, hard, rare, 10**6) == math.ceil(needed) > 20_000
    two = hard.expand(2, 3, 5)
    with pytest.raises(NotEnumerableError, match=r"^4\^2 tuples of rows are too many$"):
        exact._draws_needed(space, two, law, 15)
    told = r"^to draw the rarest of 16 tuples of rows takes 486 draws, more than max_draws=16$"
    with pytest.raises(NotEnumerableError, match=told):
        exact._draws_needed(space, two, law, 16)
    with pytest.raises(NotEnumerableError, match="soft rows that differ from draw to draw"):
        exact._draws_needed(space, 0.5 * hard, law, 16)


def test_elements_with_the_same_rows_in_every_sample() -> None:
    codes = torch.tensor([[0, 1, 0, 0, 1], [1, 1, 0, 1, 1]])  # (samples, elements)
    assert exact._first_alike(torch.eye(2)[codes]).tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("size", "off", "fine"),
    [(0.5, 63, True), (0.5, 65, False), (4.0, 255, True), (4.0, 258, False)],
)
def test_how_differently_equal_rows_may_be_rounded(size: float, off: float, fine: bool) -> None:
    expected = torch.tensor([[size, 0.0], [-size, 0.0]], dtype=torch.float64)
    found = expected + torch.tensor([0.0, off * torch.finfo(torch.float64).eps])
    exact._require_same(expected, expected)
    if fine:
        exact._require_same(found, expected)
    else:
        with pytest.raises(NotEnumerableError, match="more noise than the rows"):
            exact._require_same(found, expected)


# --- half precision -------------------------------------------------------------------------------


@pytest.mark.parametrize("lacking", ["exact", "half"])
def test_nothing_is_compared_where_one_precision_cannot_be_enumerated(
    lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(_: Subject, scene: Scene, f: Any) -> Any:
        one = "exact" if scene.logits.dtype == torch.float64 else "half"
        return None if one == lacking else SimpleNamespace(gradient=torch.zeros(SPACE.width))

    monkeypatch.setattr(numerics, "outcomes_or_none", found)
    numerics._require_precise(LAYER, Scene(SPACE, LOGITS.half()))  # type: ignore[arg-type]
