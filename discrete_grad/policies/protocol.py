"""The protocol of all policies, and the check that a policy has the parts that are needed."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from discrete_grad.space import CategoricalSpace
from discrete_grad.space.tensors import can_inspect

__all__ = ["Policy"]


@runtime_checkable
class Policy(Protocol):
    """A distribution of rows given a context; a user's own class needs these three parts.

    Other parts are used where a policy has them:

    - `logits(context)`, `(*batch, D)`: the features are independent given the context;
      `IndependentPolicy` derives all else from it.
    - `order`, `begin`, `advance` and `select`: rows are written feature by feature;
      `SequentialPolicy` says what they are and derives most else from them.
    - `conditional_logits(codes, context)` and `order`: the same of a whole row in one pass.
    - `rules`, `allows(codes, context)`, `swaps_allowed(codes, context)` and `enumerate(*, max_rows,
      device)`: its rows obey rules; see `conditioned`.

    Example:
        >>> from discrete_grad.policies import Generator
        >>> isinstance(Generator(CategoricalSpace.from_sizes((2, 3))), Policy)
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


POLICY_PARTS = ("space", "log_prob", "sample")
"""Parts that every policy has."""

_CALLS = {
    "log_prob": "log_prob(codes, context)",
    "sample": "sample(context, count, *, generator)",
    "logits": "logits(context)",
    "conditional_logits": "conditional_logits(codes, context)",
    "begin": "begin(context, *, batch)",
    "advance": "advance(state, previous)",
    "select": "select(state, rows)",
    "conditional": "conditional(prefix_codes, context)",
    "relaxed": "relaxed(context, count, relaxation, *, generator)",
    "allows": "allows(codes, context)",
    "swaps_allowed": "swaps_allowed(codes, context)",
    "enumerate": "enumerate(*, max_rows, device)",
    "redrawn": "redrawn(codes, chosen, context, *, generator)",
    "parameters": "parameters()` of an `nn.Module",
}
"""Parts that are called; the others are values."""


def has(policy: object, *parts: str) -> bool:
    """Whether a policy has all of some parts, by name.

    A tensor or a layer that happens to have a part's name does not count.

    Example:
        >>> from discrete_grad.policies import Generator
        >>> has(Generator(CategoricalSpace.from_sizes((2, 3))), "logits")
        True
    """
    return not _missing(policy, parts)


def require(user: str, policy: Any, *parts: str) -> None:
    """Raise TypeError, naming the first part that is missing, unless a policy has them all.

    Args:
        user: what needs the policy, the subject of the message.
        policy: any object.
        parts: names of attributes.

    Example:
        >>> require("a report", nn.Linear(2, 2), "logits")
        Traceback (most recent call last):
        TypeError: a report needs a policy with `logits(context)`; Linear has none
    """
    for part in _missing(policy, parts):
        wanted = f"`{_CALLS.get(part, part)}`"
        raise TypeError(f"{user} needs a policy with {wanted}; {type(policy).__name__} has none")


def _missing(policy: object, parts: tuple[str, ...]) -> list[str]:
    return [part for part in parts if not _has(policy, part)]


def _has(policy: object, part: str) -> bool:
    if part not in _CALLS:
        return hasattr(policy, part)
    if part == "parameters":
        return isinstance(policy, nn.Module)
    found = getattr(policy, part, None)
    return callable(found) and not isinstance(found, nn.Module)


def row_log_probs(policy: Policy, codes: Tensor, context: Tensor | None) -> Tensor:
    """`log_prob` of codes `(..., *batch, F)`; ValueError where it has another shape, or is NaN."""
    log_prob = policy.log_prob(codes, context)
    name, wanted = type(policy).__name__, tuple(codes.shape[:-1])
    if log_prob.shape != wanted:
        raise ValueError(f"log_prob of {name} must be {wanted}, got {tuple(log_prob.shape)}")
    if can_inspect(log_prob) and log_prob.isnan().any():
        row = codes[tuple(log_prob.isnan().nonzero()[0].tolist())].tolist()
        raise ValueError(f"log_prob of {name} must be a number or -inf, got nan for codes {row}")
    return log_prob


def drawn_rows(
    policy: Policy,
    context: Tensor | None,
    count: int,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw rows; ValueError unless they are codes `(count, *batch, F)`."""
    codes = policy.sample(context, count, generator=generator)
    wanted = (count, *batch_of(context), policy.space.num_features)
    if codes.shape != wanted or codes.is_floating_point():
        got = f"{tuple(codes.shape)} of {codes.dtype}"
        raise ValueError(f"{type(policy).__name__} must draw codes {wanted}, got {got}")
    return codes


def device_of(policy: object, context: Tensor | None) -> torch.device:
    """The device on which a policy's rows live."""
    if context is not None:
        return context.device
    parameters = policy.parameters() if isinstance(policy, nn.Module) else iter(())
    first = next(parameters, None)
    return torch.device("cpu") if first is None else first.device


def batch_of(context: Tensor | None) -> tuple[int, ...]:
    """The leading shape of a context `(*batch, C)`; `()` without one."""
    return () if context is None else tuple(context.shape[:-1])
