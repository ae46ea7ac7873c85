"""Where the checks of direction and scale look: functions whose gradient is known by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.testing import _check_direction as direction
from discrete_grad.testing import _check_random as random
from discrete_grad.testing import _check_rows as rows
from discrete_grad.testing import exact
from discrete_grad.testing.exact import exact_gradient
from discrete_grad.testing.statistics import MeanTest
from discrete_grad.testing.subject import Scene, SkipCheck

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
