"""Whole reports of evaluations, as they were when they were last looked at.

Small subjects with contexts, gaps and ties, and settings that are no defaults: whatever changes an
axis, a seed, a name or a term changes something here. `python -m tests.evaluation.test_snapshots`
writes them anew, to be read before they are committed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.data import NumericColumn, Schema, Vocabulary
from discrete_grad.evaluation import (
    TrainingContexts,
    alignment_metrics,
    compare_metrics,
    context_labels,
    context_robustness,
    distinct_contexts,
    exploitation_report,
    fit_gain_curve,
    mean_interval,
    median_interval,
    percentile,
    swap_agreement,
    swap_effects,
)
from discrete_grad.evaluation.best_row import best_row
from discrete_grad.evaluation.in_parts import in_parts
from discrete_grad.evaluation.metrics import spearman
from discrete_grad.evaluation.row_laws import row_laws
from discrete_grad.evaluation.swap_agreement import swap_report
from discrete_grad.evaluation.together import sparse_pairs, unseen_pairs
from discrete_grad.models import Aligner, Estimator
from discrete_grad.policies import AutoregressiveGenerator, Generator, conditioned
from discrete_grad.rules import Forbid, Rules
from discrete_grad.sampling import isolated_seed, normal, random_codes, seeded
from tests.evaluation.planted import MIXED, mixed_contexts, planted, sharp
from tests.evaluation.subjects import SPACE, make_subject
from tests.fitting.small_rows import BOTH, CODES, CONTEXT, SHOPS, SPEC
from tests.kept_numbers import check_told, cut_small, keep_told

FILE = Path(__file__).parent / "snapshots.json"


def models(seed: int) -> Aligner:
    """In double precision and rounded, for equal rows must be equal wherever they stand."""
    space = CategoricalSpace({"cut": ["fair", "good", "ideal"], "shade": 4, "size": 2})
    made: Any = Aligner(Estimator(space, context=SPEC, dim=4, hidden=(6,)), 3).double()
    with torch.no_grad():
        for place, weight in enumerate(made.parameters(), seed):
            weight.copy_((torch.arange(weight.numel()) + place).double().sin().view_as(weight))
    parts = ((made, "project"), (made.estimator, "to_latent"), (made.estimator, "forward"))
    for owner, name in parts:
        setattr(owner, name, _rounded(getattr(owner, name)))
    return cast(Aligner, made)


def _rounded(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *given: call(*given).round(decimals=6)


def alignment(**changes: Any) -> list[Any]:
    given = {"anchors": 20, "pairs": 6, "nearest": 2, "resamples": 30, "confidence": 0.8}
    options = {"context": SHOPS.double(), "generator": seeded(1)} | given | changes
    assert BOTH.behaviour is not None
    return [asdict(one) for one in alignment_metrics(models(2), CODES, BOTH.behaviour, **options)]


def compared() -> list[Any]:
    """Similarities with ties, without contexts."""
    metrics = {
        "first": lambda a, b: (CODES[a] == CODES[b]).float()[..., 0],
        "all": lambda a, b: (CODES[a] == CODES[b]).sum(-1),
    }
    given = {"anchors": 15, "pairs": 9, "nearest": 3, "resamples": 11, "generator": seeded(3)}
    return [asdict(one) for one in compare_metrics(metrics, CODES, BOTH.scores.round(), **given)]


def exploitation(*, truth: bool, contexts: int) -> dict[str, Any]:
    subject = make_subject(contexts=contexts, truth=truth)
    count, noise = max(contexts, 1), seeded(4)
    states = {
        step: step * normal((count, SPACE.width), generator=noise).float() / 9
        for step in (0, 3, 6, 9)
    }
    states[9][0, 0] = -torch.inf
    reference = 0.3 * normal((count, SPACE.width), generator=noise).float()
    return exploitation_report(subject, states, reference, samples=5, seed=6, tolerance=0.2)


def robustness(*, truth: bool) -> Any:
    table = torch.arange(16.0).view(4, 4).square() / 7
    made = planted(
        MIXED,
        mixed_contexts(4),
        table,
        lambda context: sharp((context[:, 5] > 0).long() + 2 * (context[:, 0] > 0)),
        training=mixed_contexts(40),
        truth=truth,
    )
    return context_robustness(made, draws=12, samples=3, seed=5)


def effects() -> list[Any]:
    with isolated_seed(7):
        model = Estimator(SPACE, context=SPEC, dim=4, hidden=(6,))
    rows, here = CODES[:9], CONTEXT[:9]
    found = swap_effects(model, rows, here, max_rows=4)
    agreements = [asdict(swap_agreement(found, **g)) for g in ({"k": 2, "confidence": 0.9}, {})]
    return [found.exact.tolist(), found.predicted.tolist(), *agreements]


def laws() -> list[Any]:
    with isolated_seed(8):
        plain = Generator(SPACE, ContextSpec({"shop": 2}), hidden=(4,))
        steps = AutoregressiveGenerator(SPACE, ContextSpec({"shop": 2}), hidden=(4,))
    rules = Rules(SPACE, [Forbid({"cut": "fair", "size": "1"})])
    policies = {"plain": plain, "steps": steps, "ruled": conditioned(plain, rules)}
    subject = make_subject(contexts=2, policies=policies)
    return [
        [
            law.mode().tolist(),
            law.sample(3, generator=seeded(9)).tolist(),
            law.entropy().tolist(),
            law.marginals().tolist(),
        ]
        for name, policy in policies.items()
        for law in row_laws(subject, policy, name)
    ]


def together() -> list[Any]:
    space = CategoricalSpace.from_sizes((4, 5, 6))
    known, codes = (random_codes(space, n, generator=seeded(n)) for n in (25, 12))
    tied = torch.arange(400).remainder(20)
    a, b = torch.arange(60) % 3, torch.arange(60) // 30
    few = torch.tensor([0] * 3 + [1] * 10 + [2] * 10)
    columns = torch.stack([tied, tied.div(2).long(), torch.arange(400).remainder(7)], 1)
    return [
        unseen_pairs(space, known, codes).tolist(),
        unseen_pairs(space, known, known[:9], own=True).tolist(),
        [asdict(pair) for pair in sparse_pairs(columns, [20, 10, 7], seed=3)],
        # 3 pairs of 9 may be chance where rows are few and three pairs of columns are looked at
        [
            asdict(pair)
            for pair in sparse_pairs(torch.stack([few, few, torch.arange(23) % 2], 1), [3, 3, 2])
        ],
        [asdict(pair) for pair in sparse_pairs(torch.stack([a, 2 - a, b], 1), [3, 3, 2])],
    ]


def contexts() -> list[Any]:
    rows = torch.stack([torch.arange(30) % 7, torch.arange(30) % 2], 1).float()
    schema = Schema(
        (Vocabulary("cut", ("a", "b")),),
        (NumericColumn("price", 2.0, 3.0), Vocabulary("shop", ("x", "y"))),
        "score",
    )
    shown = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -1.25]])
    training = TrainingContexts(SPEC, CONTEXT)
    found = [distinct_contexts(rows, 30, embedded=e, limit=n) for e, n in ((True, 5), (False, 9))]
    return [
        *[[some.tolist(), positions.tolist()] for some, positions in found if some is not None],
        context_labels(schema, shown),
        [list(training.deviation), list(training.low), list(training.high)],
    ]


def figures() -> list[Any]:
    values = BOTH.scores[:21].double()
    curve = fit_gain_curve(values.abs(), values, kind="best_of_n", confidence=0.7)
    assert curve is not None
    exact = torch.arange(5.0)
    return [
        asdict(curve),
        curve.peak,
        curve.gain(exact).tolist(),
        [mean_interval(values), mean_interval(values, 0.5)],
        [median_interval(values), median_interval(values[:8], 0.6)],
        percentile(exact, exact.double() + 0.5).tolist(),
        percentile(exact.double() + 1, exact).tolist(),
        [spearman(exact, exact), spearman(exact, -exact), spearman(exact.square(), exact.sin())],
        [best_row(CODES, BOTH.scores), best_row(CODES[:8], 1e200 * BOTH.scores[:8].double())],
        in_parts(lambda r, c: r.sum(1) + c[:, 0], CODES[:7], CONTEXT[:7], rows=3).tolist(),
    ]


def swaps(contexts: int) -> Any:
    subject = make_subject(contexts=contexts)
    likely = random_codes(SPACE, max(contexts, 1), generator=seeded(10))
    return swap_report(subject, likely)


Case = Callable[[], Any]
CASES: dict[str, Case] = {
    "alignment": alignment,
    "alignment, few": lambda: alignment(anchors=100, pairs=70, nearest=4),
    "compared": compared,
    "exploitation": lambda: exploitation(truth=True, contexts=3),
    "exploitation, judged": lambda: exploitation(truth=False, contexts=0),
    "robustness": lambda: robustness(truth=True),
    "robustness, judged": lambda: robustness(truth=False),
    "effects": effects,
    "swaps": lambda: swaps(5),
    "swaps, bare": lambda: swaps(0),
    "laws": laws,
    "together": together,
    "contexts": contexts,
    "figures": figures,
}
SMALL = {
    "_pair_measures._AT_ONCE": 50,
    "_perturbation._MAX_ALONE": 1,
    "exploitation._MAX_CONTEXTS": 2,
    "in_parts._MOST": 5,
    "in_parts._NUMBERS": 70,
    "robustness._MAX_CONTEXTS": 3,
    "swap_agreement._CATEGORIES": 3,
    "swap_agreement._FEATURES": 2,
    "swap_agreement._ROWS": 4,
    "together._AT_ONCE": 300,
    "together._FEWEST": 300,
    "together._MOST_CELLS": 300,
    "together._WORK": 10,
}
"""Sizes at which reports and samples are cut."""


def found(name: str, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    cut_small(patch, "evaluation", SMALL)
    return {"found": CASES[name]()}


@pytest.mark.parametrize("name", CASES)
def test_what_is_found_is_as_before(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_told(FILE, name, found(name, monkeypatch))


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        keep_told(FILE, {name: found(name, patch) for name in CASES})
