"""The settings an estimator was trained by, and how well it does, for a run's report."""

from __future__ import annotations

import math
from typing import Any

from discrete_grad.fitting.context_range import trained_ranges
from discrete_grad.models import BaseEnsemble, StackedEnsemble
from discrete_grad.runs._parts import RunParts

__all__ = ["estimator_facts"]

_LATE = 0.9
_GAIN = 0.01


def estimator_facts(run: RunParts) -> dict[str, Any]:
    """Facts on the estimator of a run, the same whether it was just fitted or loaded.

    Returns:
        JSON: `maximises`, the functional; `rows` it learned from; `settings`, those that follow
        from the number of rows; `families`, name -> weight, 0 for one left out; `held_out` as in
        `Run`; `still_improving`, whether more steps may help; `numeric_contexts`, the trained
        range of each numeric context column.
    """
    config = run.config.scorer("estimator").for_rows(len(run.rows))
    settings = {
        name: getattr(config, name)
        for name in ("batch_size", "steps", "weight_decay", "hidden", "members")
    }
    return {
        "maximises": "mean" if run.config.maximise == "raw" else run.config.maximise,
        "rows": len(run.rows),
        "settings": settings,
        "families": _families(run.estimator, config.families),
        "held_out": run.held_out,
        "still_improving": _still_improving(run.metrics(), config.steps),
        "numeric_contexts": trained_ranges(run.table),
    }


def _families(estimator: BaseEnsemble, names: tuple[str, ...]) -> dict[str, float]:
    if isinstance(estimator, StackedEnsemble):
        return dict(zip(estimator.names, estimator.weights.tolist(), strict=True))
    return dict.fromkeys(names, 1.0)


def _still_improving(metrics: list[dict[str, float]], steps: int) -> bool:
    """Whether the held-out loss was best at the last step, and 1% better than before the end."""
    key = "estimator/held_out_loss"
    losses = {int(line["step"]): line[key] for line in metrics if key in line}
    before = [loss for step, loss in losses.items() if step <= _LATE * steps]
    last = losses.get(steps, math.inf)
    return bool(before) and last <= min(losses.values()) and last < (1 - _GAIN) * min(before)
