"""The one abstraction: a gradient estimator differentiates `E[f(row)]` in the logits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from discrete_grad.gradient._numbers import as_number
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.rules import Rules
from discrete_grad.sampling import categorical, uniform_like
from discrete_grad.space import CategoricalSpace

__all__ = [
    "Function",
    "GradientEstimator",
    "Pullback",
    "Relaxation",
    "SelfSamplingFunction",
    "on_codes",
]

Function = Callable[[Tensor], Tensor]
"""Function that is averaged: flat rows `(samples, *batch, D)` -> values `(samples, *batch)`."""


ClosedForm = Literal["straight_through", "reinmax", "gumbel_softmax"]
"""Name of a pullback for which layers and kernels have a faster path; they look at nothing else."""


@dataclass(frozen=True)
class Pullback:
    """A relaxation's gradient in closed form, given the row drawn from `softmax(logits)`.

    Example:
        >>> from discrete_grad import StraightThrough
        >>> pi, slopes = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])
        >>> pull = StraightThrough().pullback()
        >>> pull.gradient(pi.log(), pi, torch.tensor([0]), slopes, None)
        tensor([[ 0.2500, -0.2500]])
    """

    gradient: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None], Tensor]
    """Of n features of equal size: logits, softmax(logits) `(..., n, K)`, codes `(..., n)`, df/dx
    `(..., n, K)` and noise -> `(..., n, K)`, the gradient in the logits."""
    noisy: bool = False
    """Whether the noise is standard exponential numbers `(..., n, K)`; else it is None."""
    form: ClosedForm | None = None
    """Name of the gradient, if it has one: that of ReinMax is the one at tau = 1."""
    tau: float = 1.0  # of a gradient with a name


class GradientEstimator(nn.Module, ABC):
    """A method that differentiates `E[f(x)]`, x ~ Categorical(logits) per feature.

    Args:
        space: the features; None means one feature over the whole last dimension.
        samples: rows drawn per element of the batch; `expectation` averages over them.

    Raises:
        ValueError: for fewer samples than the method needs.

    Example:
        >>> from discrete_grad import LeaveOneOut
        >>> issubclass(LeaveOneOut, GradientEstimator)
        True
    """

    min_samples = 1
    facts: ClassVar[Facts]
    """Facts that the method declares of itself; every class that can be made has them."""

    rules: Rules | None = None
    """Under rules, which not every method takes, every row obeys, and `E[f(x)]` is that of the law
    of independent features given that the row obeys, `rules.condition(logits)`."""

    def __init__(self, space: CategoricalSpace | None = None, *, samples: int = 1) -> None:
        super().__init__()
        if space is not None and not isinstance(space, CategoricalSpace):
            raise TypeError(f"space must be a CategoricalSpace or None, got {space!r}")
        if type(samples) is not int or samples < self.min_samples:  # a bool is an int, too
            name = type(self).__name__
            raise ValueError(f"{name} needs samples >= {self.min_samples}, got {samples!r}")
        self.space = space
        self.samples = samples

    @abstractmethod
    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]`; `backward()` gives this method's gradient.

        Args:
            f: maps flat rows `(samples, *batch, D)` to values `(samples, *batch)`.
            logits: `(*batch, D)`; `-inf` forbids a category.
            generator: source of the noise; None uses the global one.

        Returns:
            `(*batch)`, differentiable in the logits and in f's own parameters.

        Raises:
            ValueError: for logits that do not fit the space, a feature masked whole, or an f whose
                values have another shape.
        """

    def cost(self, space: CategoricalSpace) -> Cost:
        """Work of one call for one element of the batch."""
        return self.facts.cost(self, space)

    def space_of(self, logits: Tensor) -> CategoricalSpace:
        """The space, after checking that the logits fit it."""
        if self.space is not None:
            space = self.space
        elif isinstance(logits, Tensor) and logits.dim() and logits.shape[-1]:
            space = CategoricalSpace({"x": logits.shape[-1]})
        else:
            raise ValueError("logits must be (..., K) with K >= 1")
        space.check_logits(logits)
        return space

    def extra_repr(self) -> str:
        """The hyperparameters, for `repr`."""
        shown = {k: v for k, v in vars(self).items() if k[0] != "_" and isinstance(v, (int, float))}
        del shown["training"]
        rules = [] if self.rules is None else [f"{len(self.rules.rules)} rules"]
        return ", ".join([str(self.space), *(f"{k}={v}" for k, v in shown.items()), *rules])


class SelfSamplingFunction(ABC):
    """An f that may draw its own row from a relaxation, without ever building it.

    `Relaxation.expectation` calls `sample` instead of handing over rows.

    Example:
        >>> from discrete_grad import CategoricalSpace, StraightThrough
        >>> class First(SelfSamplingFunction):
        ...     def __call__(self, rows):
        ...         return rows[..., 0]
        ...     def sample(self, logits, relaxation, *, generator=None):
        ...         return self(relaxation(logits, generator=generator))
        >>> method = StraightThrough(CategoricalSpace.from_sizes((1, 2)))
        >>> method.expectation(First(), torch.zeros(3))
        tensor(1.)
    """

    @abstractmethod
    def __call__(self, rows: Tensor) -> Tensor:
        """Flat rows `(samples, *batch, D)` -> values `(samples, *batch)`."""

    @abstractmethod
    def sample(
        self, logits: Tensor, relaxation: Relaxation, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Values `(samples, *batch)` of rows that the relaxation draws from `(samples, *batch, D)`.

        In law, value and gradient `self(relaxation(logits, generator=generator))`.
        """


class Relaxation(GradientEstimator, ABC):
    """A gradient estimator that is also a drop-in layer, `logits -> flat row`.

    Example:
        >>> class MeanField(Relaxation):
        ...     def forward(self, logits, *, generator=None):
        ...         return self.space_of(logits).softmax(logits)
        >>> MeanField().expectation(lambda rows: rows[..., 0], torch.zeros(2))
        tensor(0.5000)
    """

    @abstractmethod
    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw one flat row `(..., D)` for logits `(..., D)`, differentiable in the logits."""

    if TYPE_CHECKING:  # nn.Module declares a call of anything that gives anything
        __call__ = forward

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Average f over `samples` rows drawn by `forward`; see `GradientEstimator.expectation`."""
        # before the sample dimension: messages show the user's own shape
        self.space_of(logits)
        if self.rules is not None:
            self.rules.check_masks(logits)
        repeated = logits.expand(self.samples, *logits.shape)
        if isinstance(f, SelfSamplingFunction):
            values = f.sample(repeated, self, generator=generator)
            return _checked(values, repeated).mean(0)
        return evaluate(f, self(repeated, generator=generator)).mean(0)

    def pullback(self) -> Pullback | None:
        """The gradient in closed form, for layers that never build the row.

        None, as here, for a relaxation whose row is not drawn from `softmax(logits)`, whose
        gradient is known only through its surrogate, or whose temperature is learned.
        """
        return None


def space_under(rules: Rules | None, space: CategoricalSpace | None) -> CategoricalSpace | None:
    """The space, which is that of the rules if there are any.

    Raises:
        ValueError: for rules of another space, or that depend on a context.
    """
    if rules is None:
        return space
    if not isinstance(rules, Rules):
        raise TypeError(f"rules must be Rules(space, [...]) or None, got {rules!r}")
    if space is not None and space != rules.space:
        raise ValueError(f"the space is {space}, that of the rules {rules.space}")
    if rules.context is not None:
        raise ValueError("a gradient estimator knows no context, on which these rules depend")
    return rules.space


def draw(
    space: CategoricalSpace, logits: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Codes `(..., F)` and the hard row `(..., D)` of one draw from `softmax(logits)`."""
    codes = categorical(space, logits, uniform_like(space, logits, generator=generator))
    return codes, space.one_hot(codes, dtype=logits.dtype)


def straight_through(hard: Tensor, surrogate: Tensor) -> Tensor:
    """The hard row in the forward pass, the surrogate's gradient in the backward pass.

    `surrogate - surrogate.detach()` comes first: it is exactly 0, whatever the surrogate's values,
    so the result is exactly one-hot. `hard - surrogate.detach() + surrogate` is not.
    """
    return hard + (surrogate - surrogate.detach())


def increment(logits: Tensor) -> Tensor:
    """0 `(..., D)`, with the derivative of the logits; a masked logit has none.

    What is added to a constant to give it a gradient: linear, finite and exact in every dtype.
    """
    finite = logits.masked_fill(logits == -math.inf, 0)  # -inf - (-inf) would be NaN
    return finite - finite.detach()


def widened(logits: Tensor) -> Tensor:
    """The logits without gradient, in float32 where they are half precision."""
    return logits.detach().to(torch.promote_types(logits.dtype, torch.float32))


def evaluate(f: Function, rows: Tensor) -> Tensor:
    """`f(rows)`, checked to be one value a row."""
    return _checked(f(rows), rows)


def _checked(values: Tensor, rows: Tensor) -> Tensor:
    if not isinstance(values, Tensor) or values.shape != rows.shape[:-1]:
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        expected = f"flat rows {tuple(rows.shape)} to values {tuple(rows.shape[:-1])}"
        raise ValueError(f"f must map {expected}, got {got}")
    return values if values.is_floating_point() else values.to(rows.dtype)


def score_function(values: Tensor, advantages: Tensor, log_prob: Tensor) -> Tensor:
    """Mean over samples whose gradient is `mean(advantage * grad log p)`, plus f's own gradient.

    All are `(samples, *batch)`. The advantages bring a gradient and leave the value alone.
    """
    return (values + advantages.detach() * (log_prob - log_prob.detach())).mean(0)


def check_tau(tau: float | nn.Module, *, name: str = "tau") -> float | nn.Module:
    """A temperature above 0, or a schedule module whose `forward()` returns one."""
    if isinstance(tau, nn.Module):
        return tau
    number = as_number(tau)
    if number is None or not 0 < number < math.inf:  # so written, NaN fails
        expected = "a finite number above 0 or a schedule module"
        raise ValueError(f"{name} must be {expected}, got {tau!r}")
    return number


def current_tau(tau: float | nn.Module) -> float | Tensor:
    """The temperature now; a number as near as float32 has one, and its inverse."""
    if isinstance(tau, nn.Module):
        value: Tensor = tau()
        return value
    least = torch.finfo(torch.float32).tiny
    return min(max(tau, least), 1 / least)  # or a division by it would be one by 0 or by inf


def learned(tau: float | Tensor) -> bool:
    """Whether a temperature wants a gradient, which a pullback does not give."""
    return isinstance(tau, Tensor) and tau.requires_grad and torch.is_grad_enabled()


def on_codes(space: CategoricalSpace, f: Function) -> Function:
    """Wrap a black box on integer codes as a function of flat rows.

    Args:
        space: the space of the rows.
        f: maps codes `(..., F)` to values `(...)`.

    Returns:
        A function of hard flat rows. A black box has no df/dx: it raises ValueError when it is
        handed rows that carry a gradient, as every relaxation does.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> on_codes(space, lambda codes: codes.sum(-1))(space.one_hot(torch.tensor([1, 2])))
        tensor(3)
    """

    def on_rows(rows: Tensor) -> Tensor:
        if rows.requires_grad:
            raise ValueError(
                "a black box on codes has no derivative in the row; use a gradient estimator that "
                "needs none, such as LeaveOneOut, Reinforce or Enumerate"
            )
        return f(space.argmax(rows))

    return on_rows
