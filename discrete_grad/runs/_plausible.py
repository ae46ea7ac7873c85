"""Facts for a run's report: the rules, and categories that were never seen together."""

from __future__ import annotations

from math import comb
from typing import Any

from torch import Tensor

from discrete_grad.evaluation.together import unseen_pairs
from discrete_grad.policies.protocol import has
from discrete_grad.rules import Observed
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._seen_together import sparse_rules
from discrete_grad.runs._table_rules import ruled_config
from discrete_grad.sampling import permutation, seeded

__all__ = ["rules_facts", "together_facts"]

_WORK = 2**29  # rows of all pairs of features that are counted
_ROWS = 1024


def rules_facts(run: RunParts, policy: Any, contexts: Tensor | None) -> dict[str, Any]:
    """Facts on the rules of a run.

    Args:
        run: with rules; without, there are no facts.
        policy: its generator, conditioned by them.
        contexts: `(S, C)` that are shown, or None.

    Returns:
        JSON: `allowed`, how many rows of how many; `in_contexts`, whether pairs of context and row
        are counted; `words`, each rule; `forbidden` and `forbidden_most`, the probability that the
        generator without them gives to rows that break one: mean and largest over the contexts,
        by draws where it writes step by step;
        `trained_by`, the gradient estimator.
    """
    if run.rules is None:
        return {}
    config = ruled_config(run.config.generator, run.rules)
    forbidden = _forbidden(policy, contexts)
    return {
        "allowed": run.rules.describe().splitlines()[0],
        "in_contexts": run.rules.context is not None,
        "words": [rule.words() for rule in run.rules.rules],
        "trained_by": config.gradient_estimator,
        "forbidden": float(forbidden.mean()),
        "forbidden_most": float(forbidden.max()),
    }


def _forbidden(policy: Any, contexts: Tensor | None) -> Tensor:
    """What a policy without its rules gives to forbidden rows `(S,)`; estimated where it draws."""
    if has(policy, "law"):
        log_z: Tensor = policy.law(contexts).log_z()
        return -log_z.expm1()
    rows = policy.policy.sample(contexts, _ROWS, generator=seeded(0))
    broken: Tensor = ~policy.allows(rows, contexts)
    return broken.double().mean(0)


def together_facts(run: RunParts, codes: Tensor) -> dict[str, Any]:
    """Facts on pairs of categories that a table has together.

    Args:
        run: with the table.
        codes: generated rows `(n, F)`.

    Returns:
        JSON: `pairs` of a row; `unseen` and `share`, the mean number of a generated row's pairs
        that no row of the table has, and the share of rows with such a pair; `usual` and
        `usual_share`, the same of the table's rows, each against the others; `sparse`, pairs of
        columns that combine sparsely and have no rule, see `sparse_pairs`. Nothing for one feature
        or where counting would take minutes.
    """
    space, known = run.table.schema.space, run.table.codes
    pairs = comb(space.num_features, 2)
    if not pairs or not len(codes) or pairs * len(known) > _WORK:
        return {}
    some = permutation(len(known), generator=seeded(0))[:_ROWS]
    generated = unseen_pairs(space, known, codes).double()
    own = unseen_pairs(space, known, known[some], own=True).double()
    return {
        "pairs": pairs,
        "rows": len(codes),
        "unseen": float(generated.mean()),
        "share": float((generated > 0).double().mean()),
        "usual": float(own.mean()),
        "usual_share": float((own > 0).double().mean()),
        "sparse": _sparse(run),
    }


def _sparse(run: RunParts) -> list[dict[str, Any]]:
    rules = () if run.rules is None else run.rules.rules
    ruled = [set(rule.features) for rule in rules if isinstance(rule, Observed)]
    return [
        {
            "columns": list(rule.features),
            "seen": pair.seen,
            "expected": pair.expected,
            "further": pair.further,
        }
        for rule, pair in sparse_rules(run.table)
        if not any(set(rule.features) <= names for names in ruled)
    ]
