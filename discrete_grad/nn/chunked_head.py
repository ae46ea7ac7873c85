"""A linear head, a relaxation and an embedding for very many categories, as one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from discrete_grad.gradient import Relaxation, Softmax
from discrete_grad.gradient.base import ClosedForm, current_tau
from discrete_grad.nn._chunked import (
    CHUNK,
    CHUNKED_FORMS,
    check_chunked,
    embed_chunked,
    expect_chunked,
)
from discrete_grad.nn.feature_heads import FeatureHeads
from discrete_grad.nn.soft_embedding import SoftEmbedding
from discrete_grad.sampling import uniform_like
from discrete_grad.space import CategoricalSpace

__all__ = ["ChunkedHead"]


class ChunkedHead(nn.Module):
    """A linear head, a relaxation and an embedding, of one feature with very many categories.

    Law and gradient are those of `embedding(relaxation(linear(latent)))`, and from the same
    generator the same category is drawn, but for rounding. The logits `(..., K)` are never in
    memory as a whole, forward or backward: beyond the parameters and their gradients, memory grows
    with `in_features`, `dim` and `chunk`, and with K by a few numbers a chunk.

    Half precision is computed in float32. The gradient cannot be differentiated again: that raises
    RuntimeError, and so does `torch.func` (vmap, grad); `SoftEmbedding.sample` can do both.

    Args:
        in_features: length of the latent vector.
        embedding: of a space of one feature, whose weight is shared; or the weight `(K, dim)`,
            frozen unless it is a parameter.
        relaxation: `StraightThrough()`, `ReinMax()` at tau = 1, or `Softmax(tau=...)`.
        chunk: how many categories to work on at a time.

    Raises:
        ValueError: for another relaxation, or a space that does not fit.

    Reference:
        Milakov, Gimelshein (2018), arXiv 1805.02867; FlashSampling (2026), arXiv 2603.15854.

    Example:
        >>> from discrete_grad import ReinMax
        >>> embedding = SoftEmbedding(CategoricalSpace({"item": 50_000}), 8)
        >>> layer = ChunkedHead(16, embedding, ReinMax())
        >>> layer(torch.zeros(5, 16)).shape
        torch.Size([5, 8])
        >>> embedded, codes = layer.draw(torch.zeros(5, 16))
        >>> torch.equal(embedding(codes).squeeze(-2), embedded)
        True
    """

    def __init__(
        self,
        in_features: int,
        embedding: SoftEmbedding | Tensor,
        relaxation: Relaxation,
        *,
        chunk: int = CHUNK,
    ) -> None:
        super().__init__()
        if not isinstance(embedding, SoftEmbedding) and (
            not isinstance(embedding, Tensor) or embedding.dim() != 2
        ):
            got = tuple(embedding.shape) if isinstance(embedding, Tensor) else type(embedding)
            raise ValueError(f"embedding must be a SoftEmbedding or a weight (K, dim), got {got}")
        if isinstance(embedding, SoftEmbedding):
            space, weight = embedding.space, embedding.weight
        else:
            space, weight = CategoricalSpace({"x": len(embedding)}), _parameter(embedding)
        check_chunked(space, chunk)
        _check_relaxation(relaxation, space)
        self.space = space
        self.weight = weight
        self.linear = FeatureHeads(in_features, self.space).linear
        self.relaxation = relaxation
        self.chunk = chunk

    def forward(self, latent: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Embedded row `(..., dim)` of a latent vector `(..., in_features)`."""
        if not isinstance(self.relaxation, Softmax):
            return self.draw(latent, generator=generator)[0]
        head, bias, tau = self.linear.weight, self.linear.bias, current_tau(self.relaxation.tau)
        return expect_chunked(
            self.space, latent, self.weight, head=head, bias=bias, tau=tau, chunk=self.chunk
        )

    if TYPE_CHECKING:  # as in `Relaxation`
        __call__ = forward

    def draw(
        self, latent: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Embedded row `(..., dim)` and its codes `(..., 1)`; ValueError for `Softmax`."""
        if isinstance(self.relaxation, Softmax):
            raise ValueError("Softmax draws no category; StraightThrough and ReinMax do")
        uniform = uniform_like(self.space, latent, generator=generator)
        return embed_chunked(
            self.space,
            latent,
            self.weight,
            uniform,
            head=self.linear.weight,
            bias=self.linear.bias,
            form=_form(self.relaxation),
            chunk=self.chunk,
        )

    def extra_repr(self) -> str:
        """Shown by `repr`."""
        return f"{self.space}, dim={self.weight.shape[1]}, chunk={self.chunk}"


def _parameter(weight: Tensor) -> nn.Parameter:
    if isinstance(weight, nn.Parameter):
        return weight
    return nn.Parameter(weight, requires_grad=False)


def _check_relaxation(relaxation: Relaxation, space: CategoricalSpace) -> None:
    if not isinstance(relaxation, Softmax):  # the one that draws no row
        _form(relaxation)
    if relaxation.space is not None and relaxation.space.sizes != space.sizes:
        raise ValueError(f"the relaxation is for {relaxation.space}, not for {space}")


def _form(relaxation: Relaxation) -> ClosedForm:
    """The closed form of the relaxation's gradient, if the chunked head knows it."""
    pullback = relaxation.pullback() if isinstance(relaxation, Relaxation) else None
    if pullback is None or pullback.form not in CHUNKED_FORMS:
        supported = "StraightThrough(), ReinMax() at tau = 1 and Softmax(tau=...)"
        raise ValueError(f"ChunkedHead supports {supported}, got {relaxation}")
    return pullback.form
