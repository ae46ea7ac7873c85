"""Rows of a table's codes and contexts as the columns that a model of one's own knows."""

from __future__ import annotations

import itertools
import math
import re
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discrete_grad.data import NumericColumn, Schema, Vocabulary

__all__ = ["RowColumns"]

# error of a standardised float32 a few units from 0, and decimals that float64 can round to
_ROUNDING, _MOST_DIGITS = 5e-7, 15
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")  # 007 is none
_PANDAS = "a scorer that takes frames needs pandas: pip install 'discrete_grad[tables]'"


class RowColumns:
    """Columns of codes `(N, F)` and contexts `(N, C)` of a table, features first.

    Args:
        schema: of the table.

    Example:
        >>> schema = Schema((Vocabulary("cut", ("fair", "good")),), (), "price")
        >>> RowColumns(schema).frame(torch.tensor([[1], [0]]), None)["cut"].tolist()
        ['good', 'fair']
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        spec = schema.context_spec
        self.context = tuple(schema.context)
        self.categorical = [c for c in self.context if isinstance(c, Vocabulary)]
        self.numeric = [c for c in self.context if isinstance(c, NumericColumn)]
        self.spec = spec
        self.names = tuple(column.name for column in (*schema.features, *schema.context))

    def tensors(self, codes: Tensor, context: Tensor | None) -> dict[str, Tensor]:
        """Name -> `(N,)`: codes of categories, and numbers, float64, in the table's units."""
        features = zip(self.schema.space.names, codes.unbind(-1), strict=True)
        return {**dict(features), **self.context_tensors(context)}

    @cached_property
    def gaps(self) -> dict[str, Tensor]:
        """Name -> categories `(K,)` of columns of whole numbers from 0 of which some are missing.

        A model that looks such a column up knows it by these numbers, not by their places.
        """
        whole = {
            name: values
            for name, values in self._values.items()
            if values.dtype.kind == "i" and values.min() >= 0
        }
        gapped = {n: v for n, v in whole.items() if (v != np.arange(len(v))).any()}
        return {name: torch.from_numpy(values) for name, values in gapped.items()}

    def frame(self, codes: Tensor, context: Tensor | None, form: str = "frame") -> Any:
        """A pandas frame of the values; a bin is its middle.

        Args:
            codes: `(N, F)`, int64.
            context: `(N, C)`, or None.
            form: `frame`; `numbers`, with text that is a number in every category as numbers;
                `categories`, features and categorical contexts as pandas categoricals with all
                categories of the table in their order; or `text-categories`, text alone.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(_PANDAS) from error
        if form not in ("categories", "text-categories"):
            known = self._numbers if form == "numbers" else self._values
            given = self._looked_up(known, codes, context)
            # text as lists, of which pandas makes its own type
            listed = {n: v.tolist() if v.dtype == object else v for n, v in given.items()}
            return pd.DataFrame({name: pd.Series(column) for name, column in listed.items()})
        kinds = {v.name: v for v in (*self.schema.features, *self.categorical)}
        found: dict[str, Any] = dict(self._looked_up(self._numbers, codes, context))
        for name, column in self.tensors(codes, context).items():
            text = name in kinds and self._numbers[name].dtype == object
            if text or (form == "categories" and name in kinds):
                places = self._coded(kinds[name], column.numpy())
                found[name] = pd.Categorical.from_codes(places, self._known(kinds[name]))
        return pd.DataFrame(found)

    def array(self, codes: Tensor, context: Tensor | None, form: str) -> NDArray[np.float64]:
        """Numbers `(N, n)` of the columns in the table's order.

        Args:
            codes: `(N, F)`, int64.
            context: `(N, C)`, or None.
            form: `values`, where text has codes; `codes` or `one-hot` of all categories.
        """
        if form == "values":
            places = {n: np.arange(len(v)) for n, v in self._numbers.items() if v.dtype == object}
            found = self._looked_up(self._numbers | places, codes, context)
            return np.column_stack([*found.values()]).astype(np.float64)
        columns = self.tensors(codes, context)
        sizes = {v.name: len(v) for v in (*self.schema.features, *self.categorical)}
        parts = [
            torch.nn.functional.one_hot(column.long(), sizes[name]).double()
            if form == "one-hot" and name in sizes
            else column.double().unsqueeze(1)
            for name, column in columns.items()
        ]
        return torch.cat(parts, 1).numpy()

    @property
    def has_written_numbers(self) -> bool:
        """Whether there is text that is a number in every category, as all numbers of CSV are."""
        kinds = zip(self._values.values(), self._numbers.values(), strict=True)
        return any(given is not read for given, read in kinds)

    @property
    def codes_are_values(self) -> bool:
        """Whether the code of every category that is a number is that number."""
        return all(
            (values == np.arange(len(values))).all()
            for values in self._numbers.values()
            if values.dtype != object
        )

    @property
    def one_hot_width(self) -> int:
        """Numbers of a row as `one-hot`."""
        return sum(map(len, self._values.values())) + len(self.numeric)

    def context_tensors(self, context: Tensor | None) -> dict[str, Tensor]:
        """The same of the context columns alone."""
        if context is None or self.spec is None:
            return {}
        codes, numbers = self.spec.codes(context), self.spec.numbers(context)
        named = {v.name: codes[..., i] for i, v in enumerate(self.categorical)}
        for i, column in enumerate(self.numeric):
            raw = numbers[..., i].double() * column.scale + column.mean
            named[column.name] = _rounded(raw, column.scale)
        return {column.name: named[column.name] for column in self.context}

    def _looked_up(
        self, values: dict[str, NDArray[Any]], codes: Tensor, context: Tensor | None
    ) -> dict[str, NDArray[Any]]:
        """Name -> `(N,)`: the categories themselves, and numbers."""
        return {
            name: values[name][column.numpy()] if name in values else column.numpy()
            for name, column in self.tensors(codes, context).items()
        }

    @cached_property
    def _numbers(self) -> dict[str, NDArray[Any]]:
        """The same, with text that is a number in every category as numbers."""
        return {name: _as_numbers(values) for name, values in self._values.items()}

    @cached_property
    def _values(self) -> dict[str, NDArray[Any]]:
        """Name -> categories `(K,)` in the order of their codes, those of bins as numbers."""
        return {v.name: _as_array(v) for v in (*self.schema.features, *self.categorical)}

    def _known(self, vocabulary: Vocabulary) -> list[Any]:
        return [value for value in _as_list(vocabulary) if value is not None]

    def _coded(self, vocabulary: Vocabulary, codes: NDArray[Any]) -> NDArray[Any]:
        """Codes with -1 for the missing cell, as pandas has them."""
        if not vocabulary.has_missing:
            return codes
        return np.where(codes == len(vocabulary) - 1, -1, codes)


def _rounded(raw: Tensor, scale: float) -> Tensor:
    """Numbers as they were before they were standardised in float32: 0.1, not 0.10000003."""
    digits = math.floor(-math.log10(_ROUNDING * scale))
    return torch.round(raw, decimals=digits) if abs(digits) <= _MOST_DIGITS else raw


def _as_list(vocabulary: Vocabulary) -> list[Any]:
    if not vocabulary.edges:
        return list(vocabulary.values)
    ends = vocabulary.edges
    middles = [(low + high) / 2 for low, high in itertools.pairwise(ends)]
    return [*middles, *([None] if vocabulary.has_missing else [])]


def _as_numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Categories of text as numbers if each is written as one, as pandas reads CSV."""
    texts = [value for value in values.tolist() if value is not None]
    if values.dtype != object or not all(_NUMBER.fullmatch(text) for text in texts):
        return values
    if len(texts) == len(values) and all(text.lstrip("-").isdigit() for text in texts):
        return np.array([int(text) for text in texts])
    return np.array([math.nan if v is None else float(v) for v in values.tolist()])


def _as_array(vocabulary: Vocabulary) -> NDArray[Any]:
    values = _as_list(vocabulary)
    if any(isinstance(value, str) for value in values):
        made = np.empty(len(values), dtype=object)
        made[:] = values
        return made
    if vocabulary.has_missing:
        return np.array([math.nan if value is None else value for value in values], dtype=float)
    return np.array(values)
