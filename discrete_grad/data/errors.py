"""The room's one error class and the small helpers that word its messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import SupportsInt

import numpy as np
from numpy.typing import NDArray

__all__ = ["TableError", "TableWarning"]

_MOST_LINES = 20


class TableError(ValueError):
    """A table, a file or a column cannot be used; the message has a line for each fault.

    It names the column, the value and the row where there is one. Rows are counted from 1 and the
    header is not counted: "row 3" is the third row of data.

    Example:
        >>> from discrete_grad.data.errors import TableError
        >>> from discrete_grad.data.table import read_table
        >>> try:
        ...     read_table({"cut": ["fair", "good"], "score": ["1", "x"]}, score="score")
        ... except TableError as error:
        ...     print(error)
        column 'score', row 2: 'x' is not a number
    """


class RowError(TableError):
    """Fault of one cell; `index` counts from 0, the message from 1."""

    def __init__(self, name: str, index: SupportsInt, text: str) -> None:
        super().__init__(f"column {name!r}, row {int(index) + 1}: {text}")
        self.name, self.index, self.text = name, int(index), text


class TableWarning(UserWarning):
    """Warning of a decision that `read_table` made by itself; the message is one line.

    Example:
        >>> import warnings
        >>> from discrete_grad.data.table import read_table
        >>> rows = {"cut": ["fair", "good", None], "score": [1.0, 2.0, 3.0]}
        >>> with warnings.catch_warnings(record=True) as told:
        ...     warnings.simplefilter("always", TableWarning)
        ...     table = read_table(rows, score="score", missing="drop")
        >>> print(told[0].message)
        1 of 3 rows has a missing cell and is left out: 1 in 'cut'
    """


class ManyFaults(TableError):
    """Several faults; the message has a line for each."""

    def __init__(self, what: str, faults: Sequence[TableError]) -> None:
        lines = [str(fault) for fault in faults[:_MOST_LINES]]
        rest = len(faults) - len(lines)
        lines += [f"and {rest:,} more"] if rest else []
        super().__init__("\n".join([f"{what} has {len(faults):,} problems:", *lines]))
        self.what, self.faults = what, faults


class Problems:
    """All that is wrong with a table, told together.

    Args:
        what: what is wrong, for the message.

    Example:
        >>> problems = Problems("the table")
        >>> for name in ("cut", "shade"):
        ...     with problems.collect():
        ...         raise TableError(f"column {name!r} is empty")
        >>> try:
        ...     problems.tell()
        ... except TableError as error:
        ...     print(error)
        the table has 2 problems:
        column 'cut' is empty
        column 'shade' is empty
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.found: list[TableError] = []
        self.kept: NDArray[np.int64] | None = None  # rows that are read from now on

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep a `TableError` for later, its rows counted as the file does."""
        try:
            with counted_in(self.kept):
                yield
        except ManyFaults as error:
            self.found += error.faults
        except TableError as error:
            self.found.append(error)

    def tell(self) -> None:
        """Raise `TableError` if there is a problem: the only one, or a line for each."""
        if len(self.found) > 1:
            raise ManyFaults(self.what, self.found)
        for error in self.found:
            raise error


@contextmanager
def counted_in(kept: NDArray[np.int64] | None) -> Iterator[None]:
    """Count the rows of errors as the file does, where only the rows `kept` `(M,)` are read."""
    try:
        yield
    except (RowError, ManyFaults) as error:
        if kept is None:
            raise
        raise _counted(error, kept) from error


def _counted(error: TableError, kept: NDArray[np.int64]) -> TableError:
    if isinstance(error, ManyFaults):
        return ManyFaults(error.what, [_counted(fault, kept) for fault in error.faults])
    if isinstance(error, RowError):
        return RowError(error.name, kept[error.index], error.text)
    return error


@contextmanager
def as_table_error(what: str) -> Iterator[None]:
    """Turn whatever a library below raises on a damaged input into a `TableError`."""
    try:
        yield
    except TableError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise TableError(f"{what}: {reason[:300] or type(error).__name__}") from error


def shown(value: object) -> str:
    """A value as it appears in a message: its repr, on one line and not too long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listing(names: Iterable[object], limit: int = 12) -> str:
    """The first few names, and how many more there are."""
    items = list(names)
    rest = [f"and {len(items) - limit:,} more"] if len(items) > limit else []
    return ", ".join([shown(item) for item in items[:limit]] + rest)


def closest(word: object, words: Sequence[object]) -> str:
    """A hint to be put after a message, or nothing."""
    # a vocabulary may be huge and difflib is slow: look at the first thousand only
    found = difflib.get_close_matches(str(word), [str(w) for w in words[:1000]], n=1)
    return f"; did you mean {shown(found[0])}?" if found else ""
