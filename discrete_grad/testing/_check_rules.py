"""Checks of a gradient estimator under rules: rows that obey, their law, and the gradient."""

from __future__ import annotations

import functools
import inspect

import torch
from torch import Tensor

from discrete_grad.rules import Exactly, Forbid, Rules
from discrete_grad.space import CategoricalSpace
from discrete_grad.testing._calling import Method, estimate
from discrete_grad.testing._comparing import mean_test, require, rows_seen
from discrete_grad.testing._goodness import g_test, joint_counts
from discrete_grad.testing.functions import Family, row_function
from discrete_grad.testing.subject import SkipCheck, Subject
from discrete_grad.testing.unbiased import category_name

__all__ = ["check_rules", "check_rules_gradient", "check_rules_law"]

FALSE_ALARM = 1e-9
DRAWS = 20_000

SPACE = CategoricalSpace({"colour": 2, "size": 3, "clarity": 3})
RULES = Rules(
    SPACE,
    [
        Exactly(1, {"colour": "1", "size": ["0", "2"], "clarity": "1"}),
        Forbid({"colour": "0", "clarity": "2"}),
    ],
)
# the last category of "size" is masked
LOGITS = torch.tensor([0.4, -0.2, 0.3, -0.6, -torch.inf, 0.2, 0.5, -0.3], dtype=torch.float64)


def check_rules(subject: Subject) -> None:
    """Under `rules=` every row given to f obeys; a soft one is a mean of rows that do."""
    rows = rows_seen(_method(subject), LOGITS.expand(500, -1), seed=subject.seed)
    if subject.claims.forward == "soft":
        return require(_is_mean(rows), "a soft row is no mean of rows that obey")
    codes = SPACE.argmax(rows).flatten(0, -2)
    broken = codes[~RULES.allows(codes)]
    told = RULES.explain(broken[0]) if len(broken) else ()
    return require(not len(broken), f"f was given a row that breaks a rule: {'; '.join(told)}")


def _is_mean(rows: Tensor) -> bool:
    """Whether flat rows fulfil every equation that all rows that obey do, such as "exactly 1"."""
    allowed = SPACE.one_hot(RULES.enumerate(), dtype=torch.float64)
    around = allowed - allowed.mean(0)
    off = rows - allowed.mean(0)
    return torch.allclose(off, off @ torch.linalg.pinv(around) @ around, atol=1e-6)


def check_rules_law(subject: Subject) -> None:
    """Under `rules=` hard rows are drawn from the law of rows that obey."""
    method = _method(subject)
    if subject.claims.forward != "hard" or _claim(subject) == "biased":
        raise SkipCheck(f"claims {subject.claims.forward!r} rows: no claim on their law")
    rows = rows_seen(method, LOGITS.expand(DRAWS, -1), seed=subject.seed)
    law = torch.zeros(SPACE.num_rows, dtype=torch.float64)
    allowed, p = _law(LOGITS)
    law[SPACE.row_number(allowed)] = p
    p_value = g_test(joint_counts(SPACE, SPACE.argmax(rows[0])), law)
    message = f"hard rows do not follow the law of rows that obey, p = {p_value:.1e}"
    require(p_value > FALSE_ALARM, message)


def check_rules_gradient(subject: Subject) -> None:
    """Under `rules=` value and gradient are unbiased for the class of f that is claimed."""
    method = _method(subject)
    claim = _claim(subject)
    if claim not in ("none", "exact on additive"):
        raise SkipCheck(f"claims the bias {claim!r} with rules")
    family: Family = "cubic" if claim == "none" else "additive"
    f = row_function(SPACE, family)
    leaf = LOGITS.clone().requires_grad_()
    allowed, p = _law(leaf)
    value = p @ f(SPACE.one_hot(allowed, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(value, leaf)
    truth = torch.cat([gradient, value.detach().view(1)])

    def sampler(count: int, seed: int) -> Tensor:
        values, gradients = estimate(method, f, LOGITS.expand(count, -1), seed=seed)
        return torch.cat([gradients, values.unsqueeze(-1)], -1)

    # a method without noise spreads by rounding alone
    test = mean_test(subject, lambda n, s: sampler(n, s) + 0.0, truth, truth.abs().max().item())
    off = test.failed & ((test.estimated - truth).abs() > 1e-9)
    if off.any():
        place = int(off.nonzero()[0])
        what = "the value" if place == SPACE.width else category_name(SPACE, place)
        raise AssertionError(
            f"under rules, on {family} f, {what}: expected {truth[place]:.6g}, got "
            f"{test.estimated[place]:.6g} +- {test.error[place]:.2g}"
        )


def _method(subject: Subject) -> Method:
    """The method under RULES; skips one that takes none."""
    subject.require_factory()
    if not _takes_rules(subject.given):
        raise SkipCheck("takes no rules")
    made: Method = subject.given(SPACE, rules=RULES)
    return made


def _claim(subject: Subject) -> str | None:
    claim: str | None = getattr(subject.claims, "with_rules", None)
    return claim


def _takes_rules(factory: object) -> bool:
    if isinstance(factory, functools.partial):
        return _takes_rules(factory.func)
    return callable(factory) and "rules" in inspect.signature(factory).parameters


def _law(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that obey and their probabilities, from the definition."""
    allowed = RULES.enumerate()
    allowed = allowed[SPACE.log_prob(logits.detach(), allowed) > -torch.inf]
    return allowed, SPACE.log_prob(logits, allowed).softmax(-1)
