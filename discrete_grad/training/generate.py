"""New rows for given contexts, from a finished run."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor

from discrete_grad.data import Schema
from discrete_grad.evaluation import nearest_hamming
from discrete_grad.models import distinct_rows, single_swap_ascent
from discrete_grad.sampling import seeded
from discrete_grad.training.checkpoint import RunError
from discrete_grad.training.finished import Run
from discrete_grad.training.loop import derive_seed

__all__ = ["FewRowsWarning", "check_columns", "generate", "polished_row"]

_ESTIMATED, _JUDGED = "estimated_score", "judge_score"


class FewRowsWarning(UserWarning):
    """A context got fewer different rows than were asked for.

    Example:
        >>> issubclass(FewRowsWarning, UserWarning)
        True
    """


def check_columns(schema: Schema) -> None:
    """Raise RunError if the table has a column of a name that `generate` writes itself.

    Example:
        >>> from discrete_grad.data import Vocabulary
        >>> try:
        ...     check_columns(Schema((Vocabulary("judge_score", (1, 2)),), (), "score"))
        ... except RunError as error:
        ...     print(error)
        the table has a column 'judge_score', which generate writes itself: rename it
    """
    taken = {column.name for column in (*schema.features, *schema.context)}
    for name in (_ESTIMATED, _JUDGED):
        if name in taken:
            raise RunError(
                f"the table has a column {name!r}, which generate writes itself: rename it"
            )


@torch.no_grad()
def generate(
    run: Run, columns: dict[str, list[Any]], contexts: Tensor | None, *, rows: int, seed: int = 0
) -> dict[str, list[Any]]:
    """Different rows for each context, the best first, by the judge's score: lowest if minimised.

    In a fit with preferences their reward counts as well, with the weight it was trained with.

    Args:
        run: a finished fit.
        columns: the contexts as given, S values a column, from `read_contexts`; empty without.
        contexts: the same encoded, `(S, C)`; None for the one distribution of a fit without.
        rows: different rows wanted for each context, at least 1.
        seed: decides every random number.

    Returns:
        Columns: the contexts', the features, `estimated_score` and `judge_score` in the table's
        units. A context that has fewer different rows gets fewer, with a `FewRowsWarning`.

    Raises:
        RunError: as `check_columns`, or for fewer than 1 row.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from discrete_grad.data import read_table
        >>> from discrete_grad.training import EstimatorConfig, FitConfig, fit
        >>> table = {"cut": [0, 1, 2] * 20, "score": [0.5, 0.1, 0.9] * 20}
        >>> few = EstimatorConfig(members=2, steps=50)
        >>> config = FitConfig(estimator=few, judge=few)
        >>> run = fit(read_table(table, score="score"), Path(tempfile.mkdtemp()) / "run", config)
        >>> generate(run, {}, None, rows=1)["cut"]
        [2]
    """
    if rows < 1:
        raise RunError(f"rows must be at least 1, got {rows}")
    schema = run.table.schema
    check_columns(schema)
    names = [*columns, *schema.space.names, _ESTIMATED, _JUDGED]
    written: dict[str, list[Any]] = {name: [] for name in names}
    for index in range(1 if contexts is None else len(contexts)):
        context = None if contexts is None else contexts[index]
        noise = seeded(derive_seed(seed, "generate", index))
        logits = run.generator(context)
        also = polished_row(run, context).unsqueeze(0) if run.config.polish else None
        value = partial(run.value, context=context)
        codes = distinct_rows(schema.space, logits, rows, value, also=also, generator=noise)
        if len(codes) < rows:
            place = "" if contexts is None else f"context row {index + 1}: "
            text = f"{place}only {len(codes)} different rows of {rows}"
            warnings.warn(text, FewRowsWarning, stacklevel=2)
        part = {name: [values[index]] * len(codes) for name, values in columns.items()}
        for name, values in (part | _columns(run, codes, context)).items():
            written[name] += values
    return written


@torch.no_grad()
def polished_row(run: Run, context: Tensor | None) -> Tensor:
    """Codes `(F,)`: from the most likely row in a context `(C,)` up the best single swaps.

    They climb the score the generator was trained by, and stay within `trust_radius` of an observed
    row if the generator's config gives `trust` a weight. See `single_swap_ascent` for the cost.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from discrete_grad.data import read_table
        >>> from discrete_grad.training import EstimatorConfig, FitConfig, fit
        >>> table = {"cut": [0, 1, 2] * 20, "score": [0.5, 0.1, 0.9] * 20}
        >>> few = EstimatorConfig(members=2, steps=50)
        >>> config = FitConfig(estimator=few, judge=few)
        >>> run = fit(read_table(table, score="score"), Path(tempfile.mkdtemp()) / "run", config)
        >>> polished_row(run, None)
        tensor([2])
    """
    space, config = run.table.schema.space, run.config.generator

    def near(codes: Tensor) -> Tensor:
        return nearest_hamming(codes, run.rows.codes) <= config.trust_radius

    likely = space.argmax(run.generator(context)).unsqueeze(0)
    allowed = near if config.trust else None
    return single_swap_ascent(space, run.score(context), likely, allowed=allowed).squeeze(0)


def _columns(run: Run, codes: Tensor, context: Tensor | None) -> dict[str, list[Any]]:
    """Features and scores of codes `(N, F)` in one context `(C,)`."""
    repeated = None if context is None else context.expand(len(codes), -1)
    columns: dict[str, list[Any]] = dict(run.table.schema.decode_features(codes))
    for name, model in ((_ESTIMATED, run.estimator), (_JUDGED, run.judge)):
        columns[name] = run.to_units(model(codes, repeated), repeated).tolist()
    return columns
