"""Subject of the checks: a gradient estimator, its claims, and where it is run."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, get_args

import torch
from torch import Tensor, nn

from discrete_grad.gradient.base import Relaxation
from discrete_grad.gradient.facts import Bias, BiasWithRules, Forward
from discrete_grad.sampling import isolated_seed
from discrete_grad.space import CategoricalSpace
from discrete_grad.testing._calling import Method
from discrete_grad.testing._layers import as_layer, is_row_function, of_each_feature

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

    @property
    def slope(self) -> tuple[float, float]:
        """Range of a biased gradient's length along the true one."""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Claims of a gradient estimator; the checks test these claims and no others.

    Args:
        forward: what f is given: "hard" for draws from `softmax(logits)`, "chosen" for one-hot rows
            by another rule, "mixed" for rows between a draw and the mean, "soft", "argmax" for the
            most likely row, "all rows".
        bias: "none", "exact on quadratic", "exact on multilinear", "exact on additive" or "biased":
            the largest class of f, as a function of the flat row, without bias.
        slope: of a biased gradient: range of its expectation's length along the true gradient, for
            an f that is 1 on one category, logits at most 0.3 apart and two to four categories a
            feature. By default within a factor of 1.6 of the true length.
        needs_derivative: whether f must be differentiable in the row.
        binary_only: every feature must have two categories.
        linear_in_f: the gradient of a sum of functions is the sum of their gradients.
        law_tau: hard rows are drawn from `softmax(logits / law_tau)`.
        with_rules: bias under `rules=`: "none", "exact on additive", "biased"; None for a method
            that takes no rules.

    Raises:
        ValueError: for a word that is none of these, or numbers out of range.

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
    slope: tuple[float, float] = (0.625, 1.6)
    with_rules: BiasWithRules | None = None

    def __post_init__(self) -> None:
        words_of = {
            "forward": get_args(Forward),
            "bias": get_args(Bias),
            "with_rules": (*get_args(BiasWithRules), None),
        }
        for name, allowed in words_of.items():
            value = getattr(self, name)
            if value not in allowed:
                words = ", ".join(map(repr, allowed))
                raise ValueError(f"{name} must be one of {words}, got {value!r}")
        pair = isinstance(self.slope, tuple) and len(self.slope) == 2
        if not (pair and 0 < self.slope[0] <= self.slope[1] < math.inf):
            raise ValueError(f"slope must be (least, most), both above 0, got {self.slope!r}")
        if not 0 < self.law_tau < math.inf:
            raise ValueError(f"law_tau must be a finite number above 0, got {self.law_tau!r}")


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
# where the direction of a gradient is told: logits at most 0.3 apart, none of them equal
MILD = _scene({"colour": 2, "size": 3, "clarity": 2}, [0.2, -0.1, 0.2, -0.1, 0.05, -0.2, 0.1])
MILD_BINARY = _scene({"colour": 2, "size": 2, "clarity": 2}, [0.2, -0.1, -0.2, 0.1, -0.05, 0.15])
BINARY_SCENES = (
    _scene({"colour": 2, "size": 2, "clarity": 2}, [0.4, -0.2, -0.6, 0.5, 0.1, 0.3]),
    *(SCENES[2], SCENES[4]),
)


class Subject:
    """A gradient estimator to be checked.

    Args:
        method: an instance, or a factory `make(space)` such as the class itself; some checks need
            other spaces than an instance has, and are skipped for an instance. A layer needs no
            `expectation`: it is a module with `forward(logits)`, or a plain function from the
            logits `(..., K)` of a feature to its row, which is called on each feature. A factory
            may make either.
        facts: what it claims, `Claims` or `Facts`; None means `method.facts`.
        name: for messages; None means the name of its class.
        skip: check -> reason not to run it.
        seed: of everything random in the checks.

    Raises:
        TypeError: for something that cannot be called like that, or without facts.

    Example:
        >>> from functools import partial
        >>> from discrete_grad import LeaveOneOut
        >>> Subject(partial(LeaveOneOut, samples=2))
        LeaveOneOut(samples=2)
        >>> Subject(lambda logits: logits.softmax(-1), facts=Claims(forward="soft"), name="mine")
        mine
    """

    def __init__(
        self,
        method: Method | Callable[..., Any],
        *,
        facts: Declared | None = None,
        name: str | None = None,
        skip: Mapping[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        made = not isinstance(method, type)
        self.is_instance = made and (
            hasattr(method, "expectation") or isinstance(method, nn.Module)
        )
        if not (self.is_instance or callable(method)):
            raise TypeError(f"method must have expectation(f, logits), got {method!r}")
        self.given: Any = method
        self.is_function = made and not self.is_instance and is_row_function(self.given)
        self.name = name or _name(method, is_instance=self.is_instance)
        self.skip = dict(skip or {})
        self.seed = seed
        example = self._example(facts)
        own = getattr(example, "facts", getattr(method, "facts", None))
        claims = facts if facts is not None else own
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
            instance = copy.deepcopy(self.given)
            return self._whole(instance, getattr(instance, "space", None))
        return self.made_by(self.given, scene)

    def made_by(self, given: Callable[..., Any], scene: Scene | None = None) -> Method:
        """A method of the scene's space by a factory, or by a function of one feature's logits."""
        space = (scene or self.scenes[0]).space
        if self.is_function:
            return cast(Method, of_each_feature(given, space))
        with isolated_seed(self.seed):
            made = given(space)
        return self._whole(made, space)

    def _whole(self, made: Any, space: CategoricalSpace | None) -> Method:
        """The method itself, or a layer with the expectation that it lacks."""
        if hasattr(made, "expectation"):
            return cast(Method, made)
        if not callable(made) or (isinstance(made, nn.Module) and not _has_forward(made)):
            raise TypeError(
                f"{self.name}(space) must have expectation(f, logits) or be a layer logits -> row, "
                f"got {made!r}"
            )
        return cast(Method, as_layer(made, space))

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """Scenes that the checks may run it on."""
        if not self.is_instance:
            return BINARY_SCENES if self.claims.binary_only else SCENES
        space = getattr(self.given, "space", None) or CategoricalSpace({"x": 3})
        return (Scene(space, 0.5 * torch.arange(space.width, dtype=torch.float64).sin()),)

    @property
    def scene(self) -> Scene:
        """The first of them."""
        return self.scenes[0]

    @property
    def mild(self) -> Scene:
        """A scene to tell directions on."""
        if self.is_instance:
            scene = self.scene
            return Scene(scene.space, 0.3 * scene.logits)
        return MILD_BINARY if self.claims.binary_only else MILD

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


def _has_forward(method: object) -> bool:
    return isinstance(method, nn.Module) and type(method).forward is not nn.Module.forward
