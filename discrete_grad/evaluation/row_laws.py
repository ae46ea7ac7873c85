"""The law of a policy's rows in each context that is shown: mode, draws, entropy, marginals."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor

from discrete_grad.evaluation.subject import Subject
from discrete_grad.policies import IndependentPolicy, Policy
from discrete_grad.policies.protocol import has
from discrete_grad.sampling import categorical, seeded, uniform_like
from discrete_grad.space import CategoricalSpace

__all__ = ["DrawnLaw", "IndependentLaw", "RowLaw", "row_laws"]


class RowLaw(Protocol):
    """The law of a row in one context, as `discrete_grad.rules.Law` is one.

    Example:
        >>> law: RowLaw = IndependentLaw(CategoricalSpace.from_sizes((2, 3)), torch.zeros(5))
        >>> law.marginals()[:2]
        tensor([0.5000, 0.5000])
    """

    def mode(self) -> Tensor:
        """Codes `(F,)` of the most likely row."""

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Codes `(count, F)` drawn from the law."""

    def entropy(self) -> Tensor:
        """Entropy `()` in nats."""

    def marginals(self) -> Tensor:
        """Probability `(D,)` of each category."""


class IndependentLaw:
    """The law of independent features with logits `(D,)`.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> IndependentLaw(space, torch.tensor([0.0, 1.0, 0.0, 0.0, 2.0])).mode()
        tensor([1, 2])
    """

    def __init__(self, space: CategoricalSpace, logits: Tensor) -> None:
        self.space, self.logits = space, logits

    def mode(self) -> Tensor:
        """See `RowLaw`."""
        return self.space.argmax(self.logits)

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """See `RowLaw`."""
        repeated = self.logits.expand(count, -1)
        noise = uniform_like(self.space, repeated, generator=generator)
        return categorical(self.space, repeated, noise)

    def entropy(self) -> Tensor:
        """See `RowLaw`."""
        return self.space.entropy(self.logits)

    def marginals(self) -> Tensor:
        """See `RowLaw`."""
        return self.space.softmax(self.logits)


class DrawnLaw:
    """The law of a policy that writes step by step, in one context, known by its draws.

    Args:
        policy: with `space`, `sample` and `log_prob`.
        context: `(C,)`, or None.
        draws: rows by which all but `sample` is estimated, at least 1.

    Example:
        >>> from discrete_grad.policies import AutoregressiveGenerator
        >>> law = DrawnLaw(AutoregressiveGenerator(CategoricalSpace.from_sizes((2, 3))), None)
        >>> law.mode().shape, law.marginals().shape
        (torch.Size([2]), torch.Size([5]))
    """

    def __init__(self, policy: Policy, context: Tensor | None, *, draws: int = 512) -> None:
        self.policy, self.context = policy, context
        self._drawn = policy.sample(context, draws, generator=seeded(0))
        self._log_prob = policy.log_prob(self._drawn, context)

    def mode(self) -> Tensor:
        """The most likely of the draws."""
        return self._drawn[self._log_prob.argmax()]

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """See `RowLaw`."""
        return self.policy.sample(self.context, count, generator=generator)

    def entropy(self) -> Tensor:
        """An unbiased estimate."""
        return -self._log_prob.mean()

    def marginals(self) -> Tensor:
        """Frequencies among the draws."""
        return self.policy.space.one_hot(self._drawn).mean(0)


def row_laws(subject: Subject, policy: Policy, name: str) -> list[RowLaw]:
    """The law of a policy in each shown context.

    Args:
        subject: of a report.
        policy: with `logits(context)`, with `law(context)` as a conditioned one has, or one that
            writes step by step.
        name: of the policy, for messages.

    Raises:
        ValueError: for logits of another shape than the space and the contexts ask for.
    """
    if has(policy, "logits"):
        logits = shown_logits(subject, policy, name)
        return [IndependentLaw(subject.space, one) for one in logits]
    contexts = [None] if subject.contexts is None else list(subject.contexts)
    if has(policy, "law"):
        return [cast(Any, policy).law(context) for context in contexts]
    return [DrawnLaw(policy, context) for context in contexts]


def shown_logits(subject: Subject, policy: Policy, name: str) -> Tensor:
    """Logits `(S, D)` of a policy of independent features in the shown contexts."""
    given = cast(IndependentPolicy, policy).logits(subject.contexts)
    logits: Tensor = torch.atleast_2d(given)
    subject.space.check_logits(logits)
    if len(logits) != len(subject.labels) or logits.dim() != 2:
        expected = f"({len(subject.labels)}, {subject.space.width})"
        raise ValueError(f"logits of {name!r} must be {expected}, got {tuple(logits.shape)}")
    return logits
