"""Results and warnings in the terminal."""

from __future__ import annotations

import math
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from discrete_grad.preferences import held_out_accuracy
from discrete_grad.reporting import (
    beyond_sentences,
    estimator_sentences,
    format_table,
    maximised_sentences,
    rules_sentences,
    together_sentences,
    verdict,
)
from discrete_grad.reporting.aims_text import aims_sentences
from discrete_grad.rules import Observed, Rule
from discrete_grad.runs import Run, write_report

__all__ = [
    "first_process",
    "harmless",
    "print_ranked",
    "say",
    "tell_calls",
    "tell_found",
    "told",
    "told_at_once",
    "write_and_print_report",
]

_SHOWN = 20
# characters that move the cursor, colour or retitle the terminal, or turn the direction of text
_ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    r"""The text with what a terminal would act upon spelled out; lines and tabs stay.

    Example:
        >>> harmless("fair\x1b[2J\n")
        'fair\\x1b[2J\n'
    """
    return _ACTING.sub(lambda match: repr(match[0])[1:-1], text)


def say(text: str, *, error: bool = False) -> None:
    r"""Print text that may hold names and categories of anybody's table.

    Example:
        >>> say("fair\x1b[2J")
        fair\x1b[2J
    """
    print(harmless(text), file=sys.stderr if error else None)


def first_process() -> bool:
    """Whether this process speaks: under torchrun the others would repeat it."""
    alone = os.environ.get("WORLD_SIZE", "1") == "1"  # whatever else left a rank behind
    return alone or os.environ.get("RANK", "0") == "0"


@contextmanager
def told(*categories: type[Warning]) -> Iterator[None]:
    """Print warnings of these categories as one line each, unless there is an error to tell."""
    with warnings.catch_warnings(record=True) as caught:
        for category in categories:
            warnings.simplefilter("always", category)
        yield
    for warning in caught:
        _warn(str(warning.message))


@contextmanager
def told_at_once(*categories: type[Warning]) -> Iterator[None]:
    """Print warnings of these categories as one line each, before what they are about is done."""
    with warnings.catch_warnings():
        for category in categories:
            warnings.simplefilter("always", category)
        warnings.showwarning = _showing(categories, warnings.showwarning)
        yield


def _showing(categories: tuple[type[Warning], ...], others: Any) -> Any:
    """A `showwarning` for some categories, beside that of the others."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, categories):
            _warn(str(message))
        else:
            others(message, category, *where, **more)

    return show


def print_ranked(scored: Any) -> None:
    """Print the best rows of a frame that `Run.score` made, and how many more there are."""
    best = scored.sort_values("rank", kind="stable").head(_SHOWN)
    say(best.to_string(index=False, float_format=lambda number: f"{number:.4g}"))
    if (rest := len(scored) - len(best)) > 0:
        print(f"and {rest:,} more: --out FILE writes all")


def tell_calls(run: Run) -> None:
    """Print how many rows the scorer of a run was asked about, if it was given one."""
    if run.scorer_facts and first_process():
        print(f"the scorer was asked about {run.scorer_calls:,} rows")


def tell_found(rules: Sequence[Rule]) -> None:
    """Print the rules of columns that combine sparsely, or that there are none."""
    if first_process():
        found = [f"rule: {rule.words()}" for rule in rules if isinstance(rule, Observed)]
        say("\n".join(found or ["rule: none, as no columns combine sparsely"]))


def _warn(text: str) -> None:
    if first_process():
        say(f"warning: {text}", error=True)


def write_and_print_report(run: Run) -> None:
    """Write the report; print its table, its sentences and where it lies."""
    report = write_report(run)
    said = [*maximised_sentences(report), *verdict(report), *beyond_sentences(report)]
    plausible = [*rules_sentences(report), *together_sentences(report)]
    estimated = [*estimator_sentences(report), *aims_sentences(report)]
    for lines in ([format_table(report)], said, plausible, estimated):
        if lines:
            say("\n".join(lines) + "\n")
    if run.preferences is not None and run.preference is not None:
        config, seed = run.config.preference, run.config.seed
        answers = run.preferences.to(run.device)
        share = held_out_accuracy(run.preference, answers, config=config, seed=seed)
        print(f"{_preference_sentence(len(answers), share)}\n")
    print(f"report: {run.folder / 'report.html'}")


def _preference_sentence(count: int, share: float) -> str:
    if math.isnan(share):
        return f"preferences: {count}; the held-out ones are all ties, so their share is not known."
    return f"preferences: {count}; members that had not seen them rank {share:.0%} as answered."
