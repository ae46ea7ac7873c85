"""Rows that obey, written feature by feature."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.rules._automaton import Automaton
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

    def begin(self, batch: tuple[int, ...], *, context: Tensor | None = None) -> Tensor:
        """State `(*batch)` before the first feature.

        Args:
            batch: shape of the rows to come.
            context: codes `(..., C)` of the context columns, broadcast to the batch.

        Raises:
            ValueError: for a context of another number of columns.
        """
        columns = 0 if context is None else context.shape[-1]
        if columns != self._hidden:
            raise ValueError(f"expected {self._hidden} context columns, got {columns}")
        device = torch.device("cpu") if context is None else context.device
        state = torch.zeros(batch, dtype=torch.long, device=device)
        layers = self._automaton.tensors(device).layers
        for number in range(self._hidden):
            assert context is not None  # there is a column of it
            state = layers[number].steps[state, context[..., number].long()]
        return state

    def allowed(self, step: int, state: Tensor) -> Tensor:
        """Whether each category may come at a step, booleans `(*batch, K)`.

        Where the context leaves no row, no category may.
        """
        layer = self._automaton.tensors(state.device).layers[self._hidden + step]
        return layer.steps[state] != layer.after

    def advance(self, step: int, state: Tensor, codes: Tensor) -> Tensor:
        """State `(*batch)` after the categories `(*batch)` of a step."""
        layer = self._automaton.tensors(state.device).layers[self._hidden + step]
        return layer.steps[state, codes.long()]
