"""What may be checked, with or without an expectation of its own, and what may be claimed."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad import (
    CategoricalSpace,
    DeterministicStraightThrough,
    GumbelSoftmax,
    ReinMax,
    StraightThrough,
)
from discrete_grad.testing import Claims, Subject, check_gradient_estimator, run_checks
from discrete_grad.testing._figures import told_apart
from tests.testing.bugs import LAYER, Ruled

HARD, SOFT = Claims(forward="hard"), Claims(forward="soft")
FEW = ["rows", "law", "bias", "direction", "padding", "fresh_noise", "layer", "wrong_f"]
QUICK = ["masks", "shift", "batch", "frozen_f", "half_precision", "layout", "empty_batch", "copies"]


class ForwardOnly(nn.Module):
    """A layer as people write it: forward alone."""

    def __init__(self, space: CategoricalSpace | None = None) -> None:
        super().__init__()
        self.inner = StraightThrough(space)

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return self.inner(logits, generator=generator)


class OfOneSpace(ForwardOnly):
    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__(space)
        self.space = space


def straight_through(logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    return StraightThrough()(logits, generator=generator)


@pytest.mark.parametrize(
    ("function", "claims"),
    [
        (lambda logits: F.gumbel_softmax(logits, hard=True), HARD),
        (
            functools.partial(torch.softmax, dim=-1),
            Claims(forward="soft", bias="exact on additive"),
        ),
    ],
    ids=["lambda", "builtin"],
)
def test_a_plain_function_is_a_layer(function: Callable[..., Tensor], claims: Claims) -> None:
    check_gradient_estimator(function, facts=claims, only=[*FEW, *QUICK])
    with pytest.raises(AssertionError, match=r"\[generator\] .* must take a generator"):
        check_gradient_estimator(function, facts=claims, only=["generator"])


@pytest.mark.parametrize(
    "method",
    [
        ForwardOnly,
        lambda space: ForwardOnly(space),
        lambda space: functools.partial(ForwardOnly(space)),
        ForwardOnly(),
        OfOneSpace(CategoricalSpace({"cut": 3, "one": 1, "colour": 2})),
        straight_through,
    ],
    ids=["class", "factory", "factory of a function", "instance", "of a space", "function"],
)
def test_a_layer_needs_no_expectation(method: object) -> None:
    results = check_gradient_estimator(method, facts=LAYER, only=[*FEW, "generator"])
    assert [r.check for r in results if r.status == "skipped"] in ([], ["padding"])


def test_a_function_that_knows_no_names_may_not_say_them() -> None:
    check_gradient_estimator(straight_through, facts=LAYER, only=["all_masked", "wrong_logits"])


def test_what_is_wrong_with_a_plain_function_is_found() -> None:
    def negated(logits: Tensor) -> Tensor:
        row = F.gumbel_softmax(logits, hard=True)
        return row.detach() - (row - row.detach())

    with pytest.raises(AssertionError) as caught:
        check_gradient_estimator(negated, facts=HARD, only=["direction", "law", "generator"])
    assert re.search(
        r"negated fails 2 of 3 .*\[direction\].*\[generator\]", str(caught.value), re.S
    )


def test_a_plain_function_without_a_check_of_its_temperature() -> None:
    (result,) = run_checks(F.gumbel_softmax, facts=SOFT, only=["bad_temperature"])
    assert "tau=0.0: expected an error, got the value" in result.message


def test_a_function_has_no_state_to_pickle() -> None:
    (result,) = run_checks(lambda logits: logits.softmax(-1), facts=SOFT, only=["pickle"])
    assert result.status == "skipped"


def test_facts_of_a_class_are_found_behind_a_factory() -> None:
    assert Subject(lambda space: ReinMax(space)).claims == ReinMax.facts
    assert Subject(functools.partial(GumbelSoftmax, tau=0.5)).claims == GumbelSoftmax.facts


def test_facts_of_a_layer_of_forward_alone_are_found() -> None:
    class Declares(ForwardOnly):
        facts = HARD

    for method in (Declares, Declares()):
        assert Subject(method).claims is HARD
    assert Subject(Declares, facts=SOFT).claims is SOFT


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"forward": "Hard"}, r"forward must be one of 'hard', 'chosen', .*, got 'Hard'"),
        ({"bias": "unbiased"}, r"bias must be one of 'none', .*'exact on additive', .*'unbiased'"),
        ({"bias": None}, "bias must be one of .*, got None"),
        ({"slope": (2.0, 1.0)}, r"slope must be \(least, most\), both above 0, got \(2.0, 1.0\)"),
        ({"slope": (0.0, 1.0)}, "slope must be"),
        ({"slope": 1.0}, r"slope must be \(least, most\), both above 0, got 1.0"),
        ({"slope": (0.5, float("nan"))}, "slope must be"),
        ({"slope": (0.5, float("inf"))}, r"slope must be \(least, most\), both above 0, got"),
        ({"slope": (0.5, 1.0, 2.0)}, "slope must be"),
        ({"slope": [0.5, 1.0]}, "slope must be"),
        ({"law_tau": 0.0}, "law_tau must be a finite number above 0, got 0.0"),
        ({"law_tau": float("inf")}, "law_tau must be a finite number above 0, got inf"),
        (
            {"with_rules": "exact"},
            "with_rules must be one of 'none', .*'biased', None, got 'exact'",
        ),
    ],
)
def test_a_claim_that_there_is_not_is_refused_at_once(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Claims(**options)


def test_claims_at_their_bounds_are_taken() -> None:
    Claims(slope=(1.0, 1.0), law_tau=1e-9)
    for claim in ("none", "exact on additive", "biased", None):
        assert Claims(with_rules=claim).with_rules == claim  # type: ignore[arg-type]


def test_an_example_is_made_of_a_space_that_the_method_takes() -> None:
    made: list[CategoricalSpace] = []

    class Binary(ForwardOnly):
        def __init__(self, space: CategoricalSpace) -> None:
            made.append(space)
            super().__init__(space)

    subject = Subject(Binary, facts=Claims(binary_only=True))
    assert subject.is_layer
    assert {size for space in made for size in space.sizes} == {2}
    Binary.facts = Claims(binary_only=True)  # type: ignore[attr-defined]
    made.clear()
    assert Subject(Binary).claims == Claims(binary_only=True)
    assert {size for space in made for size in space.sizes} == {2}
    assert subject.mild.space.sizes == (2, 2, 2)
    assert Subject(ForwardOnly, facts=HARD).mild.space.sizes == (2, 3, 2)


def test_scenes_of_an_instance() -> None:
    space = CategoricalSpace({"cut": 2, "colour": 3})
    for method, width in ((OfOneSpace(space), 5), (ForwardOnly(), 3)):
        subject = Subject(method, facts=HARD)
        (scene,) = subject.scenes
        assert scene.space.width == width
        torch.testing.assert_close(scene.logits, 0.5 * torch.arange(width).double().sin())
        assert subject.scene.space == scene.space
        torch.testing.assert_close(subject.mild.logits, 0.3 * scene.logits)


def test_a_class_a_factory_and_an_instance_are_told_apart() -> None:
    kinds = {
        "class": (ForwardOnly, False, False),
        "instance": (ForwardOnly(), True, False),
        "function": (straight_through, False, True),
        "factory": (lambda space: ForwardOnly(space), False, False),
    }
    for name, (method, is_instance, is_function) in kinds.items():
        subject = Subject(method, facts=HARD, name=name, skip={"law": "why"}, seed=3)
        assert (subject.is_instance, subject.is_function) == (is_instance, is_function)
        assert subject.is_layer
        assert (subject.name, subject.skip, subject.seed) == (name, {"law": "why"}, 3)


def test_the_claim_exact_on_additive() -> None:
    additive = Claims(forward="argmax", bias="exact on additive")
    for claims, status in ((additive, "passed"), (Claims(bias="exact on multilinear"), "failed")):
        (result,) = run_checks(DeterministicStraightThrough, facts=claims, only=["bias"])
        assert result.status == status
    (result,) = run_checks(GumbelSoftmax, facts=Claims(bias="exact on additive"), only=["bias"])
    assert "is biased" in result.message


@pytest.mark.parametrize(
    ("claim", "status"),
    [("exact on additive", "passed"), ("none", "failed"), ("biased", "skipped")],
)
def test_a_claim_under_rules_is_held_to_its_functions(claim: Any, status: str) -> None:
    facts = Claims(bias="exact on additive", with_rules=claim)
    (result,) = run_checks(Ruled, facts=facts, only=["rules_gradient"])
    assert result.status == status
    assert status != "failed" or "under rules, on cubic f, feature" in result.message


def test_a_range_of_the_length_can_be_claimed() -> None:
    for slope, status in (((0.65, 0.8), "passed"), ((0.9, 1.1), "failed"), ((0.2, 0.5), "failed")):
        (result,) = run_checks(GumbelSoftmax, facts=Claims(slope=slope), only=["scale"])
        assert result.status == status


def test_a_space_without_small_features_has_no_direction_to_check() -> None:
    wide = StraightThrough(CategoricalSpace({"x": 20}))
    for result in run_checks(wide, only=["direction", "scale"]):
        assert result.message == "no feature has two to four categories: give a factory"


def test_numbers_that_differ_look_different() -> None:
    assert told_apart(1.0, 1.0) == ["1", "1"]
    assert told_apart(1 + 2e-9, 1.0) == ["1.000000002", "1"]
    assert told_apart(0.1 + 0.2, 0.3) == ["0.30000000000000004", "0.3"]
    assert told_apart(float("nan"), 1.0, digits=3) == ["nan", "1"]


def test_no_message_says_that_1_should_be_1() -> None:
    class NearlyHard(ForwardOnly):
        def forward(self, logits, *, generator=None):
            return super().forward(logits, generator=generator) * (1 - 1e-12)

    (rows,) = run_checks(NearlyHard, facts=LAYER, only=["rows"])
    assert "is 0.999999999999 in torch.float64" in rows.message


def test_a_plain_function_of_a_factory_is_of_the_scenes_space() -> None:
    def make(space: CategoricalSpace) -> Any:
        return lambda logits: space.softmax(logits)

    subject = Subject(make, facts=Claims(forward="soft"), name="made")
    method: Any = subject.method()
    assert method.space == subject.scene.space
