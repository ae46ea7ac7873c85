"""A distribution of rows that is read and written feature by feature."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from discrete_grad.gradient import Relaxation
from discrete_grad.sampling import categorical, uniform_like
from discrete_grad.space import CategoricalSpace

__all__ = ["SequentialPolicy", "log_prob_by_steps"]

State = TypeVar("State")

STEP_PARTS = ("order", "begin", "advance", "select")
"""Parts that a policy needs for its rows to be written feature by feature."""


class SequentialPolicy(ABC, Generic[State]):
    """A distribution of rows that is read and written feature by feature.

    Whoever says what comes next, given a state that remembers what came before, can be sampled,
    softly decoded and guided.

    Example:
        >>> from discrete_grad.policies.autoregressive import AutoregressiveGenerator
        >>> issubclass(AutoregressiveGenerator, SequentialPolicy)
        True
    """

    space: CategoricalSpace
    order: tuple[int, ...]
    """Positions of the features, in the order in which they are read."""

    @abstractmethod
    def begin(
        self,
        context: Tensor | None = None,
        *,
        attributes: Tensor | None = None,
        known: Tensor | None = None,
        batch: tuple[int, ...],
    ) -> State:
        """State before the first feature.

        Args:
            context: `(..., C)`, broadcast to the batch; None without a context.
            attributes: `(..., A)`, broadcast to the batch; None where nothing is known.
            known: booleans `(...)`: where the attributes count; None for everywhere.
            batch: the shape of the rows to come.
        """

    @abstractmethod
    def advance(self, state: State, previous: Tensor | None) -> tuple[Tensor, State]:
        """Log-probabilities `(*batch, K)` of the next feature, and the state after it.

        Args:
            state: from `begin` or the last call.
            previous: the last feature: codes `(*batch)`, or hard or soft `(*batch, K)`; None at
                the first.
        """

    @abstractmethod
    def select(self, state: State, rows: Tensor) -> State:
        """The state of other rows of its batch, as where particles are resampled.

        Args:
            state: from `begin` or `advance`.
            rows: numbers of rows of the flattened batch, in the shape of the new one.
        """

    @abstractmethod
    def log_prob(
        self, codes: Tensor, context: Tensor | None = None, attributes: Tensor | None = None
    ) -> Tensor:
        """Log-probability `(...)` in nats of codes `(..., F)`."""

    def conditional(
        self, prefix_codes: Tensor, context: Tensor | None = None, attributes: Tensor | None = None
    ) -> Tensor:
        """Log-probabilities `(..., K)` of the feature that comes after a prefix.

        Args:
            prefix_codes: codes `(..., t)` of the first t < F features, in the policy's order.
            context: `(..., C)`.
            attributes: `(..., A)`; None where nothing is known.

        Raises:
            ValueError: for a prefix of all features or more, or codes out of range.
        """
        if prefix_codes.shape[-1] >= len(self.order):
            wanted = f"fewer than {len(self.order)} features"
            raise ValueError(f"a prefix must have {wanted}, got {tuple(prefix_codes.shape)}")
        if read := self.order[: prefix_codes.shape[-1]]:
            space = self.space
            CategoricalSpace({space.names[i]: space.sizes[i] for i in read}).check_codes(
                prefix_codes
            )
        batch = _broadcast(prefix_codes.shape[:-1], context, attributes)
        state = self.begin(context, attributes=attributes, batch=batch)
        log_probs, state = self.advance(state, None)
        for code in prefix_codes.unbind(-1):
            log_probs, state = self.advance(state, code.expand(batch))
        return log_probs

    @torch.no_grad()
    def sample(
        self,
        context: Tensor | None = None,
        count: int = 1,
        *,
        attributes: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Codes `(count, *batch, F)` of rows drawn exactly from the distribution.

        Args:
            context: `(*batch, C)`; None without a context.
            count: rows for each element of the batch, at least 1.
            attributes: `(*batch, A)`; None where nothing is known.
            generator: source of the noise.
        """
        uniform: Tensor | None = None

        def choose(position: int, log_probs: Tensor) -> Tensor:
            nonlocal uniform
            if uniform is None:
                # for all features at once, a column each, as `IndependentPolicy.sample` draws it
                uniform = uniform_like(self.space, log_probs, generator=generator)
            one = CategoricalSpace.from_sizes((log_probs.shape[-1],))
            feature = self.order[position]
            return categorical(one, log_probs, uniform[..., feature : feature + 1]).squeeze(-1)

        return torch.stack(self._written(context, count, attributes, choose), -1)

    def relaxed(
        self,
        context: Tensor | None,
        count: int,
        relaxation: Relaxation,
        *,
        attributes: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Flat rows `(count, *batch, D)` through which gradients flow.

        Each feature's hard or soft row is the input of the next step, so a feature's gradient
        reaches the features before it. The law of hard rows is exactly the policy's.

        Args:
            context: `(*batch, C)`; None without a context.
            count: rows for each element of the batch, at least 1.
            relaxation: made without a space; draws one feature at a time.
            attributes: `(*batch, A)`; None where nothing is known.
            generator: source of the noise.

        Raises:
            ValueError: for a relaxation of a whole space.
        """
        if relaxation.space is not None:
            name = type(relaxation).__name__
            raise ValueError(
                f"features are drawn one at a time: {name} must have no space, got "
                f"{relaxation.space}"
            )

        def choose(position: int, log_probs: Tensor) -> Tensor:
            block: Tensor = relaxation(log_probs, generator=generator)
            return block

        return torch.cat(self._written(context, count, attributes, choose), -1)

    def _written(
        self,
        context: Tensor | None,
        count: int,
        attributes: Tensor | None,
        choose: Callable[[int, Tensor], Tensor],
    ) -> list[Tensor]:
        """The choice made for each feature, in the order of the space."""
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        batch = (count, *_broadcast(torch.Size(), context, attributes))
        state = self.begin(context, attributes=attributes, batch=batch)
        parts: dict[int, Tensor] = {}  # so written, the compiler can read it
        previous = None
        for position, feature in enumerate(self.order):
            log_probs, state = self.advance(state, previous)
            previous = parts[feature] = choose(position, log_probs)
        return [parts[feature] for feature in sorted(parts)]


def log_prob_by_steps(
    policy: SequentialPolicy[State],
    codes: Tensor,
    context: Tensor | None = None,
    attributes: Tensor | None = None,
) -> Tensor:
    """Log-probability `(...)` in nats of codes `(..., F)`, one feature after another.

    Example:
        >>> from discrete_grad.policies.autoregressive import AutoregressiveGenerator
        >>> model = AutoregressiveGenerator(CategoricalSpace.from_sizes((2, 3)))
        >>> codes = model.space.enumerate()
        >>> torch.allclose(log_prob_by_steps(model, codes), model.log_prob(codes))
        True
    """
    policy.space.check_codes(codes)
    batch = _broadcast(codes.shape[:-1], context, attributes)
    state = policy.begin(context, attributes=attributes, batch=batch)
    previous, parts = None, []
    for feature in policy.order:
        log_probs, state = policy.advance(state, previous)
        previous = codes[..., feature].expand(batch)
        parts.append(log_probs.gather(-1, previous.unsqueeze(-1)))
    return torch.cat(parts, -1).sum(-1)


def _broadcast(rows: torch.Size, context: Tensor | None, attributes: Tensor | None) -> torch.Size:
    vectors = [t.shape[:-1] for t in (context, attributes) if t is not None]
    shape: torch.Size = torch.broadcast_shapes(rows, *vectors)
    return shape
