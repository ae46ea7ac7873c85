"""Counts and lists of rules in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from discrete_grad.rules.rule import Rule

__all__ = ["listed", "share", "spelt"]


def listed(rules: Sequence[Rule]) -> str:
    named = [repr(rule) for rule in rules[:6]]
    return ", ".join([*named, *([f"{len(rules) - 6} more"] if len(rules) > 6 else [])])


def spelt(count: int) -> str:
    return f"{count:,}" if count < 10**15 else f"about 10^{_log10(count):.1f}"


def _log10(count: int) -> float:
    # a large integer does not convert to a float
    digits = len(str(count)) - 1 if count < 10**4000 else int(count.bit_length() * math.log10(2))
    return digits + math.log10(count / 10**digits)


def share(count: int, total: int) -> str:
    part = count / total  # of integers: exact, whatever their size
    return f"{part:.3g}" if part else f"10^{_log10(count) - _log10(total):.1f}"
