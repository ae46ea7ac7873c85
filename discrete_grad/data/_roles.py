"""Roles of columns: score, context, feature or left out."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discrete_grad.data._values import Value
from discrete_grad.data.arrow import ArrowColumn, ArrowTable
from discrete_grad.data.columns import (
    distinct_count,
    distinct_numbers,
    holds_dates,
    is_declared,
    is_numeric,
    is_numeric_text,
    is_padded,
    missing_cells,
    pick,
)
from discrete_grad.data.errors import TableError, TableWarning, listing
from discrete_grad.data.sources import Loaded
from discrete_grad.data.vocabulary import Vocabulary

__all__: list[str] = []

# above both, a column is an identifier and no choice between categories
MANY_VALUES = 1_000
MANY_SHARE = 0.5
# a column of so many rows is an identifier, too, if so large a share of its values differ
_SOME_ROWS = 20
_NEARLY_ALL = 0.95
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
    feasible: str | None = None,
) -> Roles:
    """Roles of the columns of a table; the arguments are those of `read_table`.

    Raises:
        TableError: for a column that is missing, has two roles or cannot have its role.
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
    for name in scores:
        pick(data.table, name, "score")
    return Roles(
        scores,
        {name: kind or _context_kind(data, name) for name, kind in contexts.items()},
        _given_vocabularies(data.table, features)
        if isinstance(features, Mapping)
        else _feature_kinds(data, chosen, named=features is not None),
        feasible,
    )


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
    return "numeric" if numeric else "categorical"


def _given_vocabularies(
    table: ArrowTable, features: Mapping[str, Vocabulary | Sequence[Value]]
) -> dict[str, str | Vocabulary]:
    for name in features:
        pick(table, name, "feature")
    return {
        name: given if isinstance(given, Vocabulary) else Vocabulary(name, tuple(given))
        for name, given in features.items()
    }


def _feature_kinds(
    data: Loaded, chosen: Mapping[str, str | None], *, named: bool
) -> dict[str, str | Vocabulary]:
    """Kinds of the features, without the identifiers among them if they are not named."""
    kinds: dict[str, str | Vocabulary] = {}
    left_out: list[str] = []
    for name, given in chosen.items():
        column = pick(data.table, name, "feature")
        distinct = None if given == "categorical" else _numbers(data, column, name)
        fault = None if given else _as_identifier(column, name, distinct)
        if fault is None:
            kinds[name] = _feature_kind(column, name, given, distinct)
        elif named:
            raise TableError(f"column {name!r} {fault}; '{name}:categorical' keeps it all the same")
        else:
            left_out.append(f"column {name!r} {fault}")
    if left_out and not kinds:
        raise TableError(f"no feature is left: {'; '.join(left_out[:3])}")
    for text in left_out:
        keep = "name the features, with ':categorical' after its name, to keep it"
        warnings.warn(f"{text}, and is left out; {keep}", TableWarning, stacklevel=4)
    return kinds


def _numbers(data: Loaded, column: ArrowColumn, name: str) -> NDArray[np.float64] | None:
    """Different numbers `(M,)` of a column, sorted; None if it holds categories.

    Digits after a leading zero are a code and no number.
    """
    if is_declared(column):
        return None
    numeric = is_numeric(column)
    if data.is_text:
        numeric = is_numeric_text(column) and not is_padded(column)
    return distinct_numbers(column, name) if numeric else None


def _feature_kind(
    column: ArrowColumn, name: str, given: str | None, distinct: NDArray[np.float64] | None
) -> str:
    if given == "categorical":
        return "categorical"
    if distinct is not None:
        most = max(_FEW_NUMBERS, _known_rows(column) / _ROWS_A_NUMBER * _whole(distinct))
        if len(distinct) > most:
            return "numeric"
    elif given is None and holds_dates(column):
        count = distinct_count(column, name)
        text = f"column {name!r} holds dates: they are {count:,} categories, as text"
        warnings.warn(text, TableWarning, stacklevel=5)
    return given or "categorical"


def _as_identifier(
    column: ArrowColumn, name: str, distinct: NDArray[np.float64] | None
) -> str | None:
    """A few words on what makes a column an identifier; None if it is none."""
    rows = _known_rows(column)
    if not rows or (distinct is not None and not _is_gapless(distinct)):
        return None
    count = distinct_count(column, name) if distinct is None else len(distinct)
    nearly_all = rows >= _SOME_ROWS and count > _NEARLY_ALL * rows
    many = count > max(MANY_VALUES, MANY_SHARE * rows) and not is_declared(column)
    if not (nearly_all or many):
        return None
    what = "holds dates" if holds_dates(column) else "looks like an identifier"
    return f"{what}, with {count:,} different values in {rows:,} rows"


def _known_rows(column: ArrowColumn) -> int:
    return len(column) - int(missing_cells(column).sum())


def _is_gapless(distinct: NDArray[np.float64]) -> bool:
    """Whether sorted numbers are all the integers between the first and the last."""
    return _whole(distinct) and bool(distinct[-1] == distinct[0] + (len(distinct) - 1))


def _whole(values: NDArray[np.float64]) -> bool:
    return bool((values == np.floor(values)).all())
