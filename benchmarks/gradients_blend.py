"""`Blend` beside the best other method, and variants beside their originals, in each problem."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Protocol

from benchmarks.harness import Table

NAME = "Blend"
ONE_CALL = "Blend, averaged=1"  # weights for the least error of a call, not of a training
BLENDS = (NAME, ONE_CALL)
MEAN_FIELD = "Softmax"
VARIANTS = {
    "CentredReinMax": "ReinMax",
    "LowVarianceReinMax": "ReinMax",
    "EntropyWeighted": "StraightThrough",
}
LIMITS = (1.0, 1.05, 1.1)
BUDGETS = (8, 32, 128, 512)
EXACT = 1e-5  # a relative error that is rounding
NEARLY = 0.01
Z = 1.96


class Error(Protocol):
    """Figures of a method at a budget, of which only the error counts here."""

    @property
    def rmse(self) -> float:
        """Relative root mean squared error."""


Methods = Mapping[str, Mapping[int, Error | None]]


def blend_table(problems: Sequence[Methods], mine: str = NAME) -> Table:
    """Ratios of the error to that of the best other method that is not exact, by budget."""
    shown = [problem for problem in problems if mine in problem]
    rows = [row for budget in BUDGETS if (row := _row(shown, budget, mine))]
    header = (
        "budget",
        "problems",
        *(f"at most {limit:.2f} x" for limit in LIMITS),
        "median ratio",
        "largest ratio",
        f"problems where `{MEAN_FIELD}` is exact",
        f"error below {NEARLY} there",
        "largest error there",
    )
    note = (
        f"RMSE of `{mine}` over that of the best other method of the catalogue at the same budget, "
        f"the best chosen anew for each problem with knowledge of all errors; methods without any "
        f"error in a problem do not count there, and problems where `{MEAN_FIELD}` is exact stand "
        "apart. Shares with Wilson's 95% interval, the median with that of order statistics."
    )
    return Table(f"`{mine}` against the best other method", header, rows, note)


def _row(problems: Sequence[Methods], budget: int, blend: str) -> list[str]:
    ratios, exact = list[float](), list[float]()
    for problem in problems:
        mine = _rmse(problem[blend], budget)
        if mine is None:
            continue
        mean_field = _rmse(problem.get(MEAN_FIELD, {}), budget)
        if mean_field is not None and mean_field <= EXACT:
            exact.append(mine)
        elif others := [
            rmse
            for name, found in problem.items()
            if name not in BLENDS and (rmse := _rmse(found, budget)) is not None and rmse > EXACT
        ]:
            ratios.append(mine / min(others))
    if not ratios:
        return []
    shares = [_share(sum(r <= limit for r in ratios), len(ratios)) for limit in LIMITS]
    near = _share(sum(e < NEARLY for e in exact), len(exact)) if exact else "-"
    largest = f"{max(exact):.2g}" if exact else "-"
    middle = [str(len(ratios)), *shares, _median(ratios), f"{max(ratios):.2f}"]
    return [str(budget), *middle, str(len(exact)), near, largest]


def variants_table(problems: Sequence[Methods]) -> Table:
    """Ratios of the errors of variants to those of the methods that they change, by budget."""
    rows = [
        [f"`{variant}`", f"`{original}`", str(budget), str(len(ratios)), *_compared(ratios)]
        for variant, original in VARIANTS.items()
        for budget in BUDGETS
        if (ratios := _ratios(problems, variant, original, budget))
    ]
    header = ("variant", "of", "budget", "problems", "less error", "median ratio", "largest ratio")
    note = (
        "RMSE of the variant over that of the original at the same budget, in problems where "
        "neither is exact. Shares with Wilson's 95% interval, the median with that of order "
        "statistics."
    )
    return Table("Variants against their originals", header, rows, note)


def _compared(ratios: Sequence[float]) -> tuple[str, str, str]:
    better = sum(ratio < 1 for ratio in ratios)
    return _share(better, len(ratios)), _median(ratios), f"{max(ratios):.2f}"


def _ratios(problems: Sequence[Methods], name: str, other: str, budget: int) -> list[float]:
    both = [p for p in problems if name in p and other in p]
    pairs = [(_rmse(p[name], budget), _rmse(p[other], budget)) for p in both]
    return [a / b for a, b in pairs if a is not None and b is not None and min(a, b) > EXACT]


def _rmse(found: Mapping[int, Error | None], budget: int) -> float | None:
    """At the dearest instance within the budget."""
    within = [b for b in found if b <= budget]
    figures = found[max(within)] if within else None
    return None if figures is None else figures.rmse


def _share(count: int, n: int) -> str:
    p = count / n
    middle, half = p + Z * Z / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    low, high = ((middle + s * half) / (1 + Z * Z / n) for s in (-1, 1))
    return f"{p:.0%} [{max(low, 0):.0%}, {high:.0%}]"


def _median(values: Sequence[float]) -> str:
    ordered, n = sorted(values), len(values)
    half = Z * math.sqrt(n) / 2
    low, high = max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half))
    return f"{median(ordered):.2f} [{ordered[low]:.2f}, {ordered[high]:.2f}]"
