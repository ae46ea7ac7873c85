"""The checks by name, one after the other or one pytest test each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from discrete_grad.testing import _check_calling_f as check_calling_f
from discrete_grad.testing import _check_direction as check_direction
from discrete_grad.testing import _check_gradient as check_gradient
from discrete_grad.testing import _check_module as check_module
from discrete_grad.testing import _check_numerics as check_numerics
from discrete_grad.testing import _check_random as check_random
from discrete_grad.testing import _check_rows as check_rows
from discrete_grad.testing import _check_rules as check_rules
from discrete_grad.testing._calling import Method
from discrete_grad.testing.subject import Declared, SkipCheck, Subject

__all__ = [
    "CHECKS",
    "CheckResult",
    "check_gradient_estimator",
    "parametrize_with_checks",
    "run_checks",
]

Check = Callable[[Subject], None]
AnyMethod = Method | Callable[..., Any] | Subject

ROOMS = (
    check_rows,
    check_direction,
    check_gradient,
    check_random,
    check_numerics,
    check_calling_f,
    check_module,
    check_rules,
)

CHECKS: dict[str, Check] = {
    name.removeprefix("check_"): getattr(room, name)
    for room in ROOMS
    for name in room.__all__
    if name.startswith("check_")
}
"""Every check by its name; the docstring of each says what it holds a method to."""


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check.

    Args:
        check: its name.
        status: "passed", "failed" or "skipped".
        message: why, unless it passed.

    Example:
        >>> CheckResult("law", "skipped", "claims soft rows").status
        'skipped'
    """

    check: str
    status: Literal["passed", "failed", "skipped"]
    message: str = ""


def run_checks(
    method: AnyMethod,
    *,
    facts: Declared | None = None,
    only: Iterable[str] | None = None,
    skip: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[CheckResult]:
    """Run the checks and return the result of each; see `check_gradient_estimator`.

    Example:
        >>> from discrete_grad import ReinMax
        >>> run_checks(ReinMax, only=["shift", "black_box"])[1]
        CheckResult(check='black_box', status='skipped', message='needs df/dx')
    """
    subject = _subject(method, facts, skip, seed)
    return [_run(subject, name) for name in _chosen(only)]


def check_gradient_estimator(
    method: AnyMethod,
    *,
    facts: Declared | None = None,
    only: Iterable[str] | None = None,
    skip: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[CheckResult]:
    """Test a gradient estimator against the contract; a failure lists everything that is wrong.

    Args:
        method: a factory `make(space)`, such as the class itself or `partial(LeaveOneOut,
            samples=8)`; or an instance, for which the checks that need other spaces are skipped.
            A layer may be a module with `forward(logits)` alone, or a plain function such as
            `lambda logits: F.gumbel_softmax(logits, hard=True)`; see `Subject`.
        facts: what it claims, `Claims(...)`; None means `method.facts`.
        only: names out of `CHECKS`; None means all of them.
        skip: check -> reason not to run it.
        seed: of everything random; the same seed gives the same result.

    Returns:
        What became of each check; the skipped ones say why.

    Raises:
        AssertionError: lists every check that failed: what was expected, what came, and how to
            repeat it.
        ValueError: for a check that does not exist.
        TypeError: for something that is no gradient estimator or declares no facts.

    Example:
        >>> from discrete_grad import StraightThrough
        >>> results = check_gradient_estimator(StraightThrough, only=["rows", "law", "bias"])
        >>> [result.status for result in results]
        ['passed', 'passed', 'passed']
    """
    subject = _subject(method, facts, skip, seed)
    results = [_run(subject, name) for name in _chosen(only)]
    failed = [result for result in results if result.status == "failed"]
    if failed:
        head = f"{subject.name} fails {len(failed)} of {len(results)} checks:"
        raise AssertionError("\n".join([head, *(f"[{r.check}] {r.message}" for r in failed)]))
    return results


def parametrize_with_checks(
    methods: Iterable[AnyMethod],
    *,
    facts: Declared | None = None,
    only: Iterable[str] | None = None,
    seed: int = 0,
) -> Any:
    """Decorate a pytest test with every pair of method and check, as arguments `method`, `check`.

    Args:
        methods: as in `check_gradient_estimator`; `Subject(...)` gives one facts, a name or checks
            to skip of its own.
        facts: of all of them; None means their own.
        only: names out of `CHECKS`.
        seed: of everything random.

    Returns:
        A `pytest.mark.parametrize`; each test is named `method-check`.

    Example:
        >>> from discrete_grad import ReinMax, StraightThrough
        >>> @parametrize_with_checks([StraightThrough, ReinMax])
        ... def test_contract(method, check):
        ...     check(method)
    """
    import pytest

    only = None if only is None else list(only)
    pairs = [
        pytest.param(subject, _named(name), id=f"{subject.name}-{name}")
        for subject in (_subject(method, facts, None, seed) for method in methods)
        for name in _chosen(only)
    ]
    return pytest.mark.parametrize(("method", "check"), pairs)


def _named(name: str) -> Check:
    """The check as a test: a reason to skip skips the test."""

    def check(subject: Subject) -> None:
        import pytest

        result = _run(subject, name)
        if result.status == "skipped":
            pytest.skip(result.message)
        if result.status == "failed":
            pytest.fail(result.message, pytrace=False)

    return check


def _subject(
    method: AnyMethod, facts: Declared | None, skip: Mapping[str, str] | None, seed: int
) -> Subject:
    if isinstance(method, Subject):
        if facts is not None or skip:
            raise TypeError("facts and skip belong to the Subject: Subject(method, facts=...)")
        return method
    subject = Subject(method, facts=facts, skip=skip, seed=seed)
    _chosen(subject.skip)
    return subject


def _chosen(only: Iterable[str] | None) -> list[str]:
    names = list(CHECKS) if only is None else list(only)
    for name in names:
        if name not in CHECKS:
            raise ValueError(f"no check is called {name!r}; there are {', '.join(CHECKS)}")
    return names


def _run(subject: Subject, name: str) -> CheckResult:
    if name in subject.skip:
        return CheckResult(name, "skipped", subject.skip[name])
    try:
        CHECKS[name](subject)
    except SkipCheck as reason:
        return CheckResult(name, "skipped", str(reason))
    except AssertionError as error:
        return CheckResult(name, "failed", f"{error}\n{_repeat(subject, name)}")
    except Exception as error:
        what = f"raised {type(error).__name__}: {error}"
        return CheckResult(name, "failed", f"{what}\n{_repeat(subject, name)}")
    return CheckResult(name, "passed")


def _repeat(subject: Subject, name: str) -> str:
    call = f"check_gradient_estimator({subject.name}, only=[{name!r}], seed={subject.seed})"
    return f"  ({CHECKS[name].__doc__}) repeat: {call}"
