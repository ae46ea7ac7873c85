"""Regression on weighted rows: the likelihood of what is worth a lot."""

from __future__ import annotations

import math

from torch import Tensor

from discrete_grad.policies import Policy
from discrete_grad.policies.protocol import row_log_probs
from discrete_grad.reinforcement._contexts import context_name
from discrete_grad.space import can_inspect
from discrete_grad.weighting import WeightedSamples
from discrete_grad.weighting.draws import normalised

__all__: list[str] = []


def regression_loss(
    policy: Policy,
    samples: WeightedSamples,
    context: Tensor | None,
    index: Tensor | None = None,
    clip: float | None = None,
) -> Tensor:
    """Cross-entropy `-sum w log p` of weighted rows under a policy, the mean over the batch."""
    weights = clipped(samples.log_weights, clip).exp()
    log_p = row_log_probs(policy, samples.codes, context).double()
    lost = (weights > 0) & (log_p == -math.inf)
    if can_inspect(lost) and lost.any():
        row, *place = lost.nonzero()[0].tolist()
        codes = samples.codes[(row, *place)].tolist()
        name = context_name(index, tuple(place))
        raise ValueError(f"{name}: the target draws row {codes}, which the policy forbids")
    # a row without weight may be one that the policy forbids: 0 * -inf counts as 0
    return -(weights * log_p.masked_fill(weights == 0, 0)).sum(0).mean()


def clipped(log_weights: Tensor, clip: float | None) -> Tensor:
    """Normalised log-weights `(N, *batch)`, none above `clip / N` before they are normalised again.

    Reference:
        Ionides (2008), "Truncated importance sampling".
    """
    if clip is None:
        return log_weights
    return normalised(log_weights.clamp_max(math.log(clip / len(log_weights))))
