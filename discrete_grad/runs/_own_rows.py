"""Rows of one's own: their scores by estimator and judge, and what each single swap is worth."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from discrete_grad.data import Schema, read_contexts
from discrete_grad.data.errors import Problems
from discrete_grad.data.frames import as_rows, frame_like, with_columns
from discrete_grad.data.sources import Loaded, Source, load
from discrete_grad.grouping import first_rows, row_groups
from discrete_grad.policies.obeying import ObeyingPolicy
from discrete_grad.runs._estimates import estimate_columns, predicted_scores, require_free
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._seen_rows import SeenRows
from discrete_grad.training.devices import AskedFromCpu

__all__ = ["score_rows", "swap_rows"]

_RANK = "rank"


class _OwnRows(NamedTuple):
    loaded: Loaded
    codes: Tensor
    contexts: Tensor | None


@torch.no_grad()
def score_rows(run: RunParts, rows: Source) -> Any:
    """The rows as a frame, with their scores and ranks; see `Run.score`."""
    schema = run.table.schema
    require_free(schema, [_RANK], "score writes")
    own = _read(schema, rows)
    typed = _typed(schema, own) if own.loaded.is_text else {}
    known = [own.codes] if own.contexts is None else [own.codes, own.contexts]
    group = row_groups(*known)
    # each different row once: the place of a row among others decides how its score is rounded
    codes, contexts = _at(own, first_rows(group))
    predicted = _predicted(run, codes, contexts)
    told = _told(run, codes, contexts, predicted)
    told = {name: [values[i] for i in group.tolist()] for name, values in told.items()}
    told["in_table"] = SeenRows(run.table, own.contexts)(own.codes).tolist()
    told[_RANK] = _ranks(predicted[group], own.contexts).tolist()
    return with_columns(rows, own.loaded.table, typed | told)


def _at(own: _OwnRows, places: Tensor) -> tuple[Tensor, Tensor | None]:
    return own.codes[places], None if own.contexts is None else own.contexts[places]


@torch.no_grad()
def swap_rows(run: RunParts, rows: Source) -> Any:
    """A frame with a line for every single swap of the rows; see `Run.swaps`."""
    own, found = _read(run.table.schema, rows), dict[str, list[Any]]()
    for place, codes in enumerate(own.codes):
        context = None if own.contexts is None else own.contexts[place]
        for name, values in _swaps(run, place, codes, context).items():
            found.setdefault(name, []).extend(values)
    return frame_like(rows, found)


def _typed(schema: Schema, own: _OwnRows) -> dict[str, list[Any]]:
    """The columns that the run knows, in their own types: CSV has text alone."""
    contexts = read_contexts(own.loaded.table, schema)[0] if schema.context else {}
    return contexts | schema.decode_features(own.codes)


def _read(schema: Schema, rows: Source) -> _OwnRows:
    """Codes and contexts; all that is wrong with them is told at once."""
    loaded, problems = load(as_rows(rows)), Problems("the table of rows")
    codes, contexts = torch.zeros(0, schema.space.num_features).long(), None
    with problems.collect():
        codes = schema.encode_features(loaded.table)
    with problems.collect():
        contexts = schema.encode_context(loaded.table)
    problems.tell()
    return _OwnRows(loaded, codes, contexts)


def _predicted(run: RunParts, codes: Tensor, contexts: Tensor | None) -> Tensor:
    """What rows are ranked by: the estimator, or of several aims their trade-off."""
    model = run.estimator if run.aims is None else run.aims.objective
    return predicted_scores(AskedFromCpu(model, run.device), codes, contexts)


def _told(
    run: RunParts, codes: Tensor, contexts: Tensor | None, predicted: Tensor
) -> dict[str, list[Any]]:
    """Columns of estimates; of one aim the estimator has been asked already."""
    return estimate_columns(run, codes, contexts, predicted if run.aims is None else None)


def _ranks(values: Tensor, contexts: Tensor | None) -> Tensor:
    """Ranks `(n,)` within a context: 1 and the number of rows there with a larger value."""
    group = torch.zeros(len(values)).long() if contexts is None else row_groups(contexts)
    level = values.unique(return_inverse=True)[1]
    levels = len(values) + 1
    key = group * levels + (levels - 1 - level)
    ordered = key.sort().values
    rank: Tensor = torch.searchsorted(ordered, key) - torch.searchsorted(ordered, group * levels)
    return rank + 1


def _swaps(run: RunParts, place: int, codes: Tensor, context: Tensor | None) -> dict[str, Any]:
    """Columns with a line for each swap of a row, the best by the estimator first."""
    schema = run.table.schema
    after = _allowed(run, schema.space.swaps(codes), context)
    here = _repeated(context, len(after))
    predicted, order = _predicted(run, after, here).sort(descending=True, stable=True)
    after = after[order]
    feature = (after != codes).long().argmax(-1).tolist()
    told = _told(run, after, here, predicted)
    before = estimate_columns(run, codes.unsqueeze(0), _repeated(context, 1))
    effects = {
        # estimated_score is said to have an estimated_effect
        f"{column.removesuffix('_score')}_effect": [value - before[column][0] for value in values]
        for column, values in told.items()
        if column.startswith(("estimated_", "judge_"))
    }
    own = schema.decode_features(codes.unsqueeze(0))
    new = schema.decode_features(after)
    names = [schema.features[i].name for i in feature]
    return {
        "row": [place + 1] * len(after),
        "feature": names,
        "from": [str(own[name][0]) for name in names],
        "to": [str(new[name][i]) for i, name in enumerate(names)],
        **effects,
        **told,
    }


def _repeated(context: Tensor | None, count: int) -> Tensor | None:
    return None if context is None else context.expand(count, -1)


def _allowed(run: RunParts, codes: Tensor, context: Tensor | None) -> Tensor:
    """Those of rows `(n, F)` that the run's rules allow."""
    policy = run.policy
    if not isinstance(policy, ObeyingPolicy):
        return codes
    here = None if context is None else context.to(run.device)
    return codes[policy.allows(codes.to(run.device), here).cpu()]
