"""Rounds in memory: propose rows, have them measured, tell the results."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from discrete_grad.models.pareto import non_dominated
from discrete_grad.rules import Rules
from discrete_grad.runs._acquisition import Acquisition
from discrete_grad.runs._aim_rounds import round_tradeoffs, worth_at
from discrete_grad.runs._choosing import Learned, Measured, check_explore, rule_context
from discrete_grad.runs._evolution import evolved
from discrete_grad.runs._next_rows import Wanted
from discrete_grad.space import CategoricalSpace, ContextSpec
from discrete_grad.training.loop import derive_seed

__all__ = ["Rounds"]


class Rounds:
    """Search for the best rows of a space, a few measurements at a time.

    Nothing has to be known to begin with: the first rows hold every category about equally often.
    From then on a Gaussian process over the rows says which scores are expected and how far they
    may be off. Candidates are all rows of a small space, and otherwise those that a search finds;
    of them the batch is taken that raises the expected maximum most. Rows that are out are expected
    to get the score that the process predicts, and none is proposed twice.

    Of several aims a batch is divided among up to 4 trade-offs, drawn at random each time, so that
    the rows of a few rounds cover the front. A target is told as minus the distance to it, and a
    row that misses a threshold as one that failed.

    Args:
        space: the features.
        context: the columns of the contexts in which rows are measured; None without.
        rules: that proposed rows obey.
        explore: factor of the spread around the expected scores: at 0 the batch has the highest
            expected scores, above 1 it is more daring than the process thinks right.
        choose: how the batch is taken. `improvement`: one after another, the row that raises the
            expected maximum most; `thompson`: the best rows of draws of all scores; `optimism`: the
            rows of the highest 90% quantiles; `evolution`: no process, but the 100 best rows,
            changed in a few features and recombined, for tens of thousands of measurements. It may
            be changed between rounds.
        seed: decides every random number.

    Raises:
        ValueError: for a negative `explore`.

    Example:
        >>> space = CategoricalSpace.from_sizes((4, 4, 4))
        >>> rounds = Rounds(space)
        >>> for _ in range(4):
        ...     rows = rounds.propose(5)
        ...     rounds.tell(rows, rows.sum(-1).double())
        >>> rounds.best()
        (tensor([3, 3, 3]), 9.0)
    """

    def __init__(
        self,
        space: CategoricalSpace,
        context: ContextSpec | None = None,
        *,
        rules: Rules | None = None,
        explore: float = 1.0,
        choose: Acquisition | Literal["evolution"] = "improvement",
        seed: int = 0,
    ) -> None:
        check_explore(explore)
        self.space, self.context_spec, self.rules = space, context, rules
        self.explore, self.choose, self.seed = explore, choose, seed
        width = 0 if context is None else context.width
        codes, scores = torch.empty(0, space.num_features).long(), torch.empty(0).double()
        self.measured = self.out = Measured(codes, scores, torch.empty(0, width))
        self._proposals = 0

    def propose(self, rows: int, context: Tensor | None = None) -> Tensor:
        """Different rows `(n, F)` to be measured next, fewer than asked for where few are left.

        Args:
            rows: wanted, at least 1.
            context: `(C,)`, in which they will be measured; None without contexts.

        Raises:
            ValueError: for fewer than 1 row, or a context that does not fit.
        """
        if rows < 1:
            raise ValueError(f"rows must be at least 1, got {rows}")
        here = self._contexts(context, 1)[0]
        seed = derive_seed(self.seed, "rounds", len(self.measured), self._proposals)
        found = []
        for part, (tradeoff, count) in enumerate(round_tradeoffs(self._aims, rows, seed=seed)):
            codes = self._part(tradeoff, count, context, derive_seed(seed, part) if part else seed)
            unknown = torch.full((len(codes),), math.nan, dtype=torch.float64)
            self.out = self.out + Measured(codes, unknown, here.expand(len(codes), -1))
            found.append(codes)
        self._proposals += 1
        return torch.cat(found)

    def _part(
        self, tradeoff: Tensor | None, rows: int, context: Tensor | None, seed: int
    ) -> Tensor:
        """The rows of a batch that are sought at one trade-off."""
        here = self._contexts(context, 1)[0]
        known = [part.within(here).codes for part in (self.measured, self.out)]
        wanted = Wanted(
            self.space,
            rows,
            torch.cat(known),
            context=None if context is None else here,
            rules=self.rules,
            rule_context=rule_context(self.space, self.context_spec, self.rules, context),
            explore=self.explore,
            how="improvement" if self.choose == "evolution" else self.choose,
            seed=seed,
        )
        columns = self.measured.scores.view(len(self.measured), self._aims)
        measured = replace(self.measured, scores=worth_at(columns, tradeoff))
        if self.choose == "evolution":
            return evolved(wanted, measured.within(here))
        return Learned(self.space, self.context_spec, measured, seed=seed).rows(wanted, self.out)

    def tell(self, codes: Tensor, scores: Tensor, context: Tensor | None = None) -> None:
        """Add measured rows, proposed or not; each call counts as a new measurement.

        Args:
            codes: `(n, F)`.
            scores: `(n,)`, to be made large, or `(n, K)` of K aims, the same K in all calls; NaN,
                in each of them, for a row that failed.
            context: `(n, C)` or `(C,)`, in which they were measured.

        Raises:
            ValueError: for other shapes, a code out of range, an infinite score or a row with some
                scores but not all.
        """
        self.space.check_codes(codes)
        self._check(codes, scores)
        told = Measured(codes.long(), scores.double(), self._contexts(context, len(codes)))
        self.measured = self.measured + told if len(self.measured) else told
        self.out = self.out.without(told)

    def best(self) -> tuple[Tensor, float]:
        """The row `(F,)` of the highest score measured, and the score.

        Raises:
            ValueError: before any score was told, or for several aims.
        """
        codes, scores = self.front()
        if scores.dim() > 1:
            raise ValueError(f"{self._aims} aims have no best row: `front` gives the best ones")
        return codes[0], scores[0].item()

    def front(self) -> tuple[Tensor, Tensor]:
        """The measured rows `(m, F)` of which no other is better in every aim, and their scores.

        The scores are `(m,)` of one aim and `(m, K)` of several, as they were told; the rows are in
        the order in which they were measured.

        Raises:
            ValueError: before any score was told.

        Example:
            >>> rounds = Rounds(CategoricalSpace.from_sizes((3, 3)))
            >>> codes = rounds.propose(9)
            >>> x, y = codes.double().unbind(1)
            >>> rounds.tell(codes, torch.stack([x, y - x], 1))
            >>> sorted(rounds.front()[0].tolist())
            [[0, 2], [1, 2], [2, 2]]
        """
        columns = self.measured.scores.view(len(self.measured), self._aims)
        done = self.measured.part(~columns.isnan().any(1))
        if not len(done):
            raise ValueError("no score was told yet")
        best = done.part(non_dominated(done.scores.view(len(done), self._aims)))
        return best.codes, best.scores

    @property
    def _aims(self) -> int:
        """Number of aims, by the scores that were told."""
        return 1 if self.measured.scores.dim() < 2 else self.measured.scores.shape[1]

    def _check(self, codes: Tensor, scores: Tensor) -> None:
        """Raise ValueError for rows and scores of other shapes, and for scores that are none."""
        several = scores.dim() == 2 and scores.shape[1] > 1
        fits = codes.dim() == 2 and scores.shape[:1] == codes.shape[:1]
        if not fits or not (scores.dim() == 1 or several) or bool(scores.isinf().any()):
            raise ValueError(
                f"rows (n, {self.space.num_features}) and as many finite scores are expected, (n,) "
                "of one aim or (n, K) of several, NaN for failures, got "
                f"{tuple(codes.shape)} and {tuple(scores.shape)}"
            )
        if len(self.measured) and scores.shape[1:] != self.measured.scores.shape[1:]:
            got = scores.shape[1] if several else 1
            raise ValueError(f"scores of {self._aims} aims were told before, got {got}")
        missing = scores.isnan()
        if several and len(some := (missing.any(1) & ~missing.all(1)).nonzero()):
            raise ValueError(f"row {int(some[0])}: some scores are NaN, but not all of them")

    def _contexts(self, context: Tensor | None, count: int) -> Tensor:
        """Contexts `(count, C)`, of width 0 without."""
        width = self.measured.context.shape[1]
        fits = width == 0 if context is None else width == context.shape[-1] > 0
        if not fits:
            got = "none" if context is None else f"{tuple(context.shape)}"
            raise ValueError(f"contexts (n, {width}) are expected, got {got}")
        return torch.empty(count, 0) if context is None else context.float().expand(count, width)
