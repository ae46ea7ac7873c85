"""Rules read feature by feature: what may follow, so that a row can still obey."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from discrete_grad.rules._automaton import Automaton, Layer
from discrete_grad.rules._compile import TooLargeError, compiled_in
from discrete_grad.rules._parts import Part
from discrete_grad.rules._passes import class_weights, rest_of
from discrete_grad.rules.rules import Rules
from discrete_grad.space import can_inspect

__all__ = ["RuleSteps", "allowed_pairs"]


class RuleSteps:
    """Rules as they are read one feature after another, behind the context.

    A state is a number; the number behind the last one of a layer stands for rows that have broken
    a rule. From every other state an allowed row can be finished.

    Args:
        rules: the rules.
        order: positions of the features in the order of reading; None for the rules' own.

    Raises:
        ValueError: for more states than the rules' `max_states` in this order, or a rule of a
            sequence whose features come in another order.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.rules import Exactly
        >>> space = CategoricalSpace({"a": ["no", "yes"], "b": ["no", "yes"]})
        >>> steps = RuleSteps(Rules(space, [Exactly(1, {"a": "yes", "b": "yes"})]))
        >>> state = steps.advance(0, steps.begin((1,)), torch.tensor([1]))
        >>> steps.possible(1, state)
        tensor([[ True, False]])
    """

    def __init__(self, rules: Rules, order: Sequence[int] | None = None) -> None:
        self.rules, self.given = rules, None if order is None else tuple(order)
        terms = rules._terms
        self._hidden = terms.hidden
        places = terms.automaton.order
        if self.given is not None:
            places = tuple(self._hidden + feature for feature in self.given)
        own = tuple(place for place in places if place >= self._hidden)
        self.order = tuple(place - self._hidden for place in own)
        self._automaton = _in_order(rules, (*range(self._hidden), *own))

    def begin(
        self,
        batch: tuple[int, ...],
        context: Tensor | None = None,
        *,
        device: torch.device | None = None,
    ) -> Tensor:
        """States `(*batch)` before the first feature.

        Args:
            batch: their shape.
            context: codes `(..., C)` of the rules' context columns, broadcast to the batch.
            device: of the states, where there is no context.

        Raises:
            ValueError: for a context in which no row is allowed.
        """
        device = device if context is None else context.device
        state = torch.zeros(batch, dtype=torch.long, device=device)
        if context is None:
            return state
        layers = self._automaton.tensors(state.device).layers[: self._hidden]
        for layer, code in zip(layers, context.long().unbind(-1), strict=True):
            state = layer.steps[state, code.expand(batch)]
        dead = state == layers[-1].after
        if can_inspect(dead) and dead.any():
            codes = context.expand(*batch, -1)[dead][0].tolist()
            raise ValueError(f"the rules allow no row in the context {codes}")
        return state

    def possible(self, position: int, state: Tensor) -> Tensor:
        """Whether each category `(*batch, K)` of the feature at a position can be followed up."""
        layer = self._layer(position, state.device)
        return layer.steps[state] != layer.after

    def advance(self, position: int, state: Tensor, codes: Tensor) -> Tensor:
        """States `(*batch)` behind codes `(*batch)` of the feature at a position."""
        return self._layer(position, state.device).steps[state, codes.long()]

    def following(self, position: int, state: Tensor) -> Tensor:
        """States `(*batch, K)` behind each category of the feature at a position."""
        return self._layer(position, state.device).steps[state]

    def read(self, codes: Tensor, state: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Each position with the states before it, of codes `(*batch, F)` read from a state on."""
        for position, feature in enumerate(self.order):
            yield position, state
            state = self.advance(position, state, codes[..., feature])

    def swaps(self, codes: Tensor, state: Tensor) -> Tensor:
        """Whether rows `(*batch, F)` are allowed with each category in its feature: `(*batch, D)`.

        What the rest of a row makes of every state runs backward, so that all swaps cost about as
        much as a few rows.

        Args:
            codes: the rows.
            state: `(*batch)` before the first feature.
        """
        before = list(self.read(codes, state))
        # of the state behind the last feature, and of rows that have broken a rule
        fine = torch.tensor([True, False], device=codes.device).expand(*codes.shape[:-1], 2)
        found = dict[int, Tensor]()
        for position, at in reversed(before):
            feature, layer = self.order[position], self._layer(position, codes.device)
            found[feature] = fine.gather(-1, layer.steps[at])
            fine = fine.gather(-1, layer.steps.t()[codes[..., feature].long()])
        return torch.cat([found[feature] for feature in sorted(found)], -1)

    def ahead(self, log_p: Tensor) -> list[Tensor]:
        """Logarithm of what lies behind each state: of each position, `(B, S + 1)`.

        It is the summed probability of the ways on which independent features can still obey, up to
        a factor that the states of a position share; `-inf` for rows that have broken a rule.

        Args:
            log_p: `(B, D)` of independent features, floating, on which it depends differentiably.
        """
        whole = self.rules._terms.whole
        # the state says what the context was: any weight will do
        free = log_p.new_zeros(whole.width - log_p.shape[-1], len(log_p))
        tensors = self._automaton.tensors(log_p.device)
        rest = rest_of(self._automaton, class_weights(tensors, torch.cat([free, log_p.t()])))
        parts = rest.split(list(self._automaton.states))[self._hidden + 1 :]
        dead = torch.full_like(rest[:1], -torch.inf)
        return [torch.cat([part, dead]).t() for part in parts]

    def _layer(self, position: int, device: torch.device) -> Layer:
        return self._automaton.tensors(device).layers[self._hidden + position]

    def __deepcopy__(self, memo: dict[int, Any]) -> RuleSteps:
        return self  # nothing of it changes

    def __reduce__(self) -> tuple[Any, ...]:
        return RuleSteps, (self.rules, self.given)


def allowed_pairs(rules: Rules, *, max_rows: int) -> Tensor | None:
    """Codes `(num_rows, C + F)` of every context with each row allowed; None for more of them.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> allowed_pairs(Rules(CategoricalSpace.from_sizes((2,))), max_rows=10).tolist()
        [[0], [1]]
    """
    return rules._terms.automaton.enumerate() if rules.num_rows <= max_rows else None


def _in_order(rules: Rules, order: tuple[int, ...]) -> Automaton:
    automaton = rules._terms.automaton
    if order == automaton.order:
        return automaton
    names = [rules._whole.names[place] for place in order]
    for numbered in rules._numbered:
        if _turned(numbered.part, order):
            raise ValueError(
                f"{rules.rules[numbered.rule]!r} reads its features one after another, in another "
                f"order than {names}"
            )
    try:
        found = compiled_in(rules._whole.sizes, order, rules._numbered, rules.max_states)
    except TooLargeError as error:
        raise ValueError(
            f"read in the order {names}, the rules need {error.states:,} states between two "
            f"features, more than max_states={rules.max_states:,}"
        ) from None
    assert found is not None  # in any order they allow the same rows
    return found


def _turned(part: Part, order: tuple[int, ...]) -> bool:
    """Whether a part has a sequence that is read in another order."""
    places = [[order.index(feature) for feature in some] for some in part.sequences]
    return any(some != sorted(some) for some in places)
