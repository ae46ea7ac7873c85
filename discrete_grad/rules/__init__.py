"""Rules: which rows are allowed, exactly, and the law of rows that obey."""

from discrete_grad.rules.categories import Fix, Forbid, Imply, OneOf, When
from discrete_grad.rules.counts import AtLeast, AtMost, Exactly
from discrete_grad.rules.law import Law
from discrete_grad.rules.observed import Observed
from discrete_grad.rules.prices import Budget, Within
from discrete_grad.rules.rule import Rule
from discrete_grad.rules.rules import Rules
from discrete_grad.rules.sequences import Avoids, Contains, Length
from discrete_grad.rules.steps import Steps

__all__ = [
    "AtLeast",
    "AtMost",
    "Avoids",
    "Budget",
    "Contains",
    "Exactly",
    "Fix",
    "Forbid",
    "Imply",
    "Law",
    "Length",
    "Observed",
    "OneOf",
    "Rule",
    "Rules",
    "Steps",
    "When",
    "Within",
]
