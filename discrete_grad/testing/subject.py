"""Subject of the checks: a gradient estimator, its claims, and where it is run."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from discrete_grad.gradient.base import Relaxation
from discrete_grad.gradient.facts import Bias, BiasWithRules, Forward
from discrete_grad.sampling import isolated_seed
from discrete_grad.space import CategoricalSpace
from discrete_grad.testing._calling import Method

__all__ = ["Claims", "Declared", "Scene", "SkipCheck", "Subject"]


class SkipCheck(Exception):
    """Raised by a check that has nothing to check; the message says why."""


class Declared(Protocol):
    """Facts of a method that the checks read: `Claims`, or the `Facts` of discrete_grad."""

    @property
    def forward(self) -> Forward:
        """Rows that f is given."""

    @property
    def bias(self) -> Bias:
        """The largest class of f on which the gradient is unbiased."""

    @property
    def needs_derivative(self) -> bool:
        """Whether f must be differentiable in the row."""

    @property
    def binary_only(self) -> bool:
        """Whether every feature must have two categories."""

    @property
    def linear_in_f(self) -> bool:
        """Whether the gradient of a sum of functions is the sum of their gradients."""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Claims of a gradient estimator; the checks hold it to these, and to no more.

    Args:
        forward: what f is given: "hard" for draws from `softmax(logits)`, "chosen" for one-hot rows
            by another rule, "soft", "argmax" for the most likely row, "all rows".
        bias: "none", "exact on quadratic", "exact on multilinear" or "biased".
        needs_derivative: whether f must be differentiable in the row.
        binary_only: every feature must have two categories.
        linear_in_f: the gradient of a sum of functions is the sum of their gradients.
        law_tau: hard rows are drawn from `softmax(logits / law_tau)`.
        with_rules: bias under `rules=`: "none", "exact on additive", "biased"; None for a method
            that takes no rules.

    Example:
        >>> Claims(bias="none", needs_derivative=False).forward
        'hard'
    """

    forward: Forward = "hard"
    bias: Bias = "biased"
    needs_derivative: bool = True
    binary_only: bool = False
    linear_in_f: bool = True
    law_tau: float = 1.0
    with_rules: BiasWithRules | None = None


@dataclass(frozen=True)
class Scene:
    """A space and logits `(D,)` in float64."""

    space: CategoricalSpace
    logits: Tensor


def _scene(features: dict[str, int], logits: list[float]) -> Scene:
    return Scene(CategoricalSpace(features), torch.tensor(logits, dtype=torch.float64))


# from the most telling to the cheapest to enumerate; the second category of "clarity" is masked
SCENES = (
    _scene(
        {"colour": 2, "fixed": 1, "size": 3, "clarity": 3},
        [0.4, -0.2, 1.3, 0.2, -0.6, 0.5, 0.3, -torch.inf, -0.3],
    ),
    _scene({"colour": 2, "size": 3}, [0.3, -0.2, 0.4, -0.1, 0.0]),
    _scene({"colour": 2, "size": 2}, [0.2, -0.1, 0.3, -0.1]),
    _scene({"size": 3}, [0.3, -0.2, 0.1]),
    _scene({"colour": 2}, [0.2, -0.1]),
)
BINARY_SCENES = (
    _scene({"colour": 2, "size": 2, "clarity": 2}, [0.4, -0.2, -0.6, 0.5, 0.1, 0.3]),
    *(SCENES[2], SCENES[4]),
)


class Subject:
    """A gradient estimator to be checked.

    Args:
        method: an instance, or a factory `make(space)` such as the class itself; some checks need
            other spaces than an instance has, and are skipped for an instance.
        facts: what it claims, `Claims` or `Facts`; None means `method.facts`.
        name: for messages; None means the name of its class.
        skip: check -> reason not to run it.
        seed: of everything random in the checks.

    Raises:
        TypeError: for something without `expectation`, or without facts.

    Example:
        >>> from functools import partial
        >>> from discrete_grad import LeaveOneOut
        >>> Subject(partial(LeaveOneOut, samples=2))
        LeaveOneOut(samples=2)
    """

    def __init__(
        self,
        method: Method | Callable[[CategoricalSpace], Method],
        *,
        facts: Declared | None = None,
        name: str | None = None,
        skip: Mapping[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        self.is_instance = not isinstance(method, type) and hasattr(method, "expectation")
        wrong = isinstance(method, nn.Module) and not self.is_instance
        if wrong or not (self.is_instance or callable(method)):
            raise TypeError(f"method must have expectation(f, logits), got {method!r}")
        self.given = method
        self.name = name or _name(method, is_instance=self.is_instance)
        self.skip = dict(skip or {})
        self.seed = seed
        example = self._example(facts)
        claims = facts if facts is not None else getattr(example, "facts", None)
        if claims is None:
            raise TypeError(
                f"{self.name} declares no facts; say what it claims, for example "
                "facts=Claims(forward='hard', bias='none', needs_derivative=False)"
            )
        self.claims: Declared = claims
        self.is_layer = isinstance(example, Relaxation) or _has_forward(example)

    def __repr__(self) -> str:
        return self.name

    def _example(self, facts: Declared | None) -> Method:
        declared = facts if facts is not None else getattr(self.given, "facts", None)
        binary = declared is not None and declared.binary_only
        return self.method(None if self.is_instance else (BINARY_SCENES if binary else SCENES)[0])

    def method(self, scene: Scene | None = None) -> Method:
        """A fresh method: of the scene's space, or a copy of the instance."""
        if self.is_instance:
            instance: Method = copy.deepcopy(self.given)  # type: ignore[assignment]
            return instance
        space = (scene or self.scenes[0]).space
        with isolated_seed(self.seed):
            made: Method = self.given(space)  # type: ignore[operator]
        if not hasattr(made, "expectation"):
            raise TypeError(f"{self.name}(space) must have expectation(f, logits), got {made!r}")
        return made

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """Devices that the checks may run it on."""
        if not self.is_instance:
            return BINARY_SCENES if self.claims.binary_only else SCENES
        space = getattr(self.given, "space", None) or CategoricalSpace({"x": 3})
        return (Scene(space, 0.5 * torch.arange(space.width, dtype=torch.float64).sin()),)

    @property
    def scene(self) -> Scene:
        """The first of them."""
        return self.scenes[0]

    def require_factory(self) -> None:
        """Skip the check for an instance, which has one space only."""
        if self.is_instance:
            raise SkipCheck("needs other spaces: give a factory make(space), not an instance")

    def require_layer(self) -> None:
        """Skip the check for what is no layer."""
        if not self.is_layer:
            raise SkipCheck("is no layer logits -> row")


def _name(method: object, *, is_instance: bool) -> str:
    if isinstance(method, functools.partial):
        settings = ", ".join(f"{key}={value!r}" for key, value in method.keywords.items())
        return f"{_name(method.func, is_instance=False)}({settings})"
    return type(method).__name__ if is_instance else getattr(method, "__name__", repr(method))


def _has_forward(method: Method) -> bool:
    return isinstance(method, nn.Module) and type(method).forward is not nn.Module.forward
