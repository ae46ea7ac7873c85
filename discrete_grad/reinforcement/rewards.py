"""Rewards made from tables, models and one another.

Each maps codes `(G, *batch, F)` and a context `(*batch, C)`, or None, to `(G, *batch)`; an
estimator and a preference model do as they stand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from discrete_grad.hamming import nearest_hamming
from discrete_grad.models.aligner import likeness
from discrete_grad.models.protocol import space_of
from discrete_grad.space import CategoricalSpace, require_derivatives
from discrete_grad.weighting.reward import Reward

__all__ = [
    "RunningScale",
    "adversarial_reward",
    "aligner_reward",
    "nearest_distance",
    "table_reward",
    "weighted_reward",
]


def table_reward(space: CategoricalSpace, scores: Tensor) -> Reward:
    """The known score of every row.

    Args:
        space: the space.
        scores: `(R,)` in the order of `space.enumerate()`, or `(R, N)` for N tables, the context
            being one-hot `(*batch, N)`.

    Raises:
        ValueError: for another number of rows, and later for a context that does not fit.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> table_reward(space, torch.arange(6.0))(torch.tensor([[1, 2], [0, 1]]), None)
        tensor([5., 1.])
    """
    if scores.dim() not in (1, 2) or len(scores) != space.num_rows:
        wanted = f"({space.num_rows},) or ({space.num_rows}, tables)"
        raise ValueError(f"scores must be {wanted}, got {tuple(scores.shape)}")

    def reward(codes: Tensor, context: Tensor | None) -> Tensor:
        number = space.row_number(codes)
        if scores.dim() == 1:
            return scores[number]
        if context is None or context.shape[-1] != scores.shape[1]:
            got = "none" if context is None else tuple(context.shape)
            raise ValueError(f"{scores.shape[1]} tables need a context of that width, got {got}")
        return scores[number, context.argmax(-1)]

    return reward


def aligner_reward(
    aligner: nn.Module, target: Tensor, *, space: CategoricalSpace | None = None
) -> Reward:
    """Likeness in behaviour of a row to a target row, in [-1, 1].

    Args:
        aligner: says whether two rows behave alike; one's own is called with two flat rows
            `(N, D)`, and a context `(N, C)` if there is one, and returns `(N,)`.
        target: codes `(F,)`, or `(*batch, F)` for one a context.
        space: the features; by default those of the aligner.

    Raises:
        TypeError: without a space.

    Example:
        >>> from discrete_grad.models import Aligner, Estimator
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> reward = aligner_reward(Aligner(Estimator(space)), torch.tensor([1, 2]))
        >>> reward(space.enumerate(), None).shape
        torch.Size([6])
    """
    space = space_of("aligner_reward", aligner, space)

    def reward(codes: Tensor, context: Tensor | None) -> Tensor:
        return likeness(aligner, codes, target.expand_as(codes), context, space=space)

    return reward


def nearest_distance(space: CategoricalSpace, rows: Tensor) -> Reward:
    """Hamming distance, in features, to the nearest of some rows; a bonus or a penalty.

    Args:
        space: the space.
        rows: codes `(N, F)`, N at least 1.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> nearest_distance(space, torch.tensor([[0, 0], [1, 1]]))(torch.tensor([[1, 2]]), None)
        tensor([1.])
    """
    space.check_codes(rows)
    if rows.dim() != 2 or not len(rows):
        raise ValueError(f"rows must be (N, {space.num_features}), got {tuple(rows.shape)}")

    def reward(codes: Tensor, context: Tensor | None) -> Tensor:
        nearest = nearest_hamming(codes.reshape(-1, codes.shape[-1]), rows).view(codes.shape[:-1])
        return nearest.to(torch.get_default_dtype())

    return reward


def weighted_reward(parts: Sequence[tuple[float, Reward]]) -> Reward:
    """Sum of rewards, each times its weight.

    Example:
        >>> mix = weighted_reward([(2.0, lambda x, c: x[..., 0]), (-1.0, lambda x, c: x[..., 1])])
        >>> mix(torch.tensor([[1, 3]]), None)
        tensor([-1.])
    """
    if not parts or not all(map(math.isfinite, (weight for weight, _ in parts))):
        raise ValueError(f"needs rewards with finite weights, got {[w for w, _ in parts]}")

    def reward(codes: Tensor, context: Tensor | None) -> Tensor:
        values = [torch.as_tensor(part(codes, context), device=codes.device) for _, part in parts]
        return torch.stack([w * v for (w, _), v in zip(parts, values, strict=True)]).sum(0)

    return reward


def adversarial_reward(
    model: nn.Module, *, context_radius: float = 0.0, weight_radius: float = 0.0
) -> Reward:
    """A model's score after one step of an adversary that lowers the mean over the given rows.

    The adversary moves each number of the context by `context_radius` (fast gradient sign), and the
    model's weights, tensor by tensor, by `weight_radius` of their norm along the gradient.

    Args:
        model: `(codes, context) -> (G, *batch)`, differentiable; it is not changed.
        context_radius: at least 0, in the context's unit.
        weight_radius: at least 0, a share.

    Raises:
        ValueError: for a radius that is not a finite number from 0 on.

    Reference:
        Goodfellow, Shlens, Szegedy (2015), arXiv 1412.6572, section 4; Wu, Xia, Wang (2020), arXiv
        2004.05884, equation 9.

    Example:
        >>> from discrete_grad.models import Estimator
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> estimator = Estimator(space)
        >>> worse = adversarial_reward(estimator, weight_radius=0.1)(space.enumerate(), None)
        >>> (worse.mean() < estimator(space.enumerate()).mean()).item()
        True
    """
    for name, radius in (("context_radius", context_radius), ("weight_radius", weight_radius)):
        if not 0 <= radius < math.inf:
            raise ValueError(f"{name} must be a finite number from 0 on, got {radius}")

    def reward(codes: Tensor, context: Tensor | None) -> Tensor:
        require_derivatives("an adversarial reward")
        weights = {name: p.detach() for name, p in model.named_parameters()}
        moved = {name: p.clone().requires_grad_() for name, p in weights.items()}
        seen = None if context is None else context.detach().clone().requires_grad_()
        places = [*moved.values(), *([] if seen is None else [seen])]
        with torch.enable_grad():
            mean = functional_call(model, moved, (codes, seen)).mean()
        slopes = torch.autograd.grad(mean, places, allow_unused=True)
        pairs = zip(weights.items(), slopes[: len(weights)], strict=True)
        worse = {n: _against(p, slope, weight_radius) for (n, p), slope in pairs}
        if context is not None and slopes[-1] is not None:
            context = context - context_radius * slopes[-1].sign()
        with torch.no_grad():
            score: Tensor = functional_call(model, worse, (codes, context))
        return score

    return reward


def _against(weight: Tensor, slope: Tensor | None, radius: float) -> Tensor:
    if slope is None:
        return weight
    # a slope of 0 moves nothing: 0 / tiny instead of 0 / 0
    tiny = torch.finfo(slope.dtype).tiny
    moved: Tensor = weight - radius * weight.norm() * slope / slope.norm().clamp_min(tiny)
    return moved


class RunningScale(nn.Module):
    """Mean and standard deviation of all numbers seen, kept in buffers.

    Reference:
        Chan, Golub, LeVeque (1979), "Updating formulae and a pairwise algorithm for computing
        sample variances".

    Example:
        >>> scale = RunningScale()
        >>> scale.update(torch.tensor([1.0, 3.0]))
        >>> scale(torch.tensor([3.0]))
        tensor([1.])
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "mean", "squares"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """See more numbers."""
        values, size = values.double(), values.numel()
        first = values.reshape(-1)[:1].sum()
        # about the first: equal numbers are then 0, and no rounding gives them a deviation
        moved = values - first
        total, gap = self.count + size, first + moved.mean() - self.mean
        self.squares += (moved - moved.mean()).square().sum()
        # what the distance of the two means adds to the squares about the joint mean
        self.squares += gap.square() * self.count * size / total
        self.mean += gap * (size / total)
        self.count.copy_(total)

    @property
    def deviation(self) -> Tensor:
        """Standard deviation `()` of what was seen; 1 where nothing differed."""
        deviation = (self.squares / self.count.clamp_min(1)).sqrt()
        return torch.where(deviation > 0, deviation, 1.0)

    def forward(self, values: Tensor) -> Tensor:
        """Standardised values, of the same shape and dtype."""
        scaled: Tensor = ((values.double() - self.mean) / self.deviation).to(values.dtype)
        return scaled

    def inverse(self, scaled: Tensor) -> Tensor:
        """Values of which `forward` makes the given ones."""
        values: Tensor = (scaled.double() * self.deviation + self.mean).to(scaled.dtype)
        return values
