"""Learned potential: a network of each prefix, fitted to rows and what they are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from discrete_grad.policies import SequenceNetwork
from discrete_grad.policies.sequence import Reading, feature_order
from discrete_grad.sampling import random_indices, seeded
from discrete_grad.space import CategoricalSpace, ContextSpec
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.config import LoopConfig, require_config
from discrete_grad.training.history import History
from discrete_grad.training.logs import Log, no_log
from discrete_grad.training.loop import Callback, Step, no_callback, train
from discrete_grad.training.step_loss import StepLoss
from discrete_grad.weighting.value_guidance import Potential

__all__ = ["PrefixValue", "PrefixValueConfig", "fit_prefix_value"]

_STEEPEST = 10.0  # nats of error above which the loss goes on as a line


class PrefixValue(nn.Module, Potential[Reading]):
    """A learned `V(x_<=t) / beta`; see `fit_prefix_value`.

    Args:
        space: the features of a row.
        context: the context columns; None for none.
        order: as the policy's.
        backbone: "gru" or "transformer".
        hidden: the width of each layer, all equal.

    Example:
        >>> value = PrefixValue(CategoricalSpace.from_sizes((2, 3)))
        >>> value(torch.tensor([[1, 2], [0, 0]])).shape
        torch.Size([2, 2])
    """

    offset: Tensor

    def __init__(
        self,
        space: CategoricalSpace,
        context: ContextSpec | None = None,
        *,
        order: Sequence[str | int] | None = None,
        backbone: Literal["gru", "transformer"] = "gru",
        hidden: Sequence[int] = (64,),
    ) -> None:
        super().__init__()
        self.space, self.order = space, feature_order(space, order)
        self.network = SequenceNetwork(space, context, backbone=backbone, hidden=hidden)
        self.register_buffer("offset", torch.zeros(()))

    def begin(self, context: Tensor | None = None, *, batch: tuple[int, ...]) -> Reading:
        """See `Potential.begin`."""
        return self.network.begin(context, batch=batch, order=self.order)

    def advance(self, state: Reading, previous: Tensor | None) -> tuple[Tensor, Reading]:
        """See `Potential.advance`."""
        outputs, state = self.network.advance(state, previous)
        return outputs + self.offset, state

    def select(self, state: Reading, rows: Tensor) -> Reading:
        """See `Potential.select`."""
        return state.select(rows)

    def forward(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Values `(..., F)` in nats after each feature of codes `(..., F)`."""
        return self.above_offset(codes, context) + self.offset

    def above_offset(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Values less `offset`, which is what all prefixes have in common: numbers about 0."""
        outputs = self.space.split(self.network(codes, context, order=self.order))
        batch = outputs[0].shape[:-1]
        pairs = zip(outputs, codes.unbind(-1), strict=True)
        taken = [o.gather(-1, c.expand(batch).unsqueeze(-1)) for o, c in pairs]
        return torch.cat(taken, -1)


@dataclass(frozen=True, kw_only=True)
class PrefixValueConfig(LoopConfig):
    """Fit of a `PrefixValue`: Adam, whose learning rate falls to 0 from the first step on.

    Example:
        >>> PrefixValueConfig(steps=50).batch_size
        256
    """

    steps: int = 500
    batch_size: int = 256
    """Rows of each step, drawn with replacement."""
    learning_rate: float = 5e-3
    validate_every: int = 1
    """Steps between two losses in the log and in the history."""
    patience: int = 0
    """Always 0: no rows are held out."""


def prefix_value_loss(values: Tensor, log_weight: Tensor) -> Tensor:
    """Mean of `e^(w - v) + v - 1` for values `(..., F)` and w `(...)`; its slope is bounded.

    From an error `w - v` of 10 nats on, the exponential goes on as a line.
    """
    error = log_weight.unsqueeze(-1) - values
    beyond = (error - _STEEPEST).clamp_min(0)
    grown = (error - beyond).exp() * (1 + beyond)
    return (grown + values - 1).mean()


def fit_prefix_value(
    value: PrefixValue,
    codes: Tensor,
    log_weight: Tensor,
    *,
    context: Tensor | None = None,
    config: PrefixValueConfig | None = None,
    seed: int = 0,
    stage: str = "prefix value",
    log: Log = no_log,
    checkpoint: Checkpoint | None = None,
    callback: Callback = no_callback,
) -> History:
    """Fit `V / beta = log E[e^w | prefix]`, w = r / beta, to rows drawn from the policy.

    The loss `e^(w - v) + v` is convex, and least where v is that value; a squared error would find
    `E[w | prefix]`. It is a Poisson regression, `e^v - e^w v`, whose gradient is divided by e^v:
    prefixes count alike, however many nats lie between their values, where Poisson regression has
    next to no gradient at all but the best of them.

    Args:
        value: trained in place.
        codes: `(..., F)`, drawn from the policy that is to be guided or twisted.
        log_weight: `(...)`, w; `-inf` for a forbidden row.
        context: `(..., C)`, broadcast against the rows; None without a context.
        config: a `discrete_grad.weighting.prefix_value.PrefixValueConfig`: steps, rows and learning
            rate.
        seed: decides the batches.
        stage: name in the log.
        log: called as `log(metrics, step)`; see `train`.
        checkpoint: where the state is saved and resumed from; see `train`.
        callback: called as `callback(model, step)`; see `train`.

    Returns:
        The losses, by default of each step, in nats: 0 if all prefixes had the value `log E[e^w]`.

    Raises:
        ValueError: for shapes that do not fit, NaN or `+inf`, or rows that are all forbidden.

    Reference:
        Zhao et al. (2024), arXiv 2404.17546, section 4, on learning twists.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> rows = space.enumerate()
        >>> config, weight = PrefixValueConfig(steps=50), rows.sum(-1).float()
        >>> losses = fit_prefix_value(PrefixValue(space), rows, weight, config=config).losses
        >>> losses[-1] < losses[0]
        True
    """
    config = PrefixValueConfig() if config is None else config
    require_config("config of fit_prefix_value", config, PrefixValueConfig)
    config.check()
    _check_rows(codes, log_weight)
    if context is not None:
        context = context.expand(*codes.shape[:-1], -1).flatten(0, -2)
    codes, weight = codes.flatten(0, -2), log_weight.flatten().double()
    offset = weight.logsumexp(0) - math.log(len(weight))
    value.offset.copy_(offset)
    target = (weight - offset).to(value.network.null.dtype)
    # drawn at once, so that a fit that is resumed goes on with the same rows
    batches = random_indices(len(codes), (config.steps, config.batch_size), generator=seeded(seed))

    def loss(step: Step) -> Tensor:
        index = batches[step.index, step.rank :: step.world].to(codes.device)
        values = value.above_offset(codes[index], None if context is None else context[index])
        return prefix_value_loss(values, target[index])

    return train(
        StepLoss(value, loss),
        config,
        seed=seed,
        stage=stage,
        log=log,
        checkpoint=checkpoint,
        callback=callback,
    )


def _check_rows(codes: Tensor, log_weight: Tensor) -> None:
    if log_weight.shape != codes.shape[:-1]:
        expected, got = tuple(codes.shape[:-1]), tuple(log_weight.shape)
        raise ValueError(f"log_weight must be {expected}, one a row, got {got}")
    wrong = ~(log_weight < math.inf)
    if wrong.any():
        row = tuple(wrong.nonzero()[0].tolist())
        found = float(log_weight[row])
        raise ValueError(f"log_weight must be numbers or -inf, got {found} for row {row}")
    if not (log_weight > -math.inf).any():
        raise ValueError(f"all {log_weight.numel()} rows are forbidden; one must not be")
