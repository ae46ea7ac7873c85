"""All gradient estimators and what they declare of themselves."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

from discrete_grad.gradient.base import GradientEstimator

__all__ = ["catalogue", "table"]


def catalogue() -> dict[str, type[GradientEstimator]]:
    """Every gradient estimator that can be made, by the name of its class, sorted.

    Example:
        >>> catalogue()["LeaveOneOut"].facts.cost_text
        'N forward'
    """
    found = {cls.__name__: cls for cls in _derived(GradientEstimator) if _offered(cls)}
    return dict(sorted(found.items()))


def _derived(cls: Any) -> Iterator[Any]:
    """The classes derived from one, directly or not; one of two parents comes twice."""
    for child in cls.__subclasses__():
        yield child
        yield from _derived(child)


def _offered(cls: type) -> bool:
    """Whether a class is one of this room's that can be made; users derive theirs elsewhere."""
    if not cls.__module__.startswith(f"{__package__}.") or inspect.isabstract(cls):
        return False
    # a class that an example defines calls its module its own, and does not stand there
    return vars(sys.modules[cls.__module__]).get(cls.__name__) is cls


def table() -> str:
    """The facts of every gradient estimator as a Markdown table.

    Example:
        >>> table().startswith("| gradient estimator | f is given | bias |")
        True
    """
    head = ("gradient estimator", "f is given", "bias", "work a call", "needs df/dx")
    lines = [f"| {' | '.join((*head, 'bias with rules', 'reference'))} |", f"|{7 * '---|'}"]
    for name, cls in catalogue().items():
        facts = cls.facts
        notes = [
            note
            for note, holds in (
                ("binary features", facts.binary_only),
                ("experimental", facts.experimental),
            )
            if holds
        ]
        shown = f"`{name}`" + (f" ({', '.join(notes)})" if notes else "")
        needs = "yes" if facts.needs_derivative else "no"
        ruled = facts.with_rules or "-"
        cells = [shown, facts.forward, facts.bias, facts.cost_text, needs, ruled, facts.reference]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
