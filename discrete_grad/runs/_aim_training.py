"""Training of the generator of several aims: what it is shown, and by what it is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.aims import WithoutTradeoff, with_tradeoffs
from discrete_grad.fitting.generator import FrozenModels
from discrete_grad.models.aimed import scalarised, tradeoff_spec, tradeoff_weights
from discrete_grad.policies import Generator
from discrete_grad.runs._aim_stages import AimWork, has_aims, traded, traded_names
from discrete_grad.runs._aims import KIND, aimed, hindered
from discrete_grad.sampling import isolated_seed
from discrete_grad.training.loop import derive_seed

__all__ = ["new_traded_generator", "with_aims"]


def new_traded_generator(work: AimWork) -> Generator:
    """An untrained generator whose context ends with a trade-off."""
    schema, config = work.table.schema, work.config
    spec = tradeoff_spec(schema.context_spec, traded_names(schema))
    with isolated_seed(derive_seed(config.seed, "generator", "weights")):
        return Generator(schema.space, spec, hidden=config.generator.hidden)


def with_aims(work: AimWork, frozen: FrozenModels) -> tuple[FrozenModels, ScoredRows]:
    """Frozen models and rows that a generator is trained by; of one score as they are given."""
    schema, rows = work.table.schema, work.prepared.rows
    if not has_aims(schema):
        return frozen, rows
    estimator, judge = (aimed(work, name) for name in ("estimator", "judge"))
    frozen = replace(frozen, estimator=estimator, judge=judge, preference=hindered(work))
    count = traded(schema)
    if count < 2:
        return frozen, rows
    bare = schema.context_spec is None
    asked: dict[str, Any] = {
        name: WithoutTradeoff(model, count, bare=bare)
        for name in ("reference", "aligner", "preference")
        if isinstance(model := getattr(frozen, name), nn.Module)
    }
    seed = derive_seed(work.config.seed, "trade-offs")
    return replace(frozen, **asked), _worth(with_tradeoffs(rows, count, seed=seed), count)


def _worth(rows: ScoredRows, count: int) -> ScoredRows:
    """The rows with what each is worth at its trade-off as its score."""
    assert rows.context is not None
    weights = tradeoff_weights(rows.context[:, -count:])
    scores = rows.all_scores[:, :count]
    low, high = scores.amin(0), scores.amax(0)
    worth = (high - low).mean() * scalarised((scores - low) / (high - low), weights, KIND)
    return replace(rows, scores=torch.as_tensor(worth, dtype=rows.scores.dtype))
