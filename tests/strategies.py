"""Hypothesis strategies shared by the tests of the core."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from discrete_grad import CategoricalSpace

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
BATCHES = ((), (0,), (1,), (4,), (2, 3))


def spaces(*, max_features: int = 5, max_size: int = 6) -> st.SearchStrategy[CategoricalSpace]:
    """Spaces of ragged sizes, K = 1 among them."""
    sizes = st.lists(st.integers(1, max_size), min_size=1, max_size=max_features)
    return sizes.map(CategoricalSpace.from_sizes)


@st.composite
def spaces_and_logits(
    draw: st.DrawFn,
    *,
    dtypes: tuple[torch.dtype, ...] = DTYPES,
    scales: tuple[float, ...] = (0.0, 1.0, 30.0, 1e4),
    batches: tuple[tuple[int, ...], ...] = BATCHES,
    copies: int = 1,
    max_features: int = 5,
    max_size: int = 6,
) -> tuple[CategoricalSpace, *tuple[Tensor, ...]]:
    """A space and `copies` logits: ragged, masked, contiguous or not, up to 1e4, maybe empty."""
    space = draw(spaces(max_features=max_features, max_size=max_size))
    seed, dtype = draw(st.integers(0, 2**31)), draw(st.sampled_from(dtypes))
    shape, scale = draw(st.sampled_from(batches)), draw(st.sampled_from(scales))
    masked, contiguous = draw(st.booleans()), draw(st.booleans())
    generator = torch.Generator().manual_seed(seed)
    all_logits = []
    for _ in range(copies):
        logits = random_logits(space, shape, scale=scale, masked=masked, generator=generator)
        logits = logits.to(dtype)
        all_logits.append(logits if contiguous else non_contiguous(logits))
    return space, *all_logits


def random_logits(
    space: CategoricalSpace,
    shape: tuple[int, ...] = (),
    *,
    scale: float = 1.0,
    masked: bool = False,
    generator: torch.Generator | int = 0,
) -> Tensor:
    """Float64 logits within `[-scale, scale]`; with `masked`, about a third are `-inf`."""
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    size = (*shape, space.width)
    logits = scale * (2 * torch.rand(size, generator=generator, dtype=torch.float64) - 1)
    if not masked:
        return logits
    drop = torch.rand(size, generator=generator) < 1 / 3
    for part in drop.split(list(space.sizes), -1):
        keep = torch.randint(part.shape[-1], part.shape[:-1], generator=generator)
        part.scatter_(-1, keep.unsqueeze(-1), False)  # one category of each feature stays
    return logits.masked_fill(drop, -torch.inf)


def non_contiguous(tensor: Tensor) -> Tensor:
    """The same values with gaps between them, the first dimension fastest in memory."""
    spread = torch.stack([tensor, torch.full_like(tensor, torch.nan)], -1)
    if tensor.dim() > 1:
        spread = spread.movedim(0, -1).contiguous().movedim(-1, 0)
    return spread[..., 0]
