"""A reference reweighted by the exponential of a reward, exact where rows can be enumerated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from discrete_grad.policies import Policy
from discrete_grad.policies.protocol import (
    POLICY_PARTS,
    batch_of,
    device_of,
    has,
    require,
    row_log_probs,
)
from discrete_grad.sampling import uniform
from discrete_grad.space import CategoricalSpace
from discrete_grad.weighting import roots
from discrete_grad.weighting.draws import inverse_draw
from discrete_grad.weighting.reward import Reward, reward_tensor, rewards_of
from discrete_grad.weighting.tilt import (
    check_beta,
    log_partition,
    scaled_reward,
    table_entropy,
    table_expectation,
    table_kl,
    tilt,
)

__all__ = ["ExactTilt", "RewardWeighted"]


@dataclass(frozen=True)
class ExactTilt:
    """Every possible row with its exact tilted probability, in float64.

    Args:
        codes: all R rows, or all that are allowed, `(R, F)`.
        log_reference: log-probability `(R, *batch)` under the reference, in nats.
        reward: `(R, *batch)`.
        beta: above 0, a number or `(*batch)`.

    Raises:
        ValueError: where the tilt does not exist; see `log_partition`.

    Example:
        >>> log_p, reward = torch.tensor([0.6, 0.4]).double().log(), torch.tensor([2.0, 1.0])
        >>> exact = ExactTilt(torch.tensor([[0], [1]]), log_p, reward, 1.0)
        >>> exact.log_z.exp(), exact.probs
        (tensor(5.5207, dtype=torch.float64), tensor([0.8030, 0.1970], dtype=torch.float64))
    """

    codes: Tensor
    log_reference: Tensor
    reward: Tensor
    beta: float | Tensor
    log_z: Tensor = field(init=False)
    """`(*batch)`, in nats; infinite where it is above the largest float64."""
    log_probs: Tensor = field(init=False)
    """`(R, *batch)`, in nats."""

    def __post_init__(self) -> None:
        log_z = log_partition(self.log_reference, self.reward, self.beta)
        # frozen, so set past its own guard
        object.__setattr__(self, "log_z", log_z)
        object.__setattr__(self, "log_probs", tilt(self.log_reference, self.reward, self.beta))

    def at(self, beta: float | Tensor) -> ExactTilt:
        """The same table at another beta."""
        return replace(self, beta=beta)

    @property
    def probs(self) -> Tensor:
        """`(R, *batch)`."""
        return self.log_probs.exp()

    @property
    def mean_reward(self) -> Tensor:
        """`E[r]` `(*batch)` under the tilt."""
        return self.expectation(self.reward)

    @property
    def entropy(self) -> Tensor:
        """`(*batch)`, in nats."""
        return table_entropy(self.log_probs)

    @property
    def kl(self) -> Tensor:
        """`KL(tilt || reference)` `(*batch)`, in nats."""
        return table_kl(self.log_probs, self.log_reference)

    @property
    def mode(self) -> Tensor:
        """The most likely row `(*batch, F)` under the tilt, the first among equals."""
        return self.codes[self.log_probs.argmax(0)]

    def expectation(self, values: Tensor) -> Tensor:
        """`E[values]` `(*batch)` of values `(R, *batch)` under the tilt."""
        return table_expectation(self.log_probs, values)

    def sample(self, count: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        """Codes `(count, *batch, F)`, exact and independent."""
        shape = (count, *self.log_probs.shape[1:])
        noise = uniform(shape, device=self.codes.device, generator=generator)
        return self.codes[inverse_draw(self.log_probs, noise)]

    def beta_for_kl(self, target: float | Tensor) -> Tensor:
        """The beta `(*batch)` at which `kl` is the target; see the function of this name."""
        return roots.beta_for_kl(self.log_reference, self.reward, target)

    def beta_for_reward(self, target: float | Tensor) -> Tensor:
        """The beta `(*batch)` at which `mean_reward` is the target; see the function."""
        return roots.beta_for_reward(self.log_reference, self.reward, target)


class RewardWeighted:
    """`ref(x | c) exp(r(x, c) / beta) / Z(c)`: the target of every sampler of this room.

    Args:
        reference: any policy.
        reward: codes `(S, *batch, F)`, context -> `(S, *batch)`; `-inf` forbids a row.
        beta: above 0, in the reward's unit; a number, or one a context `(*batch)`.
        max_rows: rows that may be enumerated.
        chunk: rows times contexts that reference and reward are given at once.

    Raises:
        ValueError: for a beta that is not above 0.
        TypeError: for a reference without `space`, `log_prob` or `sample`.

    Example:
        >>> from discrete_grad.policies import Generator
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> target = RewardWeighted(
        ...     Generator(space), lambda codes, context: codes.sum(-1).double(), 0.5
        ... )
        >>> exact = target.exact()
        >>> exact.mode, exact.mean_reward
        (tensor([1, 2]), tensor(2.7317, dtype=torch.float64))
    """

    def __init__(
        self,
        reference: Policy,
        reward: Reward,
        beta: float | Tensor,
        *,
        max_rows: int = 1_000_000,
        chunk: int = 2**16,
    ) -> None:
        check_beta(beta)
        require("a reward-weighted distribution", reference, *POLICY_PARTS)
        self.reference = reference
        self.reward = reward
        self.beta = beta
        self.max_rows = max_rows
        self.chunk = chunk

    @property
    def space(self) -> CategoricalSpace:
        """The features of a row."""
        return self.reference.space

    def rewards(self, rows: Tensor, context: Tensor | None = None) -> Tensor:
        """`r` `(S, *batch)` in float64, of codes `(S, *batch, F)` or flat rows; NaN is an error."""
        return rewards_of(self.reward, rows, context)

    def log_density(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """`log ref(x) + r(x) / beta` `(S, *batch)`: the log-probability but for log Z."""
        log_p = row_log_probs(self.reference, codes, context).double()
        log_p = log_p + scaled_reward(self.rewards(codes, context), self.beta)
        return log_p

    @torch.no_grad()
    def exact(self, context: Tensor | None = None) -> ExactTilt:
        """Every row with its probability; of a reference under rules, every row they allow.

        Raises:
            ValueError: for more than `max_rows` of them, or where no tilt exists.
        """
        whole: Any = self.reference if has(self.reference, "enumerate") else self.space
        codes = whole.enumerate(max_rows=self.max_rows, device=device_of(self.reference, context))
        batch = batch_of(context)
        log_p, reward = [], []
        for part in codes.split(max(1, self.chunk // max(1, math.prod(batch)))):
            rows = part.view(-1, *[1] * len(batch), part.shape[-1]).expand(-1, *batch, -1)
            log_p.append(row_log_probs(self.reference, rows, context).double())
            reward.append(reward_tensor(self.reward(rows, context), rows).double())
        return ExactTilt(codes, torch.cat(log_p), torch.cat(reward), self.beta)

    def log_prob(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Exact log-probability `(S, *batch)` in nats, so a tilt is a reference in turn."""
        return self.log_density(codes, context) - self.exact(context).log_z

    def sample(
        self,
        context: Tensor | None = None,
        count: int = 1,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Codes `(count, *batch, F)`, exact and independent, by enumeration."""
        return self.exact(context).sample(count, generator=generator)
