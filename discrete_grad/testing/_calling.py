"""Calling a gradient estimator one did not write: seeded, recorded, with its shapes checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from discrete_grad.gradient.base import Function
from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.space import CategoricalSpace

__all__ = ["Method", "Recorder", "estimate", "takes_generator"]


@runtime_checkable
class Method(Protocol):
    """Anything that estimates `E[f(x)]` so that `backward()` gives a gradient in the logits."""

    def expectation(self, f: Function, logits: Tensor) -> Tensor:
        """`(*batch, D)` -> `(*batch)`; a keyword `generator` is used where there is one."""


class Recorder:
    """A function of rows that keeps what it was given."""

    def __init__(self, f: Function) -> None:
        self.f = f
        self.calls: list[Tensor] = []

    def __call__(self, rows: Tensor) -> Tensor:
        """The values of the rows, which are kept."""
        self.calls.append(rows.detach())
        return self.f(rows)

    def rows(self, batch: tuple[int, ...]) -> Tensor | None:
        """`(samples, *batch, D)` of every call together; None if a call had another shape."""
        if not self.calls or any(rows.shape[1:-1] != batch for rows in self.calls):
            return None
        return torch.cat(self.calls)


def takes_generator(call: Callable[..., object]) -> bool:
    """Whether a function has a keyword `generator`."""
    try:
        parameters = inspect.signature(call).parameters
    except ValueError:  # some functions written in C have no signature
        return False
    return "generator" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def space_of(method: Method, logits: Tensor, space: CategoricalSpace | None) -> CategoricalSpace:
    """The space given, else the method's own, else one feature over the last dimension."""
    own = space or getattr(method, "space", None)
    return own if own is not None else CategoricalSpace({"x": logits.shape[-1]})


def expectation(
    method: Method, f: Function, logits: Tensor, generator: torch.Generator | None
) -> Tensor:
    """The method's value, with the generator where it takes one."""
    if generator is None or not takes_generator(method.expectation):
        return method.expectation(f, logits)
    return method.expectation(f, logits, generator=generator)  # type: ignore[call-arg]


def estimate(
    method: Method, f: Function, logits: Tensor, *, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Value `(*batch)` and gradient `(*batch, D)`, reproducible even if the generator is ignored.

    Raises:
        AssertionError: for a value of another shape, or one without a gradient in the logits.
    """
    leaf = logits.detach().clone().requires_grad_()
    with isolated_seed(seed):
        value = expectation(method, f, leaf, seeded(seed))
        if not isinstance(value, Tensor) or value.shape != leaf.shape[:-1]:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            expected = tuple(leaf.shape[:-1])
            raise AssertionError(
                f"expectation(f, logits) of logits {tuple(leaf.shape)} must have shape {expected}, "
                f"got {got}"
            )
        if not value.requires_grad:
            raise AssertionError("the value has no gradient: it does not depend on the logits")
        (gradient,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
    if gradient is None:
        raise AssertionError("the value's gradient does not reach the logits")
    return value.detach(), gradient
