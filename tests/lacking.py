"""Policies that have some parts of the protocol alone, by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from discrete_grad import CategoricalSpace

SPACE = CategoricalSpace.from_sizes((2, 3))
VALUES = {"space": SPACE, "order": (0, 1), "context_spec": None}
TOLD = {
    "log_prob": "log_prob(codes, context)",
    "sample": "sample(context, count, *, generator)",
    "begin": "begin(context, *, batch)",
    "advance": "advance(state, previous)",
    "select": "select(state, rows)",
    "parameters": "parameters()` of an `nn.Module",
}
"""Parts as messages name them; the others by their names."""


def lacking(part: str, *parts: str) -> Any:
    """An object of the class `Lacking` that has all of some parts but one."""
    kept = [name for name in parts if name != part]
    base = nn.Module if "parameters" in kept else object
    members = {name: VALUES.get(name, lambda self, *args, **options: None) for name in kept}
    return type("Lacking", (base,), {n: m for n, m in members.items() if n != "parameters"})()


def message(user: str, part: str) -> str:
    """The message for a part that is missing."""
    return f"{user} needs a policy with `{TOLD.get(part, part)}`; Lacking has none"
