"""The model that is trained: context -> logits of a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from discrete_grad.models.estimator import ContextReading, check_context, mlp
from discrete_grad.nn import FeatureHeads
from discrete_grad.sampling import categorical, uniform_like
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["Generator", "distinct_rows"]


class Generator(nn.Module):
    """Context -> logits, one independent categorical a feature given the context.

    Args:
        context: the context columns; None for a generator of one distribution, whose logits are
            then 10 times its parameter `logits`.
        space: the features of a row.
        hidden: widths of the hidden layers.

    Example:
        >>> space = CategoricalSpace({"cut": 3, "colour": 7})
        >>> Generator(None, space)().shape
        torch.Size([10])
        >>> spec = ContextSpec(numeric=["price", "weight"])
        >>> Generator(spec, space)(torch.zeros(5, 2)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        context: ContextSpec | None,
        space: CategoricalSpace,
        *,
        hidden: Sequence[int] = (64, 64),
    ) -> None:
        super().__init__()
        self.space = space
        self.context_spec = context
        if context is None:
            self.logits = nn.Parameter(torch.zeros(space.width))
        else:
            self.reading = ContextReading(context)
            self.trunk = mlp(self.reading.width, hidden)
            self.heads = FeatureHeads(hidden[-1], space)

    def forward(self, context: Tensor | None = None) -> Tensor:
        """Logits `(..., D)` for a context `(..., C)`; `(D,)` without a context spec."""
        check_context(context, self.context_spec)
        # times 10: free logits then move about as fast as a network's at the same learning rate
        if context is None:
            return 10 * self.logits
        logits: Tensor = self.heads(self.trunk(self.reading(context)))
        return logits


def distinct_rows(
    space: CategoricalSpace,
    logits: Tensor,
    count: int,
    value: Callable[[Tensor], Tensor],
    *,
    also: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Different rows of one distribution, the most valuable of those drawn, best first.

    Draws a pool of at least 256 rows and 16 a row wanted, beside the most likely row. While the
    pool holds too few different rows, another is drawn from a distribution of twice the
    temperature, up to 16.

    Args:
        space: the space.
        logits: `(D,)`.
        count: rows wanted, at least 1.
        value: codes `(N, F)` -> `(N,)`, what they are ordered by.
        also: codes `(A, F)` of rows that join the pool.
        generator: source of the noise.

    Returns:
        Codes `(n, F)`, n at most `count`; fewer if there are no more.

    Raises:
        ValueError: for a count below 1, or logits that do not fit.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> def value(codes):
        ...     return 3 * codes[:, 0] + codes[:, 1]
        >>> distinct_rows(space, torch.zeros(5), 2, value).tolist()
        [[1, 2], [1, 1]]
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    space.check_logits(logits)
    if logits.dim() != 1:
        raise ValueError(f"logits must be those of one distribution, got {tuple(logits.shape)}")
    pool = space.argmax(logits).unsqueeze(0)
    pool = pool if also is None else torch.cat([pool, also])
    for temperature in (1, 2, 4, 8, 16):
        repeated = (logits / temperature).expand(max(256, 16 * count), -1)
        drawn = categorical(space, repeated, uniform_like(space, repeated, generator=generator))
        pool = torch.cat([pool, drawn]).unique(dim=0)
        if len(pool) >= count:
            break
    order = value(pool).argsort(descending=True, stable=True)
    return pool[order[:count]]
