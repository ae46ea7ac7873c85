"""Several estimators evaluated as one."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from discrete_grad.models.estimator import BaseEstimator

__all__ = ["EstimatorEnsemble"]


class EstimatorEnsemble(BaseEstimator):
    """M estimators of one architecture, their parameters stacked: one batched evaluation for all.

    Args:
        members: estimators with the same architecture, usually trained, or to be trained, on
            different rows; their parameters are copied.

    Raises:
        ValueError: for no member or members of different architectures.

    Example:
        >>> from discrete_grad.models import Estimator
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> ensemble = EstimatorEnsemble([Estimator(space) for _ in range(3)])
        >>> rows = space.enumerate()
        >>> ensemble(rows).shape, ensemble.predictions(rows).shape
        (torch.Size([6]), torch.Size([3, 6]))
    """

    def __init__(self, members: Sequence[BaseEstimator]) -> None:
        if not members:
            raise ValueError("an ensemble needs at least one member")
        super().__init__(members[0].space, members[0].context_spec)
        if len({repr(member) for member in members}) > 1:
            raise ValueError("the members of an ensemble must have the same architecture")
        parameters, buffers = stack_module_state(list(members))
        if buffers:
            raise ValueError(f"the members of an ensemble must have no buffers: {list(buffers)}")
        # a dot is not allowed in a name
        self.stacked = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(p.detach()) for name, p in parameters.items()}
        )
        # in a tuple, so that the shell's own parameters are not registered beside the stacked ones
        self._shell = (copy.deepcopy(members[0]).to("meta"),)

    @property
    def num_members(self) -> int:
        """M."""
        return len(next(iter(self.stacked.values())))

    def predictions(
        self, row: Tensor, context: Tensor | None = None, *, own_rows: bool = False
    ) -> Tensor:
        """Score by every member `(M, ...)`.

        Args:
            row: codes `(..., F)` or flat `(..., D)`.
            context: `(..., C)` or None.
            own_rows: the row and the context have a leading dimension M, a part for each member.
        """
        return self._call("forward", row, context, own_rows)

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """The latents of all members side by side, `(..., M L)`."""
        latents = self._call("to_latent", row, context, False)
        return latents.movedim(0, -2).flatten(-2)

    def forward(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean score `(...)` of the members."""
        return self.predictions(row, context).mean(0)

    def std(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Standard deviation `(...)` between the members (divisor M), 0 for one member."""
        return self.predictions(row, context).std(0, correction=0)

    def min(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Lowest score `(...)` any member gives."""
        return self.predictions(row, context).amin(0)

    def _call(self, method: str, row: Tensor, context: Tensor | None, own_rows: bool) -> Tensor:
        parameters = {name.replace("/", "."): p for name, p in self.stacked.items()}
        shell = self._shell[0].train(self.training)
        caller = _Method(shell, method)
        axis = 0 if own_rows else None

        def one(weights: dict[str, Tensor], row: Tensor, context: Tensor | None) -> Tensor:
            renamed = {f"model.{name}": p for name, p in weights.items()}
            value: Tensor = functional_call(caller, renamed, (row, context))
            return value

        axes = (0, axis, None if context is None else axis)
        result: Tensor = torch.vmap(one, axes, randomness="different")(parameters, row, context)
        return result


class _Method(nn.Module):
    """Calls a method of a module as its forward, which is what `functional_call` calls."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, *arguments: Tensor | None) -> Tensor:
        value: Tensor = getattr(self.model, self.method)(*arguments)
        return value
