"""Rounds in memory: propose rows, have them measured, tell the results."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from discrete_grad.rules import Rules
from discrete_grad.runs._acquisition import Acquisition
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

    Args:
        space: the features.
        context: the columns of the contexts in which rows are measured; None without.
        rules: that proposed rows obey.
        explore: factor of the spread around the expected scores: at 0 the batch has the highest
            expected scores, above 1 it is more daring than the process thinks right.
        choose: how the batch is taken. `improvement`: one after another, the row that raises the
            expected maximum most; `thompson`: the best rows of draws of all scores; `optimism`: the
            rows of the highest 90% quantiles; `evolution`: no process, but the 100 best rows with
            about one feature drawn anew, for tens of thousands of measurements. It may be changed
            between rounds.
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
        if self.choose == "evolution":
            codes = evolved(wanted, self.measured.within(here))
        else:
            learned = Learned(self.space, self.context_spec, self.measured, seed=seed)
            codes = learned.rows(wanted, self.out)
        self._proposals += 1
        unknown = torch.full((len(codes),), math.nan, dtype=torch.float64)
        self.out = self.out + Measured(codes, unknown, here.expand(len(codes), -1))
        return codes

    def tell(self, codes: Tensor, scores: Tensor, context: Tensor | None = None) -> None:
        """Add measured rows, proposed or not; each call counts as a new measurement.

        Args:
            codes: `(n, F)`.
            scores: `(n,)`, to be made large; NaN for a row that failed.
            context: `(n, C)` or `(C,)`, in which they were measured.

        Raises:
            ValueError: for other shapes, a code out of range or an infinite score.
        """
        self.space.check_codes(codes)
        if codes.dim() != 2 or scores.shape != codes.shape[:1] or bool(scores.isinf().any()):
            raise ValueError(
                f"rows (n, {self.space.num_features}) and as many finite scores (n,), NaN for "
                f"failures, are expected, got {tuple(codes.shape)} and {tuple(scores.shape)}"
            )
        told = Measured(codes.long(), scores.double(), self._contexts(context, len(codes)))
        self.measured = self.measured + told
        self.out = self.out.without(told)

    def best(self) -> tuple[Tensor, float]:
        """The row `(F,)` of the highest score measured, and the score.

        Raises:
            ValueError: before any score was told.
        """
        scores = self.measured.scores.nan_to_num(-math.inf)
        if not len(scores) or scores.max() == -math.inf:
            raise ValueError("no score was told yet")
        place = int(scores.argmax())
        return self.measured.codes[place], scores[place].item()

    def _contexts(self, context: Tensor | None, count: int) -> Tensor:
        """Contexts `(count, C)`, of width 0 without."""
        width = self.measured.context.shape[1]
        fits = width == 0 if context is None else width == context.shape[-1] > 0
        if not fits:
            got = "none" if context is None else f"{tuple(context.shape)}"
            raise ValueError(f"contexts (n, {width}) are expected, got {got}")
        return torch.empty(count, 0) if context is None else context.float().expand(count, width)
