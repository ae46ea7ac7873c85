"""Several estimators evaluated as one."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from discrete_grad.gradient import Relaxation
from discrete_grad.models.estimator import BaseEstimator, Estimator
from discrete_grad.models.own import OwnEstimator, as_estimator
from discrete_grad.models.protocol import RowModel
from discrete_grad.nn.context import with_context
from discrete_grad.nn.soft_embedding import embed, embed_sample
from discrete_grad.space import CategoricalSpace, ContextSpec, is_codes

__all__ = ["BaseEnsemble", "EstimatorEnsemble"]

_FOLDED = 4  # rows for each category, from which on a table of them pays


class BaseEnsemble(BaseEstimator):
    """M estimators that are evaluated together; the score is their mean.

    Example:
        >>> from discrete_grad.models.estimator import Estimator
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> isinstance(EstimatorEnsemble([Estimator(space)]), BaseEnsemble)
        True
    """

    @property
    @abstractmethod
    def num_members(self) -> int:
        """M."""

    @abstractmethod
    def predictions(
        self, row: Tensor, context: Tensor | None = None, *, own_rows: bool = False
    ) -> Tensor:
        """Score by every member `(M, ...)`.

        Args:
            row: codes `(..., F)` or flat `(..., D)`.
            context: `(..., C)` or None.
            own_rows: the row and the context have a leading dimension M, a part for each member.
        """

    def sample_predictions(
        self,
        logits: Tensor,
        relaxation: Relaxation,
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Score `(M, ...)` by every member of one row drawn by a relaxation from `(..., D)`.

        The same as `self.predictions(relaxation(logits), context)`; some ensembles are faster, as
        they never build the row. See `SoftEmbedding.sample`.
        """
        return self.predictions(relaxation(logits, generator=generator), context)

    def forward(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean score `(...)` of the members."""
        return self.predictions(row, context).mean(0)

    def std(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Standard deviation `(...)` between the members (divisor M), 0 for one member."""
        return self.predictions(row, context).std(0, correction=0)

    def min(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Lowest score `(...)` any member gives."""
        return self.predictions(row, context).amin(0)


class EstimatorEnsemble(BaseEnsemble):
    """M estimators as one: the library's with stacked parameters, your own one after the other.

    Estimators of one architecture are evaluated in one batch. If any member is a module of one's
    own, softened or not, the members are kept as they are and asked one after another; their
    architectures may differ.

    Args:
        members: usually trained, or to be trained, on different rows; copied.
        space: the features; needed if the members are one's own and have no `space`.
        context: the context columns of members of one's own, if they are known.

    Raises:
        ValueError: for no member, members of different spaces, or estimators of the library with
            different architectures.
        TypeError: for a member that cannot be called, or without a space.

    Example:
        >>> from discrete_grad.models.estimator import Estimator
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> ensemble = EstimatorEnsemble([Estimator(space) for _ in range(3)])
        >>> rows = space.enumerate()
        >>> ensemble(rows).shape, ensemble.predictions(rows).shape
        (torch.Size([6]), torch.Size([3, 6]))
        >>> own = [nn.Sequential(nn.Linear(5, 1), nn.Flatten(0)) for _ in range(2)]
        >>> EstimatorEnsemble(own, space=space).std(rows).shape
        torch.Size([6])
    """

    def __init__(
        self,
        members: Sequence[RowModel],
        *,
        space: CategoricalSpace | None = None,
        context: ContextSpec | None = None,
    ) -> None:
        if not members:
            raise ValueError("an ensemble needs at least one member")
        made = [as_estimator("an EstimatorEnsemble", m, space, context) for m in members]
        super().__init__(made[0].space, made[0].context_spec)
        self.own: nn.ModuleList | None = None
        if any(isinstance(member, OwnEstimator) for member in made):
            if any(member.space != self.space for member in made):
                raise ValueError("the members of an ensemble must have the same space")
            self.own = nn.ModuleList(copy.deepcopy(made))
        else:
            self._stack(made)

    def _stack(self, members: list[BaseEstimator]) -> None:
        if len({repr(member) for member in members}) > 1:
            raise ValueError("the members of an ensemble must have the same architecture")
        parameters, buffers = stack_module_state([*members])
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
        return len(next(iter(self.stacked.values())) if self.own is None else self.own)

    def predictions(
        self, row: Tensor, context: Tensor | None = None, *, own_rows: bool = False
    ) -> Tensor:
        """Score by every member `(M, ...)`; see `BaseEnsemble.predictions`."""
        if self.own is not None:
            return torch.stack(self._in_turn("forward", row, context, own_rows))
        stacked = isinstance(self._shell[0], Estimator)
        if stacked and not own_rows and is_codes(row) and self._folds(row):
            return self._looked_up(row, context)
        if stacked and not own_rows:
            return self._stacked_mlp(self._own(embed(self.space, row, self._wide())), context)
        if not stacked or not is_codes(row):
            return self._call("forward", row, context, own_rows)
        self.space.check_codes(row)
        weight = self.stacked["embedding/weight"]
        first = weight.shape[1] * torch.arange(len(weight), device=row.device)
        columns = self.space.columns(row) + first.view(-1, *(1,) * (row.dim() - 1))
        return self._stacked_mlp(F.embedding(columns, weight.flatten(0, 1)).flatten(-2), context)

    def sample_predictions(
        self,
        logits: Tensor,
        relaxation: Relaxation,
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Score `(M, ...)` of a drawn row; see `BaseEnsemble.sample_predictions`.

        The embeddings of all members are one.

        Example:
            >>> from discrete_grad.gradient import ReinMax
            >>> from discrete_grad.models.estimator import Estimator
            >>> from discrete_grad.space import CategoricalSpace
            >>> space = CategoricalSpace.from_sizes((2, 3))
            >>> ensemble = EstimatorEnsemble([Estimator(space) for _ in range(3)])
            >>> ensemble.sample_predictions(torch.zeros(4, 5), ReinMax(space)).shape
            torch.Size([3, 4])
        """
        if self.own is not None or not isinstance(self._shell[0], Estimator):
            return self.predictions(relaxation(logits, generator=generator), context)
        wide = self._wide()
        embedded = embed_sample(self.space, logits, wide, relaxation, generator=generator)
        return self._stacked_mlp(self._own(embedded), context)

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """The latents of all members side by side, `(..., M L)`."""
        if self.own is not None:
            return torch.cat(self._in_turn("to_latent", row, context, False), -1)
        latents = self._call("to_latent", row, context, False)
        return latents.movedim(0, -2).flatten(-2)

    def _in_turn(
        self, method: str, row: Tensor, context: Tensor | None, own_rows: bool
    ) -> list[Tensor]:
        """What each member of one's own says of the rows, or of its own part of them."""
        assert self.own is not None
        count = len(self.own)
        rows = row if own_rows else [row] * count
        contexts = context if own_rows and context is not None else [context] * count
        asked = zip(self.own, rows, contexts, strict=True)
        return [getattr(member, method)(own, condition) for member, own, condition in asked]

    def _wide(self) -> Tensor:
        """The members' embeddings side by side `(D, M dim)`: one embedding."""
        wide: Tensor = self.stacked["embedding/weight"].movedim(0, -2).flatten(-2)
        return wide

    def _own(self, embedded: Tensor) -> Tensor:
        """Rows `(..., F, M dim)` of that embedding as each member's own `(M, ..., F dim)`."""
        own: Tensor = embedded.unflatten(-1, (self.num_members, -1)).movedim(-2, 0)
        return own.flatten(-2)

    def _folds(self, codes: Tensor) -> bool:
        """Whether so many rows are worth a table of what each category adds to the first layer."""
        return codes.dim() == 2 and len(codes) >= _FOLDED * self.space.width

    def _looked_up(self, codes: Tensor, context: Tensor | None) -> Tensor:
        """Scores `(M, n)` of codes `(n, F)`, each category's part of the first layer looked up."""
        self.space.check_codes(codes)
        weight, bias = self.stacked["trunk/0/weight"], self.stacked["trunk/0/bias"]
        table, members = self.stacked["embedding/weight"], self.num_members
        own = self.space.num_features * table.shape[-1]
        parts = weight[..., :own].unflatten(-1, (-1, table.shape[-1])).movedim(2, 0)
        pairs = zip(parts, table.split(list(self.space.sizes), 1), strict=True)
        # (K, M, H) of each feature
        added = torch.cat([(block @ part.transpose(1, 2)).movedim(0, 1) for part, block in pairs])
        first = F.embedding_bag(self.space.columns(codes), added.flatten(1), mode="sum")
        vector = first.unflatten(-1, (members, -1)).movedim(1, 0) + bias.unsqueeze(1)
        if context is not None:
            # one context for all members, unless they embed it
            embedded = self.stacked.get("reading/weight")
            beside = vector[0, :, :0] if embedded is None else vector[:, :, :0]
            read = with_context(beside, context, self.context_spec, embedded)
            vector = vector + read @ weight[..., own:].transpose(1, 2)
        return self._layers(vector, first=1).squeeze(-1)

    def _stacked_mlp(self, own: Tensor, context: Tensor | None) -> Tensor:
        """Scores `(M, ...)` of the members' own embedded rows `(M, ..., F dim)`."""
        table = self.stacked.get("reading/weight")
        vector = with_context(own, context, self.context_spec, table)
        batch = vector.shape[1:-1]
        vector = vector.flatten(1, -2) if batch else vector.unsqueeze(1)
        vector = self._layers(vector)
        return vector.squeeze(-1).unflatten(1, batch) if batch else vector.flatten()

    def _layers(self, vector: Tensor, first: int = 0) -> Tensor:
        """Outputs `(M, n, 1)` of inputs `(M, n, ...)` to the layer at a place of the trunk.

        A batched product for each layer of `Estimator`: `vmap` gives the same, and takes longer to
        set up than small members take to compute.
        """
        shell = self._shell[0].train(self.training)
        assert isinstance(shell, Estimator)
        for name, layer in (*list(shell.trunk.named_children())[first:], ("head", shell.head)):
            if not isinstance(layer, nn.Linear):
                vector = layer(vector)
                continue
            place = name if name == "head" else f"trunk/{name}"
            weight, bias = self.stacked[f"{place}/weight"], self.stacked[f"{place}/bias"]
            vector = torch.baddbmm(bias.unsqueeze(1), vector, weight.transpose(1, 2))
        return vector

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
