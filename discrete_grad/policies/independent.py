"""A distribution of rows whose features are independent given the context."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TypeGuard

import torch
from torch import Tensor

from discrete_grad.policies.protocol import has
from discrete_grad.sampling import categorical, uniform_like
from discrete_grad.space import CategoricalSpace

__all__ = ["IndependentPolicy"]


@dataclass(frozen=True)
class _Written:
    """Log-probabilities `(*batch, K)` of every feature in float64, and the place of the next."""

    log_probs: tuple[Tensor, ...]
    position: int = 0


class IndependentPolicy(ABC):
    """A distribution of rows whose features are independent given the context.

    Whoever has logits can be sampled, reweighted, trained and reported on. All but the logits
    themselves is in float64.

    Example:
        >>> class Uniform(IndependentPolicy):
        ...     space = CategoricalSpace.from_sizes((2, 4))
        ...     def logits(self, context=None):
        ...         return torch.zeros(self.space.width)
        >>> Uniform().log_prob(torch.tensor([1, 3])).exp()
        tensor(0.1250, dtype=torch.float64)
        >>> Uniform().sample(count=5).shape
        torch.Size([5, 2])
    """

    space: CategoricalSpace

    @abstractmethod
    def logits(self, context: Tensor | None = None) -> Tensor:
        """Logits `(*batch, D)` for a context `(*batch, C)`; `(D,)` without one."""

    @property
    def order(self) -> tuple[int, ...]:
        """The features in the order of the space, which is that of `advance`."""
        return tuple(range(self.space.num_features))

    def log_prob(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-probability `(..., *batch)` in nats of codes `(..., *batch, F)`, in float64."""
        return self.space.log_prob(self._wide_logits(context), codes)

    @torch.no_grad()
    def sample(
        self,
        context: Tensor | None = None,
        count: int = 1,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Codes `(count, *batch, F)` of rows drawn exactly from the distribution.

        Args:
            context: `(*batch, C)`; None without a context.
            count: rows for each element of the batch, at least 1.
            generator: source of the noise.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        logits = self._wide_logits(context)
        logits = logits.expand(count, *logits.shape)
        noise = uniform_like(self.space, logits, generator=generator)
        return categorical(self.space, logits, noise)

    def begin(
        self,
        context: Tensor | None = None,
        *,
        attributes: Tensor | None = None,
        known: Tensor | None = None,
        batch: tuple[int, ...],
    ) -> _Written:
        """State before the first feature; see `SequentialPolicy.begin`.

        Raises:
            ValueError: for attributes, on which the features cannot depend.
        """
        if attributes is not None or known is not None:
            raise ValueError(f"{type(self).__name__} takes no attributes")
        log_probs = self.space.log_softmax(self._wide_logits(context))
        parts = self.space.split(log_probs.expand(*batch, -1))
        return _Written(tuple(parts))

    def advance(self, state: _Written, previous: Tensor | None) -> tuple[Tensor, _Written]:
        """Log-probabilities of the next feature, whatever came before."""
        return state.log_probs[state.position], replace(state, position=state.position + 1)

    def select(self, state: _Written, rows: Tensor) -> _Written:
        """The state of other rows of its batch; see `SequentialPolicy.select`."""
        taken = tuple(part.flatten(0, -2)[rows] for part in state.log_probs)
        return replace(state, log_probs=taken)

    def _wide_logits(self, context: Tensor | None) -> Tensor:
        logits = self.logits(context)
        self.space.check_logits(logits)
        return logits.double()


def is_independent(policy: object) -> TypeGuard[IndependentPolicy]:
    """Whether the features of a policy's rows are independent: it has `logits`.

    Example:
        >>> is_independent(torch.nn.Linear(2, 2))
        False
    """
    return has(policy, "logits")
