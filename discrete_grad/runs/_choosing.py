"""From what was measured to the rows of the next round."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.grouping import row_groups
from discrete_grad.policies import Conditioned, Generator
from discrete_grad.rules import Rules
from discrete_grad.runs._belief import fit_belief
from discrete_grad.runs._next_rows import Wanted, first_rows, next_rows
from discrete_grad.space import CategoricalSpace, ContextSpec
from discrete_grad.training.loop import derive_seed

__all__ = ["Learned", "Measured", "check_explore", "normal_scores", "rule_context"]

_ELITE = 64


@dataclass(frozen=True, eq=False)
class Measured:
    """Rows that were measured.

    Args:
        codes: `(N, F)`, int64.
        scores: `(N,)`, or `(N, K)` of several aims, float64, NaN for a row that failed.
        context: `(N, C)`, of width 0 without contexts.
    """

    codes: Tensor
    scores: Tensor
    context: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.codes)

    def __add__(self, more: Measured) -> Measured:
        """These rows and further ones."""
        pairs = zip(vars(self).values(), vars(more).values(), strict=True)
        return Measured(*map(torch.cat, pairs))

    def without(self, others: Measured) -> Measured:
        """The rows that others, in the same context, are not equal to."""
        codes, context = (self.codes, others.codes), (self.context, others.context)
        group = row_groups(torch.cat(codes), torch.cat(context))
        return self.part(~torch.isin(group[: len(self)], group[len(self) :]))

    def part(self, places: Tensor) -> Measured:
        """The rows at indices, or of a mask."""
        return Measured(self.codes[places], self.scores[places], self.context[places])

    def within(self, context: Tensor) -> Measured:
        """The rows in one context `(C,)`."""
        return self.part((self.context == context).all(1))

    @property
    def given(self) -> Tensor | None:
        """The contexts, or None without."""
        return self.context if self.context.shape[1] else None


def check_explore(explore: float) -> None:
    """Raise ValueError unless it is a finite number of at least 0."""
    if not 0 <= explore < math.inf:
        raise ValueError(f"explore must be a number of at least 0, got {explore}")


def rule_context(
    space: CategoricalSpace, spec: ContextSpec | None, rules: Rules | None, context: Tensor | None
) -> Tensor | None:
    """The columns of a context `(C,)` that the rules read; None where they read none."""
    if rules is None or rules.context is None:
        return None
    return Conditioned(Generator(space, spec, hidden=(1,)), rules).rule_context(context)


def normal_scores(scores: Tensor) -> Tensor:
    """Scores `(N,)` as quantiles of a normal law, by their ranks; equal ones have equal quantiles.

    One huge score then counts no more than any other best one, and a Gaussian process fits.

    Example:
        >>> normal_scores(torch.tensor([5.0, 1e6, 7.0])).round(decimals=2)
        tensor([-0.9700,  0.9700,  0.0000])
    """
    ordered = scores.sort().values
    below = torch.searchsorted(ordered, scores)
    until = torch.searchsorted(ordered, scores, right=True)
    share = (below + until).double() / (2 * len(scores))
    return (math.sqrt(2) * torch.erfinv(2 * share - 1)).float()


class Learned:
    """What the measurements say of rows that were not measured.

    Args:
        space: the features.
        spec: the context columns; None without.
        measured: everything known, in all contexts.
        seed: of the Gaussian processes.
    """

    def __init__(
        self, space: CategoricalSpace, spec: ContextSpec | None, measured: Measured, *, seed: int
    ) -> None:
        self.space = space
        success = measured.scores.isfinite()
        varied = len(measured.scores[success].unique()) > 1
        # where all scores are equal, what can be learned is which rows have one at all
        self.done = measured.part(success) if varied else measured
        scores = self.done.scores if varied else success.double()
        self.belief, self.chance = None, None
        if len(scores.unique()) < 2:
            return
        rows = ScoredRows(self.done.codes, normal_scores(scores), self.done.given)
        self.belief = fit_belief(space, spec, rows, seed=derive_seed(seed, "scores"))
        self.expected = self.belief.mean(self.done.codes, self.done.given)
        if varied and not success.all():
            outcomes = ScoredRows(measured.codes, success.float(), measured.given)
            self.chance = fit_belief(space, spec, outcomes, seed=derive_seed(seed, "failures"))

    def rows(self, wanted: Wanted, out: Measured, logits: Tensor | None = None) -> Tensor:
        """The rows `(n, F)` of the next round in the context of `wanted`.

        Args:
            wanted: what the rows fulfil.
            out: rows that are being measured, in all contexts.
            logits: `(D,)`, by which the search is guided; by default how often the best rows have
                each category.
        """
        if self.belief is None:
            return first_rows(wanted)
        here = self._in(wanted.context)
        asked = here if here.any() else ~here
        order = self.expected[asked].argsort(descending=True, stable=True)
        elite = self.done.codes[asked][order[:_ELITE]]
        return next_rows(
            wanted,
            self.belief.expecting(out.codes, out.given),
            logits=_frequencies(self.space, elite) if logits is None else logits,
            elite=elite,
            best=float(self.expected[here].max() if here.any() else self.expected.min()),
            chance=self.chance,
        )

    def _in(self, context: Tensor | None) -> Tensor:
        """Mask `(N,)` of the rows in a context."""
        if context is None:
            return torch.ones(len(self.done), dtype=torch.bool)
        return (self.done.context == context).all(1)


def _frequencies(space: CategoricalSpace, elite: Tensor) -> Tensor:
    """Logits `(D,)` of how often good rows have each category; none is impossible."""
    counts: Tensor = space.one_hot(elite).sum(0) + 1
    return counts.log()
