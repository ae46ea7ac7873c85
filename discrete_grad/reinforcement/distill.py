"""A policy learns a reward-weighted distribution, so that a row of it costs one draw."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from discrete_grad.gradient import GradientEstimator, LeaveOneOut
from discrete_grad.policies import Policy
from discrete_grad.policies.protocol import device_of, require, row_log_probs
from discrete_grad.reinforcement._contexts import (
    Batch,
    batch_index,
    check_contexts,
    context_name,
    taken,
)
from discrete_grad.reinforcement._distill_reverse import check_method, reverse_loss
from discrete_grad.reinforcement._regression import regression_loss
from discrete_grad.reinforcement.distill_config import DistillConfig
from discrete_grad.space import can_inspect
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.history import History
from discrete_grad.training.logs import Log, no_log
from discrete_grad.training.loop import Callback, Step, no_callback, train
from discrete_grad.training.step_loss import StepLoss
from discrete_grad.weighting import RewardWeighted, WeightedSamples
from discrete_grad.weighting.draws import normalised
from discrete_grad.weighting.importance import weighted_rows
from discrete_grad.weighting.tilt import table_kl

__all__ = ["Sampler", "distill"]

Method = Literal["forward", "reverse", "exact"]

_ROUNDING = 1e-4  # of log-probabilities in float32 that should sum to 1, in nats


class Sampler(Protocol):
    """A sampler of weighted rows: `importance_sampling`, `metropolis`, `twisted_smc`.

    Further options are bound by `functools.partial`.

    Example:
        >>> from discrete_grad.weighting import metropolis
        >>> sampler: Sampler = metropolis
    """

    def __call__(
        self,
        target: RewardWeighted,
        context: Tensor | None,
        count: int,
        /,
        *,
        generator: torch.Generator,
    ) -> WeightedSamples:
        """Samples with codes `(N, *batch, F)` for contexts `(*batch, C)`."""


def distill(
    policy: Policy,
    target: RewardWeighted,
    context: Tensor | None = None,
    *,
    method: Method = "forward",
    config: DistillConfig | None = None,
    seed: int = 0,
    stage: str | None = None,
    proposal: Literal["reference", "policy"] = "reference",
    sampler: Sampler | None = None,
    clip: float | None = None,
    gradient_estimator: GradientEstimator | None = None,
    direction: Literal["forward", "reverse"] = "forward",
    log: Log = no_log,
    checkpoint: Checkpoint | None = None,
    callback: Callback = no_callback,
) -> History:
    """Train a policy towards `ref(x | c) exp(r(x, c) / beta) / Z(c)`, in place.

    - `forward` maximises the likelihood of rows weighted by `e^(r / beta)`, self-normalised in
      each context: reward-weighted regression. It covers all that the target draws; rewards need
      no derivative and may forbid rows. With N rows a context its gradient is off by order 1 / N.
    - `reverse` lowers `KL(policy || target)` through any gradient estimator; it keeps to what the
      policy can cover, and no row that the policy draws may be forbidden. A policy that is not
      factorised takes `LeaveOneOut`, or a relaxation without a space through which the reward of
      its relaxed rows is differentiated.
    - `exact` lowers the divergence summed over all rows of the space.

    A frozen copy of the target's reference is taken first, so the policy may be the reference.
    Only parameters that require a gradient are trained; see `trainable` and `add_low_rank`.

    Args:
        policy: any policy with `parameters()`.
        target: what is to be learned, of the same space.
        context: `(N, C)`, the contexts learned from; None without.
        method: as above.
        config: steps, rows and learning rate.
        seed: with `stage` decides every random number.
        stage: name in the log and in the seeds; "distill" and the method by default.
        proposal: `forward`: what rows are drawn from; the weights correct for it.
        sampler: `forward`: what draws the weighted rows instead.
        clip: `forward`: a row counts at most as much as so many rows of equal weight, from 1 on;
            None for no limit.
        gradient_estimator: `reverse`: `LeaveOneOut` with the config's samples by default.
        direction: `exact`: which divergence, `KL(target || policy)` or `KL(policy || target)`.
        log: called as `log(metrics, step)`; see `train`.
        checkpoint: where the state is saved and resumed from; see `train`.
        callback: called as `callback(model, step)`; see `train`.

    Returns:
        The losses, by default of each step, in nats: a cross-entropy, the divergence less `log Z`,
        and the divergence.

    Raises:
        ValueError: for options out of range or of another method, a policy of another space, a
            context without an allowed row, a gradient estimator that does not apply.
        TypeError: for a policy that lacks a part.

    Reference:
        Peters and Schaal (2007), "Reinforcement learning by reward-weighted regression"; Peng,
        Kumar, Zhang, Levine (2019), arXiv 1910.00177, equation 10, for `forward`.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> target = RewardWeighted(
        ...     Generator(space), lambda rows, context: 1.0 * rows.sum(-1), 0.5
        ... )
        >>> policy = Generator(space)
        >>> config = DistillConfig(steps=200, learning_rate=0.03)
        >>> distill(policy, target, method="exact", config=config).losses[-1] < 1e-3
        True
    """
    require("distill", policy, "space", "log_prob", "parameters")
    if method == "reverse" or proposal == "policy":
        require("distill", policy, "sample")
    config = config or DistillConfig()
    config.check()
    _check_method(
        method,
        forward={"proposal": proposal != "reference", "sampler": sampler, "clip": clip},
        reverse={"gradient_estimator": gradient_estimator},
        exact={"direction": direction != "forward"},
    )
    job = _job(policy, target, context, config)
    if method == "forward":
        objective = _forward(job, _drawer(job, proposal, sampler), clip)
    elif method == "reverse":
        objective = _reverse(job, gradient_estimator)
    else:
        objective = _exact(job, direction)
    return train(
        objective,
        config,
        seed=seed,
        stage=stage or f"distill {method}",
        log=log,
        checkpoint=checkpoint,
        callback=callback,
    )


@dataclass(frozen=True)
class _Job:
    policy: Policy
    target: RewardWeighted
    context: Tensor | None
    config: DistillConfig

    @property
    def model(self) -> nn.Module:
        """The policy as what is trained."""
        return cast(nn.Module, self.policy)

    def batch(self, step: Step) -> Batch:
        """The contexts of a step, the target with their betas, and the source of the noise."""
        index = batch_index(self.context, step, self.config)
        target, beta = copy.copy(self.target), self.target.beta
        target.beta = beta[index] if isinstance(beta, Tensor) and beta.dim() else beta
        noise = step.generator(device_of(self.policy, self.context))
        return Batch(index, taken(self.context, index), target, noise)


Draw = Callable[[Batch], WeightedSamples]


def _job(
    policy: Policy,
    target: RewardWeighted,
    context: Tensor | None,
    config: DistillConfig,
) -> _Job:
    target = copy.copy(target)
    check_contexts(context)
    if policy.space != target.space:
        raise ValueError(f"policy and target have different spaces: {policy.space}, {target.space}")
    expected = () if context is None else context.shape[:1]
    if isinstance(target.beta, Tensor) and target.beta.shape not in ((), expected):
        got = f"{tuple(target.beta.shape)} for {expected[0] if expected else 'no'} contexts"
        raise ValueError(f"beta must be a number, or one a context; got {got}")
    # the policy may be the reference, or share its parameters
    target.reference = copy.deepcopy(target.reference)
    return _Job(policy, target, context, config)


def _check_method(method: str, **options: dict[str, Any]) -> None:
    if method not in options:
        raise ValueError(f"method must be one of {tuple(options)}, got {method!r}")
    for other, given in options.items():
        for name, value in given.items():
            if other != method and value not in (None, False):
                raise ValueError(f"{name} belongs to method {other!r}, not to {method!r}")


def _drawer(job: _Job, proposal: str, sampler: Sampler | None) -> Draw:
    """The function that draws the rows of `forward`."""
    if proposal not in ("reference", "policy"):
        raise ValueError(f"proposal must be 'reference' or 'policy', got {proposal!r}")
    if sampler is not None and proposal != "reference":
        raise ValueError("a sampler has its own proposal; give one of the two")
    source = job.policy if proposal == "policy" else None

    @torch.no_grad()
    def draw(batch: Batch) -> WeightedSamples:
        target, context, count = batch.target, batch.context, job.config.samples
        if sampler is not None:
            return sampler(target, context, count, generator=batch.noise)
        codes, log_weights = weighted_rows(target, context, count, source, batch.noise)
        alive = (log_weights > -math.inf).any(0)
        if can_inspect(alive) and not alive.all():
            name = context_name(batch.index, tuple((~alive).nonzero()[0].tolist()))
            raise ValueError(f"{name}: all {count} rows drawn are forbidden; draw more")
        return WeightedSamples(codes, normalised(log_weights), count)

    return draw


def _forward(job: _Job, draw: Draw, clip: float | None) -> StepLoss:
    if clip is not None and not clip >= 1:
        raise ValueError(f"clip must be at least 1, got {clip}")

    def loss(step: Step) -> Tensor:
        batch = job.batch(step)
        return regression_loss(job.policy, draw(batch), batch.context, batch.index, clip)

    return StepLoss(job.model, loss)


def _reverse(job: _Job, gradient_estimator: GradientEstimator | None) -> StepLoss:
    samples = job.config.samples
    if samples < 2:
        raise ValueError(f"method 'reverse' needs at least 2 samples, got {samples}")
    # a copy, for what it remembers from step to step goes into the checkpoints
    method = copy.deepcopy(gradient_estimator) or LeaveOneOut(job.policy.space, samples=samples)
    check_method(job.policy, job.target, method)

    def loss(step: Step) -> Tensor:
        return reverse_loss(job.policy, job.batch(step), method, samples=samples)

    return StepLoss(job.model, loss, method)


def _exact(job: _Job, direction: str) -> StepLoss:
    if direction not in ("forward", "reverse"):
        raise ValueError(f"direction must be 'forward' or 'reverse', got {direction!r}")
    table = job.target.exact(job.context)  # once: the reward of a row never changes

    def loss(step: Step) -> Tensor:
        batch = job.batch(step)
        batch_shape = () if batch.index is None else batch.index.shape
        rows = table.codes.view(-1, *[1] * len(batch_shape), table.codes.shape[-1])
        every = rows.expand(-1, *batch_shape, -1)
        log_p = row_log_probs(job.policy, every, batch.context).double()
        wanted = table.log_probs if batch.index is None else table.log_probs[:, batch.index]
        pair = (wanted, log_p) if direction == "forward" else (log_p, wanted)
        divergence = table_kl(*pair)
        if direction == "reverse":
            # the table of a target under rules does not hold the rows that it forbids
            beyond = log_p.detach().logsumexp(0) < -_ROUNDING
            divergence = divergence.masked_fill(beyond, math.inf)
        _check_covered(divergence.detach(), batch.index, direction)
        return divergence.mean()

    return StepLoss(job.model, loss)


def _check_covered(divergence: Tensor, index: Tensor | None, direction: str) -> None:
    if can_inspect(divergence) and divergence.isinf().any():
        name = context_name(index, tuple(divergence.isinf().nonzero()[0].tolist()))
        narrow, wide = ("policy", "target")[:: 1 if direction == "forward" else -1]
        raise ValueError(
            f"{name}: the {narrow} forbids a row that the {wide} draws; KL is infinite"
        )
