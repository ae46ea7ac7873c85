"""Subject of a report: observed rows, models, policies and, if known, the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from discrete_grad.data import Example
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.evaluation.contexts import TrainingContexts
from discrete_grad.models import BaseEstimator, RowModel
from discrete_grad.models.own import as_estimator
from discrete_grad.models.protocol import has as model_has
from discrete_grad.models.protocol import require as require_model
from discrete_grad.policies import Policy
from discrete_grad.policies.protocol import has, require
from discrete_grad.space import CategoricalSpace

__all__ = [
    "ExampleTruth",
    "Observed",
    "Scorer",
    "Subject",
    "ToUnits",
    "Truth",
]

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
        >>> import torch
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
        """Score `(N,)`, in the user's units, of codes `(N, F)` in a shown context.

        Where the score is minimised, so is this.
        """

    def percentile(self, codes: Tensor, context: int) -> Tensor:
        """Share `(N,)`, in [0, 1], of all rows of the context that are worse; ties count half."""


@dataclass(frozen=True, eq=False)
class Observed:
    """The training rows.

    Args:
        codes: `(N, F)`, N >= 1.
        scores: `(N,)`, in the user's units.
        context: `(N,)` integers, the row's position among the shown contexts, -1 for none of them.
        score_name: what the score is called.
        minimised: whether the lowest score is the best.

    Raises:
        ValueError: for lengths that differ, or no rows.

    Example:
        >>> import torch
        >>> zeros = torch.zeros(4, dtype=torch.long)
        >>> Observed(zeros.unsqueeze(1), torch.arange(4.0), zeros, "price").score_name
        'price'
    """

    codes: Tensor
    scores: Tensor
    context: Tensor
    score_name: str = "score"
    minimised: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for lengths that differ, or no rows."""
        lengths = len(self.codes), len(self.scores), len(self.context)
        if len(set(lengths)) > 1 or not lengths[0]:
            raise ValueError(f"codes, scores and context must be as many, at least 1: {lengths}")

    @property
    def sign(self) -> int:
        """Factor under which more is better, in the user's units: -1 if minimised, else 1."""
        return -1 if self.minimised else 1

    def places(self, index: int) -> Tensor:
        """Places of the rows of a shown context, in the order of the table."""
        ordered, order = self._by_context
        first, last = torch.searchsorted(ordered, torch.tensor([index, index + 1])).tolist()
        return order[first:last]

    @cached_property
    def _by_context(self) -> tuple[Tensor, Tensor]:
        """The rows' contexts in order, sorted once, and the places of these rows."""
        ordered, order = self.context.sort(stable=True)
        return ordered, order


@dataclass(frozen=True, eq=False)
class Subject:
    """Everything a report needs.

    Args:
        space: the features.
        contexts: `(S, C)`, those to be shown; None without context columns.
        labels: a name for each of them; one, such as "all rows", without context columns.
        observed: the training rows.
        estimator: what the generator was trained through; a `Scorer`, or one's own model of rows,
            which counts as an ensemble of one member.
        judge: learned from other rows; the same. None without one.
        to_units: from the estimator's scaled scores to the user's units.
        judge_to_units: the same from the judge's; None if they are alike.
        outside: for the estimator's scaled scores and their contexts 1 where the score is better
            than all observed ones, -1 where it is worse, else 0; None if that is not known.
        estimator_facts: of `discrete_grad.runs._recipe`, kept in the report.
        policies: by name, each with `logits(context)`, or with `law(context)` where rules condition
            it, or writing step by step; the last is the one the verdict is about.
        truth: None where it is not known.
        held_out: rows that the `estimator` or the `judge` has never seen, under these keys.
        metrics: the log of training, `{"step": 20, "generator/loss": 0.5, ...}`.
        settings: printed at the head of the report, name and value.
        trail: states of the last policy by the step of its training; needs a reference.
        reference: the policy that distances are measured from, such as the data policy.
        training_contexts: of the training rows; perturbed contexts are measured by their spread.
        contexts_in_table: how many contexts the table has, if more than are shown.
        uniform: the policy of random rows; None for all rows of the space.
        rules_facts: on the rules that rows obey, kept in the report as `rules`.
        together_facts: on pairs of categories that stand together, kept as `together`.
        aims_facts: on several aims and on chances, kept as `aims`.

    Raises:
        ValueError: if labels and contexts differ in number, there is no policy or one with the name
            of another entry, or rows are held out from something else.
        TypeError: for a policy without `logits(context)` and `law(context)`, or a model that cannot
            be called.

    Example:
        >>> import torch
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> from discrete_grad.policies import Generator
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate()
        >>> scorers = [EstimatorEnsemble([Estimator(space)]) for _ in range(2)]
        >>> subject = Subject(
        ...     space=space, contexts=None, labels=["all rows"],
        ...     observed=Observed(codes, codes.sum(-1), torch.zeros(6, dtype=torch.long)),
        ...     estimator=scorers[0], judge=scorers[1], to_units=lambda scaled, context: scaled,
        ...     policies={"generator": Generator(space)},
        ... )
        >>> subject.labels
        ['all rows']
    """

    space: CategoricalSpace
    contexts: Tensor | None
    labels: Sequence[str]
    observed: Observed
    estimator: Scorer | RowModel
    judge: Scorer | RowModel | None
    to_units: ToUnits
    policies: Mapping[str, Policy]
    truth: Truth | None = None
    held_out: Mapping[str, ScoredRows] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, float]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    trail: Mapping[int, Policy] = field(default_factory=dict)
    reference: Policy | None = None
    training_contexts: TrainingContexts | None = None
    contexts_in_table: int = 0
    judge_to_units: ToUnits | None = None
    outside: ToUnits | None = None
    estimator_facts: Mapping[str, Any] = field(default_factory=dict)
    uniform: Policy | None = None
    rules_facts: Mapping[str, Any] = field(default_factory=dict)
    together_facts: Mapping[str, Any] = field(default_factory=dict)
    aims_facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def judged_units(self) -> ToUnits:
        """From the judge's scaled scores to the user's units."""
        return self.judge_to_units or self.to_units

    @cached_property
    def scorers(self) -> Mapping[str, Scorer]:
        """The `estimator` and, where there is one, the `judge`, as scorers."""
        models = {"estimator": self.estimator, "judge": self.judge}
        return {name: self._scorer(model) for name, model in models.items() if model is not None}

    def _scorer(self, model: Any) -> Scorer:
        if model_has(model, "std"):
            scorer: Scorer = model
            return scorer
        return _Alone(as_estimator("a report", model, self.space))

    def __post_init__(self) -> None:
        """Raise ValueError for parts that do not fit together."""
        require_model("a report", self.estimator, "forward")
        if self.judge is not None:
            require_model("a report", self.judge, "forward")
        expected = 1 if self.contexts is None else len(self.contexts)
        if len(self.labels) != expected or not expected:
            raise ValueError(
                f"labels must be one for each of {expected} contexts, at least 1, "
                f"got {len(self.labels)}"
            )
        for policy in (*self.policies.values(), *self.trail.values()):
            if not has(policy, "law") and not has(policy, "order", "log_prob", "sample"):
                require("a report", policy, "logits")
        if self.reference is not None:
            require("a report", self.reference, "logits")
        if not self.policies:
            raise ValueError("a report needs at least one policy")
        taken = {"best training row", "random rows"} & set(self.policies)
        if taken:
            raise ValueError(f"a policy needs another name than {taken}")
        unknown = set(self.held_out) - {"estimator", "judge"}
        if unknown:
            raise ValueError(f"rows are held out from 'estimator' or 'judge', got {unknown}")


class _Alone(Scorer):
    """A single model as a scorer: there is no other that it could differ from."""

    def __init__(self, model: BaseEstimator) -> None:
        self.model = model

    def __call__(self, row: Tensor, context: Tensor | None = None, /) -> Tensor:
        return self.model(row, context)

    def std(self, row: Tensor, context: Tensor | None = None, /) -> Tensor:
        return torch.zeros(row.shape[:-1], device=row.device)


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
