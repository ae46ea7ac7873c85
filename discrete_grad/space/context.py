"""The columns that a policy is conditioned on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from discrete_grad.space.categorical import CategoricalSpace

__all__ = ["ContextSpec"]


@dataclass(frozen=True, init=False)
class ContextSpec:
    """Context columns, categorical and numeric, that a generator is conditioned on.

    A context travels as one floating tensor `(..., width)`: a one-hot block for each categorical
    column, then the standardised numeric columns. Where there are many categories the columns are
    `embedded`: each is a single number, the code of its category, and models embed it.

    Args:
        categorical: column name -> size or categories, as in `CategoricalSpace`.
        numeric: names of the numeric columns.
        embedded: whether categorical columns travel as codes.

    Raises:
        ValueError: for no column or a name used twice, no categorical column to embed, or one of
            more than 2^24 categories, whose codes a float32 does not hold.

    Example:
        >>> import torch
        >>> spec = ContextSpec({"shop": ["east", "west"]}, ["price"])
        >>> spec.names, spec.width
        (('shop', 'price'), 3)
        >>> spec.codes(torch.tensor([[0.0, 1.0, 0.5]])), spec.numbers(torch.tensor([0.0, 1.0, 0.5]))
        (tensor([[1]]), tensor([0.5000]))
        >>> spec = ContextSpec({"plane": 4037}, ["price"], embedded=True)
        >>> spec.width, spec.codes(torch.tensor([[4000.0, 0.5]]))
        (2, tensor([[4000]]))
    """

    categorical: CategoricalSpace | None
    numeric: tuple[str, ...]
    embedded: bool

    def __init__(
        self,
        categorical: Mapping[str, int | Sequence[str]] | None = None,
        numeric: Sequence[str] = (),
        *,
        embedded: bool = False,
    ) -> None:
        names = (*(categorical or ()), *numeric)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a context needs columns with different names, got {names}")
        space = CategoricalSpace(categorical) if categorical else None
        object.__setattr__(self, "categorical", space)
        if embedded and (space is None or max(space.sizes) > 2**24):
            sizes = "none" if space is None else space.sizes
            raise ValueError(f"embedded needs columns of at most 2^24 categories, got {sizes}")
        object.__setattr__(self, "numeric", tuple(numeric))
        object.__setattr__(self, "embedded", embedded)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, categorical ones first."""
        return (*(self.categorical.names if self.categorical else ()), *self.numeric)

    @property
    def width(self) -> int:
        """The last dimension of a context tensor."""
        return sum(self.block_sizes) + len(self.numeric)

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """Number of entries that each categorical column takes in a context tensor."""
        sizes = self.categorical.sizes if self.categorical else ()
        return (1,) * len(sizes) if self.embedded else sizes

    def codes(self, context: Tensor) -> Tensor:
        """Codes `(..., n)` of the n categorical columns of a context `(..., width)`."""
        categories = context[..., : sum(self.block_sizes)]
        if self.categorical is None or self.embedded:
            return categories.long()
        return self.categorical.argmax(categories)

    def numbers(self, context: Tensor) -> Tensor:
        """The numeric columns of a context `(..., width)`, standardised as they are there."""
        return context[..., sum(self.block_sizes) :]
