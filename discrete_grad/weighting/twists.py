"""Twists for sequential Monte Carlo: exact by enumeration, or a small network fitted to draws."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from discrete_grad.models.estimator import mlp
from discrete_grad.sampling import isolated_seed, random_indices
from discrete_grad.weighting.reference import AutoregressiveReference, device_of
from discrete_grad.weighting.reward_weighted import RewardWeighted
from discrete_grad.weighting.tilt import scaled_reward

__all__ = ["ExactTwist", "LearnedTwist", "fit_twist"]


class ExactTwist:
    """`log E[exp(r / beta) | prefix]` of every prefix, by enumeration, for the given contexts.

    Args:
        target: its reference must be an `AutoregressiveReference`, its space small.
        context: `(*batch, C)`, the contexts it is asked about later.

    Raises:
        ValueError: for a space of too many rows, or a context without an allowed row.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.models import Generator
        >>> reference = Generator(None, CategoricalSpace.from_sizes((2, 3)))
        >>> target = RewardWeighted(reference, lambda rows, context: 1.0 * rows[..., 0], 1.0)
        >>> ExactTwist(target)(torch.tensor([[[0]], [[1]]])).tolist()
        [[0.0], [1.0]]
    """

    def __init__(self, target: RewardWeighted, context: Tensor | None = None) -> None:
        order, space = _order(target), target.space
        exact = target.exact(context)
        log_p = _in_order(exact.log_reference, space.sizes, order)
        weighted = log_p + _in_order(scaled_reward(exact.reward, exact.beta), space.sizes, order)
        self.sizes = [space.sizes[i] for i in order]
        self.tables: list[Tensor] = []
        for _ in order:  # longest prefix first, each from the one before
            self.tables.insert(0, (weighted - log_p).masked_fill(log_p == -math.inf, -math.inf))
            weighted, log_p = weighted.logsumexp(-1), log_p.logsumexp(-1)

    def __call__(self, prefix: Tensor, context: Tensor | None = None) -> Tensor:
        """Log psi `(M, B)` of prefixes `(M, B, t)`, t at least 1; see `Twist`."""
        table = self.tables[prefix.shape[-1] - 1].flatten(1)
        index = torch.zeros_like(prefix[..., 0])
        for code, size in zip(prefix.unbind(-1), self.sizes, strict=False):
            index = index * size + code
        log_psi: Tensor = table.T.gather(0, index)
        return log_psi


class LearnedTwist(nn.Module):
    """A network for log psi of prefixes of any length; see `fit_twist`.

    Args:
        sizes: of the features, in the reference's order.
        context_width: C, 0 without a context.
        hidden: widths of the hidden layers.

    Example:
        >>> LearnedTwist((2, 3))(torch.tensor([[[0]], [[1]]])).shape
        torch.Size([2, 1])
    """

    shift: Tensor

    def __init__(
        self, sizes: Sequence[int], context_width: int = 0, *, hidden: Sequence[int] = (64,)
    ) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.trunk = mlp(sum(self.sizes) + context_width, hidden)
        self.head = nn.Linear(hidden[-1], 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("shift", torch.zeros((), dtype=torch.float64))

    def forward(self, prefix: Tensor, context: Tensor | None = None) -> Tensor:
        """Log psi `(..., B)` of prefixes `(..., B, t)`."""
        return self.unshifted(prefix, context).double() + self.shift

    def unshifted(self, prefix: Tensor, context: Tensor | None) -> Tensor:
        """Log psi but for a constant that keeps it near 0."""
        known = zip(prefix.unbind(-1), self.sizes, strict=False)
        parts = [functional.one_hot(code, size) for code, size in known]
        read = torch.cat(parts, -1).to(self.head.weight.dtype)
        read = functional.pad(read, (0, sum(self.sizes) - read.shape[-1]))
        if context is not None:
            shape = (*read.shape[:-1], context.shape[-1])
            read = torch.cat([read, context.to(read.dtype).expand(shape)], -1)
        value: Tensor = self.head(self.trunk(read)).squeeze(-1)
        return value


def fit_twist(
    target: RewardWeighted,
    context: Tensor | None = None,
    *,
    rows: int = 2048,
    steps: int = 300,
    learning_rate: float = 1e-2,
    hidden: Sequence[int] = (64,),
    generator: torch.Generator | None = None,
) -> LearnedTwist:
    """A twist regressed on rows of the reference.

    Poisson regression: with `y = exp((r - max r) / beta)` of a drawn row and f the network on a
    prefix of it, the mean of `exp(f) - y f` is least where `exp(f) = E[y | prefix]`, which is psi
    but for a constant; it is convex in f. Prefixes of every length but the whole are read in turn.

    Args:
        target: its reference must be an `AutoregressiveReference`.
        context: `(*batch, C)`, or None.
        rows: drawn a context, each of them evaluated once.
        steps: of Adam, on at most 512 prefixes of one length each.
        learning_rate: at first; it falls to 0 along a cosine.
        hidden: widths of the hidden layers.
        generator: source of the noise.

    Raises:
        ValueError: where every row drawn is forbidden, in all contexts.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.models import Generator
        >>> reference = Generator(None, CategoricalSpace.from_sizes((2, 3)))
        >>> target = RewardWeighted(reference, lambda rows, context: 1.0 * rows[..., 0], 1.0)
        >>> fit_twist(target, rows=64, steps=5)(torch.tensor([[[0]], [[1]]])).shape
        torch.Size([2, 1])
    """
    order = _order(target)
    prefixes, contexts, scaled = _examples(target, context, rows, order, generator)
    twist = _new_twist(target, context, order, hidden, generator)
    twist.shift.fill_(scaled.max())
    y = (scaled - twist.shift).exp().to(twist.head.weight.dtype)
    twist.head.bias.data.fill_(float(y.mean().log()))
    adam = torch.optim.Adam(twist.parameters(), lr=learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, max(steps, 1))
    for step in range(steps if len(order) > 1 else 0):
        length = 1 + step % (len(order) - 1)
        drawn = random_indices(len(y), (min(512, len(y)),), generator=generator).to(y.device)
        f = twist.unshifted(prefixes[drawn, :length], None if contexts is None else contexts[drawn])
        adam.zero_grad()
        (f.exp() - y[drawn] * f).mean().backward()
        adam.step()
        decay.step()
    return twist.requires_grad_(False)


@torch.no_grad()
def _examples(
    target: RewardWeighted,
    context: Tensor | None,
    rows: int,
    order: tuple[int, ...],
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Rows `(n, F)` of the reference in its order, their contexts `(n, C)`, and `r / beta`."""
    codes = target.reference.sample(context, rows, generator=generator)
    scaled = scaled_reward(target.rewards(codes, context), target.beta)
    if not (scaled > -math.inf).any():
        raise ValueError(f"all {scaled.numel()} rows drawn are forbidden; draw more")
    if context is not None:
        context = context.expand(rows, *context.shape).reshape(-1, context.shape[-1])
    return codes[..., list(order)].reshape(-1, len(order)), context, scaled.flatten()


def _new_twist(
    target: RewardWeighted,
    context: Tensor | None,
    order: tuple[int, ...],
    hidden: Sequence[int],
    generator: torch.Generator | None,
) -> LearnedTwist:
    sizes = [target.space.sizes[i] for i in order]
    seed = int(random_indices(2**31, (1,), generator=generator))
    with isolated_seed(seed):
        twist = LearnedTwist(sizes, 0 if context is None else context.shape[-1], hidden=hidden)
    return twist.to(device_of(target.reference, context))


def _order(target: RewardWeighted) -> tuple[int, ...]:
    if not isinstance(target.reference, AutoregressiveReference):
        name = type(target.reference).__name__
        raise TypeError(f"needs a reference with order and conditional; {name} has none")
    return target.reference.order


def _in_order(table: Tensor, sizes: Sequence[int], order: tuple[int, ...]) -> Tensor:
    """A table `(R, *batch)` as `(B, K, K', ...)`, the features in the order given."""
    flat = table.reshape(len(table), -1).T
    return flat.reshape(-1, *sizes).permute(0, *(i + 1 for i in order))
