"""A trade-off as it is written on a command line."""

from __future__ import annotations

from discrete_grad.training.checkpoint import RunError

__all__ = ["read_tradeoff"]


def read_tradeoff(text: str) -> dict[str, float]:
    """Weights of `yield=.7,cost=.3`, by name.

    Raises:
        RunError: for a part without a number, or a name twice.

    Example:
        >>> read_tradeoff("yield=.7, cost=.3")
        {'yield': 0.7, 'cost': 0.3}
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equal, number = (word.strip() for word in part.rpartition("="))
        try:
            weight = float(number)
        except ValueError:
            equal = ""
        if not equal or not name:
            raise RunError(f"a trade-off is written yield=.7,cost=.3: {part!r} is no part of one")
        if name in weights:
            raise RunError(f"the trade-off names {name!r} twice")
        weights[name] = weight
    return weights
