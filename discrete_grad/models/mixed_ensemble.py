"""Ensembles of different architectures as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from discrete_grad.models.ensemble import BaseEnsemble, EstimatorEnsemble
from discrete_grad.models.protocol import require

__all__ = ["MixedEnsemble"]


class MixedEnsemble(BaseEnsemble):
    """Ensembles of different architectures as one, which agree less on rows unlike the seen ones.

    Args:
        ensembles: of one space and context spec; their members are counted one after another.

    Raises:
        ValueError: for no ensemble, or different spaces or context specs.

    Example:
        >>> from discrete_grad.models.estimator import Estimator
        >>> from discrete_grad.models.multilinear import MultilinearEstimator
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> kinds = (Estimator, MultilinearEstimator)
        >>> mixed = MixedEnsemble([EstimatorEnsemble([kind(space)] * 2) for kind in kinds])
        >>> mixed.num_members, mixed.predictions(space.enumerate()).shape
        (4, torch.Size([4, 6]))
    """

    def __init__(self, ensembles: Sequence[EstimatorEnsemble]) -> None:
        if not ensembles:
            raise ValueError("a mixed ensemble needs at least one ensemble")
        for ensemble in ensembles:
            require("a MixedEnsemble", ensemble, "predictions", "num_members")
        first = ensembles[0]
        super().__init__(first.space, first.context_spec)
        if any((e.space, e.context_spec) != (first.space, first.context_spec) for e in ensembles):
            raise ValueError("the ensembles must be of one space and one context spec")
        self.ensembles = nn.ModuleList(ensembles)

    @property
    def num_members(self) -> int:
        """M, of all ensembles together."""
        return sum(self.sizes)

    @property
    def sizes(self) -> list[int]:
        """Members of each ensemble."""
        return [ensemble.num_members for ensemble in self.parts]

    @property
    def parts(self) -> list[EstimatorEnsemble]:
        """The ensembles, in the order of their members."""
        return list(self.ensembles)  # type: ignore[arg-type]

    def predictions(
        self, row: Tensor, context: Tensor | None = None, *, own_rows: bool = False
    ) -> Tensor:
        """Score by every member `(M, ...)`; see `BaseEnsemble.predictions`."""
        count, sizes = len(self.parts), self.sizes
        rows = row.split(sizes) if own_rows else [row] * count
        shared = [context] * count
        contexts = shared if context is None or not own_rows else context.split(sizes)
        return torch.cat(
            [
                ensemble.predictions(part, condition, own_rows=own_rows)
                for ensemble, part, condition in zip(self.parts, rows, contexts, strict=True)
            ]
        )

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """The latents of all members side by side."""
        return torch.cat([ensemble.to_latent(row, context) for ensemble in self.parts], -1)
