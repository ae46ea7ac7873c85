"""Hypothesis strategies for spaces, logits, rows, seeds and functions of rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from discrete_grad.space import CategoricalSpace
from discrete_grad.testing._goodness import joint_law
from discrete_grad.testing.exact import draws_needed
from discrete_grad.testing.functions import FAMILIES, Family, RowFunction, row_function

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "the test-kit needs hypothesis: pip install 'discrete_grad[testing]'"
    ) from error

__all__ = [
    "categorical_spaces",
    "code_rows",
    "enumerable_logits",
    "functions",
    "logits",
    "seeds",
    "soft_rows",
]

# where float16 stops at 65,504
EXTREMES = (30.0, -30.0, 90.0, -90.0, 1e4, -1e4)
DRAWS = 50_000  # half of what `exact_bias` allows itself


def categorical_spaces(
    *, min_features: int = 1, max_features: int = 4, min_size: int = 1, max_size: int = 5
) -> st.SearchStrategy[CategoricalSpace]:
    """Spaces of ragged sizes; shrink to few features of few categories.

    Example:
        >>> from hypothesis import find
        >>> find(categorical_spaces(min_size=2), lambda space: space.num_features == 2)
        CategoricalSpace(x0: 2, x1: 2)
    """
    sizes = st.integers(min_size, max_size)
    lists = st.lists(sizes, min_size=min_features, max_size=max_features)
    return lists.map(CategoricalSpace.from_sizes)


@st.composite
def logits(
    draw: st.DrawFn,
    space: CategoricalSpace,
    *,
    batch: tuple[int, ...] = (),
    dtype: torch.dtype = torch.float64,
    max_magnitude: float = 5.0,
    masks: bool = True,
    extremes: bool = False,
    contiguous: bool = True,
) -> Tensor:
    """Logits `(*batch, D)`; shrink to all 0, where all categories tie.

    Args:
        draw: given by Hypothesis.
        space: the space, D wide.
        batch: the leading shape.
        dtype: of the logits.
        max_magnitude: of ordinary logits, multiples of 1 / 8, so that ties are common.
        masks: allow `-inf`; every feature keeps a category.
        extremes: allow logits of up to 1e4 in size.
        contiguous: otherwise the tensor has gaps between its numbers in memory.

    Example:
        >>> from hypothesis import find
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> find(logits(space), lambda tensor: tensor.isinf().any()).isinf().sum()
        tensor(1)
    """
    steps = int(8 * max_magnitude)
    numbers: st.SearchStrategy[float] = st.integers(-steps, steps).map(lambda n: n / 8)
    if extremes:
        numbers = numbers | st.sampled_from(EXTREMES)
    rows = [_row(draw, space, numbers, masks) for _ in range(math.prod(batch))]
    tensor = torch.tensor(rows, dtype=dtype).reshape(*batch, space.width)
    return tensor if contiguous else torch.stack([tensor, tensor], -1)[..., 0]


@st.composite
def enumerable_logits(
    draw: st.DrawFn,
    *,
    samples: int = 1,
    max_features: int = 4,
    min_size: int = 1,
    max_size: int = 5,
    masks: bool = True,
) -> tuple[CategoricalSpace, Tensor]:
    """A space and logits `(D,)` on which `exact_bias` can enumerate a method; shrink to all 0.

    Args:
        draw: given by Hypothesis.
        samples: independent rows that the method draws for an element of the batch, 1 to 10.
        max_features: of the space, fewer where the tuples of rows would be too many.
        min_size: of a feature.
        max_size: of a feature, likewise.
        masks: allow `-inf`; every feature keeps a category.

    Raises:
        ValueError: if not even one feature of `min_size` could be enumerated.

    Example:
        >>> from hypothesis import find
        >>> space, at = find(enumerable_logits(samples=4, min_size=2), lambda _: True)
        >>> space, at
        (CategoricalSpace(x0: 2), tensor([0., 0.], dtype=torch.float64))
    """
    if not _can_enumerate(max(min_size, 2), samples):
        raise ValueError(
            f"{samples} samples of a feature of {max(min_size, 2)} categories are too many tuples "
            "to enumerate"
        )
    sizes = [draw(st.integers(min_size, _largest(1, samples, max_size)))]
    for _ in range(draw(st.integers(0, max_features - 1))):
        largest = _largest(math.prod(sizes), samples, max_size)
        if largest >= min_size:
            sizes.append(draw(st.integers(min_size, largest)))
    space = CategoricalSpace.from_sizes(sizes)
    at = draw(logits(space, masks=masks))
    while draws_needed(joint_law(space, at), samples) > DRAWS:
        at = at / 2  # with logits of 0 no row is rarer than the others
    return space, at


def _largest(rows: int, samples: int, max_size: int) -> int:
    """The largest size of one more feature, 0 if there is none."""
    return max((k for k in range(1, max_size + 1) if _can_enumerate(rows * k, samples)), default=0)


def _can_enumerate(rows: int, samples: int) -> bool:
    law = torch.full((rows,), 1 / rows, dtype=torch.float64)
    return draws_needed(law, samples) <= DRAWS


def _row(
    draw: st.DrawFn, space: CategoricalSpace, numbers: st.SearchStrategy[float], masks: bool
) -> list[float]:
    row: list[float] = []
    for size in space.sizes:
        part = draw(st.lists(numbers, min_size=size, max_size=size))
        masked = draw(st.sets(st.integers(0, size - 1), max_size=size - 1)) if masks else set()
        row += [-math.inf if k in masked else value for k, value in enumerate(part)]
    return row


def code_rows(space: CategoricalSpace, *, batch: tuple[int, ...] = ()) -> st.SearchStrategy[Tensor]:
    """Codes `(*batch, F)`; shrink to 0.

    Example:
        >>> from hypothesis import find
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> find(code_rows(space), lambda codes: codes.sum() > 1)
        tensor([0, 2])
    """
    row = st.tuples(*[st.integers(0, size - 1) for size in space.sizes])
    count = math.prod(batch)
    table = st.lists(row, min_size=count, max_size=count)
    shape = (*batch, space.num_features)
    return table.map(lambda rows: torch.tensor(rows, dtype=torch.long).reshape(shape))


def soft_rows(
    space: CategoricalSpace, *, batch: tuple[int, ...] = (), dtype: torch.dtype = torch.float64
) -> st.SearchStrategy[Tensor]:
    """Flat rows `(*batch, D)` of probabilities, zeros among them; shrink to uniform ones.

    Example:
        >>> from hypothesis import find
        >>> find(soft_rows(CategoricalSpace.from_sizes((2,))), lambda row: True)
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    drawn = logits(space, batch=batch)
    return drawn.map(lambda tensor: space.softmax(tensor).to(dtype))


def seeds() -> st.SearchStrategy[int]:
    """Seeds for `torch.Generator.manual_seed`; shrink to 0.

    Example:
        >>> from hypothesis import find
        >>> find(seeds(), lambda seed: seed > 9)
        10
    """
    return st.integers(0, 2**31 - 1)


def functions(
    space: CategoricalSpace, *, family: Family = "multilinear", max_terms: int = 2
) -> st.SearchStrategy[Callable[[Tensor], Tensor]]:
    """Functions of flat rows `(..., D)` -> `(...)` of one family; see `RowFunction`.

    Args:
        space: the space of the rows.
        family: `additive`, `multilinear`, `quadratic` or `cubic`, whose weights shrink to 0; `mlp`
            or `rough`, whose seed shrinks to 0.
        max_terms: of the first four.

    Raises:
        ValueError: for a family that does not exist.

    Example:
        >>> from hypothesis import find
        >>> space = CategoricalSpace.from_sizes((2,))
        >>> find(functions(space, family="additive"), lambda f: f(torch.ones(2)) != 0)
        RowFunction(CategoricalSpace(x0: 2), 'additive', [[0.0, 0.25]])
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}")
    if family in ("mlp", "rough"):
        return seeds().map(lambda seed: row_function(space, family, seed=seed))
    weights = st.integers(-8, 8).map(lambda n: n / 4)
    term = st.lists(weights, min_size=space.width, max_size=space.width)
    pairs = st.lists(st.tuples(term, term), min_size=1, max_size=max_terms)
    return pairs.map(lambda terms: _function(space, family, terms))


def _function(
    space: CategoricalSpace, family: Family, terms: list[tuple[list[float], list[float]]]
) -> RowFunction:
    first, second = torch.tensor(terms, dtype=torch.float64).unbind(1)
    return RowFunction(space, family, first, second)
