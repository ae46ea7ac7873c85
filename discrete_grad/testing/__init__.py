"""Test your own gradient estimator: strategies, exact expectations, and the contract as checks."""

from discrete_grad.testing.exact import (
    NotEnumerableError,
    Outcomes,
    exact_bias,
    exact_gradient,
    exact_variance,
    outcomes,
)
from discrete_grad.testing.functions import RowFunction, row_function
from discrete_grad.testing.rule_strategies import rule_lists
from discrete_grad.testing.statistics import MeanTest
from discrete_grad.testing.strategies import (
    categorical_spaces,
    code_rows,
    enumerable_logits,
    functions,
    logits,
    seeds,
    soft_rows,
)
from discrete_grad.testing.subject import Claims, Subject
from discrete_grad.testing.suite import (
    CHECKS,
    CheckResult,
    check_gradient_estimator,
    parametrize_with_checks,
    run_checks,
)
from discrete_grad.testing.unbiased import assert_unbiased

__all__ = [
    "CHECKS",
    "CheckResult",
    "Claims",
    "MeanTest",
    "NotEnumerableError",
    "Outcomes",
    "RowFunction",
    "Subject",
    "assert_unbiased",
    "categorical_spaces",
    "check_gradient_estimator",
    "code_rows",
    "enumerable_logits",
    "exact_bias",
    "exact_gradient",
    "exact_variance",
    "functions",
    "logits",
    "outcomes",
    "parametrize_with_checks",
    "row_function",
    "rule_lists",
    "run_checks",
    "seeds",
    "soft_rows",
]
