"""Every random number of the library is drawn here.

Noise is drawn first and passed on as an argument, so the functions that use it are pure: they work
under `vmap`, `torch.compile` and `torch.export`. A `generator` leaves the global random state
untouched, and the same generator state gives bitwise the same noise.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from discrete_grad import blocks
from discrete_grad.blocks import Place
from discrete_grad.space import CategoricalSpace, can_inspect, in_backward

__all__ = [
    "categorical",
    "exponential_like",
    "gumbel_like",
    "isolated_seed",
    "normal",
    "permutation",
    "random_codes",
    "random_indices",
    "seeded",
    "uniform",
    "uniform_like",
]

# with the target strictly below the total, the first sum above it is of a possible category
_JUST_BELOW = 1 - 2**-52
_LARGE = 2**15  # numbers from which on a call takes less time than they do
# sources that a forward pass has used: a recomputation of it would go on where they stand
_used = weakref.WeakSet[torch.Generator]()


def gumbel_like(logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise of the shape of `logits`, always finite.

    Drawn in float32 for half-precision logits, else in their dtype: half precision has no number
    between 0.9995 and 1 where the noise is largest, so `-log(-log(u))` overflows there.

    Example:
        >>> gumbel_like(torch.zeros(2, 3)).shape
        torch.Size([2, 3])
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    # neither 0, whose noise would be -inf, nor 1, whose noise would be inf
    u = _uniform(logits, tuple(logits.shape), dtype, generator)
    u = u.clamp(torch.finfo(dtype).tiny, 1 - torch.finfo(dtype).eps / 2)
    return -torch.log(-torch.log(u))


def exponential_like(logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Standard exponential noise of the shape and dtype of `logits`, above 0 and finite.

    Example:
        >>> exponential_like(torch.zeros(2, 3)).shape
        torch.Size([2, 3])
    """
    # neither 0, whose noise would be inf, nor 1, whose noise would be 0
    u = _uniform(logits, tuple(logits.shape), logits.dtype, generator)
    limits = torch.finfo(logits.dtype)
    return -torch.log(u.clamp(limits.tiny, 1 - limits.eps / 2))


def uniform_like(
    space: CategoricalSpace, logits: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """One uniform number in [0, 1) per feature, `(..., F)` in float64, for `categorical`.

    Example:
        >>> uniform_like(CategoricalSpace.from_sizes((2, 3)), torch.zeros(4, 5)).shape
        torch.Size([4, 2])
    """
    shape = (*logits.shape[:-1], space.num_features)
    return _uniform(logits, shape, torch.float64, generator)


def _uniform(
    logits: Tensor, shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator | None
) -> Tensor:
    """Uniform numbers in [0, 1) where the logits are: the noise of every layer.

    Contiguous, or the strides of the logits would decide which number goes where.
    """
    if generator is None:  # in one operation that exporters know, ONNX among them; the same numbers
        return torch.rand(shape, dtype=dtype, device=logits.device)
    return logits.new_empty(shape, dtype=dtype).uniform_(generator=_checked(generator))


def _checked(generator: torch.Generator | None) -> torch.Generator | None:
    """The source of noise, unless activation checkpointing calls the layer a second time."""
    if generator is None or torch.compiler.is_compiling():
        return generator
    if not in_backward():
        _used.add(generator)
    elif generator in _used:
        raise RuntimeError(
            "a generator= that the forward pass has used cannot be drawn from in a backward pass: "
            "activation checkpointing, which calls a layer again there, would get other noise. "
            "Leave generator= out (torch.utils.checkpoint restores the global source), or seed a "
            "new one inside the function that is checkpointed"
        )
    return generator


def categorical(space: CategoricalSpace, logits: Tensor, uniform: Tensor) -> Tensor:
    """Exact draw of every feature from `softmax(logits)` by inverting its distribution function.

    One uniform number per feature instead of K Gumbels. The cumulative sum is taken in float64, so
    the law holds for tens of thousands of categories; a category of probability 0 is never drawn.

    Args:
        space: the space, D wide.
        logits: `(..., D)`.
        uniform: `(..., F)` in [0, 1), from `uniform_like`.

    Returns:
        Codes `(..., F)`. Where values cannot be looked at (on a GPU, under a compiler or
        `torch.func`), a feature whose logits are NaN, `+inf` or masked whole has code 0.

    Raises:
        ValueError: for such a feature anywhere else, and for noise of another shape.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> logits = torch.tensor([0.0, -torch.inf, 0.0, 0.0])
        >>> categorical(space, logits, torch.tensor([0.9, 0.9], dtype=torch.float64))
        tensor([0, 1])
    """
    logits, dtype = logits.detach(), torch.promote_types(logits.dtype, torch.float32)
    space.check_flat(logits)
    if uniform.shape != (expected := (*logits.shape[:-1], space.num_features)):
        raise ValueError(f"the noise must be {expected}, got {tuple(uniform.shape)}")
    places = space.places(uniform[..., 0].numel())
    drawn = [_draw(p.take(logits), p.take_features(uniform), dtype) for p in places]
    codes = [_in_range(space, logits, *pair) for pair in zip(places, drawn, strict=True)]
    return codes[0] if len(codes) == 1 else space.join_columns(codes)


def _in_range(space: CategoricalSpace, logits: Tensor, place: Place, codes: Tensor) -> Tensor:
    """Codes of a place, none of which is K: that is what a feature without a law has drawn."""
    if not can_inspect(codes):
        # K would be the first category of the next feature
        return codes.masked_fill(codes == place.size, 0)
    if codes.numel() and codes.max() == place.size:
        space.check_logits(logits)
    return codes


def _draw(block: Tensor, uniform: Tensor, dtype: torch.dtype) -> Tensor:
    """Codes `(..., n)` for logits `(..., n, K)`, a part of the batch at a time."""
    if torch.compiler.is_compiling() or block.dim() < 3 or blocks.fits(block):
        return _invert(blocks.softmax(block.to(dtype)), uniform)
    if block.dim() > 3 and block.shape[0] < block.shape[1]:  # few samples of a large batch
        pairs = zip(block.unbind(), uniform.unbind(), strict=True)
        codes = [_draw(b, u, dtype) for b, u in pairs]
        return torch.stack(codes)
    codes = [
        _invert(blocks.softmax(block[rows].to(dtype)), uniform[rows])
        for rows in blocks.parts(len(block), block[:1].numel(), block.device)
    ]
    return torch.cat(codes)


def _invert(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Codes `(...)`: where the distribution function of `(..., K)` passes the uniform number."""
    compiling = torch.compiler.is_compiling()  # then a size would bind a program to its batch
    if not compiling and probabilities.shape[-1] < blocks.FEW and probabilities.numel() > _LARGE:
        return _count(probabilities, uniform)
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    # of the last sum: rounding keeps it from being 1 exactly
    target = uniform.unsqueeze(-1) * (cumulative[..., -1:] * _JUST_BELOW)
    if compiling:  # the same code in operations that every exporter knows
        return (~(cumulative > target)).sum(-1)
    # right: the first sum above the target, so that u = 0 skips categories of probability 0; no
    # sum is above NaN, which gives K
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)


def _count(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The same by counting, an operation a category: faster for few of them."""
    sums = list(itertools.accumulate(probabilities.double().unbind(-1)))
    target = uniform * (sums[-1] * _JUST_BELOW)
    code = torch.zeros(target.shape, dtype=torch.long, device=target.device)
    # the last sum lies above every target but NaN
    for cumulative in sums:
        code = code + ~(cumulative > target)
    return code


def normal(shape: tuple[int, ...], *, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal numbers of the given shape, in float64.

    Example:
        >>> normal((2, 3)).shape
        torch.Size([2, 3])
    """
    return torch.randn(shape, generator=_checked(generator), dtype=torch.float64)


def uniform(
    shape: tuple[int, ...],
    *,
    device: torch.device | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Uniform numbers in [0, 1) of the given shape, in float64.

    Example:
        >>> uniform((2, 3)).shape
        torch.Size([2, 3])
    """
    return torch.rand(shape, generator=_checked(generator), device=device, dtype=torch.float64)


def random_codes(
    space: CategoricalSpace, count: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """`(count, F)` codes, uniform over the rows of the space.

    Example:
        >>> random_codes(CategoricalSpace.from_sizes((2, 3)), 5).shape
        torch.Size([5, 2])
    """
    u = uniform((count, space.num_features), generator=generator)
    # in float64 the largest u, 1 - 2^-53, times K still rounds to less than K
    return (u * torch.tensor(space.sizes)).long()


def random_indices(
    high: int, shape: tuple[int, ...], *, generator: torch.Generator | None = None
) -> Tensor:
    """Integers in `[0, high)` of the given shape, with replacement.

    Example:
        >>> random_indices(1, (2, 3))
        tensor([[0, 0, 0],
                [0, 0, 0]])
    """
    device = None if generator is None else generator.device
    return torch.randint(high, shape, generator=_checked(generator), device=device)


def permutation(count: int, *, generator: torch.Generator | None = None) -> Tensor:
    """`0 ... count-1` in random order.

    Example:
        >>> permutation(4).sort().values
        tensor([0, 1, 2, 3])
    """
    return torch.randperm(count, generator=_checked(generator))


def seeded(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A source of noise that begins at a seed.

    Example:
        >>> a, b = (torch.rand(2, generator=seeded(3)) for _ in range(2))
        >>> torch.equal(a, b)
        True
    """
    return torch.Generator(device).manual_seed(seed)


@contextmanager
def isolated_seed(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Run a block (say, the initialisation of a model) from a seed, then restore the global state.

    Args:
        seed: of the CPU's source of noise, and of the device's.
        device: a CUDA device whose source is used, too, as by dropout; by default none is.

    Example:
        >>> before = torch.get_rng_state()
        >>> with isolated_seed(0):
        ...     layer = torch.nn.Linear(2, 2)
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    # no other device's state: to ask for those of all GPUs would wake every one of them
    places = [device.index] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=places):
        # torch.manual_seed would seed every GPU, which fork_rng does not undo here
        torch.default_generator.manual_seed(seed)
        for place in places:
            torch.cuda.default_generators[place].manual_seed(seed)
        yield
