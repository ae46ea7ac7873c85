"""Columns of scores as numbers: numbers, true and false, and text that says either."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from discrete_grad.data._values import parse
from discrete_grad.data.aims import Aim, require_within
from discrete_grad.data.arrow import ArrowColumn, ArrowTable
from discrete_grad.data.columns import factorize, is_text, numbers, pick
from discrete_grad.data.errors import Problems, RowError, TableError

__all__: list[str] = []

# an amount with its currency, thousands apart, or a share in percent
_AMOUNT = re.compile(r"[^\w\s.+-]?\s*[+-]?\d{1,3}(,\d{3})*(\.\d+)?\s*([^\w\s]|[A-Z]{3})?")
_ANSWERS = {"yes", "no", "y", "n", "ja", "nein"}


def score_numbers(column: ArrowColumn, name: str) -> NDArray[np.float64]:
    """Scores `(N,)`; true is 1 and false is 0, as text in any case, too.

    Raises:
        TableError: as `numbers`; of text that is nearly a number it says how to write it.
    """
    if is_text(column):
        values, places = factorize(column, name)
        truth = [parse(str(value).strip(), bool) for value in values]
        if all(isinstance(one, bool) for one in truth):
            return np.array(truth, dtype=np.float64)[places]
    try:
        return numbers(column, name)
    except RowError as error:
        hint = _hint(column[error.index].as_py())
        if not hint:
            raise
        raise RowError(name, error.index, f"{error.text}; {hint}") from error


def _hint(value: object) -> str:
    """A few words on how to write a score."""
    if not isinstance(value, str):
        return ""
    text = value.strip()
    if text.lower() in _ANSWERS:
        return "write a score of yes and no as 1 and 0, or as true and false"
    if _AMOUNT.fullmatch(text) and any(letter.isdigit() for letter in text):
        plain = re.sub(r"[^\d.+-]", "", text)
        return f"write it without signs and separators, as {plain}"
    return ""


def measured_scores(
    table: ArrowTable, aims: Sequence[Aim], problems: Problems, *, checked: bool
) -> list[NDArray[np.float64]]:
    """What is measured of the scores that are no problems already.

    Of a table to be fitted (`checked`) it has to vary, on both sides of a threshold.
    """
    wrong = {fault.name for fault in problems.found if isinstance(fault, RowError)}
    scores = []
    for aim in aims:
        if aim.name in wrong:
            continue
        with problems.collect():
            column = score_numbers(pick(table, aim.name, "score"), aim.name)
            scores.append(aim.measured(column))
            if checked:
                require_within(aim, column)
                _require_varied(aim.label, scores[-1])
    return scores


def _require_varied(name: str, column: NDArray[np.float64]) -> None:
    if len(column) < 2:
        raise TableError("the table has only 1 row: nothing can be learned from it")
    if column.min() == column.max():
        raise TableError(
            f"column {name!r}: every row has the score {column[0]:g}, nothing can be learned"
        )
