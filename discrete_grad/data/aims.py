"""What is wanted of each score column: large, small, near a number, or beyond one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from discrete_grad.data.errors import TableError, closest, listing, shown

__all__ = ["Aim", "Goal", "parse_aims"]

Goal = Literal["max", "min", "target", "at_least", "at_most", "behaviour"]

_COMPARED: dict[str, Goal] = {":=": "target", ">=": "at_least", "<=": "at_most"}
_SIGNS = {symbol: goal for goal, symbol in _COMPARED.items()}
_DIRECTIONS: tuple[Goal, ...] = ("max", "min", "behaviour")
_SPLIT = re.compile(r"(.+?)\s*(:=|>=|<=)\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Aim:
    """Goal for one score column.

    Args:
        name: of the column.
        goal: `max` or `min`; `target`, a small distance to the value; `at_least` or `at_most`, a
            high probability of being so; `behaviour`, nothing: the column only tells the aligner
            which rows behave alike.
        value: the number that the last three but one are compared with; None for the others.

    Example:
        >>> Aim("ph", "target", 7.4).words, Aim("ph", "target", 7.4).measured(np.array([7.0, 8.0]))
        ('ph:=7.4', array([0.4, 0.6]))
        >>> Aim("purity", "at_least", 0.95).is_threshold, Aim("cost", "min").sign
        (True, -1)
    """

    name: str
    goal: Goal = "max"
    value: float | None = None

    @property
    def words(self) -> str:
        """The aim as `parse_aims` reads it."""
        if self.goal in _SIGNS:
            return f"{self.name}{_SIGNS[self.goal]}{str(self.value).removesuffix('.0')}"
        return f"{self.name}:{self.goal}"

    @property
    def is_threshold(self) -> bool:
        """Whether the aim is a threshold, which is either met or not."""
        return self.goal in ("at_least", "at_most")

    @property
    def sign(self) -> int:
        """1 if a larger value of `measured` is better, -1 if a smaller one is."""
        return -1 if self.goal in ("min", "target", "at_most") else 1

    @property
    def label(self) -> str:
        """Name of what is measured: the column, or the distance to its target."""
        return f"{self.name}_distance" if self.goal == "target" else self.name

    def measured(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        """The column `(N,)`; for a target each value's distance to it, in the same units."""
        return column if self.goal != "target" or self.value is None else abs(column - self.value)

    def to_dict(self) -> dict[str, Any]:
        """Name, goal and, if the aim has one, value."""
        return {name: given for name, given in asdict(self).items() if given is not None}


def parse_aims(
    given: Sequence[str | Aim] | str | Aim | None,
    columns: Sequence[str],
    known: Mapping[str, Aim] | None = None,
) -> tuple[Aim, ...]:
    """Aims as they are written, those that are better or worse before all others.

    Args:
        given: `yield` or `yield:max`, `cost:min`, `ph:=7.4`, `purity>=.95`, `purity<=.99` and
            `weight:behaviour`; or aims. None for no score at all.
        columns: of the table; a column that is called as one of them is written is that column.
        known: name -> aim of a column of which nothing but the name is written.

    Raises:
        TableError: for none, a column twice, a word after a column that is none of these, a value
            that is no finite number, or nothing but behaviour.

    Example:
        >>> parse_aims(["purity>=.95", "cost:min"], ["cost", "purity"])
        (Aim(name='cost', goal='min', value=None), Aim(name='purity', goal='at_least', value=0.95))
    """
    if given is None:
        return ()
    texts = [given] if isinstance(given, str | Aim) else list(given)
    if not texts:
        raise TableError(
            "no score is given: name the column to be maximised, or give a scorer of the rows"
        )
    aims = [t if isinstance(t, Aim) else _parsed(t, columns, known or {}) for t in texts]
    names = [aim.name for aim in aims]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TableError(f"score columns are given twice: {listing(twice)}")
    if all(aim.goal == "behaviour" for aim in aims):
        raise TableError("every score is :behaviour: name one to be maximised")
    return tuple(sorted(aims, key=lambda aim: aim.is_threshold + 2 * (aim.goal == "behaviour")))


def _parsed(text: str, columns: Sequence[str], known: Mapping[str, Aim]) -> Aim:
    if text in columns or text in known:
        return known.get(text, Aim(text))
    name, colon, word = text.rpartition(":")
    for goal in _DIRECTIONS:
        if colon and word == goal:
            return Aim(name, goal)
    if found := _SPLIT.fullmatch(text):
        name, symbol, value = found.groups()
        return Aim(name, _COMPARED[symbol], _number(value, text))
    if colon and name in columns:
        wanted = [f"{name}:{goal}" for goal in _DIRECTIONS]
        raise TableError(
            f"the score {shown(text)} says what is wanted of column {name!r}, which must be one of "
            f"{listing(wanted)}, or a comparison such as '{name}>=1'{closest(word, _DIRECTIONS)}"
        )
    return Aim(text)


def _number(text: str, aim: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise TableError(f"the aim {shown(aim)} must end in a number, got {shown(text)}")
    return value


def require_within(aim: Aim, column: NDArray[np.float64]) -> None:
    """Raise TableError for a threshold or a target that no row, or every row, lies beyond.

    Args:
        aim: any.
        column: its values `(N,)` as the table has them, N >= 1.
    """
    if aim.value is None:
        return
    low, high = float(column.min()), float(column.max())
    inside = low < aim.value <= high if aim.goal == "at_least" else low <= aim.value < high
    inside = low <= aim.value <= high if aim.goal == "target" else inside
    if not inside:
        raise TableError(
            f"column {aim.name!r} is observed from {low:g} to {high:g}: of {aim.words} nothing can "
            "be learned"
        )
