"""Distribution of rows given a context that is reweighted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from discrete_grad.policies import Generator
from discrete_grad.sampling import categorical, uniform_like
from discrete_grad.space import CategoricalSpace
from discrete_grad.weighting.tilt import check_reward

__all__ = ["AutoregressiveReference", "Factorised", "Reference", "Reward", "as_reference"]

Reward = Callable[[Tensor, Tensor | None], Tensor]
"""`(rows (..., *batch, F), context (*batch, C) or None) -> (..., *batch)`; an estimator is one."""


@runtime_checkable
class Reference(Protocol):
    """A distribution of rows given a context: what every sampler of this room starts from.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> isinstance(Factorised(Generator(None, space)), Reference)
        True
    """

    @property
    def space(self) -> CategoricalSpace:
        """The features of a row."""

    def log_prob(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-probability `(..., *batch)` in nats of codes `(..., *batch, F)`."""

    def sample(
        self,
        context: Tensor | None = None,
        count: int = 1,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Codes `(count, *batch, F)` for a context `(*batch, C)`, independent of each other."""


@runtime_checkable
class AutoregressiveReference(Reference, Protocol):
    """A reference that draws one feature after another.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> isinstance(Factorised(Generator(None, space)), AutoregressiveReference)
        True
    """

    @property
    def order(self) -> tuple[int, ...]:
        """The features in the order in which they are drawn."""

    def conditional(self, prefix_codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-probabilities `(..., *batch, K)` of the next feature after `(..., *batch, t)`.

        The prefix holds the first t features of `order`, and K is the size of `order[t]`.
        """


class Factorised:
    """A generator with independent features as a reference, autoregressive in any order.

    Args:
        generator: context -> logits `(..., D)`.
        space: the features of a row; by default those of the generator.
        order: the features in the order in which they are drawn; by default the space's.

    Raises:
        ValueError: for an order that is none of the features.

    Example:
        >>> reference = Factorised(Generator(None, CategoricalSpace.from_sizes((2, 4))))
        >>> reference.log_prob(torch.tensor([1, 3])).exp()
        tensor(0.1250, dtype=torch.float64, grad_fn=<ExpBackward0>)
        >>> reference.conditional(torch.tensor([1])).shape
        torch.Size([4])
    """

    def __init__(
        self,
        generator: Callable[[Tensor | None], Tensor],
        space: CategoricalSpace | None = None,
        *,
        order: tuple[int, ...] | None = None,
    ) -> None:
        self.space: CategoricalSpace = _space_of(generator) if space is None else space
        self.order = tuple(range(self.space.num_features)) if order is None else tuple(order)
        if sorted(self.order) != list(range(self.space.num_features)):
            raise ValueError(f"order must hold 0 to {self.space.num_features - 1}, got {order}")
        self.generator = generator

    def logits(self, context: Tensor | None = None) -> Tensor:
        """Logits `(*batch, D)` in float64."""
        logits = self.generator(context)
        self.space.check_logits(logits)
        return logits.double()

    def log_prob(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-probability; see `Reference.log_prob`."""
        return self.space.log_prob(self.logits(context), codes)

    def sample(
        self,
        context: Tensor | None = None,
        count: int = 1,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Codes `(count, *batch, F)`; see `Reference.sample`."""
        logits = self.logits(context)
        logits = logits.expand(count, *logits.shape)
        noise = uniform_like(self.space, logits, generator=generator)
        return categorical(self.space, logits, noise)

    def conditional(self, prefix_codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-probabilities of the next feature, whatever came before."""
        feature = self.order[prefix_codes.shape[-1]]
        log_p = self.space.split(self.space.log_softmax(self.logits(context)))[feature]
        return log_p.expand(*prefix_codes.shape[:-1], -1)


def as_reference(model: Reference | Generator) -> Reference:
    """The model itself, or a generator made a reference.

    Raises:
        TypeError: for a model with neither logits nor `log_prob` and `sample`.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> as_reference(Generator(None, space)).sample(None, 5).shape
        torch.Size([5, 2])
    """
    if isinstance(model, Generator):
        return Factorised(model)
    if not isinstance(model, Reference):
        wanted = "a Generator, or a model with space, log_prob and sample"
        raise TypeError(f"a reference is {wanted}; got {type(model).__name__}")
    return model


def _space_of(generator: Callable[[Tensor | None], Tensor]) -> CategoricalSpace:
    if not isinstance(generator, Generator):
        raise TypeError(f"{type(generator).__name__} needs a space; a Generator has its own")
    return generator.space


def device_of(reference: Reference, context: Tensor | None) -> torch.device:
    """Space of the rows."""
    if context is not None:
        return context.device
    module = reference.generator if isinstance(reference, Factorised) else reference
    parameters = module.parameters() if isinstance(module, nn.Module) else iter(())
    first = next(parameters, None)
    return torch.device("cpu") if first is None else first.device


def batch_of(context: Tensor | None) -> tuple[int, ...]:
    """The leading shape of a context `(*batch, C)`; `()` without one."""
    return () if context is None else tuple(context.shape[:-1])


def rewards_of(reward: Reward, rows: Tensor, context: Tensor | None) -> Tensor:
    """Rewards `(S, *batch)` in float64 of rows `(S, *batch, ...)`; ValueError for another shape."""
    values = reward(rows, context)
    if values.shape != rows.shape[:-1]:
        got = f"{tuple(values.shape)} for rows {tuple(rows.shape)}"
        raise ValueError(f"a reward must be {tuple(rows.shape[:-1])}, got {got}")
    check_reward(values)
    return values.double()
