"""Worth of a row to the generator of a run, for many contexts at once."""

from __future__ import annotations

from torch import Tensor

from discrete_grad.hamming import nearest_hamming
from discrete_grad.models.row_pool import ByContext
from discrete_grad.runs._parts import RunParts

__all__ = ["row_score", "scores_by_estimator"]


def row_score(run: RunParts, contexts: Tensor | None) -> ByContext:
    """The score the generator was trained by, less what its config says of each row.

    Without `reference_kl` and `trust` that is `Run.objective`. The first adds its weight times the
    row's log-probability under the data policy: the law that maximises a score less a divergence
    is the data policy times `exp(score / weight)`. The second takes off its weight times the
    features in which the row differs, beyond `trust_radius`, from the nearest observed one.

    Args:
        run: a finished fit.
        contexts: `(S, C)`, or None.

    Returns:
        A function of codes `(n, F)` and the places `(n,)` of their contexts, that gives `(n,)`.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from pathlib import Path
        >>> from discrete_grad.data import read_table
        >>> from discrete_grad.fitting import EstimatorConfig, GeneratorConfig
        >>> from discrete_grad.runs.fit_config import FitConfig
        >>> from discrete_grad.runs import fit
        >>> table = {"cut": [0, 1, 2] * 20, "score": [0.5, 0.1, 0.9] * 20}
        >>> few = EstimatorConfig(members=2, steps=50)
        >>> config = FitConfig(estimator=few, judge=few, generator=GeneratorConfig(steps=50))
        >>> run = fit(read_table(table, score="score"), Path(tempfile.mkdtemp()) / "run", config)
        >>> row_score(run, None)(torch.tensor([[0], [1], [2]]), torch.zeros(3).long()).argmax()
        tensor(2)
    """
    config, space = run.config.generator, run.table.schema.space
    reference = run.reference(contexts).reshape(-1, space.width) if config.reference_kl else None
    known = run.rows.codes.unique(dim=0) if config.trust else None

    def score(codes: Tensor, where: Tensor) -> Tensor:
        value = run.objective(None if contexts is None else contexts[where])(codes)
        if reference is not None:
            value = value + config.reference_kl * space.log_prob(reference[where], codes)
        if known is not None:
            beyond = nearest_hamming(codes, known) - config.trust_radius
            value = value - config.trust * beyond.clamp_min(0)
        return value

    return score


def scores_by_estimator(run: RunParts) -> bool:
    """Whether `row_score` is what the estimator predicts, with nothing added or taken off."""
    config = run.config.generator
    plain = run.aims is None and run.preference is None and config.combine == "mean"
    added = run.pessimism or config.reference_kl or config.trust or run.scorer_facts
    return plain and not added
