"""All gradient estimators and what they declare of themselves."""

from __future__ import annotations

import inspect

from discrete_grad.gradient.base import GradientEstimator

__all__ = ["catalogue", "table"]


def catalogue() -> dict[str, type[GradientEstimator]]:
    """Every gradient estimator that can be made, by the name of its class, sorted.

    Example:
        >>> catalogue()["LeaveOneOut"].facts.cost_text
        'N forward'
    """
    import discrete_grad.gradient as room

    found = {name: getattr(room, name) for name in sorted(room.__all__)}
    return {
        name: cls
        for name, cls in found.items()
        if inspect.isclass(cls)
        and issubclass(cls, GradientEstimator)
        and not inspect.isabstract(cls)
    }


def table() -> str:
    """The facts of every gradient estimator as a Markdown table.

    Example:
        >>> print(table().splitlines()[0])
        | gradient estimator | f is given | bias | work a call | needs df/dx | reference |
    """
    lines = [
        "| gradient estimator | f is given | bias | work a call | needs df/dx | reference |",
        "|---|---|---|---|---|---|",
    ]
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
        cells = [shown, facts.forward, facts.bias, facts.cost_text, needs, facts.reference]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
