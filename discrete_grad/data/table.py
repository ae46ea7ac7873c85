"""Tables to rows: `read_table` for fitting, `read_contexts` for generating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from discrete_grad.data._feasible import feasible_rows, without_failed_scores
from discrete_grad.data._given import given_values
from discrete_grad.data._infer import infer_schema
from discrete_grad.data._missing import Missing, complete_rows
from discrete_grad.data._roles import Features, Roles, find_roles, without_excluded
from discrete_grad.data._scores import measured_scores
from discrete_grad.data._unseen import Unseen, unused, without_unseen
from discrete_grad.data._values import Value
from discrete_grad.data.aims import Aim, parse_aims
from discrete_grad.data.columns import pick
from discrete_grad.data.errors import Problems, TableError, listing
from discrete_grad.data.schema import Schema
from discrete_grad.data.sources import Source, load
from discrete_grad.data.table_text import table_text
from discrete_grad.data.vocabulary import Vocabulary

__all__ = ["Table", "read_contexts", "read_table"]


@dataclass(frozen=True, eq=False)
class Table:
    """Rows with their scores and contexts, as tensors.

    Args:
        schema: what the columns mean.
        codes: `(N, F)`, of the smallest integer type, `schema.code_dtype`: `long()` a part of them
            before it serves as an index or is calculated with.
        scores: `(N,)`, float64, to be maximised: the score column in the user's units, or minus
            that column where the schema minimises it; `schema.in_units` gives the column back.
        context: `(N, C)`, float32; None without context columns.
        more_scores: `(N, S - 1)`, float64, the further scores in the order of `schema.more_scores`,
            likewise with the sign under which more is better; None without.
        failed_codes: `(M, F)`, rows that failed and have no score; None without `schema.feasible`.
        failed_context: `(M, C)`, theirs; None without context columns.

    Example:
        >>> table = read_table({"cut": ["fair", "good"], "score": [1.0, 2.0]}, score="score")
        >>> table, table.take([1]).codes.tolist()
        (<table; rows: 2; features: cut (2); scores: score (1 to 2)>, [[1]])
    """

    schema: Schema
    codes: Tensor
    scores: Tensor
    context: Tensor | None
    more_scores: Tensor | None = None
    failed_codes: Tensor | None = None
    failed_context: Tensor | None = None

    def __len__(self) -> int:
        """N, the number of rows."""
        return len(self.scores)

    def __repr__(self) -> str:
        """One line; its rows are many."""
        return f"<{table_text(self.schema, self.all_scores, self.failed_codes)}>"

    @property
    def all_scores(self) -> Tensor:
        """`(N, S)`, float64: `scores`, then `more_scores`."""
        more = [] if self.more_scores is None else [self.more_scores]
        return torch.column_stack([self.scores, *more])

    @property
    def unseen(self) -> dict[str, list[Value]]:
        """Feature name -> its categories that no row has; features without any are left out.

        A row that failed has its categories, too.

        Example:
            >>> rows = {"cut": ["fair", "good"], "score": [1.0, 2.0]}
            >>> table = read_table(rows, score="score", features={"cut": ["fair", "good", "ideal"]})
            >>> table.unseen
            {'cut': ['ideal']}
        """
        rows, found = self.codes, {}
        if self.failed_codes is not None:
            rows = torch.cat([rows, self.failed_codes.to(rows.dtype)])
        for feature, codes in zip(self.schema.features, rows.unbind(1), strict=True):
            found[feature.name] = feature.decode(unused(feature, codes).nonzero()[:, 0])
        return {name: values for name, values in found.items() if values}

    def take(self, indices: ArrayLike | Tensor) -> Table:
        """The rows at these positions, integers `(M,)` or a boolean mask `(N,)`, in that order."""
        index = torch.as_tensor(indices)
        index = index if index.numel() else index.long()
        context = None if self.context is None else self.context[index]
        more = None if self.more_scores is None else self.more_scores[index]
        return replace(
            self,
            codes=self.codes[index],
            scores=self.scores[index],
            context=context,
            more_scores=more,
        )


def read_table(
    source: Source,
    *,
    score: str | Aim | Sequence[str | Aim] | None,
    context: Sequence[str] | str = (),
    features: Features = None,
    exclude: Sequence[str] | str = (),
    schema: Schema | None = None,
    missing: Missing = "error",
    unseen: Unseen = "keep",
    feasible: str | None = None,
) -> Table:
    """Read a table of categorical features and a score, or several.

    A CSV file is UTF-8, comma-separated and has a header. Its cells are text: "007" and "7" are
    different categories, an empty cell is a missing value, and a quoted empty cell is a category.

    The categories of a feature are sorted, numbers by value and text by code point, whatever the
    order of the rows; columns that declare categories (Arrow dictionaries, pandas Categoricals,
    polars Enums) keep their order and also the categories that no row has; if they are declared to
    be ordered, the feature is.

    A numeric feature is binned if it has more than 16 different values, integers only if fewer than
    10 rows share a value on average. Its categories are then up to 16 intervals between quantiles,
    in order; a generated row has the interval's label. In CSV, `007` is no number.

    A feature whose values differ in more than 95% of at least 20 rows, or that has more than 1,000
    different values in more than half of the rows, is taken for an identifier, unless it is
    numeric; so are different integers without a gap. It is left out with a `TableWarning`, or
    refused if `features` names it. Dates and times are text in ISO form, and a `TableWarning` says
    so.

    Args:
        source: path of a CSV or Parquet file; a pandas, polars or Arrow table, or any other with
            the Arrow C stream interface; or a dict of lists, arrays or tensors.
        score: the column to be maximised, or one of the words of `parse_aims`: "cost:min",
            "ph:=7.4" for a small distance to a number, "purity>=.95" for a high probability, and
            "weight:behaviour" for a column that is no aim. All together are a row's behaviour, by
            which an aligner says whether two rows behave alike. None for a table without, whose
            rows a scorer of one's own scores: its `scores` are NaN.
        context: columns that the generator is conditioned on. A column is numeric if its type is,
            or, in CSV, if all its values parse as numbers, and otherwise categorical; write
            "name:categorical" or "name:numeric" to decide.
        features: columns to be chosen; None takes all others. "name:categorical" makes each value a
            category, whatever the column; "name:ordered" also keeps their order, numbers by value
            and text by code point, and bins what has too many. A mapping gives the categories.
        exclude: columns that are left out; none of them may have a role.
        schema: from an earlier table: its features, context columns and codes are used, and neither
            `context` nor `features` may be given. The scores are those named here, minimised if
            they are there and nothing else is written.
        missing: "error" refuses a missing cell of a used column; "category" makes it a category of
            its own, None, in features and categorical contexts, and refuses it elsewhere; "drop"
            leaves out rows with one, with a `TableWarning`. NaN of a floating column is missing.
        unseen: "drop" leaves out the categories of a feature that no row has; "keep" keeps those
            that are declared or given by `features`, see `Table.unseen`. A schema is kept.
        feasible: column of yes/no, true/false or 1/0: whether the row succeeded. The scores of
            rows that failed are not read, and their cells may be missing; see `Table.failed_codes`.

    Raises:
        TableError: if anything is wrong with the table; the message names column, value and row,
            and has a line for each of several faults.
            Rows count from 1 without the header. Without `schema` there must also be two rows or
            more with different scores, in each score column.
        ValueError: for `schema` together with `context` or `features`.
        ImportError: if pyarrow is not installed.

    Example:
        >>> table = read_table(
        ...     {"cut": ["good", "fair"], "shop": ["a", "b"], "score": [2, 1]},
        ...     score="score", context=["shop"],
        ... )
        >>> table.schema.features
        (Vocabulary(name='cut', values=('fair', 'good')),)
        >>> table.codes.tolist(), table.context.tolist()
        ([[1], [0]], [[1.0, 0.0], [0.0, 1.0]])
        >>> columns = {"cut": ["good", "fair"], "price": [9, 5], "weight": [2, 3]}
        >>> table = read_table(columns, score=["price", "weight"])
        >>> table.schema.score, table.schema.more_scores, table.more_scores.tolist()
        ('price', ('weight',), [[2.0], [3.0]])
        >>> read_table(columns, score="price:min").scores
        tensor([-9., -5.], dtype=torch.float64)
    """
    if schema is not None and (context or features is not None):
        raise ValueError("a schema says what is context and feature: give neither beside it")
    data = without_excluded(load(source), exclude)
    before = {aim.name: aim for aim in schema.all_aims} if schema else {}
    aims = parse_aims(score, data.table.column_names, before)
    names = [aim.name for aim in aims]
    inferred, problems = schema is None, Problems("the table")
    if schema is None:
        roles = find_roles(
            data,
            scores=names,
            context=context,
            features=features,
            feasible=feasible,
            problems=problems,
        )
        known = set[str]()
    else:
        wanted = replace(schema.with_aims(aims), feasible=feasible or schema.feasible)
        schema = schema if wanted == schema else wanted
        roles, known = _roles_of(schema)
    could = roles.could_miss if schema is None else known
    may = could if missing == "category" else known
    given, succeeded = data.table, None
    if roles.feasible is not None:
        succeeded = feasible_rows(given, roles.feasible)
        given = without_failed_scores(given, roles.scores, succeeded)
    table, kept = complete_rows(
        given, roles.used, missing, may_miss=may, could_miss=could, problems=problems
    )
    if succeeded is not None and kept is not None:
        succeeded = succeeded[kept]
    problems.kept = kept
    here = [aim for aim in aims if aim.name in roles.scores]
    scores = measured_scores(table, here, problems, checked=inferred)
    if schema is None:
        schema = infer_schema(table, roles, problems).with_aims(aims)
        schema = replace(schema, feasible=feasible)
    problems.tell()
    with problems.collect():
        codes = schema.encode_features(table, dtype=schema.code_dtype)
    with problems.collect():
        contexts = schema.encode_context(table)
    problems.tell()
    if inferred and unseen == "drop":
        schema, codes = without_unseen(schema, codes)
    unknown = torch.full((len(codes),), torch.nan, dtype=torch.float64)
    first, *more_scores = [
        schema.in_units(torch.from_numpy(column.copy()), place)
        for place, column in enumerate(scores)
    ] or [unknown]
    more = torch.stack(more_scores, 1) if more_scores else None
    made = Table(schema, codes, first, contexts, more)
    return made if succeeded is None else _parted(made, torch.from_numpy(succeeded))


def _parted(table: Table, succeeded: Tensor) -> Table:
    """The rows that succeeded `(N,)`, and beside them those that failed."""
    failed = None if table.context is None else table.context[~succeeded]
    codes = table.codes[~succeeded]
    return replace(table.take(succeeded), failed_codes=codes, failed_context=failed)


def _roles_of(schema: Schema) -> tuple[Roles, set[str]]:
    """The roles that a schema gives, and its columns that have a category for missing cells."""
    scores = [name for name in (schema.score, *schema.more_scores) if name]
    context = {
        column.name: "categorical" if isinstance(column, Vocabulary) else "numeric"
        for column in schema.context
    }
    columns = (*schema.features, *schema.context)
    known = {c.name for c in columns if isinstance(c, Vocabulary) and c.has_missing}
    return Roles(scores, context, {f.name: f for f in schema.features}, schema.feasible), known


def read_contexts(
    source: Source | None, schema: Schema
) -> tuple[dict[str, list[Any]], Tensor | None]:
    """Read the contexts for which rows are to be generated.

    Args:
        source: as in `read_table`; columns that are no context columns are not looked at. None if
            the schema has no context columns.
        schema: of the table the generator was fitted to.

    Returns:
        The context columns as they were given (a numeric one that was read as text, as numbers),
        name -> N values, and the contexts `(N, C)`, float32; `({}, None)` if the schema has no
        context columns.

    Raises:
        TableError: if the schema and the source disagree on whether there are contexts, for a
            missing column or value, a category that was not in the fitted table, or a number that
            is none or not finite.

    Example:
        >>> table = read_table(
        ...     {"cut": ["good", "fair"], "shop": ["a", "b"], "score": [2, 1]},
        ...     score="score", context=["shop"],
        ... )
        >>> read_contexts({"shop": ["b"]}, table.schema)
        ({'shop': ['b']}, tensor([[0., 1.]]))
    """
    names = [column.name for column in schema.context]
    if source is None and not names:
        return {}, None
    if source is None:
        raise TableError(f"contexts are needed: a table with the columns {listing(names)}")
    if not names:
        raise TableError("contexts are given, but the schema has no context columns")
    table = load(source).table
    contexts = schema.encode_context(table)
    columns = {c.name: given_values(c, pick(table, c.name, "context")) for c in schema.context}
    return columns, contexts
