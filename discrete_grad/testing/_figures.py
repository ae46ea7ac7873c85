"""Numbers in messages, with as many digits as tell them apart."""

from __future__ import annotations

__all__ = ["told_apart"]


def told_apart(*values: float, digits: int = 6) -> list[str]:
    """The values with the fewest digits, at least `digits`, that show different ones differently.

    Example:
        >>> told_apart(0.5, 1.0)
        ['0.5', '1']
        >>> told_apart(1 - 1e-9, 1.0)
        ['0.999999999', '1']
    """
    for precision in range(digits, 17):
        shown = [f"{value:.{precision}g}" for value in values]
        if len(set(shown)) == len(set(values)):
            return shown
    return [repr(value) for value in values]
