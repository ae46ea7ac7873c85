"""From latent vectors to embedded rows of very many categories, without the logits in between."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.gradient._tempered import over_tau
from discrete_grad.gradient.base import ClosedForm
from discrete_grad.nn._chunked_gradient import Embedded, parts
from discrete_grad.sampling import categorical
from discrete_grad.space import CategoricalSpace, is_wrapped

__all__ = ["CHUNK", "CHUNKED_FORMS", "embed_chunked", "expect_chunked"]

CHUNK = 4096  # categories at a time
CHUNKED_FORMS: tuple[ClosedForm, ...] = ("straight_through", "reinmax")  # of `embed_chunked`


def expect_chunked(
    space: CategoricalSpace,
    latent: Tensor,
    weight: Tensor,
    *,
    head: Tensor,
    bias: Tensor | None = None,
    tau: float | Tensor = 1.0,
    chunk: int = CHUNK,
) -> Tensor:
    """Expected embedding `softmax((latent @ head.T + bias) / tau) @ weight`, by online softmax.

    Args:
        space: one feature of K categories.
        latent: `(..., in_features)`.
        weight: `(K, dim)`, the embeddings.
        head: `(K, in_features)`.
        bias: `(K,)`; `-inf` forbids a category.
        tau: temperature, above 0.
        chunk: how many categories to work on at a time.

    Returns:
        `(..., dim)`, differentiable once in every tensor.

    Raises:
        TypeError, ValueError: for tensors that do not fit, a logit of NaN or `+inf`, or logits that
            are masked whole.

    Reference:
        Milakov, Gimelshein (2018), arXiv 1805.02867, algorithm 3.

    Example:
        >>> space, weight = CategoricalSpace.from_sizes((4,)), torch.arange(4.0).unsqueeze(-1)
        >>> expect_chunked(space, torch.ones(1), weight, head=torch.zeros(4, 1), chunk=3)
        tensor([1.5000])
    """
    flat, bias = _prepared(space, latent, weight, head, bias, chunk)
    if not isinstance(tau, Tensor) and not 0 < tau < math.inf:
        raise ValueError(f"tau must be a finite number above 0 or a tensor, got {tau!r}")
    flat, bias = flat / tau, over_tau(bias, tau)
    with torch.autocast(flat.device.type, enabled=False):
        masses, mean = _survey(flat, head, bias, weight, chunk)
        norm = _normaliser(space, masses).to(flat.dtype)
        embedded: Tensor = Embedded.apply(
            flat, head, bias, weight, None, mean, None, norm, None, chunk
        )
    return embedded.view(*latent.shape[:-1], weight.shape[1])


def embed_chunked(
    space: CategoricalSpace,
    latent: Tensor,
    weight: Tensor,
    uniform: Tensor,
    *,
    head: Tensor,
    bias: Tensor | None = None,
    form: ClosedForm = "straight_through",
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Embedding of a category drawn from `softmax(latent @ head.T + bias)`, and its code.

    The law is exact: first a chunk is drawn by its mass, then the category in it, for which the
    logits of that chunk are computed again. From the same number `categorical` draws the same.

    Args:
        space: one feature of K categories.
        latent: `(..., in_features)`.
        weight: `(K, dim)`, the embeddings.
        uniform: `(..., 1)` in [0, 1), from `uniform_like`.
        head: `(K, in_features)`.
        bias: `(K,)`; `-inf` forbids a category.
        form: of the gradient, one of `CHUNKED_FORMS`.
        chunk: how many categories to work on at a time.

    Returns:
        `(..., dim)`, differentiable once in every tensor, and codes `(..., 1)`.

    Raises:
        TypeError, ValueError: as `expect_chunked`.

    Reference:
        Two stages: FlashSampling (2026), arXiv 2603.15854; there by Gumbel noise.

    Example:
        >>> space, weight = CategoricalSpace.from_sizes((4,)), torch.arange(4.0).unsqueeze(-1)
        >>> uniform = torch.tensor([0.6], dtype=torch.float64)
        >>> embed_chunked(space, torch.ones(1), weight, uniform, head=torch.zeros(4, 1), chunk=3)
        (tensor([2.]), tensor([2]))
    """
    flat, bias = _prepared(space, latent, weight, head, bias, chunk)
    if uniform.shape != (expected := (*latent.shape[:-1], 1)):
        raise ValueError(f"uniform must be {expected}, got {tuple(uniform.shape)}: {space}")
    if form not in CHUNKED_FORMS:
        raise ValueError(f"form must be one of {CHUNKED_FORMS}, got {form!r}")
    followed = torch.is_grad_enabled() and any(x.requires_grad for x in (flat, head, bias))
    # of no column the mean costs nothing
    averaged = weight if followed and form == "straight_through" else weight[:, :0]
    with torch.autocast(flat.device.type, enabled=False):
        masses, mean = _survey(flat, head, bias, averaged, chunk)
        norm = _normaliser(space, masses).to(flat.dtype)
        codes = _drawn(flat, head, bias, masses, uniform.reshape(-1, 1), chunk)
        drawn = F.embedding(codes, weight.detach())
        # the compiler takes no tensor twice: where the centre is the row drawn, it is handed on
        out, centre = (None, drawn.to(flat.dtype)) if form == "reinmax" else (drawn, mean)
        embedded: Tensor = Embedded.apply(
            flat, head, bias, weight, out, centre, codes, norm, form, chunk
        )
    return embedded.view(*latent.shape[:-1], weight.shape[1]), codes.view(uniform.shape)


def check_chunked(space: CategoricalSpace, chunk: int) -> None:
    """Raise unless the space is of one feature and the chunk a number of categories."""
    if space.num_features != 1 or type(chunk) is not int or chunk < 1:
        expected = "a space of one feature and an integer chunk of at least 1"
        raise ValueError(f"a chunked head needs {expected}, got {space} and {chunk!r}")


def _prepared(
    space: CategoricalSpace,
    latent: Tensor,
    weight: Tensor,
    head: Tensor,
    bias: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Checked latent vectors `(B, in_features)` and bias `(K,)`, in the dtype of the sums."""
    check_chunked(space, chunk)
    size = space.width
    bias = head.new_zeros(size) if bias is None else bias
    tensors = {"latent": latent, "head": head, "bias": bias, "weight": weight}
    if any(map(is_wrapped, tensors.values())):
        raise RuntimeError("a chunked head knows no torch.func; SoftEmbedding.sample does")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be floating, got {tensor.dtype}")
    fits = latent.dim() > 0 and head.shape == (size, latent.shape[-1]) and bias.shape == (size,)
    if not fits or weight.dim() != 2 or len(weight) != size:
        expected = f"latent (..., n), head ({size}, n), bias ({size},), weight ({size}, dim)"
        got = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"{space} needs {expected}; got {got}")
    dtype = functools.reduce(torch.promote_types, [x.dtype for x in tensors.values()])
    dtype = torch.promote_types(dtype, torch.float32)
    return latent.reshape(-1, latent.shape[-1]).to(dtype), bias.to(dtype)


def _logits(flat: Tensor, head: Tensor, bias: Tensor, part: slice) -> Tensor:
    return torch.addmm(bias[part], flat, head[part].to(flat.dtype).t())


@torch.no_grad()
def _survey(
    flat: Tensor, head: Tensor, bias: Tensor, weight: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """Log-mass of every chunk `(B, chunks)` in float64 nats, and the mean embedding `(B, dim)`."""
    largest = torch.finfo(flat.dtype).max
    best = flat.new_full((len(flat), 1), -largest)  # finite, or a masked chunk would be NaN
    mean, masses = flat.new_zeros(len(flat), weight.shape[1]), []
    for part in parts(len(head), chunk):
        logits = _logits(flat, head, bias, part)
        top = torch.maximum(best, logits.amax(-1, keepdim=True)).clamp_max(largest)  # no inf - inf
        logits.sub_(top).exp_()
        masses.append(top.double() + logits.sum(-1, keepdim=True).double().log())
        mean.mul_((best - top).exp_()).addmm_(logits, weight[part].to(flat.dtype))
        best = top
    joint = torch.cat(masses, -1)
    return joint, mean.mul_((best - joint.logsumexp(-1, keepdim=True)).exp_())


def _normaliser(space: CategoricalSpace, masses: Tensor) -> Tensor:
    """Log-normaliser `(B, 1)`, checked: it is finite where the logits are as they should be."""
    norm = masses.logsumexp(-1, keepdim=True)
    CategoricalSpace({space.names[0]: 1}).check_logits(norm)
    return norm


@torch.no_grad()
def _drawn(
    flat: Tensor, head: Tensor, bias: Tensor, masses: Tensor, uniform: Tensor, chunk: int
) -> Tensor:
    """Codes `(B,)`."""
    spans = parts(len(head), chunk)
    outer = CategoricalSpace.from_sizes((len(spans),))
    which = categorical(outer, masses, uniform)
    # what is left of the uniform number, within the chunk; clamped, for it may round out of [0, 1]
    share = outer.softmax(masses)
    reached = share.cumsum(-1)
    before = (reached - share).gather(-1, which)
    inside = ((uniform * reached[:, -1:] - before) / share.gather(-1, which)).clamp(0, 1)
    codes = torch.zeros_like(which)
    if torch.compiler.is_compiling():  # which chunks were drawn, and how often, is not known
        for number, part in enumerate(spans):
            found = _within(flat, head, bias, inside, part)
            codes = torch.where(which == number, found, codes)
        return codes.squeeze(-1)
    for number in which.unique().tolist():
        rows = (which == number).nonzero()[:, 0]
        codes[rows] = _within(flat[rows], head, bias, inside[rows], spans[number])
    return codes.squeeze(-1)


def _within(flat: Tensor, head: Tensor, bias: Tensor, uniform: Tensor, part: slice) -> Tensor:
    """Codes `(B, 1)` drawn from the categories of one chunk."""
    logits = _logits(flat, head, bias, part)
    members = CategoricalSpace.from_sizes((logits.shape[-1],))
    codes: Tensor = categorical(members, logits, uniform) + part.start
    return codes
