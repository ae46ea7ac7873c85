"""What a law needs to know of the rules behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from discrete_grad.rules._automaton import Automaton
from discrete_grad.rules._compile import Numbered, without
from discrete_grad.space import CategoricalSpace

__all__ = ["Terms"]


@dataclass(frozen=True, eq=False)
class Terms:
    """Compiled rules.

    Args:
        space: of the row.
        whole: the same after the columns of a context.
        automaton: of the whole.
        numbered: the statements that it comes from.
        max_states: limit to the states behind a layer.
    """

    space: CategoricalSpace
    whole: CategoricalSpace
    automaton: Automaton
    numbered: Sequence[Numbered]
    max_states: int

    @property
    def hidden(self) -> int:
        """Number of context columns."""
        return self.whole.num_features - self.space.num_features

    def beyond(self, other: Terms) -> Automaton | None:
        """The rows that these rules allow and others do not; None if there is none."""
        if other is self:
            return None
        return without(self.automaton.sizes, self.numbered, other.numbered, self.max_states)
