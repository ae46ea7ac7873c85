"""One categorical column: its categories in the order of their codes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from discrete_grad.data._bins import bin_codes, bin_labels
from discrete_grad.data._matching import matching_codes
from discrete_grad.data._moments import moment
from discrete_grad.data._values import Value, checked_values, parse
from discrete_grad.data.arrow import ArrowColumn, as_column
from discrete_grad.data.columns import factorize, holds_numbers, numbers
from discrete_grad.data.errors import RowError, TableError, as_table_error, closest, listing, shown

__all__ = ["Vocabulary"]


@dataclass(frozen=True, repr=False)
class Vocabulary:
    """One categorical column: its name and its categories in the order of their codes.

    Args:
        name: of the column.
        values: the categories, all of them text, integers, finite numbers or booleans; integers
            among numbers become numbers. A last None is the category of the missing cells.
        ordered: whether the categories stand in a meaningful order, None aside.
        edges: of a numeric column that is binned, the ends of its intervals, increasing, one more
            than intervals; the categories are then the intervals' labels. See `binned`.

    Raises:
        TableError: for no value, a value twice, values of different or other kinds, None before
            another value, or edges that are not those of the values.

    Example:
        >>> cut = Vocabulary("cut", ("fair", "good", "ideal"))
        >>> cut.encode(["good", "ideal"]).tolist(), cut.decode([0, 1])
        ([1, 2], ['fair', 'good'])
        >>> Vocabulary.from_json(cut.to_json()) == cut
        True
        >>> Vocabulary("cut", ("fair", None)).encode([None, "fair"]).tolist()
        [1, 0]
    """

    name: str
    values: tuple[Value, ...]
    ordered: bool = False
    edges: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", checked_values(self.name, self.values))
        edges = tuple(map(float, self.edges))
        object.__setattr__(self, "edges", edges)
        if edges and not (
            self.ordered
            and all(np.isfinite(edges))
            and all(np.diff(edges) > 0)
            and self.values[: len(edges) - 1] == bin_labels(edges)
            and len(self.values) == len(edges) - 1 + self.has_missing
        ):
            raise TableError(f"feature {self.name!r}: {edges} are not the edges of its categories")

    @classmethod
    def binned(cls, name: str, edges: tuple[float, ...], *, missing: bool = False) -> Vocabulary:
        """Vocabulary of a numeric column's intervals between increasing edges.

        It encodes numbers, and the labels that it decodes to. The lower end of an interval is not
        part of it, except of the first.

        Args:
            name: of the column.
            edges: one more than intervals.
            missing: whether missing cells are a category as well.

        Example:
            >>> price = Vocabulary.binned("price", (0.0, 10.0, 12.5))
            >>> price.values, price.encode([10, 11.5]).tolist()
            (('[0, 10]', '(10, 12.5]'), [0, 1])
        """
        return cls(name, (*bin_labels(edges), *([None] if missing else [])), True, edges)

    def __repr__(self) -> str:
        """As it is made."""
        more = [f"ordered={self.ordered}"] if self.ordered else []
        more += [f"edges={self.edges}"] if self.edges else []
        return f"Vocabulary({', '.join([f'name={self.name!r}', f'values={self.values}', *more])})"

    def __len__(self) -> int:
        """The number of categories."""
        return len(self.values)

    @property
    def has_missing(self) -> bool:
        """Whether missing cells are a category, the last one."""
        return self.values[-1] is None

    @property
    def in_order(self) -> bool:
        """Whether neighbouring categories may be alike: they are ordered, or at least 3 numbers.

        Example:
            >>> Vocabulary("layers", (1, 2, 4)).in_order, Vocabulary("cut", ("a", "b")).in_order
            (True, False)
        """
        numbers = type(self.values[0]) in (int, float) and len(self) - self.has_missing > 2
        return self.ordered or numbers

    @property
    def labels(self) -> tuple[str, ...]:
        """The categories as text, in the order of their codes; `(missing)` for None."""
        if not self.has_missing:
            return tuple(map(str, self.values))
        labels, missing = tuple(map(str, self.values[:-1])), "(missing)"
        while missing in labels:
            missing = f"({missing})"
        return (*labels, missing)

    def encode(self, column: object) -> NDArray[np.int64]:
        """Codes `(N,)` of a column: a list, array, tensor, Series or Arrow array.

        Where the column holds text and the vocabulary does not, as happens when one of two files is
        CSV, the text is parsed; in the opposite case values are compared with the labels. A date or
        a time may be spelled otherwise than its category is.

        Raises:
            TableError: for a category that is not in the vocabulary, a number outside the edges,
                or a missing value where that is no category.
        """
        given = as_column(column, self.name)
        if self.edges and holds_numbers(given):
            return self._intervals(given)
        distinct, positions = factorize(given, self.name, missing=self.has_missing)
        codes = np.array([self._code(value) for value in distinct], dtype=np.int64)[positions]
        unseen = np.flatnonzero(codes < 0)
        if unseen.size:
            value, *others = dict.fromkeys(distinct[place] for place in positions[unseen])
            verb = "is" if len(others) == 1 else "are"
            more = f"; nor {verb} {listing(others, 6)} of other rows" if others else ""
            text = (
                f"{shown(value)} is not among the {len(self):,} known categories "
                f"{listing(self.values, 6)}{closest(value, self.labels)}{more}"
            )
            raise RowError(self.name, unseen[0], text)
        return codes

    def decode(self, codes: ArrayLike | Tensor) -> list[Value]:
        """Categories of codes `(N,)`, in their own type.

        Raises:
            ValueError: for a code outside 0 to K - 1.
        """
        positions = np.asarray(codes.cpu() if isinstance(codes, Tensor) else codes, dtype=np.int64)
        outside = positions[(positions < 0) | (positions >= len(self))]
        if outside.size:
            raise ValueError(
                f"feature {self.name!r} has code {outside[0]}; its codes are 0 to {len(self) - 1}"
            )
        return [self.values[code] for code in positions.tolist()]

    def matching(self, wanted: object) -> tuple[str, ...]:
        """Labels of the categories that a value means.

        A category stands for itself. In a column of numbers a number stands for the interval that
        holds it, and `80..100`, `80..` or `..100` for every category that lies in the range as a
        whole.

        Raises:
            TableError: for a value that means none of the categories.

        Example:
            >>> price = Vocabulary.binned("price", (0.0, 10.0, 12.5, 20.0))
            >>> price.matching("(10, 12.5]"), price.matching(11), price.matching("10..20")
            (('(10, 12.5]',), ('(10, 12.5]',), ('(10, 12.5]', '(12.5, 20]'))
        """
        codes = matching_codes(
            self.name, wanted, labels=self.labels, values=self.values, edges=self.edges
        )
        return tuple(self.labels[code] for code in codes)

    def to_dict(self) -> dict[str, Any]:
        """Name and values for JSON, with `ordered` and `edges` if they are set.

        Example:
            >>> Vocabulary("cut", (1, 2), ordered=True).to_dict()
            {'name': 'cut', 'values': (1, 2), 'ordered': True}
        """
        # what is not there is not named: the text is part of a run's digest
        always = ("name", "values")
        return {key: value for key, value in asdict(self).items() if value or key in always}

    def to_json(self) -> str:
        """`to_dict` as a JSON object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """Inverse of `to_json`."""
        with as_table_error("not a vocabulary"):
            return cls(**json.loads(text))

    @cached_property
    def _codes(self) -> dict[Value, int]:
        return {value: code for code, value in enumerate(self.values)}

    @cached_property
    def _moments(self) -> dict[tuple[str, ...] | None, int]:
        """Code of each category that is a date or a time, as no other category is."""
        found = [moment(value) if isinstance(value, str) else None for value in self.values]
        counts = Counter(found)
        return {m: c for c, m in enumerate(found) if m is not None and counts[m] == 1}

    def _code(self, value: Value) -> int:
        kind = type(self.values[0])
        if kind is str and value is not None:
            value = str(value)
            if value not in self._codes:
                return self._moments.get(moment(value), -1)
        elif isinstance(value, str):
            value = parse(value, kind)
        return self._codes.get(value, -1)

    def _intervals(self, column: ArrowColumn) -> NDArray[np.int64]:
        values = numbers(column, self.name, missing=self.has_missing)
        codes = bin_codes(values, self.edges)
        if self.has_missing:
            codes[np.isnan(values)] = len(self) - 1
        beyond = np.flatnonzero(codes < 0)
        if beyond.size:
            low, high = self.edges[0], self.edges[-1]
            text = f"{values[beyond[0]]:g} lies outside the known range {low:g} to {high:g}"
            raise RowError(self.name, beyond[0], text)
        return codes
