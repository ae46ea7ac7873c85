"""Rows that a run climbs to from its generator's most likely ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from discrete_grad.models import SwapSearch, swap_search
from discrete_grad.policies import Conditioned
from discrete_grad.policies.obeying import ObeyingPolicy
from discrete_grad.runs._guides import RunPolicy
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._trust import trusted

__all__ = ["RunScore", "climbed", "polished_starts", "swaps_of_run"]

_MOST = 2**17  # evaluations of one context


def climbed(run: RunParts, policy: RunPolicy, codes: Tensor, contexts: Tensor | None) -> Tensor:
    """The best row `(S, F)` that single swaps lead to from each, by the score trained by.

    Every row on the way obeys the policy's rules and lies within the run's trust.

    Args:
        run: a finished fit.
        policy: the run's generator, conditioned where there are rules.
        codes: `(S, F)`.
        contexts: `(S, C)`, or None.
    """
    return swaps_of_run(run, policy, codes, contexts, least=policy.space.width).codes


def swaps_of_run(
    run: RunParts,
    policy: RunPolicy,
    codes: Tensor,
    contexts: Tensor | None,
    *,
    least: int,
    **options: Any,
) -> SwapSearch:
    """The search by swaps from rows `(S, F)`, by the score trained by, as `climbed` limits it.

    Args:
        run: a finished fit.
        policy: the run's generator, conditioned where there are rules.
        codes: `(S, F)`.
        contexts: `(S, C)`, or None.
        least: evaluations that each row has, however many rows share them.
        options: further ones of `swap_search`.
    """
    obeying = policy if isinstance(policy, ObeyingPolicy) else None
    return swap_search(
        RunScore(run),
        codes,
        contexts,
        space=policy.space,
        patience=None,
        evaluations=max(least, _MOST // len(codes)),
        rules=None if obeying is None else obeying.rules,
        rule_context=None if obeying is None else obeying.rule_context(contexts),
        allowed=trusted(run),
        **options,
    )


class RunScore:
    """The score that a run's generator was trained by, of codes or flat rows in contexts.

    Args:
        run: a finished fit.
    """

    takes_codes = True

    def __init__(self, run: RunParts) -> None:
        self._run = run
        self.differentiable = bool(run.scorer_facts.get("differentiable", True))

    def __call__(self, rows: Tensor, contexts: Tensor | None = None) -> Tensor:
        return self._run.objective(contexts)(rows)


@torch.no_grad()
def polished_starts(
    run: RunParts, policy: RunPolicy, logits: Tensor, draws: Tensor | None, contexts: Tensor | None
) -> Tensor | None:
    """A climbed row `(S, 1, F)` for each context, from its most likely row; None without `polish`.

    Args:
        run: a finished fit.
        policy: the run's generator, conditioned where there are rules.
        logits: `(S, D)`, see `guiding_logits`.
        draws: `(S, n, F)` of a policy that writes step by step, or None.
        contexts: `(S, C)`, or None.
    """
    if not run.config.polish:
        return None
    if draws is not None:
        likely = draws[:, 0]
    elif isinstance(policy, Conditioned):
        likely = policy.law(contexts).mode().view(len(logits), -1)
    else:
        likely = policy.space.argmax(logits)
    return climbed(run, policy, likely, contexts).unsqueeze(1)
