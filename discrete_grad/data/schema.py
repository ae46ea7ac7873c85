"""What a table's columns mean: vocabularies, numeric contexts and the schema that holds them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from discrete_grad.data.arrow import as_column
from discrete_grad.data.columns import factorize, numbers, pick, place
from discrete_grad.data.errors import TableError, closest, listing, shown, told_as
from discrete_grad.data.sources import Source, load
from discrete_grad.data.values import Value, checked_values, parse
from discrete_grad.space import CategoricalSpace, ContextSpec, code_dtype

__all__ = ["NumericColumn", "Schema", "Vocabulary"]


@dataclass(frozen=True)
class Vocabulary:
    """One categorical column: its name and its categories in the order of their codes.

    Args:
        name: of the column.
        values: the categories, all of them text, integers, finite numbers or booleans; integers
            among numbers become numbers.

    Raises:
        TableError: for no value, a value twice, or values of different or other kinds.

    Example:
        >>> cut = Vocabulary("cut", ("fair", "good", "ideal"))
        >>> cut.encode(["good", "ideal"]).tolist(), cut.decode([0, 1])
        ([1, 2], ['fair', 'good'])
        >>> Vocabulary.from_json(cut.to_json()) == cut
        True
    """

    name: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", checked_values(self.name, self.values))

    def __len__(self) -> int:
        """The number of categories."""
        return len(self.values)

    @property
    def labels(self) -> tuple[str, ...]:
        """The categories as text, in the order of their codes."""
        return tuple(map(str, self.values))

    def encode(self, column: object) -> NDArray[np.int64]:
        """Codes `(N,)` of a column: a list, array, tensor, Series or Arrow array.

        Where the column holds text and the vocabulary does not, as happens when one of two files is
        CSV, the text is parsed; in the opposite case values are compared with the labels.

        Raises:
            TableError: for a missing value or a category that is not in the vocabulary.
        """
        distinct, positions = factorize(as_column(column, self.name), self.name)
        codes = np.array([self._code(value) for value in distinct], dtype=np.int64)[positions]
        unseen = np.flatnonzero(codes < 0)
        if unseen.size:
            value = distinct[positions[unseen[0]]]
            raise TableError(
                f"{place(self.name, unseen[0])}: {shown(value)} is not among the "
                f"{len(self):,} known categories {listing(self.values, 6)}"
                f"{closest(value, self.labels)}"
            )
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

    def to_json(self) -> str:
        """Name and values as a JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """Inverse of `to_json`."""
        with told_as("not a vocabulary"):
            return cls(**json.loads(text))

    @cached_property
    def _codes(self) -> dict[Value, int]:
        return {value: code for code, value in enumerate(self.values)}

    def _code(self, value: Value) -> int:
        kind = type(self.values[0])
        if kind is str:
            value = str(value)
        elif isinstance(value, str):
            value = parse(value, kind)
        return self._codes.get(value, -1)


@dataclass(frozen=True)
class NumericColumn:
    """One numeric context column and its standardisation.

    Args:
        name: of the column.
        mean: in the column's units.
        scale: the standard deviation in the column's units, positive; 1 for a constant column.

    Raises:
        TableError: for a mean or scale that is not finite or a scale that is not positive.

    Example:
        >>> price = NumericColumn("price", mean=10.0, scale=2.0)
        >>> price.encode([10, 14]).tolist()
        [0.0, 2.0]
        >>> NumericColumn.from_json(price.to_json()) == price
        True
    """

    name: str
    mean: float
    scale: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.scale) and self.scale > 0):
            raise TableError(
                f"column {self.name!r} cannot be standardised with mean {self.mean} "
                f"and scale {self.scale}"
            )

    def encode(self, column: object) -> NDArray[np.float32]:
        """Standardised values `(N,)` of a column: a list, array, tensor, Series or Arrow array.

        Raises:
            TableError: for a missing, non-numeric or non-finite value, or one that is so far from
                the mean that its standardised value is no float32.
        """
        values = numbers(as_column(column, self.name), self.name)
        with np.errstate(over="ignore"):
            standard = ((values - self.mean) / self.scale).astype(np.float32)
        beyond = np.flatnonzero(~np.isfinite(standard))
        if beyond.size:
            raise TableError(
                f"{place(self.name, beyond[0])}: {values[beyond[0]]} is too far from the mean "
                f"{self.mean:g}"
            )
        return standard

    def to_json(self) -> str:
        """Name, mean and scale as a JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> NumericColumn:
        """Inverse of `to_json`."""
        with told_as("not a numeric column"):
            return cls(**json.loads(text))


@dataclass(frozen=True)
class Schema:
    """The columns of a table: which are features, which are context, and which are scores.

    Args:
        features: at least one; the order is the order of the codes' last dimension.
        context: any number of columns.
        score: name of the score column that is to be maximised.
        more_scores: names of the further score columns; all scores together are a row's behaviour.
        embed_context: whether categorical contexts travel as codes; see `ContextSpec`.

    Raises:
        TableError: without features or with one name for two columns.

    Example:
        >>> cut, shop = Vocabulary("cut", ("fair", "good")), Vocabulary("shop", ("east", "west"))
        >>> schema = Schema((cut,), (shop, NumericColumn("price", 10.0, 2.0)), "score")
        >>> schema.space.names, schema.context_spec.width
        (('cut',), 3)
        >>> schema.encode_context({"price": [14], "shop": ["west"]})
        tensor([[0., 1., 2.]])
        >>> Schema.from_json(schema.to_json()) == schema
        True
    """

    features: tuple[Vocabulary, ...]
    context: tuple[Vocabulary | NumericColumn, ...]
    score: str
    more_scores: tuple[str, ...] = ()
    embed_context: bool = False

    def __post_init__(self) -> None:
        columns = [column.name for column in (*self.features, *self.context)]
        names = [*columns, self.score, *self.more_scores]
        if not self.features:
            raise TableError("no feature is left: a table needs at least one besides the score")
        if len(set(names)) < len(names):
            raise TableError(f"each column has one role, got {listing(names)}")

    @cached_property
    def space(self) -> CategoricalSpace:
        """The features' space, with the labels as categories."""
        return CategoricalSpace({feature.name: feature.labels for feature in self.features})

    @cached_property
    def context_spec(self) -> ContextSpec | None:
        """What a context tensor holds; None without context columns."""
        if not self.context:
            return None
        categorical, numeric = self._context_kinds
        labels = {column.name: column.labels for column in categorical}
        names = [column.name for column in numeric]
        return ContextSpec(labels, names, embedded=self.embed_context and bool(labels))

    @property
    def code_dtype(self) -> torch.dtype:
        """The smallest integer type that holds the codes of every feature."""
        return code_dtype(max(map(len, self.features)))

    def encode_features(self, table: Source, *, dtype: torch.dtype = torch.int64) -> Tensor:
        """Codes `(N, F)` of the feature columns; other columns are not looked at.

        Args:
            table: as in `read_table`.
            dtype: of the codes; `code_dtype` takes the least memory.

        Raises:
            TableError: for a missing column or as `Vocabulary.encode`.
        """
        data = load(table).table
        codes = torch.empty(data.num_rows, len(self.features), dtype=dtype)
        for i, feature in enumerate(self.features):
            column = feature.encode(pick(data, feature.name, "feature"))
            codes[:, i] = torch.from_numpy(column)
        return codes

    def encode_context(self, table: Source) -> Tensor | None:
        """Contexts `(N, C)`, float32, as `ContextSpec` describes them.

        Raises:
            TableError: for a missing column or as the columns' own `encode`.
        """
        spec = self.context_spec
        if spec is None:
            return None
        data = load(table).table
        categorical, numeric = self._context_kinds
        contexts = torch.zeros(data.num_rows, spec.width)
        blocks = contexts.split([*spec.block_sizes, *(1 for _ in numeric)], 1)
        for vocabulary, block in zip(categorical, blocks, strict=False):
            codes = torch.from_numpy(vocabulary.encode(pick(data, vocabulary.name, "context")))
            if spec.embedded:
                block[:, 0] = codes
            else:
                block.scatter_(1, codes.unsqueeze(1), 1.0)
        for column, block in zip(numeric, blocks[len(categorical) :], strict=True):
            block[:, 0] = torch.from_numpy(column.encode(pick(data, column.name, "context")))
        return contexts

    def decode_features(self, codes: Tensor) -> dict[str, list[Value]]:
        """Columns of codes `(N, F)`: feature name -> N categories in their own type.

        Raises:
            ValueError: for another shape or a code out of range.
        """
        if codes.dim() != 2 or codes.shape[1] != len(self.features):
            raise ValueError(f"codes must be (N, {len(self.features)}), got {tuple(codes.shape)}")
        pairs = zip(self.features, codes.unbind(1), strict=True)
        return {feature.name: feature.decode(column) for feature, column in pairs}

    def to_json(self) -> str:
        """Features, context and scores as a JSON object; without further scores, none are named."""
        columns = asdict(self)
        if not self.more_scores:
            # the text is part of a run's digest: one score, one text
            del columns["more_scores"]
        if not self.embed_context:
            del columns["embed_context"]
        return json.dumps(columns)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """Inverse of `to_json`."""
        with told_as("not a schema"):
            data = json.loads(text)
            context = [
                Vocabulary(**column) if "values" in column else NumericColumn(**column)
                for column in data["context"]
            ]
            features = tuple(Vocabulary(**column) for column in data["features"])
            more_scores = tuple(data.get("more_scores", ()))
            embed = bool(data.get("embed_context", False))
            return cls(features, tuple(context), data["score"], more_scores, embed)

    @property
    def _context_kinds(self) -> tuple[list[Vocabulary], list[NumericColumn]]:
        return (
            [column for column in self.context if isinstance(column, Vocabulary)],
            [column for column in self.context if isinstance(column, NumericColumn)],
        )
