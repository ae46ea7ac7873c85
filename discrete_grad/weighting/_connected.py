"""Do single swaps lead from every row that rules allow to every other one?"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor

from discrete_grad.policies.protocol import has
from discrete_grad.rules import Rules
from discrete_grad.rules.pairs import allowed_pairs

__all__: list[str] = []

_MOST_ROWS = 2**12


def check_connected(policy: object, context: Tensor | None) -> None:
    """Raise unless swaps connect the rows that a policy's rules allow in each of some contexts.

    Where the rules allow too many rows to look at, a warning says so. Rows that the policy's own
    masks forbid count as possible.
    """
    if not has(policy, "rules", "allows"):
        return
    obeying: Any = policy
    rules: Rules = obeying.rules
    found = _parts(rules)
    if found is None:
        warnings.warn(
            f"the rules allow more than {_MOST_ROWS:,} rows: it is not known whether single swaps "
            "connect them all, and a chain may never meet some; proposal='redraw' connects any",
            stacklevel=4,
        )
        return
    pairs, part = found
    given = obeying.rule_context(context)
    hidden = 0 if given is None else given.shape[-1]
    for codes in [None] if given is None else given.reshape(-1, hidden).unique(dim=0).cpu():
        here = torch.ones_like(part, dtype=torch.bool)
        here = here if codes is None else (pairs[:, :hidden] == codes).all(-1)
        _check_one(pairs[here][:, hidden:], part[here], codes)


def _check_one(rows: Tensor, part: Tensor, context: Tensor | None) -> None:
    other = (part != part[:1]).nonzero()
    if len(other):
        first, second = rows[0].tolist(), rows[int(other[0])].tolist()
        where = "" if context is None else f" in the context {context.tolist()}"
        raise ValueError(
            f"single swaps do not connect the rows that the rules allow{where}: from {first} none "
            f"lead to {second}, so a chain stays in one of {len(part.unique())} parts; use "
            "proposal='redraw'"
        )


@functools.lru_cache(maxsize=16)
def _parts(rules: Rules) -> tuple[Tensor, Tensor] | None:
    """Codes `(n, C + F)` of contexts with allowed rows, and the part `(n,)` in which each lies."""
    pairs = allowed_pairs(rules, max_rows=_MOST_ROWS)
    if pairs is None:
        return None
    hidden = 0 if rules.context is None else rules.context.num_features
    return pairs, connected_parts(pairs, range(hidden, pairs.shape[1]))


def connected_parts(codes: Tensor, columns: range) -> Tensor:
    """Number `(n,)` of the least row that swaps in some columns connect with each of `(n, W)`."""
    groups = []
    for column in columns:
        others = codes.clone()
        others[:, column] = 0
        groups.append(others.unique(dim=0, return_inverse=True)[1])  # alike but for one feature
    part = torch.arange(len(codes))
    while True:
        before = part
        for group in groups:
            least = torch.full_like(part, len(part)).scatter_reduce(0, group, part, "amin")
            part = least[group]
        if torch.equal(part, before):
            return part
