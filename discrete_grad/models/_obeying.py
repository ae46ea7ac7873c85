"""What a search for rows asks of rules, for many contexts at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.rules import Rules
from discrete_grad.space import CategoricalSpace

__all__ = ["Obeying"]

# a swapped category is worth more than all others of its row, and one of these more than what the
# distribution says
_SWAPPED, _KEPT, _LEAST = 1e6, 1e3, -30.0
_MOST = 2**20  # codes of rows that are mended at a time


@dataclass(frozen=True)
class Obeying:
    """The rules of a search's rows.

    Args:
        rules: of its space.
        context: codes `(S, C)` of the context that they read, None without.
    """

    rules: Rules
    context: Tensor | None

    @property
    def space(self) -> CategoricalSpace:
        """The space of the rows."""
        return self.rules.space

    @property
    def most(self) -> int | None:
        """Number of rows allowed; None where it depends on the context."""
        return self.rules.num_rows if self.context is None else None

    def whole(self) -> Tensor:
        """Every row that is allowed; with a context, every row of the space."""
        if self.most is None:
            return self.space.enumerate()
        return self.rules.enumerate(max_rows=self.most)

    def allows(self, codes: Tensor, where: Tensor) -> Tensor:
        """Whether rows `(n, F)` obey in the contexts at places `(n,)`."""
        return self.rules.allows(codes, context=self._at(where))

    def likely(self, logits: Tensor, count: int) -> Tensor:
        """The most likely rows `(S, n, F)` of distributions `(S, D)`, given that they obey."""
        law = self.rules.condition(logits, context=self.context)
        return law.best(min(count, self.rules.num_rows))[0].transpose(0, 1)

    def drawn(self, logits: Tensor, noise: Tensor) -> Tensor:
        """A row `(S, n, F)` of each distribution `(S, D)` for each of some Gumbel noise `(n, D)`.

        It is the most likely one after the noise is added. For features that no rule speaks of it
        is an exact draw; the others are no draws of the conditioned law, but vary and obey.
        """
        moved = logits.unsqueeze(0) + noise.unsqueeze(1)
        context = None if self.context is None else self.context.expand(len(noise), -1, -1)
        return self.rules.condition(moved, context=context).mode().transpose(0, 1)

    def mended(self, codes: Tensor, swapped: Tensor, logits: Tensor, where: Tensor) -> Tensor:
        """Rows `(n, F)`, each that does not obey changed to the nearest one that does.

        The feature at places `(n,)` that was swapped keeps its category, if any row has it; of
        rows as near the most likely is taken.

        Args:
            codes: `(n, F)`.
            swapped: `(n,)`.
            logits: `(S, D)`.
            where: places `(n,)` of the rows' contexts.
        """
        broken = (~self.allows(codes, where)).nonzero().squeeze(1)
        codes = codes.clone()
        for part in broken.split(max(1, _MOST // self.space.width)):
            codes[part] = self._nearest(
                codes[part], swapped[part], logits[where[part]], where[part]
            )
        return codes

    def _nearest(self, codes: Tensor, swapped: Tensor, logits: Tensor, where: Tensor) -> Tensor:
        space = self.space
        likely = space.log_softmax(logits.float()).clamp(min=_LEAST) / space.num_features
        columns = space.columns(codes)
        worth = likely.scatter_add(1, columns, torch.full_like(columns, _KEPT).to(likely))
        column = columns.gather(1, swapped.unsqueeze(1))
        worth = worth.scatter(1, column, _SWAPPED)
        return self.rules.condition(worth, context=self._at(where)).mode()

    def _at(self, where: Tensor) -> Tensor | None:
        return None if self.context is None else self.context[where]
