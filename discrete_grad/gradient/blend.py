"""A combination of gradients whose weights are measured."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from discrete_grad.gradient._blend_parts import (
    NAMES,
    Parts,
    gradients,
    measured,
    spreads,
    weighted_sum,
)
from discrete_grad.gradient._blend_weights import best_weights, common_weights
from discrete_grad.gradient._control_variate import differentiate, score, with_gradient
from discrete_grad.gradient.base import Function, GradientEstimator, draw, evaluate
from discrete_grad.gradient.black_box import NoDerivativeError
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.gradient.leave_one_out import less_the_others
from discrete_grad.space import CategoricalSpace, in_backward, is_wrapped

__all__ = ["Blend"]

DECAY = 0.98  # share of what was measured that is kept at each call
EARLY = 10  # calls, as `seen` counts them, up to which a call's own rows count for its weights
FIRST = ("double_control_variate", "straight_through", "darn", "mean_field")


class Blend(GradientEstimator):
    """Weighted sum of seven gradients from the same rows, by what is measured of their errors.

    The values, slopes df/dx and scores of N drawn rows, and the slope at the soft row
    softmax(logits), give seven gradients at no further cost: `LeaveOneOut`,
    `DoubleControlVariate`, the same with the slope of the soft row, `StraightThrough`, `Darn`, one
    that corrects each row by its own slope, and the mean field, which is `Softmax`. Each feature
    has weights that add up to 1 and minimise the mean squared error: the components' covariance,
    measured between the rows, plus their bias, measured against the unbiased ones and counted
    where it is larger than chance explains. Both are averaged over the batch, of which 64
    elements at most are measured, and, with a decay of 0.98 a call, over the calls. In training,
    noise averages out over the steps and bias stays: the covariance counts divided by `averaged`.
    Where the logits are no leaf, the batch shares the parameters they come from: then the
    covariance is divided by the elements of the batch, too, all features have the same weights, and
    a second-order bias that the noise may hide counts as well.

    The weights of a call come from the calls before it, never from its own rows, so its bias is
    that of a fixed linear combination. The first call has a quarter each of
    `DoubleControlVariate`, `StraightThrough`, `Darn` and the mean field. In about ten calls after
    it the own rows count, too: little is known then, the logits move fast, and an optimiser such as
    Adam remembers a gradient that is far too long. `weights()` tells what is trusted now. In
    evaluation mode, under `torch.func`, and when compiled or exported, nothing is learned and the
    weights stay. Where several processes train, they learn from the rows of all: each must then
    make the same calls in training mode.

    If f has no derivative, such as `on_codes(space, f)`, the call is that of `LeaveOneOut`, nothing
    is learned, and `weights()` says so.

    **Bias:** exact on multilinear f; on others it shrinks with the samples and the calls, for the
    weight of a component falls with the bias seen; the unbiased ones are always in.
    **Evaluations of f:** N + 1 forward, N + 1 backward a call; without a derivative N forward.
    **Needs df/dx:** no, but it is used where f has one.
    **Hyperparameters:** `averaged` = 4, at least 1: the number of calls whose gradients count
    together; at 1 the error of each call's own gradient is least, and training may keep a bias;
    `samples` N = 8, at least 2.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2, 2))
        >>> method, logits = Blend(space), torch.zeros(4, 6, requires_grad=True)
        >>> noise, f = torch.Generator().manual_seed(1), lambda rows: rows[..., ::2].prod(-1)
        >>> for _ in range(20):
        ...     value = method.expectation(f, logits, generator=noise)
        >>> value.sum().backward()
        >>> round(method.weights()["mean_field"], 2)  # exact where f is multilinear
        1.0
    """

    facts = Facts(
        forward="hard",
        bias="exact on multilinear",
        cost=lambda method, space: Cost(method.samples + 1, method.samples + 1),
        cost_text="N + 1 forward, N + 1 backward",
        needs_derivative=False,
        reference="this library",
    )

    min_samples = 2
    covariance: Tensor
    bias: Tensor
    seen: Tensor
    weight: Tensor
    has_slopes: Tensor

    def __init__(
        self, space: CategoricalSpace | None = None, *, averaged: int = 4, samples: int = 8
    ) -> None:
        super().__init__(space, samples=samples)
        if type(averaged) is not int or averaged < 1:
            raise ValueError(f"averaged must be an integer >= 1, got {averaged!r}")
        self.averaged = averaged
        features, count = 1 if space is None else space.num_features, len(NAMES)
        first = torch.tensor([(name in FIRST) / len(FIRST) for name in NAMES])
        zeros = torch.zeros(features, count, count, dtype=torch.float64)
        # decayed sums over elements: N times the covariance; squared differences less their noise
        self.register_buffer("covariance", zeros)
        self.register_buffer("bias", zeros.clone())
        # their sums of weights and of squared weights
        self.register_buffer("seen", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("weight", first.double().repeat(features, 1))
        self.register_buffer("has_slopes", torch.tensor(True))

    def weights(self) -> dict[str, float]:
        """The weight of each component in the next call, the mean over the features."""
        if not self.has_slopes:
            return {name: float(name == "leave_one_out") for name in NAMES}
        return dict(zip(NAMES, self.weight.mean(0).tolist(), strict=True))

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; see `GradientEstimator.expectation`."""
        space = self.space_of(logits)
        self._check_call()
        fixed = logits.detach()
        _, hard = draw(space, fixed.expand(self.samples, *logits.shape), generator)
        try:
            values, slopes = differentiate(f, hard)
        except NoDerivativeError as error:
            values = evaluate(f, hard) if error.values is None else error.values
            return self._without_slopes(space, logits, hard, values)
        _, soft_slope = differentiate(f, space.softmax(fixed).unsqueeze(0))
        parts = gradients(
            space, fixed, hard, values.detach(), slopes.detach(), soft_slope[0].detach()
        )
        weight = self.weight
        if self._learns(values):
            # logits that are no leaf come from parameters that the batch shares
            shared = 0 if logits.is_leaf else logits[..., 0].numel()
            weight = self._learn(space, parts, shared)
        return with_gradient(values.mean(0), logits, weighted_sum(space, parts.components, weight))

    def _without_slopes(
        self, space: CategoricalSpace, logits: Tensor, hard: Tensor, values: Tensor
    ) -> Tensor:
        scores = score(space, logits.detach(), hard)
        gradient = (less_the_others(values.detach()).unsqueeze(-1) * scores).mean(0)
        if self._learns(values):
            self.has_slopes.fill_(False)
        return with_gradient(values.mean(0), logits, gradient)

    def _learns(self, values: Tensor) -> bool:
        if not self.training or not values.numel():
            return False
        return not (torch.compiler.is_compiling() or is_wrapped(values))

    def _check_call(self) -> None:
        if self.training and not torch.compiler.is_compiling() and in_backward():
            raise RuntimeError(
                "Blend learns from every call, and activation checkpointing calls it twice: take "
                "the expectation outside what is checkpointed, or call eval() first"
            )

    @torch.no_grad()
    def _learn(self, space: CategoricalSpace, parts: Parts, shared: int) -> Tensor:
        """Count this call's measurements in, find the weights of the next, and return its own.

        Args:
            space: the space.
            parts: what the call found.
            shared: elements of the batch if they share the logits' parameters, else 0.
        """
        before, known = self.weight.clone(), self.seen[0].clone()
        parts = measured(parts)
        covariance, products = spreads(space, parts)
        elements = torch.full_like(self.seen[:1], parts.components.shape[1])
        bias = products - covariance / self.samples
        found = [covariance.flatten(), bias.flatten(), elements, elements]
        counted = _over_processes(torch.cat([part.to(self.seen) for part in found]))
        self._count(counted)
        self.has_slopes.fill_(True)
        total, squares = self.seen.clamp_min(1)  # 0 if f has given no number so far
        covariance = self.covariance / (total * self.samples)
        elements = total**2 / squares
        best, averaged = common_weights if shared else best_weights, self.averaged * max(shared, 1)
        weight = best(covariance, self.bias / total, elements, self.samples, averaged)
        self.weight.copy_(torch.where(self.seen[0] > 0, weight, self.weight))
        early = (known > 0) & (known < EARLY * counted[-1])
        return torch.where(early, self.weight, before)

    def _count(self, found: Tensor) -> None:
        """Add what a call found to the decayed sums, unless f gave it no number."""
        size = self.covariance.numel()
        fine = found.isfinite().all()
        decay = torch.full_like(self.seen, DECAY)
        sums = (self.covariance, decay[0]), (self.bias, decay[0]), (self.seen, decay.cumprod(0))
        for (total, kept), more in zip(sums, found.split([size, size, 2]), strict=True):
            total.copy_(torch.where(fine, kept * total + more.view_as(total), total))


def _over_processes(found: Tensor) -> Tensor:
    """The sum over all processes that train together."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(found)
    return found
