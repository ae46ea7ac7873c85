"""Ensembles of different families, weighted by what each adds on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from discrete_grad.gradient import Relaxation
from discrete_grad.models.ensemble import BaseEnsemble
from discrete_grad.models.protocol import require

__all__ = ["StackedEnsemble"]


class StackedEnsemble(BaseEnsemble):
    """M members, each a weighted sum of one member of every family, plus a constant.

    A family whose weight is 0 is not asked, except for latents.

    Args:
        families: ensembles of M members each, by name, of one space and context spec. The first
            gives the latents.

    Raises:
        ValueError: for no family, or families that differ in members, space or context spec.

    Reference:
        Stacking with weights of at least 0: Breiman (1996), "Stacked regressions".

    Example:
        >>> from discrete_grad.models.estimator import Estimator
        >>> from discrete_grad.models.ensemble import EstimatorEnsemble
        >>> from discrete_grad.models.multilinear import MultilinearEstimator
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> kinds = {"networks": Estimator, "products": MultilinearEstimator}
        >>> stacked = StackedEnsemble(
        ...     {name: EstimatorEnsemble([kind(space)] * 2) for name, kind in kinds.items()}
        ... )
        >>> stacked.weights
        tensor([0.5000, 0.5000])
        >>> stacked.predictions(space.enumerate()).shape
        torch.Size([2, 6])
    """

    weights: Tensor
    constant: Tensor

    def __init__(self, families: Mapping[str, BaseEnsemble]) -> None:
        if not families:
            raise ValueError("a stacked ensemble needs at least one family")
        for family in families.values():
            require("a StackedEnsemble", family, "predictions", "num_members")
        first = next(iter(families.values()))
        super().__init__(first.space, first.context_spec)
        for name, family in families.items():
            if (family.space, family.context_spec) != (first.space, first.context_spec):
                raise ValueError(f"family {name!r} has another space or context spec")
            if family.num_members != first.num_members:
                raise ValueError(
                    f"family {name!r} has {family.num_members} members, not {first.num_members}"
                )
        self.families = nn.ModuleDict(families)
        self.register_buffer("weights", torch.full((len(families),), 1 / len(families)))
        self.register_buffer("constant", torch.zeros(()))
        self.register_load_state_dict_post_hook(_require_equal_members)

    @property
    def names(self) -> list[str]:
        """The families, in the order of their weights."""
        return list(self.families)

    @property
    def num_members(self) -> int:
        """M."""
        return self.family(0).num_members

    def family(self, index: int) -> BaseEnsemble:
        """The family whose weight stands at an index."""
        family = list(self.families.values())[index]
        assert isinstance(family, BaseEnsemble)
        return family

    def _asked(self) -> list[tuple[float, BaseEnsemble]]:
        weights = self.weights.tolist()
        # with all weights 0 all are asked, as the scores need their shape from someone
        return [(w, self.family(i)) for i, w in enumerate(weights) if w or not any(weights)]

    def predictions(
        self, row: Tensor, context: Tensor | None = None, *, own_rows: bool = False
    ) -> Tensor:
        """Score by every member `(M, ...)`; see `BaseEnsemble.predictions`."""
        total: Tensor = self.constant
        for weight, family in self._asked():
            total = total + weight * family.predictions(row, context, own_rows=own_rows)
        return total

    def sample_predictions(
        self,
        logits: Tensor,
        relaxation: Relaxation,
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Score `(M, ...)` of a drawn row; see `BaseEnsemble.sample_predictions`."""
        asked = self._asked()
        if len(asked) == 1:
            weight, family = asked[0]
            drawn = family.sample_predictions(logits, relaxation, context, generator=generator)
            return self.constant + weight * drawn
        # one row for all of them, which must then be built
        return self.predictions(relaxation(logits, generator=generator), context)

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Latents of the first family."""
        return self.family(0).to_latent(row, context)


def _require_equal_members(model: nn.Module, _: object) -> None:
    """Refuse weights of families that are saved with different numbers of members."""
    assert isinstance(model, StackedEnsemble)
    counts = {name: model.family(i).num_members for i, name in enumerate(model.names)}
    if len(set(counts.values())) > 1:
        raise RuntimeError(f"the families have different numbers of members: {counts}")
