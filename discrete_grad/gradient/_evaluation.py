"""f on many rows: in chunks, and equal rows once."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.gradient.base import Function, evaluate
from discrete_grad.space import CategoricalSpace

__all__ = ["check_max_batch", "evaluate_codes"]


def evaluate_codes(
    space: CategoricalSpace,
    f: Function,
    codes: Tensor,
    *,
    dtype: torch.dtype,
    max_batch: int | None = None,
    deduplicate: bool = False,
) -> Tensor:
    """Values of f at the hard rows of `codes`, a chunk of the sample dimension at a time.

    f may treat the elements of the batch differently (each may have its own context, say). So every
    call has at least one row for each element, however small `max_batch` is, and only rows of the
    same element count as equal.

    Args:
        space: the space of the rows.
        f: maps flat rows `(samples, *batch, D)` to values `(samples, *batch)`.
        codes: `(samples, *batch, F)`.
        dtype: of the flat rows.
        max_batch: rows a call of f may hold; None gives it all of them at once.
        deduplicate: evaluate equal rows of an element once. Counting them waits for the device;
            under `torch.compile` and `torch.func`, which forbid that, all rows are evaluated.

    Returns:
        Values `(samples, *batch)`.

    Example:
        >>> space, calls = CategoricalSpace.from_sizes((2, 3)), []
        >>> def f(rows):
        ...     calls.append(len(rows))
        ...     return rows[..., 0]
        >>> codes = torch.tensor([[0, 1], [1, 2], [0, 1], [0, 1]])
        >>> evaluate_codes(space, f, codes, dtype=torch.float32, max_batch=3)
        tensor([1., 0., 1., 1.])
        >>> evaluate_codes(space, f, codes, dtype=torch.float32, deduplicate=True)
        tensor([1., 0., 1., 1.])
        >>> calls
        [3, 1, 2]
    """
    where = None
    if deduplicate and codes.numel() and _can_wait(codes):
        codes, where = _distinct(codes)
    elements = max(1, codes[0].numel() // space.num_features) if len(codes) else 1
    step = max(1, len(codes) if max_batch is None else max_batch // elements)
    chunks = [evaluate(f, space.one_hot(chunk, dtype=dtype)) for chunk in codes.split(step)]
    values = chunks[0] if len(chunks) == 1 else torch.cat(chunks)
    return values if where is None else values.gather(0, where)


def check_max_batch(max_batch: int | None) -> int | None:
    """A number of rows of at least 1, or None."""
    if max_batch is not None and (not isinstance(max_batch, int) or max_batch < 1):
        raise ValueError(f"max_batch must be None or an integer >= 1, got {max_batch!r}")
    return max_batch


def _can_wait(codes: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(codes)


def _distinct(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The different rows of each element, and where each row went.

    `(samples, *batch, F)` -> `(most, *batch, F)` and indices `(samples, *batch)` into it; an
    element with fewer than `most` different rows has its first row again in the places left over.
    """
    flat = codes.reshape(len(codes), -1, codes.shape[-1])
    elements = torch.arange(flat.shape[1], device=codes.device)
    label = elements.expand(len(flat), -1).unsqueeze(-1)
    # sorted by element first
    different, index = torch.cat([label, flat], -1).flatten(0, 1).unique(dim=0, return_inverse=True)
    # searchsorted warns of a sequence that is not contiguous
    element = different[:, 0].contiguous()
    start = torch.searchsorted(element, elements)
    place = torch.arange(len(different), device=codes.device) - start[element]
    kept = flat[0].repeat(int(place.max()) + 1, 1, 1)
    kept[place, element] = different[:, 1:]
    return kept.view(-1, *codes.shape[1:]), place[index].view(codes.shape[:-1])
