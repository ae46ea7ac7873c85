"""A check that has nothing to check is skipped, and says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from discrete_grad import CategoricalSpace, ReinMax
from discrete_grad.sampling import categorical, uniform_like
from discrete_grad.testing import Claims, Subject, run_checks
from tests.testing.bugs import (
    LAYER,
    SCORE,
    DrawsMasked,
    Flattened,
    Layer,
    LiveAdvantage,
    Ruled,
    Score,
    SharedNoise,
    SoftForward,
    SumOfSamples,
)
from tests.testing.mutants import Samples
from tests.testing.test_messages import LARGE, Likeliest, Unnamed

SOFT = Claims(forward="soft")


class OnALine(Layer):
    """Gives f the rows of all elements in one line."""

    def expectation(self, f, logits, *, generator=None):
        rows = self(logits.unsqueeze(0), generator=generator)
        return f(rows.flatten(0, -2)).view(rows.shape[:-1]).mean(0)


class NoiseOfTheBatch(Layer):
    """The noise of an element depends on the logits of all."""

    def codes(self, logits, generator):
        noise = uniform_like(self.space, logits, generator=generator)
        return categorical(self.space, logits, (noise + logits[..., 0].sum()) % 1)


def layer(*sizes: int) -> Layer:
    return Layer(CategoricalSpace.from_sizes(sizes))


# check, the method, what it claims, why it is skipped
SKIPPED: list[tuple[str, Callable[..., Any], Claims, str]] = [
    ("law", SoftForward, SOFT, "claims the forward 'soft', which is no draw"),
    ("rows_at_large_logits", SoftForward, SOFT, "claims soft rows"),
    (
        "law_of_many_categories",
        SoftForward,
        SOFT,
        "draws no hard rows of many categories",
    ),
    (
        "law_of_many_categories",
        Layer,
        Claims(binary_only=True),
        "draws no hard rows of many categories",
    ),
    ("value", SoftForward, SOFT, "claims the forward 'soft': no claim on the value"),
    (
        "value",
        Flattened,
        Claims(law_tau=2.0),
        "claims rows from another law than softmax(logits)",
    ),
    ("bias", Layer, Claims(), "claims to be biased"),
    ("masks", layer(1, 1), LAYER, "every feature has one category"),
    (
        "bias",
        Score(LARGE),
        SCORE,
        "its space is too large to enumerate: give a factory",
    ),
    ("black_box", Layer, LAYER, "needs df/dx"),
    (
        "padding",
        Layer,
        Claims(binary_only=True),
        "binary features cannot be padded",
    ),
    (
        "padding",
        layer(2, 3),
        LAYER,
        "needs other spaces: give a factory make(space), not an instance",
    ),
    (
        "affine_in_f",
        Layer,
        Claims(linear_in_f=False),
        "claims not to be linear in f",
    ),
    (
        "pickle",
        lambda logits: logits.softmax(-1),
        SOFT,
        "is a plain function, which has no state to be kept",
    ),
    ("bad_temperature", Layer, LAYER, "its constructor takes no tau"),
    ("rules", Layer, LAYER, "takes no rules"),
    (
        "rules_law",
        Ruled,
        Claims(forward="soft", with_rules="none"),
        "claims 'soft' rows: no claim on their law",
    ),
    (
        "rules_law",
        Ruled,
        Claims(with_rules="biased"),
        "claims 'hard' rows: no claim on their law",
    ),
    (
        "rules_gradient",
        Ruled,
        Claims(with_rules="biased"),
        "claims the bias 'biased' with rules",
    ),
    ("layer", Score, SCORE, "is no layer logits -> row"),
    ("vmap", Score, SCORE, "is no layer logits -> row"),
    (
        "direction",
        layer(5, 1, 6),
        LAYER,
        "no feature has two to four categories: give a factory",
    ),
    ("fresh_noise", SoftForward, SOFT, "claims no random rows"),
    ("fresh_noise", layer(1, 1), LAYER, "its rows are all but certain"),
    (
        "fresh_noise",
        Likeliest,
        LAYER,
        "f is given the same rows whatever is drawn; the check of the law says more",
    ),
    (
        "rows",
        OnALine,
        LAYER,
        "f is called on rows that cannot be told apart by element of the batch",
    ),
    (
        "batch",
        NoiseOfTheBatch,
        LAYER,
        "the noise of an element depends on the logits of the others",
    ),
]


@pytest.mark.parametrize(
    ("check", "method", "claims", "why"),
    SKIPPED,
    ids=[f"{i}-{s[0]}" for i, s in enumerate(SKIPPED)],
)
def test_why(check: str, method: Callable[..., Any], claims: Claims, why: str) -> None:
    (result,) = run_checks(Subject(method, facts=claims, name="mine"), only=[check])
    assert (result.status, result.message) == ("skipped", why)


def test_what_cannot_be_told_apart_is_told_by_the_results() -> None:
    (result,) = run_checks(OnALine, facts=LAYER, only=["fresh_noise"])
    assert result.status == "passed"


@pytest.mark.parametrize("check", ["law", "law_of_many_categories"])
def test_rows_that_are_not_drawn_have_no_law(check: str) -> None:
    class Both(Layer):
        """Gives f each row twice, as a method with a control variate may."""

        samples = 1

        def expectation(self, f, logits, *, generator=None):
            row = self(logits.unsqueeze(0), generator=generator)
            return f(torch.cat([row, row])).mean(0)

    (result,) = run_checks(Both, facts=LAYER, only=[check])
    assert result.status == "skipped"
    assert result.message == "f is given 2 rows for 1 samples: not all of them are drawn"
    (fresh,) = run_checks(Both, facts=LAYER, only=["fresh_noise"])
    assert fresh.status == "passed"  # the rows of an element count together

    class BothShared(Both, SharedNoise):
        """The same with noise that elements share."""

    (shared,) = run_checks(BothShared, facts=LAYER, only=["fresh_noise"])
    assert shared.message.startswith("elements (0, 0) and (1, 0) of a batch (4, 4) had the same")


# check, a method that it is right about, and what that claims
NOT_SKIPPED: list[tuple[str, Callable[..., Any], Claims]] = [
    ("masks", Layer, Claims(binary_only=True)),
    ("masks", layer(2, 1), LAYER),
    ("rows", DrawsMasked, Claims(forward="all rows")),
    ("layer", Samples, LAYER),
    ("fresh_noise", Samples, LAYER),
    ("generator", Likeliest, LAYER),  # nothing is drawn: another state gives the same
    ("global_noise", Likeliest, LAYER),
    ("all_masked", Unnamed(CategoricalSpace({"cut": 2, "colour": 3})), LAYER),
    ("wrong_logits", layer(2, 3), LAYER),
    ("wrong_logits", ReinMax(), LAYER),  # of any width
]


@pytest.mark.parametrize(
    ("check", "method", "claims"),
    NOT_SKIPPED,
    ids=[f"{i}-{s[0]}" for i, s in enumerate(NOT_SKIPPED)],
)
def test_what_is_neither_skipped_nor_wrong(
    check: str, method: Callable[..., Any], claims: Claims
) -> None:
    (result,) = run_checks(Subject(method, facts=claims, name="mine"), only=[check])
    assert (result.status, result.message) == ("passed", "")


@pytest.mark.parametrize("forward", ["hard", "chosen", "all rows"])
def test_of_every_forward_by_rows_the_value_is_a_mean(forward: Any) -> None:
    claims = Claims(forward=forward, bias="none", needs_derivative=False)
    (value,) = run_checks(SumOfSamples, facts=claims, only=["value"])
    assert "mean E[f] =" in value.message
    (slope,) = run_checks(LiveAdvantage, facts=claims, only=["f_learns_too"])
    assert "must get the gradient of E[f]" in slope.message
