"""What a report is about: the rows observed, the models, the policies and, if known, the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from discrete_grad.data import Example, NumericColumn, Schema, Vocabulary
from discrete_grad.space import CategoricalSpace

__all__ = [
    "ExampleTruth",
    "Observed",
    "Policy",
    "ScoredRows",
    "Scorer",
    "Subject",
    "ToUnits",
    "Truth",
    "context_labels",
    "distinct_contexts",
]

Policy = Callable[[Tensor | None], Tensor]
"""Contexts `(S, C)` -> logits `(S, D)`; without contexts, None -> `(D,)` or `(1, D)`."""

ToUnits = Callable[[Tensor, Tensor | None], Tensor]
"""Scaled scores `(N,)` and their contexts `(N, C)` or None -> scores `(N,)` in the user's units."""


class Scorer(Protocol):
    """Several models that predict the scaled score together, as an `EstimatorEnsemble` does.

    Example:
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> scorer: Scorer = EstimatorEnsemble([Estimator(space) for _ in range(2)])
        >>> scorer(space.enumerate()).shape, scorer.std(space.enumerate()).shape
        (torch.Size([6]), torch.Size([6]))
    """

    def __call__(self, row: Tensor, context: Tensor | None = None, /) -> Tensor:
        """Codes `(N, F)` or flat rows `(N, D)`, and contexts `(N, C)` or None -> `(N,)`."""

    def std(self, row: Tensor, context: Tensor | None = None, /) -> Tensor:
        """Standard deviation `(N,)` between the models, for the same arguments."""


class Truth(Protocol):
    """The true score of every row.

    Example:
        >>> class SumOfCodes:
        ...     def score(self, codes, context):
        ...         return codes.sum(-1).double()
        ...     def percentile(self, codes, context):
        ...         return codes.sum(-1) / 3  # of a space of two features of sizes 2 and 3
        >>> truth: Truth = SumOfCodes()
        >>> truth.score(torch.tensor([[1, 2]]), 0)
        tensor([3.], dtype=torch.float64)
    """

    def score(self, codes: Tensor, context: int) -> Tensor:
        """Score `(N,)`, in the user's units, of codes `(N, F)` in a shown context."""

    def percentile(self, codes: Tensor, context: int) -> Tensor:
        """Share `(N,)`, in [0, 1], of all rows of the context that are worse; ties count half."""


class ScoredRows(Protocol):
    """Rows with scaled scores, as `discrete_grad.training.Rows` holds them.

    Example:
        >>> from types import SimpleNamespace
        >>> codes = torch.zeros(5, 2, dtype=torch.long)
        >>> rows: ScoredRows = SimpleNamespace(codes=codes, scores=torch.zeros(5), context=None)
        >>> len(rows.scores)
        5
    """

    @property
    def codes(self) -> Tensor:
        """`(N, F)`."""

    @property
    def scores(self) -> Tensor:
        """`(N,)`, scaled as the models' predictions are."""

    @property
    def context(self) -> Tensor | None:
        """`(N, C)`, or None."""


@dataclass(frozen=True, eq=False)
class Observed:
    """The training rows.

    Args:
        codes: `(N, F)`, N >= 1.
        scores: `(N,)`, in the user's units.
        context: `(N,)` integers, the row's position among the shown contexts, -1 for none of them.
        score_name: what the score is called.

    Raises:
        ValueError: for lengths that differ, or no rows.

    Example:
        >>> zeros = torch.zeros(4, dtype=torch.long)
        >>> Observed(zeros.unsqueeze(1), torch.arange(4.0), zeros, "price").score_name
        'price'
    """

    codes: Tensor
    scores: Tensor
    context: Tensor
    score_name: str = "score"

    def __post_init__(self) -> None:
        """Raise ValueError for lengths that differ, or no rows."""
        lengths = len(self.codes), len(self.scores), len(self.context)
        if len(set(lengths)) > 1 or not lengths[0]:
            raise ValueError(f"codes, scores and context must be as many, at least 1: {lengths}")

    @cached_property
    def distinct_codes(self) -> Tensor:
        """The different rows `(M, F)`."""
        different: Tensor = self.codes.unique(dim=0)
        return different


@dataclass(frozen=True, eq=False)
class Subject:
    """Everything a report needs.

    Args:
        space: the features.
        contexts: `(S, C)`, those to be shown; None without context columns.
        labels: a name for each of them; one, such as "all rows", without context columns.
        observed: the training rows.
        estimator: what the generator was trained through.
        judge: learned from other rows.
        to_units: from the models' scaled scores to the user's units.
        policies: by name; the last is the one the verdict is about.
        truth: None where it is not known.
        held_out: rows that the `estimator` or the `judge` has never seen, under these keys.
        metrics: the log of training, `{"step": 20, "generator/loss": 0.5, ...}`.
        settings: printed at the head of the report, name and value.
        trail: states of the last policy by the step of its training; needs a reference.
        reference: the policy that distances are measured from, such as the data policy.

    Raises:
        ValueError: if labels and contexts differ in number, there is no policy or one with the name
            of another entry, or rows are held out from something else.

    Example:
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble, Generator
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate()
        >>> scorers = [EstimatorEnsemble([Estimator(space)]) for _ in range(2)]
        >>> subject = Subject(
        ...     space=space, contexts=None, labels=["all rows"],
        ...     observed=Observed(codes, codes.sum(-1), torch.zeros(6, dtype=torch.long)),
        ...     estimator=scorers[0], judge=scorers[1], to_units=lambda scaled, context: scaled,
        ...     policies={"generator": Generator(None, space)},
        ... )
        >>> subject.labels
        ['all rows']
    """

    space: CategoricalSpace
    contexts: Tensor | None
    labels: Sequence[str]
    observed: Observed
    estimator: Scorer
    judge: Scorer
    to_units: ToUnits
    policies: Mapping[str, Policy]
    truth: Truth | None = None
    held_out: Mapping[str, ScoredRows] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, float]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    trail: Mapping[int, Policy] = field(default_factory=dict)
    reference: Policy | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for parts that do not fit together."""
        expected = 1 if self.contexts is None else len(self.contexts)
        if len(self.labels) != expected or not expected:
            raise ValueError(
                f"labels must be one for each of {expected} contexts, at least 1, "
                f"got {len(self.labels)}"
            )
        if not self.policies:
            raise ValueError("a report needs at least one policy")
        taken = {"best training row", "random rows"} & set(self.policies)
        if taken:
            raise ValueError(f"a policy needs another name than {taken}")
        unknown = set(self.held_out) - {"estimator", "judge"}
        if unknown:
            raise ValueError(f"rows are held out from 'estimator' or 'judge', got {unknown}")


@dataclass(frozen=True, eq=False)
class ExampleTruth:
    """The truth of a complete example table.

    Args:
        example: the table.
        datasets: the data set that each shown context stands for.

    Example:
        >>> from discrete_grad.data import load_example
        >>> truth = ExampleTruth(load_example("nasbench201", ["cifar10"]), ["cifar10"])
        >>> best = truth.example.best_row("cifar10")
        >>> bool(truth.percentile(best, 0) > 0.9999)
        True
    """

    example: Example
    datasets: Sequence[str]

    def score(self, codes: Tensor, context: int) -> Tensor:
        """True score `(...)` of codes `(..., F)` in a shown context."""
        return self.example.true_score(codes, self.datasets[context])

    def percentile(self, codes: Tensor, context: int) -> Tensor:
        """Share `(...)` of the data set's rows that are worse than codes `(..., F)`."""
        return self.example.true_percentile(codes, self.datasets[context])


def distinct_contexts(
    context: Tensor | None, count: int, *, limit: int = 200
) -> tuple[Tensor | None, Tensor]:
    """The different contexts of the rows, those with most rows first.

    Args:
        context: `(N, C)`; None without context columns.
        count: N.
        limit: how many to show at most; among contexts with equally many rows they are then taken
            evenly over the order of the columns' values.

    Returns:
        The shown contexts `(S, C)` or None, and the position among them of each row's context
        `(N,)`, -1 for a context that is not shown.

    Example:
        >>> shown, index = distinct_contexts(torch.tensor([[0.0], [1.0], [1.0]]), 3)
        >>> shown.tolist(), index.tolist()
        ([[1.0], [0.0]], [1, 0, 0])
        >>> distinct_contexts(None, 2)
        (None, tensor([0, 0]))
    """
    if context is None:
        return None, torch.zeros(count, dtype=torch.long)
    # negated, so that the first category of a one-hot block comes first
    values, inverse, rows = (-context).unique(dim=0, return_inverse=True, return_counts=True)
    order = rows.argsort(descending=True, stable=True)
    if len(order) > limit:
        cut = rows[order[limit - 1]]
        sure, tied = order[rows[order] > cut], order[rows[order] == cut]
        evenly = torch.linspace(0, len(tied) - 1, limit - len(sure)).round().long()
        order = torch.cat([sure, tied[evenly]])
    position = torch.full((len(values),), -1)
    position[order] = torch.arange(len(order))
    return 0 - values[order], position[inverse]


def context_labels(schema: Schema, contexts: Tensor | None) -> list[str]:
    """A name for each context: the value of its only column, or `column=value` for several.

    Args:
        schema: of the table.
        contexts: `(S, C)`, as `schema.encode_context` makes them, or None.

    Example:
        >>> shop = Vocabulary("shop", ("east", "west"))
        >>> schema = Schema((Vocabulary("cut", (1, 2)),), (shop,), "score")
        >>> context_labels(schema, torch.tensor([[0.0, 1.0]])), context_labels(schema, None)
        (['west'], ['all rows'])
    """
    if contexts is None:
        return ["all rows"]
    categorical = [c for c in schema.context if isinstance(c, Vocabulary)]
    numeric = [c for c in schema.context if isinstance(c, NumericColumn)]
    blocks = contexts.split([*map(len, categorical), *(1 for _ in numeric)], -1)
    columns: dict[str, list[str]] = {}
    for vocabulary, block in zip(categorical, blocks, strict=False):
        columns[vocabulary.name] = [str(v) for v in vocabulary.decode(block.argmax(-1))]
    for column, block in zip(numeric, blocks[len(categorical) :], strict=True):
        values = block.squeeze(-1).double() * column.scale + column.mean
        columns[column.name] = [f"{value:.5g}" for value in values.tolist()]
    if len(columns) == 1:
        return next(iter(columns.values()))
    pairs = zip(*columns.values(), strict=True)
    return [", ".join(f"{n}={v}" for n, v in zip(columns, row, strict=True)) for row in pairs]
