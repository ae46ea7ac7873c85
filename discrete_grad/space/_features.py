"""Features together: names, sizes, categories, and where each stands in a row."""

from __future__ import annotations

import itertools
import json
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from discrete_grad.blocks import Layout, Place
from discrete_grad.space.tensors import can_inspect, is_codes

__all__ = ["Features"]


@dataclass(frozen=True, init=False, repr=False)
class Features:
    """Names, sizes and places of features, the part of `CategoricalSpace` without algebra."""

    names: tuple[str, ...]
    """Name of each feature."""
    sizes: tuple[int, ...]
    """Number of categories of each feature."""
    vocabularies: tuple[tuple[str, ...] | None, ...]
    """Categories of each feature, None where only their number is known; see `categories`."""
    ordered: tuple[bool, ...]
    """Whether each feature's categories stand in a meaningful order."""
    offsets: tuple[int, ...] = field(compare=False)
    """First column of each feature in a flat row."""
    _layout: Layout = field(compare=False)

    def __init__(
        self, features: Mapping[str, int | Sequence[str]], *, ordered: Sequence[str] = ()
    ) -> None:
        if not isinstance(features, Mapping):
            raise TypeError(
                "features must map each name to a size or to its categories, "
                f"got {type(features).__name__}; for sizes alone use CategoricalSpace.from_sizes"
            )
        if not features:
            raise ValueError("a space needs at least one feature, got none")
        sizes, vocabularies = zip(*(_feature(n, v) for n, v in features.items()), strict=True)
        object.__setattr__(self, "names", tuple(features))
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "vocabularies", vocabularies)
        object.__setattr__(self, "ordered", _flags(tuple(features), ordered))
        starts = tuple(itertools.accumulate(sizes, initial=0))[:-1]
        object.__setattr__(self, "offsets", starts)
        object.__setattr__(self, "_layout", Layout(sizes))

    @classmethod
    def from_sizes(cls, sizes: Sequence[int]) -> Self:
        """Space whose features are named `x0, x1, ...`.

        Example:
            >>> from discrete_grad.space import CategoricalSpace
            >>> CategoricalSpace.from_sizes((2, 3)).names
            ('x0', 'x1')
        """
        return cls({f"x{i}": size for i, size in enumerate(sizes)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Inverse of `to_json`.

        Example:
            >>> from discrete_grad.space import CategoricalSpace
            >>> space = CategoricalSpace({"cut": ["fair", "good"], "colour": 7})
            >>> CategoricalSpace.from_json(space.to_json()) == space
            True
        """
        features = json.loads(text)
        return cls(
            {f["name"]: f.get("categories", f.get("size")) for f in features},
            ordered=[f["name"] for f in features if f.get("ordered")],
        )

    def to_json(self) -> str:
        """Names, sizes and categories as a JSON array, in order; `ordered` only where it is true.

        Example:
            >>> from discrete_grad.space import CategoricalSpace
            >>> CategoricalSpace({"cut": 2, "size": 3}, ordered=["size"]).to_json()
            '[{"name": "cut", "size": 2}, {"name": "size", "size": 3, "ordered": true}]'
        """
        parts = zip(self.names, self.sizes, self.vocabularies, self.ordered, strict=True)
        return json.dumps(
            [
                {
                    "name": n,
                    **({"size": k} if v is None else {"categories": v}),
                    **({"ordered": True} if o else {}),
                }
                for n, k, v, o in parts
            ]
        )

    @property
    def num_features(self) -> int:
        """F, the number of features."""
        return len(self.sizes)

    @property
    def width(self) -> int:
        """D, the sum of the sizes: the last dimension of logits and flat rows."""
        return sum(self.sizes)

    @property
    def num_rows(self) -> int:
        """The number of different rows, an exact integer."""
        return math.prod(self.sizes)

    @property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        """The labels of each feature; a feature given by size alone has `"0" ... "K-1"`."""
        pairs = zip(self.sizes, self.vocabularies, strict=True)
        return tuple(tuple(map(str, range(k))) if v is None else v for k, v in pairs)

    def blocks(self, flat: Tensor) -> list[Tensor]:
        """Blocks `(..., n, K)` of a flat tensor, each with n features of equal size K.

        One block is one batched operation. A block is a view of neighbours of equal size, so a
        space of equal sizes has a single one; where many small features of few sizes alternate,
        the columns are brought in order first, and there is one block a size.

        Example:
            >>> from discrete_grad.space import CategoricalSpace
            >>> space = CategoricalSpace.from_sizes((2, 2, 3))
            >>> [tuple(block.shape) for block in space.blocks(torch.zeros(5, 7))]
            [(5, 2, 2), (5, 1, 3)]
        """
        self._check_last(flat, self.width, "a flat tensor")
        return self._layout.blocks(flat)

    def block_columns(self, per_feature: Tensor, dim: int = -1) -> list[Tensor]:
        """Parts of a per-feature tensor, matching `blocks`: n instead of F along a dimension."""
        if per_feature.dim() == 0 or per_feature.shape[dim] != self.num_features:
            self._check_last(per_feature, self.num_features, "a per-feature tensor")
        return self._layout.columns(per_feature, dim)

    def places(self, rows: int) -> tuple[Place, ...]:
        """Places of the blocks, to read and write so many rows block by block."""
        return self._layout.places_for(rows)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Inverse of `blocks`: a flat tensor `(..., D)`."""
        return self._layout.join(parts)

    def join_columns(self, columns: Sequence[Tensor], dim: int = -1) -> Tensor:
        """Inverse of `block_columns`, the features lying along a dimension: `(..., F, ...)`.

        Example:
            >>> from discrete_grad.space import CategoricalSpace
            >>> space = CategoricalSpace.from_sizes((2, 2, 3))
            >>> space.join_columns(space.block_columns(torch.arange(3))).tolist()
            [0, 1, 2]
        """
        return self._layout.join_columns(columns, dim)

    def columns(self, codes: Tensor) -> Tensor:
        """Column in a flat row of each code `(..., F)`: integers `(..., F)` in [0, D).

        Example:
            >>> from discrete_grad.space import CategoricalSpace
            >>> CategoricalSpace.from_sizes((2, 3)).columns(torch.tensor([1, 2])).tolist()
            [1, 4]
        """
        return codes + self._layout.starts(codes.device)

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """One view `(..., K_i)` for each feature.

        Example:
            >>> from discrete_grad.space import CategoricalSpace
            >>> space = CategoricalSpace.from_sizes((2, 3))
            >>> [tuple(part.shape) for part in space.split(torch.zeros(4, 5))]
            [(4, 2), (4, 3)]
        """
        self._check_last(flat, self.width, "a flat tensor")
        return tuple(flat.split(list(self.sizes), -1))

    def check_flat(self, flat: Tensor, *, what: str = "logits") -> None:
        """Raise unless `flat` is floating `(..., D)`."""
        if not isinstance(flat, Tensor) or not flat.is_floating_point():
            got = flat.dtype if isinstance(flat, Tensor) else type(flat).__name__
            raise TypeError(f"{what} must be a floating tensor (..., {self.width}), got {got}")
        self._check_last(flat, self.width, what)

    def check_logits(self, logits: Tensor) -> None:
        """Raise unless `logits` are `(..., D)` and every feature allows a category.

        Values are looked at only where that costs no device synchronisation.

        Raises:
            TypeError: unless the tensor is floating.
            ValueError: for a wrong last dimension, NaN, `+inf`, or a feature that is masked whole.
        """
        self.check_flat(logits)
        if not logits.numel() or not can_inspect(logits):
            return
        if logits.detach().sum().isfinite():  # then so is every logit; most often they are
            return
        # the largest of a feature is NaN or inf if any logit is, and -inf only if all are masked
        best = self.join_columns([block.amax(-1) for block in self.blocks(logits.detach())])
        if not best.isfinite().all():
            name, value = self._first_bad(best, best.isfinite())
            fault = "every category masked" if value == -math.inf else f"a logit of {value}"
            raise ValueError(f"feature {name!r} has {fault}; each feature needs a finite logit")

    def check_codes(self, codes: Tensor) -> None:
        """Raise unless `codes` are integers `(..., F)`, and in range if they can be inspected."""
        if not is_codes(codes):
            raise TypeError(f"codes must be integers (..., {self.num_features}), got {codes.dtype}")
        self._check_last(codes, self.num_features, "codes")
        if can_inspect(codes):
            fine = (codes >= 0) & (codes < torch.tensor(self.sizes))
            if not fine.all():
                name, value = self._first_bad(codes, fine)
                size = self.sizes[self.names.index(name)]
                fault = f"feature {name!r} has code {value}"
                raise ValueError(f"{fault}; its codes are 0 to {size - 1}")

    def _check_last(self, tensor: Tensor, size: int, what: str) -> None:
        if tensor.dim() == 0 or tensor.shape[-1] != size:
            raise ValueError(f"{what} must be (..., {size}), got {tuple(tensor.shape)}: {self}")

    def _first_bad(self, values: Tensor, fine: Tensor) -> tuple[str, float]:
        where = (~fine).nonzero()[0]
        return self.names[int(where[-1])], values[tuple(where)].item()

    def __repr__(self) -> str:
        marks = [" ordered" if ordered else "" for ordered in self.ordered]
        parts = zip(self.names[:6], self.sizes[:6], marks[:6], strict=True)
        shown = [f"{n}: {k}{mark}" for n, k, mark in parts]
        rest = [f"... {self.num_features - 6} more"] if self.num_features > 6 else []
        return f"{type(self).__name__}({', '.join(shown + rest)})"


def _feature(name: str, value: int | Sequence[str]) -> tuple[int, tuple[str, ...] | None]:
    if not isinstance(name, str) or not name:
        raise ValueError(f"a feature's name must be a non-empty string, got {name!r}")
    if hasattr(value, "__index__") and not isinstance(value, bool):
        size = operator.index(value)
        if size < 1:
            raise ValueError(f"feature {name!r} needs at least 1 category, got size {size}")
        return size, None
    if isinstance(value, (str, bool)) or not isinstance(value, Sequence):
        raise TypeError(f"feature {name!r} needs a size or a list of categories, got {value!r}")
    for category in value:
        if not isinstance(category, str):
            raise TypeError(f"feature {name!r}: categories are strings, got {category!r}")
    if not value or len(set(value)) < len(value):
        fault = "no category" if not value else "a category twice"
        raise ValueError(f"feature {name!r} has {fault}: {list(value)[:10]}")
    return len(value), tuple(value)


def _flags(names: tuple[str, ...], ordered: Sequence[str]) -> tuple[bool, ...]:
    """Whether each of the names is among the ordered ones."""
    unknown = [name for name in ordered if name not in names]
    if isinstance(ordered, str) or unknown:
        raise ValueError(f"ordered lists names of features, {list(names)[:10]}, got {ordered!r}")
    return tuple(name in ordered for name in names)
