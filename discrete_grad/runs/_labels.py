"""Rows with a label: 1 for those that succeeded, 0 for those that failed."""

from __future__ import annotations

import torch

from discrete_grad.data import Table
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.repeats import learning_rows
from discrete_grad.runs._prepared import Observations
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.sampling import permutation, seeded
from discrete_grad.training.loop import derive_seed

__all__ = ["labelled_rows"]


def labelled_rows(
    table: Table,
    config: FitConfig,
    *,
    judged: bool = False,
    observations: Observations | None = None,
) -> ScoredRows:
    """Rows that succeeded, with 1, and rows that failed, with 0; equal rows merged.

    Args:
        table: with rows that failed.
        config: of the fit.
        judged: those of the judge's side, which the classifier never sees, or the other ones.
        observations: of the table, where they are known.
    """
    seen = Observations(table, config) if observations is None else observations
    assert table.failed_codes is not None
    count = len(table.failed_codes)
    order = permutation(count, generator=seeded(derive_seed(config.seed, "failed rows")))
    cut = round(config.judge_share * count)
    failed, fine = (order[:cut], seen.judged) if judged else (order[cut:], seen.mine)
    labels = torch.cat([torch.ones(len(fine)), torch.zeros(len(failed))])
    codes = torch.cat([table.codes[fine], table.failed_codes[failed]])
    context = None
    if table.context is not None and table.failed_context is not None:
        context = torch.cat([table.context[fine], table.failed_context[failed]])
    shuffled = permutation(len(labels), generator=seeded(derive_seed(config.seed, "labels")))
    rows = ScoredRows(codes, labels, context).part(shuffled)
    return learning_rows(rows, table.schema.space.num_rows)
