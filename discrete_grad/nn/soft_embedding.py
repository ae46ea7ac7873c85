"""Embeddings that take hard and soft rows with the same weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad.gradient import Relaxation
from discrete_grad.nn import _triton_kernels as triton_kernels
from discrete_grad.nn._fused import embed_drawn
from discrete_grad.sampling import categorical, random_indices, uniform_like
from discrete_grad.space import CategoricalSpace, can_inspect, is_codes, is_wrapped

__all__ = ["SoftEmbedding", "embed", "embed_sample"]


def embed(
    space: CategoricalSpace, row: Tensor, weight: Tensor, starts: Sequence[int] | None = None
) -> Tensor:
    """Embedded row `(..., F, dim)`: a lookup for codes, the expected embedding for a flat row.

    Args:
        space: the space, D wide.
        row: codes `(..., F)` or flat `(..., D)`.
        weight: `(D, dim)`, the tables of all features below one another.
        starts: row of the weight at which each feature's table begins, where features share some.

    Raises:
        TypeError, ValueError: for a row that is of neither form or holds a code out of range.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> weight = torch.arange(4.0).unsqueeze(-1)
        >>> embed(space, torch.tensor([1, 0]), weight).flatten()
        tensor([1., 2.])
        >>> embed(space, torch.tensor([0.5, 0.5, 1.0, 0.0]), weight).flatten()
        tensor([0.5000, 2.0000])
    """
    if is_codes(row):
        space.check_codes(row)
        shift = None if starts is None else torch.tensor(starts, device=row.device)
        return F.embedding(space.columns(row) if shift is None else row + shift, weight)
    space.check_flat(row, what="a flat row")
    if starts is not None:
        return _embed_shared(space, row, weight, starts)
    tables = space.blocks(weight.t())
    pairs = zip(space.blocks(row), tables, strict=True)
    parts = [torch.einsum("...nk,dnk->...nd", block, table) for block, table in pairs]
    return space.join_columns(parts, -2)


def _embed_shared(
    space: CategoricalSpace, row: Tensor, weight: Tensor, starts: Sequence[int]
) -> Tensor:
    """Features of the same table, in one product a block where all of it have the same."""
    parts = []
    begins = space.block_columns(torch.tensor(starts))
    for block, own in zip(space.blocks(row), begins, strict=True):
        tables = [weight[start : start + block.shape[-1]] for start in own.tolist()]
        if len(set(own.tolist())) == 1:
            parts.append(block @ tables[0])
        else:
            pairs = zip(block.unbind(-2), tables, strict=True)
            parts.append(torch.stack([one @ table for one, table in pairs], -2))
    return space.join_columns(parts, -2)


def embed_sample(
    space: CategoricalSpace,
    logits: Tensor,
    weight: Tensor,
    relaxation: Relaxation,
    *,
    generator: torch.Generator | None = None,
    kernels: bool = False,
) -> Tensor:
    """Embedded row `(..., F, dim)` drawn by a relaxation; see `SoftEmbedding.sample`.

    Args:
        space: the space, D wide.
        logits: `(..., D)`.
        weight: `(D, dim)`, as for `embed`.
        relaxation: a gradient estimator that is a layer.
        generator: source of the noise.
        kernels: as in `SoftEmbedding.sample`.

    Example:
        >>> from discrete_grad import StraightThrough
        >>> space, weight = CategoricalSpace.from_sizes((2, 2)), torch.ones(4, 3)
        >>> embed_sample(space, torch.zeros(4), weight, StraightThrough(space)).shape
        torch.Size([2, 3])
    """
    space.check_flat(logits)
    if not isinstance(relaxation, Relaxation):
        raise TypeError(f"sample needs a relaxation, got {type(relaxation).__name__}")
    if relaxation.space is None and space.num_features > 1:
        raise ValueError(f"a relaxation without a space is for one feature, not for {space}")
    if relaxation.space is not None and relaxation.space.sizes != space.sizes:
        raise ValueError(f"the relaxation is for {relaxation.space}, not for {space}")
    pullback = relaxation.pullback()
    compiled = torch.compiler.is_compiling()
    if pullback is None or compiled or (pullback.noisy and is_wrapped(logits)):
        return embed(space, relaxation(logits, generator=generator), weight)
    space.check_logits(logits)
    kernels = kernels and pullback.form is not None and not is_wrapped(logits)
    kernels = kernels and triton_kernels.available(logits) and triton_kernels.available(weight)
    seed = None
    if kernels:
        seed = int(random_indices(2**62, (), generator=generator))
        codes = triton_kernels.draw(space, logits, seed)
    else:
        codes = categorical(space, logits, uniform_like(space, logits, generator=generator))
        if pullback.noisy:
            # its seed stands for the noise, which the backward pass draws again and nothing stores
            seed = int(random_indices(2**62, (), generator=generator))
    if logits.requires_grad or is_wrapped(logits):
        embedded = embed_drawn(space, logits, weight, codes, pullback, seed, kernels=kernels)
    else:
        embedded = embed(space, codes, weight)
    # where the check above could not look, a code stands for a feature without a law, too
    return embedded if can_inspect(logits) else embedded + _flaw(space, logits).to(embedded.dtype)


def _flaw(space: CategoricalSpace, logits: Tensor) -> Tensor:
    """0 `(..., F, 1)`; NaN for a feature whose logits are NaN, `+inf` or masked whole."""
    best = [block.amax(-1) for block in space.blocks(logits.detach())]
    return space.join_columns(best).unsqueeze(-1) * 0


class SoftEmbedding(nn.Module):
    """One embedding per feature, `(..., F, dim)`, for codes and for flat rows alike.

    A one-hot row gives bitwise what its codes give.

    Args:
        space: the space.
        dim: length of an embedding, at least 1.

    Example:
        >>> space = CategoricalSpace({"cut": 3, "colour": 7})
        >>> layer = SoftEmbedding(space, 4)
        >>> codes = torch.tensor([[2, 6]])
        >>> torch.equal(layer(codes), layer(space.one_hot(codes)))
        True
    """

    def __init__(self, space: CategoricalSpace, dim: int) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        self.space = space
        self.weight = nn.Parameter(torch.randn(space.width, dim))
        self.starts: tuple[int, ...] | None = None  # as in `embed`

    @classmethod
    def from_pretrained(
        cls,
        embeddings: nn.Embedding | Sequence[nn.Embedding],
        *,
        space: CategoricalSpace | None = None,
        offsets: Sequence[int] | None = None,
    ) -> SoftEmbedding:
        """Take over trained tables.

        Args:
            embeddings: one `nn.Embedding` a feature, all of the same dimension, whose weights are
                copied, each once; if it is one for all features, as `[table] * 64`, its parameter
                is shared. Or a single one that holds all features below one another, whose
                parameter is shared if the offsets are the space's own, else copied.
            space: the space; by default features `x0, x1, ...` of the tables' sizes.
            offsets: for a single table, the row at which each feature starts.

        Raises:
            ValueError: for tables that do not fit the space or one another, naming the feature.

        Example:
            >>> tables = [nn.Embedding(2, 4), nn.Embedding(3, 4)]
            >>> SoftEmbedding.from_pretrained(tables).weight.shape
            torch.Size([5, 4])
            >>> SoftEmbedding.from_pretrained([tables[0]] * 64).weight is tables[0].weight
            True
            >>> one = nn.Embedding(5, 4)
            >>> SoftEmbedding.from_pretrained(one, offsets=[0, 2]).weight is one.weight
            True
        """
        single = isinstance(embeddings, nn.Embedding)
        tables = [embeddings] if isinstance(embeddings, nn.Embedding) else list(embeddings)
        if not tables or len({table.embedding_dim for table in tables}) > 1:
            dims = [table.embedding_dim for table in tables]
            raise ValueError(f"from_pretrained needs embeddings of one dimension, got {dims}")
        if any(table.max_norm is not None for table in tables):
            raise ValueError("from_pretrained takes no embedding with max_norm: it renormalises")
        offsets = None if offsets is None else [int(offset) for offset in offsets]
        starts: tuple[int, ...] | None = None
        if single:
            space, weight = _single(tables[0], space, offsets)
        else:
            space, weight, starts = _several(tables, space)
        with torch.device("meta"):  # a weight of its own could be far larger than the tables
            layer = cls(space, tables[0].embedding_dim)
        layer.weight, layer.starts = weight, starts
        return layer

    def forward(self, row: Tensor) -> Tensor:
        """Embedded row `(..., F, dim)` of codes `(..., F)` or a flat row `(..., D)`."""
        return embed(self.space, row, self.weight, self.starts)

    if TYPE_CHECKING:  # as in `Relaxation`
        __call__ = forward

    def sample(
        self,
        logits: Tensor,
        relaxation: Relaxation,
        *,
        generator: torch.Generator | None = None,
        kernels: bool = False,
    ) -> Tensor:
        """Embedded row drawn by a relaxation: `self(relaxation(logits))`, only faster.

        `StraightThrough`, `ReinMax` and the hard `GumbelSoftmax` are computed without the row: a
        lookup forward, and backward what their gradient needs, of a part of the batch at a time.
        Law and gradient are those of the plain path. `StraightThrough` and `ReinMax` also draw the
        same rows from the same generator; `GumbelSoftmax` draws its noise given the row. Every
        other relaxation takes the plain path, and so do `torch.compile` and `torch.export`.
        Forward-mode derivatives (`torch.func.jvp`) and `is_grads_batched=True` need the plain path,
        written out.

        Args:
            logits: `(..., D)`.
            relaxation: a gradient estimator that is a layer; its space, if given, is this one's.
            generator: source of the noise; None uses the global one.
            kernels: draw and differentiate these three by Triton kernels, from noise of their own,
                where logits and embedding lie on a GPU, in float32 or less, and Triton is there.
                Not the default: the kernels are tested through Triton's interpreter, and have not
                yet been measured on a GPU.

        Returns:
            `(..., F, dim)`, differentiable in the logits and in the embedding.

        Raises:
            ValueError: for logits that do not fit, or a relaxation of another space.

        Example:
            >>> from discrete_grad import ReinMax
            >>> space = CategoricalSpace.from_sizes((3, 7))
            >>> layer = SoftEmbedding(space, 4)
            >>> layer.sample(torch.zeros(5, 10), ReinMax(space)).shape
            torch.Size([5, 2, 4])
        """
        if hasattr(self, "unshard") and "sample" not in vars(self):
            # FSDP2 gathers a sharded weight for `forward` alone, unless it is told of a method
            torch.distributed.fsdp.register_fsdp_forward_method(self, "sample")
            return self.sample(logits, relaxation, generator=generator, kernels=kernels)
        if self.starts is not None:  # the fast path has no table for features that share one
            return self(relaxation(logits, generator=generator))
        return embed_sample(
            self.space, logits, self.weight, relaxation, generator=generator, kernels=kernels
        )

    def extra_repr(self) -> str:
        """Shown by `repr`."""
        return f"{self.space}, dim={self.weight.shape[1]}"


def _several(
    tables: Sequence[nn.Embedding], space: CategoricalSpace | None
) -> tuple[CategoricalSpace, nn.Parameter, tuple[int, ...] | None]:
    sizes = [table.num_embeddings for table in tables]
    space = space or CategoricalSpace.from_sizes(sizes)
    if space.num_features != len(tables):
        raise ValueError(f"{len(tables)} embeddings do not fit {space}")
    for name, size, rows in zip(space.names, space.sizes, sizes, strict=True):
        if size != rows:
            raise ValueError(f"feature {name!r} has {size} categories, its embedding {rows} rows")
    different = {id(table.weight): table.weight for table in tables}
    lengths = itertools.accumulate(map(len, different.values()), initial=0)
    first = dict(zip(different, lengths, strict=False))
    starts = None if len(different) == len(tables) else tuple(first[id(t.weight)] for t in tables)
    weights = list(different.values())
    if len(weights) == 1:
        return space, weights[0], starts  # type: ignore[return-value]
    weight = torch.cat([weight.detach() for weight in weights])
    return space, nn.Parameter(weight, requires_grad=weights[0].requires_grad), starts


def _single(
    table: nn.Embedding, space: CategoricalSpace | None, offsets: Sequence[int] | None
) -> tuple[CategoricalSpace, nn.Parameter]:
    rows = table.num_embeddings
    if space is None:
        if offsets is None or offsets != sorted(set(offsets)) or offsets[:1] != [0]:
            raise ValueError(
                "a single embedding needs a space, or offsets that start at 0 and grow; "
                f"got {offsets}"
            )
        bounds = itertools.pairwise([*offsets, rows])
        space = CategoricalSpace.from_sizes([stop - start for start, stop in bounds])
    starts = space.offsets if offsets is None else tuple(offsets)
    if len(starts) != space.num_features:
        raise ValueError(f"{len(starts)} offsets do not fit {space}")
    for name, start, size in zip(space.names, starts, space.sizes, strict=True):
        if start < 0 or start + size > rows:
            raise ValueError(
                f"feature {name!r} needs rows {start} to {start + size - 1}, the table has {rows}"
            )
    if starts == space.offsets and rows == space.width:
        weight: nn.Parameter = table.weight  # type: ignore[assignment]
        return space, weight
    parts = [table.weight[s : s + k] for s, k in zip(starts, space.sizes, strict=True)]
    return space, nn.Parameter(torch.cat(parts).detach(), requires_grad=table.weight.requires_grad)
