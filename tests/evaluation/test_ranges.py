"""The ends of each range are in it, and what lies beyond is told in full."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from discrete_grad.evaluation import swap_agreement, swap_effects
from discrete_grad.evaluation.alignment import compare_metrics
from discrete_grad.evaluation.exploitation import exploitation_report
from discrete_grad.evaluation.metrics import mean_interval, median_interval
from discrete_grad.evaluation.robustness import context_robustness
from tests.evaluation.subjects import SPACE, make_subject

CODES = SPACE.enumerate()
BEHAVIOUR = 1.0 * CODES.sum(-1)


def compared(codes: Any = CODES, behaviour: Any = BEHAVIOUR, **options: Any) -> Any:
    settings = {"anchors": 4, "pairs": 3, "resamples": 3, **options}
    metrics = {"sum": lambda a, b: -(BEHAVIOUR[a] - BEHAVIOUR[b]).abs()}
    return compare_metrics(metrics, codes, behaviour, **settings)


def effects(**options: Any) -> Any:
    weights = torch.arange(float(SPACE.width))
    return swap_effects(lambda row: row @ weights, CODES[:3], space=SPACE, **options)


def exploited(**options: Any) -> Any:
    trail = {10: torch.zeros(1, SPACE.width), 20: torch.ones(1, SPACE.width)}
    return exploitation_report(make_subject(), trail, torch.zeros(1, SPACE.width), **options)


def robust(**options: Any) -> Any:
    return context_robustness(make_subject(contexts=2), **options)


FINE: dict[str, Callable[[], Any]] = {
    "one anchor": lambda: compared(anchors=1),
    "one pair": lambda: compared(pairs=1),
    "the nearest alone": lambda: compared(nearest=1),
    "one resample": lambda: compared(resamples=1),
    "two rows": lambda: compared(CODES[:2], BEHAVIOUR[:2]),
    "one row at a time": lambda: effects(max_rows=1),
    "one swap": lambda: swap_agreement(effects(), k=1),
    "two samples and no tolerance": lambda: exploited(samples=2, tolerance=0.0),
    "one draw of one sample": lambda: robust(draws=1, samples=1),
}


@pytest.mark.parametrize("call", FINE.values(), ids=FINE.keys())
def test_the_end_of_a_range_is_in_it(call: Callable[[], Any]) -> None:
    call()


BEYOND: list[tuple[Callable[[], Any], str]] = [
    (lambda: compared(anchors=0), "anchors must be at least 1, got 0"),
    (lambda: compared(pairs=0), "pairs must be at least 1, got 0"),
    (lambda: compared(nearest=0), "nearest must be at least 1, got 0"),
    (lambda: compared(resamples=0), "resamples must be at least 1, got 0"),
    (lambda: compared(confidence=1.0), "confidence must lie between 0 and 1, got 1.0"),
    (lambda: compared(confidence=0.0), "confidence must lie between 0 and 1, got 0.0"),
    (lambda: compared(CODES[:1], BEHAVIOUR[:1]), "codes must be (N, F) with N >= 2, got (1, 3)"),
    (lambda: effects(max_rows=0), "max_rows must be at least 1, got 0"),
    (lambda: swap_agreement(effects(), k=0), "k must be at least 1, got 0"),
    (
        lambda: exploited(samples=1),
        "samples must be at least 2 and tolerance at least 0, got 1 and ",
    ),
    (
        lambda: exploited(samples=8, tolerance=-0.1),
        "samples must be at least 2 and tolerance at least 0, got 8 and -0.1",
    ),
    (lambda: robust(draws=0, samples=2), "draws and samples must be at least 1, got 0 and 2"),
    (lambda: robust(draws=2, samples=0), "draws and samples must be at least 1, got 2 and 0"),
    (lambda: mean_interval([]), "the mean of no values is not defined"),
    (lambda: median_interval([]), "the median of no values is not defined"),
    (lambda: mean_interval([1.0], 0.0), "confidence must lie between 0 and 1, got 0.0"),
    (lambda: mean_interval([1.0], 1.0), "confidence must lie between 0 and 1, got 1.0"),
    (lambda: median_interval([1.0], 0.0), "confidence must lie between 0 and 1, got 0.0"),
    (lambda: median_interval([1.0], 1.0), "confidence must lie between 0 and 1, got 1.0"),
]


@pytest.mark.parametrize(("call", "message"), BEYOND)
def test_beyond_it(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()
