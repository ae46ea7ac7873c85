"""The space of rows: shapes, per-feature algebra, log-probabilities and enumeration."""

from __future__ import annotations

import itertools
import json
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from discrete_grad import blocks
from discrete_grad.blocks import Layout, Place

__all__ = ["CategoricalSpace", "ContextSpec"]


@dataclass(frozen=True, init=False, repr=False)
class CategoricalSpace:
    """Several categorical features together: their names, sizes and categories.

    Holds no tensors, so it is hashable, picklable and shared freely between models. A row is either
    *codes*, integers `(..., F)`, or *flat*, floating `(..., D)` with one block per feature. Logits
    are `(..., D)`; `-inf` marks a category that is not allowed.

    Args:
        features: feature name -> number of categories, or the categories themselves.
        ordered: names of the features whose categories stand in a meaningful order.

    Raises:
        ValueError: for no feature, an empty name, a size below 1, a repeated category, or an
            ordered feature that is none.
        TypeError: for a size or category of another type.

    Example:
        >>> space = CategoricalSpace({"cut": ["fair", "good", "ideal"], "colour": 7})
        >>> space.sizes, space.width, space.num_rows
        ((3, 7), 10, 21)
        >>> CategoricalSpace({"cut": ["fair", "good"], "colour": 7}, ordered=["cut"]).ordered
        (True, False)
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    vocabularies: tuple[tuple[str, ...] | None, ...]
    ordered: tuple[bool, ...]
    """Whether each feature's categories stand in a meaningful order."""
    offsets: tuple[int, ...] = field(compare=False)
    """Where each feature's block starts in a flat row."""
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
    def from_sizes(cls, sizes: Sequence[int]) -> CategoricalSpace:
        """Space whose features are named `x0, x1, ...`.

        Example:
            >>> CategoricalSpace.from_sizes((2, 3)).names
            ('x0', 'x1')
        """
        return cls({f"x{i}": size for i, size in enumerate(sizes)})

    @classmethod
    def from_json(cls, text: str) -> CategoricalSpace:
        """Inverse of `to_json`.

        Example:
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
        """Where each block stands, to read and write so many rows block by block."""
        return self._layout.places_for(rows)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Inverse of `blocks`: a flat tensor `(..., D)`."""
        return self._layout.join(parts)

    def join_columns(self, columns: Sequence[Tensor], dim: int = -1) -> Tensor:
        """Inverse of `block_columns`, the features lying along a dimension: `(..., F, ...)`.

        Example:
            >>> space = CategoricalSpace.from_sizes((2, 2, 3))
            >>> space.join_columns(space.block_columns(torch.arange(3))).tolist()
            [0, 1, 2]
        """
        return self._layout.join_columns(columns, dim)

    def columns(self, codes: Tensor) -> Tensor:
        """Where in a flat row each code `(..., F)` stands: integers `(..., F)` in [0, D).

        Example:
            >>> CategoricalSpace.from_sizes((2, 3)).columns(torch.tensor([1, 2])).tolist()
            [1, 4]
        """
        return codes + self._layout.starts(codes.device)

    def less_own(self, flat: Tensor, codes: Tensor) -> Tensor:
        """A flat tensor `(..., D)` less, in each feature, its entry at a row's own category.

        Of a gradient at a row `(..., F)` this is what each single swap of the row promises to
        first order.

        Example:
            >>> space = CategoricalSpace.from_sizes((2, 3))
            >>> space.less_own(torch.arange(5.0), torch.tensor([1, 0]))
            tensor([-1.,  0.,  0.,  1.,  2.])
        """
        own = flat.gather(-1, self.columns(codes))
        sizes = torch.tensor(self.sizes, device=flat.device)
        return flat - own.repeat_interleave(sizes, -1, output_size=self.width)

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """One view `(..., K_i)` for each feature.

        Example:
            >>> space = CategoricalSpace.from_sizes((2, 3))
            >>> [tuple(part.shape) for part in space.split(torch.zeros(4, 5))]
            [(4, 2), (4, 3)]
        """
        self._check_last(flat, self.width, "a flat tensor")
        return tuple(flat.split(list(self.sizes), -1))

    def softmax(self, logits: Tensor) -> Tensor:
        """Probabilities `(..., D)` that sum to 1 in every feature; a masked category has 0."""
        return self.join([blocks.softmax(b) for b in self.blocks(logits)])

    def log_softmax(self, logits: Tensor) -> Tensor:
        """Log-probabilities `(..., D)` in nats; a masked category has `-inf`."""
        return self.join([blocks.log_softmax(b) for b in self.blocks(logits)])

    def softmax_jacobian(self, probabilities: Tensor, vector: Tensor) -> Tensor:
        """`J_p v = p * v - p (p . v)` in every feature, `(..., D)`; J is symmetric."""
        pairs = zip(self.blocks(probabilities), self.blocks(vector), strict=True)
        return self.join([blocks.jacobian(p, v) for p, v in pairs])

    def argmax(self, flat: Tensor) -> Tensor:
        """Codes `(..., F)` of the largest entry of each feature, the first among equals."""
        return self.join_columns([block.argmax(-1) for block in self.blocks(flat)])

    def one_hot(self, codes: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Flat hard row `(..., D)` of codes `(..., F)`.

        Example:
            >>> CategoricalSpace.from_sizes((2, 3)).one_hot(torch.tensor([1, 2]))
            tensor([0., 1., 0., 0., 1.])
        """
        self.check_codes(codes)
        sizes = [place.size for place in self._layout.places]
        pairs = zip(self.block_columns(codes), sizes, strict=True)
        return self.join(
            [(c.unsqueeze(-1) == torch.arange(k, device=c.device)).to(dtype) for c, k in pairs]
        )

    def log_prob(self, logits: Tensor, row: Tensor) -> Tensor:
        """Log-probability `(...)` of a row in nats; `-inf` if it holds a masked category.

        Args:
            logits: `(..., D)`.
            row: codes `(..., F)` or a flat row `(..., D)`; a soft row gives the sum over categories
                of its entry times the log-probability, where `0 * -inf` counts as 0.

        Example:
            >>> space = CategoricalSpace.from_sizes((2, 4))
            >>> space.log_prob(torch.zeros(6), torch.tensor([0, 3])).exp()
            tensor(0.1250)
        """
        if is_codes(row):
            return self.feature_log_probs(logits, row).sum(-1)
        log_p = self.log_softmax(logits)
        self.check_flat(row, what="a flat row")
        # masked before the product: a derivative of 0 * -inf would be NaN
        return (row * log_p.masked_fill((row == 0) & (log_p == -math.inf), 0)).sum(-1)

    def feature_log_probs(self, logits: Tensor, codes: Tensor) -> Tensor:
        """Log-probability `(..., F)` in nats of each feature's own category.

        Args:
            logits: `(..., D)`, broadcast against the rows.
            codes: `(..., F)`.

        Example:
            >>> space = CategoricalSpace.from_sizes((2, 4))
            >>> space.feature_log_probs(torch.zeros(6), torch.tensor([0, 3])).exp()
            tensor([0.5000, 0.2500])
        """
        log_p = self.log_softmax(logits)
        self.check_codes(codes)
        shape = torch.broadcast_shapes(log_p.shape[:-1], codes.shape[:-1])
        index = self.columns(codes).expand(*shape, self.num_features)
        return log_p.expand(*shape, self.width).gather(-1, index)

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy `(...)` of the row in nats, summed over the features, in [0, log num_rows]."""
        log_p = self.log_softmax(logits)
        return -(log_p.exp() * log_p.masked_fill(log_p == -math.inf, 0)).sum(-1)

    def kl_divergence(self, logits_p: Tensor, logits_q: Tensor) -> Tensor:
        """`KL(p || q)` `(...)` in nats, at least 0; `inf` where q forbids what p draws.

        A category whose probability under p is 0, or rounds to 0, counts 0.

        Example:
            >>> space = CategoricalSpace.from_sizes((2,))
            >>> space.kl_divergence(torch.tensor([0.0, -torch.inf]), torch.zeros(2))
            tensor(0.6931)
        """
        log_p, log_q = self.log_softmax(logits_p), self.log_softmax(logits_q)
        p = log_p.exp()
        return (p * (log_p - log_q).masked_fill(p == 0, 0)).sum(-1)

    def enumerate(self, *, max_rows: int = 1_000_000, device: torch.device | None = None) -> Tensor:
        """Codes `(num_rows, F)` of every row, the last feature fastest.

        Raises:
            ValueError: if there are more than `max_rows` rows.

        Example:
            >>> CategoricalSpace.from_sizes((2, 2)).enumerate().tolist()
            [[0, 0], [0, 1], [1, 0], [1, 1]]
        """
        if self.num_rows > max_rows:
            digits = sum(map(math.log10, self.sizes))
            rows = f"{self.num_rows:,}" if digits < 15 else f"about 10^{digits:.0f}"
            raise ValueError(
                f"the space has {rows} rows, more than max_rows={max_rows:,}; "
                "raise max_rows or use a method that samples"
            )
        index = torch.arange(self.num_rows, device=device).unsqueeze(-1)
        sizes = torch.tensor(self.sizes, device=device)
        return index // torch.tensor(self._strides, device=device) % sizes

    def row_number(self, codes: Tensor) -> Tensor:
        """Place `(...)` of codes `(..., F)` in `enumerate()`, for tables of all rows.

        Raises:
            ValueError: for a space of 2^63 rows or more.

        Example:
            >>> CategoricalSpace.from_sizes((2, 3)).row_number(torch.tensor([[0, 0], [1, 2]]))
            tensor([0, 5])
        """
        if self.num_rows >= 2**63:
            raise ValueError(f"the space has {self.num_rows:.1e} rows, too many to be numbered")
        self.check_codes(codes)
        return (codes.long() * torch.tensor(self._strides, device=codes.device)).sum(-1)

    @property
    def _strides(self) -> list[int]:
        return [math.prod(self.sizes[i + 1 :]) for i in range(self.num_features)]

    def hamming(self, a: Tensor, b: Tensor) -> Tensor:
        """Number `(...)` of features in which two hard rows differ; each is codes or flat."""
        a, b = (row if is_codes(row) else self.argmax(row) for row in (a, b))
        self.check_codes(a)
        self.check_codes(b)
        return (a != b).sum(-1)

    def swaps(self, codes: Tensor) -> Tensor:
        """All rows that differ from `codes` `(..., F)` in one feature: `(..., D - F, F)`.

        Ordered by feature, then by category.

        Example:
            >>> CategoricalSpace.from_sizes((2, 3)).swaps(torch.tensor([0, 1])).tolist()
            [[1, 1], [0, 0], [0, 2]]
        """
        self.check_codes(codes)
        pairs = [(i, k) for i, size in enumerate(self.sizes) for k in range(size - 1)]
        table = torch.tensor(pairs, device=codes.device, dtype=torch.long).reshape(-1, 2)
        feature, other = table.unbind(-1)
        other = other + (other >= codes[..., feature])
        changed = feature.unsqueeze(-1) == torch.arange(self.num_features, device=codes.device)
        return torch.where(changed, other.unsqueeze(-1), codes.unsqueeze(-2))

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
        best = self.join_columns([block.amax(-1) for block in self.blocks(logits.detach())])
        if not best.isfinite().all():
            name, value = self._first_bad(best, best.isfinite())
            fault = "every category masked" if value == -math.inf else f"a logit of {value}"
            raise ValueError(f"feature {name!r} has {fault}; each feature needs a finite logit")

    def check_codes(self, codes: Tensor) -> None:
        """Raise unless `codes` are integers `(..., F)` in range (range: as in `check_logits`)."""
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
        return f"CategoricalSpace({', '.join(shown + rest)})"


@dataclass(frozen=True, init=False)
class ContextSpec:
    """What the generator is conditioned on: categorical and numeric columns.

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
        """How many numbers of a context tensor each categorical column takes."""
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


def code_dtype(size: int) -> torch.dtype:
    """The smallest integer type of the codes of features of at most so many categories.

    It is for storage: models index with int64, and PyTorch takes an index of uint8 for a mask.

    Example:
        >>> code_dtype(256), code_dtype(257), code_dtype(40_000)
        (torch.uint8, torch.int16, torch.int32)
    """
    if size <= 2**8:
        return torch.uint8
    return torch.int16 if size <= 2**15 else torch.int32


def is_codes(row: Tensor) -> bool:
    """Whether a row is in its integer form."""
    return not row.is_floating_point() and not row.is_complex() and row.dtype != torch.bool


def can_inspect(tensor: Tensor) -> bool:
    """Whether Python may look at the values: on the CPU, outside compile, export, `torch.func`."""
    if tensor.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return not is_wrapped(tensor)


def is_wrapped(tensor: Tensor) -> bool:
    """Whether `torch.func` follows the tensor."""
    # of any kind: under vmap(grad(...)) the batched tensor lies beneath another
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return wrapped


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
