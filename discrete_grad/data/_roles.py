"""Roles of columns: score, context, feature or left out."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discrete_grad.data._choices import (
    NO_CHOICE,
    as_constant,
    as_identifier,
    known_rows,
    numbers_of,
    whole,
)
from discrete_grad.data._gaps import stray_text
from discrete_grad.data._intervals import interval_ends
from discrete_grad.data._values import Value
from discrete_grad.data.arrow import ArrowColumn, ArrowTable
from discrete_grad.data.columns import (
    distinct_count,
    factorize,
    holds_dates,
    is_declared,
    is_numeric,
    is_numeric_text,
    is_text,
    pick,
)
from discrete_grad.data.errors import Problems, TableError, TableWarning, listing, shown
from discrete_grad.data.sources import Loaded
from discrete_grad.data.vocabulary import Vocabulary

__all__: list[str] = []

# a numeric column is binned above so many values; one of integers if few rows share a value
_FEW_NUMBERS = 16
_ROWS_A_NUMBER = 10

Features = Mapping[str, Vocabulary | Sequence[Value]] | Sequence[str] | None


class Roles(NamedTuple):
    """Names of the columns that are used, in order.

    Args:
        scores: the scores; the first is the one to be maximised.
        context: name -> "categorical" or "numeric".
        features: name -> "categorical", "ordered" or "numeric", or the vocabulary that is given.
        feasible: the column that says whether a row succeeded; None without.
    """

    scores: list[str]
    context: dict[str, str]
    features: dict[str, str | Vocabulary]
    feasible: str | None = None

    @property
    def used(self) -> dict[str, str]:
        """Name of each column -> `score`, `feasible`, `context` or `feature`."""
        return {
            **dict.fromkeys(self.scores, "score"),
            **({} if self.feasible is None else {self.feasible: "feasible"}),
            **dict.fromkeys(self.context, "context"),
            **dict.fromkeys(self.features, "feature"),
        }

    @property
    def could_miss(self) -> set[str]:
        """Columns that can have a category for missing cells."""
        categorical = (name for name, kind in self.context.items() if kind == "categorical")
        return {*self.features, *categorical}


def without_excluded(data: Loaded, exclude: Sequence[str] | str) -> Loaded:
    """The table without these columns.

    Raises:
        TableError: for a column that is missing.
    """
    names = [exclude] if isinstance(exclude, str) else list(exclude)
    for name in names:
        pick(data.table, name, "excluded")
    return data._replace(table=data.table.drop_columns(names)) if names else data


def find_roles(
    data: Loaded,
    *,
    scores: list[str],
    context: Sequence[str] | str,
    features: Features,
    problems: Problems,
    feasible: str | None = None,
) -> Roles:
    """Roles of the columns of a table; the arguments are those of `read_table`.

    Columns that are missing or cannot have their role are among the problems and not the roles.

    Raises:
        TableError: for a column that is given twice or has two roles.
    """
    names = data.table.column_names
    contexts = _given_kinds(context, names, ("categorical", "numeric"), "context")
    if features is None:
        chosen = dict.fromkeys(n for n in names if n not in {*scores, *contexts, feasible})
    elif isinstance(features, Mapping):
        chosen = dict.fromkeys(features)
    else:
        chosen = _given_kinds(features, names, ("categorical", "ordered"), "feature")
    given = [] if feasible is None else [feasible]
    roles = {"score": scores, "feasible": given, "context": contexts, "feature": chosen}
    _require_one_role(roles)
    there = _Present(data.table, problems)
    kinds = {n: contexts[n] or _context_kind(data, n) for n in there.those(contexts, "context")}
    scores, named = there.those(scores, "score"), features is not None
    if isinstance(features, Mapping):
        known = _given_vocabularies(features, there.those(features, "feature"))
        return Roles(scores, kinds, known, feasible)
    chosen = {name: chosen[name] for name in there.those(chosen, "feature")}
    found = _feature_kinds(data, chosen, named=named, problems=problems)
    return Roles(scores, kinds, found, feasible)


class _Present:
    """Columns that a table has; those that it lacks are problems."""

    def __init__(self, table: ArrowTable, problems: Problems) -> None:
        self.table, self.problems = table, problems

    def those(self, names: Iterable[str], role: str) -> list[str]:
        """The names of columns that there are."""
        found = []
        for name in names:
            with self.problems.collect():
                pick(self.table, name, role)
                found.append(name)
        return found


def _given_kinds(
    given: Sequence[str] | str, names: Sequence[str], kinds: Sequence[str], role: str
) -> dict[str, str | None]:
    """Column name -> forced kind, or None."""
    pairs = [_split_kind(c, names, kinds) for c in ([given] if isinstance(given, str) else given)]
    _require_once([name for name, _ in pairs], role)
    return dict(pairs)


def _split_kind(text: str, names: Sequence[str], kinds: Sequence[str]) -> tuple[str, str | None]:
    name, colon, kind = text.rpartition(":")
    # a column may be called "a:b"
    if colon and text not in names and kind in kinds:
        return name, kind
    return text, None


def _require_once(names: list[str], role: str) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise TableError(f"{role} columns are given twice: {listing(repeated)}")


def _require_one_role(roles: Mapping[str, Iterable[str]]) -> None:
    for first, second in combinations(roles, 2):
        for name in roles[first]:
            if name in roles[second]:
                raise TableError(f"column {name!r} cannot be both {first} and {second}")


def _context_kind(data: Loaded, name: str) -> str:
    column = pick(data.table, name, "context")
    numeric = is_numeric_text(column) if data.is_text else is_numeric(column)
    if not numeric and (typo := stray_text(column)) is not None:
        row, value, count = typo
        text = (
            f"context {name!r} is read as categories: row {row + 1} holds {shown(value)}, which is "
            f"no number as the others are ({count:,} different ones); with '{name}:categorical' "
            "that is what is meant"
        )
        warnings.warn(text, TableWarning, stacklevel=5)
    return "numeric" if numeric else "categorical"


def _given_vocabularies(
    features: Mapping[str, Vocabulary | Sequence[Value]], names: Sequence[str]
) -> dict[str, str | Vocabulary]:
    given = {name: features[name] for name in names}
    return {
        name: one if isinstance(one, Vocabulary) else Vocabulary(name, tuple(one))
        for name, one in given.items()
    }


def _feature_kinds(
    data: Loaded, chosen: Mapping[str, str | None], *, named: bool, problems: Problems
) -> dict[str, str | Vocabulary]:
    """Kinds of the features; of those that are not named, without what gives no choice."""
    kinds: dict[str, str | Vocabulary] = {}
    left_out: dict[str, str] = {}
    for name, given in chosen.items():
        with problems.collect():
            column = pick(data.table, name, "feature")
            distinct = None if given == "categorical" else numbers_of(data, column, name)
            fault = None if given else as_identifier(column, name, distinct)
            if fault and named:
                keep = f"'{name}:categorical' keeps it all the same"
                raise TableError(f"column {name!r} {fault}; {keep}")
            fault = fault or (None if named else as_constant(column, name))
            if fault:
                left_out[name] = fault
            else:
                kinds[name] = _feature_kind(column, name, given, distinct)
    if left_out and not kinds and not problems.found:
        faults = [f"column {name!r} {fault}" for name, fault in left_out.items()]
        raise TableError(f"no feature is left: {'; '.join(faults[:3])}")
    _warn_left_out(left_out)
    return kinds


def _warn_left_out(faults: Mapping[str, str]) -> None:
    for name, fault in faults.items():
        keep = "name the features, with ':categorical' after its name, to keep it"
        more = "" if fault.endswith(NO_CHOICE) else f"; {keep}"
        text = f"column {name!r} {fault}, and is left out{more}"
        warnings.warn(text, TableWarning, stacklevel=5)


def _feature_kind(
    column: ArrowColumn, name: str, given: str | None, distinct: NDArray[np.float64] | None
) -> str:
    if given == "categorical":
        return "categorical"
    if distinct is not None:
        most = max(_FEW_NUMBERS, known_rows(column) / _ROWS_A_NUMBER * whole(distinct))
        if len(distinct) > most:
            return "numeric"
    elif given is None and holds_dates(column):
        count = distinct_count(column, name)
        text = f"column {name!r} holds dates: they are {count:,} categories, as text"
        warnings.warn(text, TableWarning, stacklevel=5)
    return given or ("ordered" if _holds_intervals(column, name) else "categorical")


def _holds_intervals(column: ArrowColumn, name: str) -> bool:
    """Whether all values, missing ones aside, are text that says intervals of numbers."""
    if is_declared(column) or not is_text(column):
        return False
    values, _ = factorize(column, name, missing=True)
    known = [value for value in values if value is not None]
    return bool(known) and all(interval_ends(value) is not None for value in known)
