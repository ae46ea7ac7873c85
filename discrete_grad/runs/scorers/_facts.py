"""Facts on a fit's scorer for its report, and what a fit by one cannot have."""

from __future__ import annotations

from typing import Any

from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.runs.scorers._given import Scorers
from discrete_grad.training.checkpoint import RunError

__all__ = ["check_scorers", "scorer_facts"]


def check_scorers(scorers: Scorers, config: FitConfig) -> None:
    """Raise RunError for settings that need more than a score, or answers that are all equal."""
    _ = scorers.scales
    wanted = config.generator
    for name, value, why in (
        ("alignment", wanted.alignment, "the latents of an estimator"),
        ("coverage", wanted.coverage, "an ensemble of estimators"),
    ):
        if value:
            raise RunError(
                f"generator.{name} needs {why}, and {scorers.scorer.role} is asked for its score "
                f"alone: set it to 0, got {value:g}"
            )


def scorer_facts(scorers: Scorers) -> dict[str, Any]:
    """JSON for `Run.scorer_facts`."""
    scorer = scorers.scorer
    return {
        **scorers.settings["scorer"],
        "differentiable": scorer.differentiable,
        "why_not": scorer.why_not,
        "judge": _judge(scorers),
        "agreement": scorers.agreement(),
        "rows": len(scorers.table),
        **scorers.facts,
    }


def _judge(scorers: Scorers) -> str:
    """`given`, `trained` on the table's scores, or `none`."""
    if "judge" in scorers.bound:
        return "given"
    return "trained" if scorers.trains_judge else "none"
