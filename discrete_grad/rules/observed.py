"""The rule that categories stand together as they were seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from discrete_grad.rules._parts import Combinations, Part
from discrete_grad.rules.rule import Rule
from discrete_grad.rules.scope import Category, Scope, one_or_more
from discrete_grad.space import is_codes

__all__ = ["Observed"]


@dataclass(frozen=True, init=False, repr=False)
class Observed(Rule):
    """Some features have only combinations of categories that occur in given rows.

    Args:
        features: names of n features.
        rows: codes `(N, n)`, or N sequences of n categories each.

    Raises:
        ValueError: for no feature, a feature named twice, no row, or a row of another length.

    Example:
        >>> Observed(["city", "country"], [["Bonn", "DE"], ["Lyon", "FR"]]).words()
        '(city, country) is one of 2 combinations'
    """

    features: tuple[str, ...]
    rows: tuple[tuple[Category, ...], ...]

    def __init__(
        self, features: Sequence[str], rows: Tensor | Sequence[Sequence[Category]]
    ) -> None:
        names = tuple(features)
        if isinstance(features, str) or not names or len(set(names)) < len(names):
            raise ValueError(f"Observed: expected different names of features, got {features!r}")
        different = _different(rows)
        lengths = {len(row) for row in different}
        if lengths != {len(names)}:
            got = f"rows of {sorted(lengths)}" if lengths else "no row"
            raise ValueError(f"Observed: expected rows of {len(names)} categories, got {got}")
        object.__setattr__(self, "features", names)
        object.__setattr__(self, "rows", different)

    def _parts(self, scope: Scope) -> tuple[Part, ...]:
        """See `Rule`."""
        places = tuple(scope.place(name) for name in self.features)
        known: list[dict[Category, int]] = [{} for _ in places]
        rows = []
        for row in self.rows:
            for place, category, seen in zip(places, row, known, strict=True):
                if category not in seen:
                    seen[category] = scope.code(place, category)
            rows.append(tuple(seen[one] for seen, one in zip(known, row, strict=True)))
        return (Combinations(places, tuple(rows)),)

    def words(self) -> str:
        """See `Rule`."""
        return f"({', '.join(self.features)}) is one of {len(self.rows):,} combinations"

    def __repr__(self) -> str:
        return f"Observed({list(self.features)}, {len(self.rows):,} combinations)"


def _different(rows: Tensor | Sequence[Sequence[Category]]) -> tuple[tuple[Category, ...], ...]:
    """The different rows, in an order of their own."""
    if isinstance(rows, Tensor):
        if rows.dim() != 2 or not is_codes(rows):
            shape = f"{tuple(rows.shape)} of {rows.dtype}"
            raise ValueError(f"Observed: expected integer codes (N, n), got {shape}")
        return tuple(map(tuple, rows.unique(dim=0).tolist()))
    found = {tuple(one_or_more(one, "Observed")[0] for one in row) for row in rows}
    return tuple(sorted(found, key=lambda row: tuple((str(type(x)), x) for x in row)))
