"""Small synthetic subjects of reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.data import ScoredRows
from discrete_grad.evaluation import Observed, Subject, TrainingContexts, percentile
from discrete_grad.models import Estimator, EstimatorEnsemble
from discrete_grad.policies import Generator
from discrete_grad.sampling import isolated_seed, random_codes, random_indices


@dataclass(frozen=True)
class AdditiveTruth:
    """The score of a row is the sum of its codes plus the context's position."""

    space: CategoricalSpace

    def score(self, codes: Tensor, context: int) -> Tensor:
        """Sum of the codes."""
        return codes.sum(-1).double() + context

    def percentile(self, codes: Tensor, context: int) -> Tensor:
        """Against 500 random rows."""
        generator = torch.Generator().manual_seed(0)
        reference = random_codes(self.space, 500, generator=generator)
        return percentile(codes.sum(-1), reference.sum(-1))


SPACE = CategoricalSpace({"cut": ["fair", "good", "ideal"], "colour": 4, "size": 2})


def make_subject(
    space: CategoricalSpace | None = None,
    *,
    contexts: int = 0,
    truth: bool = True,
    rows: int = 60,
    **changes: Any,
) -> Subject:
    """A subject with untrained models; 0 contexts means none."""
    space = space or SPACE
    spec = ContextSpec({"shop": contexts}) if contexts else None
    generator = torch.Generator().manual_seed(1)
    codes = random_codes(space, rows, generator=generator)
    index = random_indices(max(contexts, 1), (rows,), generator=generator)
    shown = torch.eye(contexts) if contexts else None
    context = shown[index] if shown is not None else None
    scores = codes.sum(-1).double() + index
    scaled = ((scores - scores.mean()) / scores.std()).float()
    with isolated_seed(0):
        estimator, judge = (
            EstimatorEnsemble([Estimator(space, context=spec, hidden=(8,)) for _ in range(2)])
            for _ in range(2)
        )
        policies = {
            name: Generator(space, spec, hidden=(8,))
            for name in ("data policy", "naive baseline", "generator")
        }
        if not contexts:
            for policy in policies.values():
                torch.nn.init.normal_(policy.free_logits)
    spread = TrainingContexts(spec, context) if spec and context is not None else None
    steps = range(20, 120, 20)
    metrics = [
        {"step": step, f"{stage}/loss": 1 / step, f"{stage}/held_out_loss": 2 / step}
        for stage in ("judge", "estimator", "generator")
        for step in steps
    ]
    fields: dict[str, Any] = {
        "space": space,
        "contexts": shown,
        "labels": [f"shop {i}" for i in range(contexts)] if contexts else ["all rows"],
        "observed": Observed(codes, scores, index, "price"),
        "estimator": estimator,
        "judge": judge,
        "to_units": lambda scaled, context: scores.mean() + scores.std() * scaled,
        "policies": policies,
        "truth": AdditiveTruth(space) if truth else None,
        "held_out": {name: ScoredRows(codes, scaled, context) for name in ("estimator", "judge")},
        "metrics": metrics,
        "settings": {"table": "synthetic", "seed": 0},
        "training_contexts": spread,
    }
    return Subject(**{**fields, **changes})
