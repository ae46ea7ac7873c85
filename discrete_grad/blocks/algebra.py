"""Operations on a block, and on a part of it that stays in the cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["FEW", "fits", "jacobian", "log_softmax", "parts", "softmax"]

FEW = 16  # numbers in a vector register
_PART = 2**16  # numbers that stay in the cache while they are worked on


def softmax(block: Tensor) -> Tensor:
    """Softmax of a block `(..., K)` over its last dimension.

    Example:
        >>> softmax(torch.zeros(2))
        tensor([0.5000, 0.5000])
    """
    return _along_categories(torch.softmax, block)


def log_softmax(block: Tensor) -> Tensor:
    """Log-softmax of a block `(..., K)` over its last dimension, in nats.

    Example:
        >>> log_softmax(torch.zeros(2))
        tensor([-0.6931, -0.6931])
    """
    return _along_categories(torch.log_softmax, block)


def jacobian(pi: Tensor, vector: Tensor) -> Tensor:
    """`J_pi v = pi * v - pi (pi . v)` over the last dimension of `(..., K)`.

    Example:
        >>> jacobian(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]))
        tensor([ 0.2500, -0.2500])
    """
    if pi.shape[-1] < FEW or pi.shape != vector.shape:
        weighted = pi * vector
        return torch.addcmul(weighted, pi, weighted.sum(-1, keepdim=True), value=-1)
    # the second half of a softmax's backward pass, in one pass over the numbers
    dtype = torch.promote_types(pi.dtype, vector.dtype)
    product: Tensor = torch._softmax_backward_data(vector.to(dtype), pi.to(dtype), -1, dtype)
    return product


def fits(block: Tensor) -> bool:
    """Whether a block is to be worked on at once: it stays in the cache, or lies on a GPU.

    Example:
        >>> fits(torch.zeros(2, 3)), fits(torch.zeros(100, 1000))
        (True, False)
    """
    return block.numel() <= _PART or block.device.type != "cpu"


def parts(length: int, width: int, device: torch.device) -> Iterator[slice]:
    """Equal parts, which fit the cache, of a batch of `length` elements of `width` numbers.

    A part has at least two elements, so that an operation along the elements can give each core
    one. On a GPU, where a call is dear, the batch is one part.

    Example:
        >>> list(parts(4, 40_000, torch.device("cpu")))
        [slice(0, 2, None), slice(2, 4, None)]
    """
    whole = device.type != "cpu"
    count = min(length, 1) if whole else min(-(-length // 2), -(-length * width // _PART))
    bounds = [length * i // count for i in range(count + 1)] if count else []
    return itertools.starmap(slice, itertools.pairwise(bounds))


def _along_categories(normalise: Callable[[Tensor, int], Tensor], block: Tensor) -> Tensor:
    # Over a last dimension shorter than a vector register torch is several times slower on the
    # CPU than over the first one. The compiler writes its own loop, whatever the order.
    if block.shape[-1] < FEW and not torch.compiler.is_compiling():
        return normalise(block.movedim(-1, 0), 0).movedim(0, -1)
    return normalise(block, -1)
