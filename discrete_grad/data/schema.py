"""The meaning of a table's columns: numeric contexts and the schema that holds all columns."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discrete_grad.data._values import Value
from discrete_grad.data.aims import Aim
from discrete_grad.data.arrow import as_column
from discrete_grad.data.columns import numbers, pick
from discrete_grad.data.errors import Problems, RowError, TableError, as_table_error, listing
from discrete_grad.data.sources import Source, load
from discrete_grad.data.vocabulary import Vocabulary
from discrete_grad.space import CategoricalSpace, ContextSpec, code_dtype

__all__ = ["NumericColumn", "Schema"]


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
            text = f"{values[beyond[0]]} is too far from the mean {self.mean:g}"
            raise RowError(self.name, beyond[0], text)
        return standard

    def to_dict(self) -> dict[str, Any]:
        """Name, mean and scale."""
        return asdict(self)

    def to_json(self) -> str:
        """`to_dict` as a JSON object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> NumericColumn:
        """Inverse of `to_json`."""
        with as_table_error("not a numeric column"):
            return cls(**json.loads(text))


@dataclass(frozen=True)
class Schema:
    """The columns of a table: which are features, which are context, and which are scores.

    Args:
        features: at least one; the order is the order of the codes' last dimension.
        context: any number of columns.
        score: name of the score column that is to be maximised, or minimised; empty without one.
        more_scores: names of the further score columns; all scores together are a row's behaviour.
        minimised: names of those scores that are to be made small.
        embed_context: whether categorical contexts travel as codes; see `ContextSpec`.
        aims: those of several, or one that is no direction, in the order of the scores; further
            scores are behaviour alone. Without any the first score is the only aim.
        feasible: name of the column that says whether a row succeeded; None without.

    Raises:
        TableError: without features, with one name for two columns, or with a minimised column
            that is no score.

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
    minimised: tuple[str, ...] = ()
    embed_context: bool = False
    aims: tuple[Aim, ...] = ()
    feasible: str | None = None

    def __post_init__(self) -> None:
        columns = [column.name for column in (*self.features, *self.context)]
        scores = [self.score, *self.more_scores]
        names = [*columns, *scores]
        if not self.features:
            raise TableError("no feature is left: a table needs at least one besides the score")
        if len(set(names)) < len(names):
            raise TableError(f"each column has one role, got {listing(names)}")
        if [aim.name for aim in self.aims] != scores[: len(self.aims)]:
            raise TableError(f"the aims must be the first of the scores {listing(scores)}")
        if not set(self.minimised) <= set(scores):
            raise TableError(f"{listing(self.minimised)} are not all scores: {listing(scores)}")

    @property
    def signs(self) -> tuple[int, ...]:
        """Factor of each score's column: 1, or -1 if the score is minimised.

        Example:
            >>> cut = Vocabulary("cut", ("fair", "good"))
            >>> Schema((cut,), (), "cost", ("quality",), minimised=("cost",)).signs
            (-1, 1)
        """
        scores = (self.score, *self.more_scores)
        return tuple(-1 if name in self.minimised else 1 for name in scores)

    @property
    def all_aims(self) -> tuple[Aim, ...]:
        """Aims of all scores, in their order.

        Example:
            >>> cut = Vocabulary("cut", ("fair", "good"))
            >>> [aim.words for aim in Schema((cut,), (), "cost", minimised=("cost",)).all_aims]
            ['cost:min']
        """
        first = Aim(self.score, "max" if self.signs[0] > 0 else "min")
        aims = self.aims or (first,)
        scores = (self.score, *self.more_scores)
        return (*aims, *(Aim(name, "behaviour") for name in scores[len(aims) :]))

    def with_aims(self, aims: Sequence[Aim]) -> Schema:
        """The same columns with other scores; the aims are in their order, as `parse_aims` gives.

        Example:
            >>> schema = Schema((Vocabulary("cut", (1, 2)),), (), "cost")
            >>> schema.with_aims([Aim("yield"), Aim("cost", "min")]).minimised
            ('cost',)
        """
        names = [aim.name for aim in aims]
        wanted = tuple(aim for aim in aims if aim.goal != "behaviour")
        less = {aim.name for aim in aims if aim.sign < 0}
        # the sign of what is behaviour alone does not matter, and stays as it was
        less |= {aim.name for aim in aims if aim.goal == "behaviour"} & set(self.minimised)
        plain = len(wanted) == 1 and wanted[0].value is None
        return replace(
            self,
            score=next(iter(names), ""),
            more_scores=tuple(names[1:]),
            minimised=tuple(name for name in names if name in less),
            aims=() if plain else wanted,
        )

    def in_units(self, scores: Tensor, place: int = 0) -> Tensor:
        """Scores `(...)` to be maximised, converted to the units of the score column; or back.

        Minus the scores if the column is to be minimised, and otherwise the scores themselves.

        Args:
            scores: of one score.
            place: of that score, 0 for the first.

        Example:
            >>> schema = Schema((Vocabulary("cut", (1, 2)),), (), "cost", minimised=("cost",))
            >>> schema.in_units(torch.tensor([-3.0, 0.0]))
            tensor([3., 0.])
        """
        return scores if self.signs[place] > 0 else 0 - scores

    @cached_property
    def space(self) -> CategoricalSpace:
        """The features' space, with the labels as categories."""
        features = {feature.name: feature.labels for feature in self.features}
        return CategoricalSpace(features, ordered=[f.name for f in self.features if f.in_order])

    @cached_property
    def context_spec(self) -> ContextSpec | None:
        """Columns of a context tensor; None without context columns."""
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
        """Codes `(N, F)` of the feature columns; other columns are ignored.

        Args:
            table: as in `read_table`.
            dtype: of the codes; `code_dtype` takes the least memory.

        Raises:
            TableError: for a missing column or as `Vocabulary.encode`; all columns at once.
        """
        data = load(table).table
        codes = torch.empty(data.num_rows, len(self.features), dtype=dtype)
        problems = Problems("the table")
        for i, feature in enumerate(self.features):
            with problems.collect():
                column = feature.encode(pick(data, feature.name, "feature"))
                codes[:, i] = torch.from_numpy(column)
        problems.tell()
        return codes

    def encode_context(self, table: Source) -> Tensor | None:
        """Contexts `(N, C)`, float32, as `ContextSpec` describes them.

        Raises:
            TableError: for a missing column or as the columns' own `encode`; all at once.
        """
        spec = self.context_spec
        if spec is None:
            return None
        data = load(table).table
        categorical, numeric = self._context_kinds
        contexts = torch.zeros(data.num_rows, spec.width)
        blocks = contexts.split([*spec.block_sizes, *(1 for _ in numeric)], 1)
        problems = Problems("the table")
        for vocabulary, block in zip(categorical, blocks, strict=False):
            with problems.collect():
                codes = torch.from_numpy(vocabulary.encode(pick(data, vocabulary.name, "context")))
                if spec.embedded:
                    block[:, 0] = codes
                else:
                    block.scatter_(1, codes.unsqueeze(1), 1.0)
        for column, block in zip(numeric, blocks[len(categorical) :], strict=True):
            with problems.collect():
                block[:, 0] = torch.from_numpy(column.encode(pick(data, column.name, "context")))
        problems.tell()
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
        """Features, context and scores as a JSON object; absent parts are left out."""
        scores = {"more_scores": self.more_scores, "minimised": self.minimised}
        columns = {
            "features": [feature.to_dict() for feature in self.features],
            "context": [column.to_dict() for column in self.context],
            "score": self.score,
            # the text is part of a run's digest: one score, one text
            **{name: given for name, given in scores.items() if given},
            **({"embed_context": True} if self.embed_context else {}),
            **({"aims": [aim.to_dict() for aim in self.aims]} if self.aims else {}),
            **({"feasible": self.feasible} if self.feasible else {}),
        }
        return json.dumps(columns)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """Inverse of `to_json`."""
        with as_table_error("not a schema"):
            data = json.loads(text)
            context = [
                Vocabulary(**column) if "values" in column else NumericColumn(**column)
                for column in data["context"]
            ]
            features = tuple(Vocabulary(**column) for column in data["features"])
            more, minimised = (tuple(data.get(name, ())) for name in ("more_scores", "minimised"))
            embed = bool(data.get("embed_context", False))
            aims = tuple(Aim(**aim) for aim in data.get("aims", ()))
            return cls(
                features,
                tuple(context),
                data["score"],
                more,
                minimised,
                embed,
                aims,
                data.get("feasible"),
            )

    @property
    def _context_kinds(self) -> tuple[list[Vocabulary], list[NumericColumn]]:
        return (
            [column for column in self.context if isinstance(column, Vocabulary)],
            [column for column in self.context if isinstance(column, NumericColumn)],
        )
