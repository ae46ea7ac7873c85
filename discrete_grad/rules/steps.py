"""Rows that obey, written feature by feature."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from discrete_grad.rules._automaton import Automaton, Layer
from discrete_grad.rules._passes import class_weights, rest_of
from discrete_grad.space import CategoricalSpace

__all__ = ["Steps"]


class Steps:
    """Reading of a row feature by feature: which categories leave a row that obeys.

    There are no dead ends: after a category that is allowed some category of the next feature is
    allowed, too. Made by `Rules.steps`.

    Example:
        >>> from discrete_grad.rules import Exactly, Rules
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> steps = Rules(space, [Exactly(1, {"x0": 1, "x1": 1})]).steps()
        >>> state = steps.advance(0, steps.begin(()), torch.tensor(1))
        >>> steps.allowed(1, state)
        tensor([ True, False])
    """

    def __init__(
        self, space: CategoricalSpace, automaton: Automaton, order: tuple[int, ...]
    ) -> None:
        self.space, self.order = space, order
        self._automaton = automaton
        self._hidden = len(automaton.order) - len(order)

    def begin(
        self,
        batch: tuple[int, ...],
        *,
        context: Tensor | None = None,
        device: torch.device | None = None,
    ) -> Tensor:
        """State `(*batch)` before the first feature.

        Args:
            batch: shape of the rows to come.
            context: codes `(..., C)` of the context columns, broadcast to the batch.
            device: of the states, where there is no context; None is the CPU.

        Raises:
            ValueError: for a context of another number of columns.
        """
        columns = 0 if context is None else context.shape[-1]
        if columns != self._hidden:
            raise ValueError(f"expected {self._hidden} context columns, got {columns}")
        device = device if context is None else context.device
        state = torch.zeros(batch, dtype=torch.long, device=device)
        layers = self._automaton.tensors(state.device).layers
        for number in range(self._hidden):
            assert context is not None  # there is a column of it
            state = layers[number].steps[state, context[..., number].long()]
        return state

    def allowed(self, step: int, state: Tensor) -> Tensor:
        """Whether each category may come at a step, booleans `(*batch, K)`.

        Where the context leaves no row, no category may.
        """
        layer = self._layer(step, state.device)
        return layer.steps[state] != layer.after

    def advance(self, step: int, state: Tensor, codes: Tensor) -> Tensor:
        """State `(*batch)` after the categories `(*batch)` of a step."""
        return self._layer(step, state.device).steps[state, codes.long()]

    def following(self, step: int, state: Tensor) -> Tensor:
        """State `(*batch, K)` after each category of a step."""
        return self._layer(step, state.device).steps[state]

    def read(self, codes: Tensor, state: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Each step with the states before it, of codes `(*batch, F)` read from a state on."""
        for step, feature in enumerate(self.order):
            yield step, state
            state = self.advance(step, state, codes[..., feature])

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
        for step, at in reversed(before):
            feature, layer = self.order[step], self._layer(step, codes.device)
            found[feature] = fine.gather(-1, layer.steps[at])
            fine = fine.gather(-1, layer.steps.t()[codes[..., feature].long()])
        return torch.cat([found[feature] for feature in sorted(found)], -1)

    def ahead(self, log_p: Tensor) -> list[Tensor]:
        """Logarithm of what lies behind each state: of each step, `(B, S + 1)`.

        It is the summed probability of the ways on which independent features can still obey, up to
        a factor that the states of a step share; `-inf` for rows that have broken a rule.

        Args:
            log_p: `(B, D)` of independent features, floating, on which it depends differentiably.
        """
        # the state says what the context was: any weight will do
        free = log_p.new_zeros(sum(self._automaton.sizes[: self._hidden]), len(log_p))
        tensors = self._automaton.tensors(log_p.device)
        rest = rest_of(self._automaton, class_weights(tensors, torch.cat([free, log_p.t()])))
        parts = rest.split(list(self._automaton.states))[self._hidden + 1 :]
        dead = torch.full_like(rest[:1], -torch.inf)
        return [torch.cat([part, dead]).t() for part in parts]

    def _layer(self, step: int, device: torch.device) -> Layer:
        return self._automaton.tensors(device).layers[self._hidden + step]

    def __deepcopy__(self, memo: dict[int, Any]) -> Steps:
        return self  # nothing of it changes
