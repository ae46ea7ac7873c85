"""Facts for a report on several aims: the front, what was asked against what was got, chances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from discrete_grad.evaluation import spearman
from discrete_grad.models.aimed import Chance, scalarised
from discrete_grad.models.pareto import tradeoff_grid
from discrete_grad.runs._aims import RunAim
from discrete_grad.runs._guides import likely_row, under
from discrete_grad.runs._labels import labelled_rows
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._proposals import Proposals
from discrete_grad.runs.pareto_front import front_values, propose_front
from discrete_grad.training.devices import AskedFromCpu

__all__ = ["aims_facts"]

_CONTEXTS = 4
_FRONT = 32
_EVALUATIONS = 2**14
_TRAINING = 400  # rows that the picture shows
_GRID = 21
_BINS = 8


@torch.no_grad()
def aims_facts(
    run: RunParts, contexts: Tensor | None, labels: Sequence[str], positions: Tensor
) -> dict[str, Any]:
    """Facts on the aims of a run; nothing for a run of one score.

    Args:
        run: finished.
        contexts: `(S, C)` that are shown, or None.
        labels: a name for each.
        positions: `(N,)`, the shown context of each row of the table, -1 for none.

    Returns:
        JSON: `words` of each aim; `parts`, of each the `label`, whether it is a `threshold`, the
        rank correlation `spearman` on rows held out and its `baseline`; `reliability` of each
        chance; `fronts` of the first contexts; `asked`, what the generator's likeliest rows are
        worth as the trade-off changes, and how near each is to the best one for its own.
    """
    if run.aims is None:
        return {}
    facts: dict[str, Any] = {
        "words": [part.aim.words for part in run.aims.parts],
        "parts": [_part(part) for part in run.aims.parts],
        "reliability": _reliability(run),
    }
    if run.aims.tradeoff is None:
        return facts
    shown = range(1 if contexts is None else min(_CONTEXTS, len(contexts)))
    found = [_found(run, contexts, index) for index in shown]
    fronts = [
        {"label": labels[index], **_front(run, contexts, index, rows, positions)}
        for index, rows in zip(shown, found, strict=True)
    ]
    asked = _asked(run, contexts, found[0].codes)
    traded = [part.aim.label for part in _traded(run)]
    return facts | {"traded": traded, "fronts": fronts, "asked": asked}


def _part(part: RunAim) -> dict[str, Any]:
    return {
        "label": part.aim.label,
        "threshold": part.aim.is_threshold,
        "minimised": part.aim.sign < 0,
        "spearman": part.held_out.get("spearman"),
        "baseline": part.held_out.get("baseline"),
    }


def _units(
    part: RunAim, name: str, codes: Tensor, context: Tensor | None, run: RunParts
) -> list[float]:
    """What a model expects of rows `(n, F)`, in the units of the table."""
    model = part.estimator if name == "estimator" else part.judge
    to_units = part.to_units if name == "estimator" else part.judge_to_units
    units: list[float] = to_units(AskedFromCpu(model, run.device)(codes, context), context).tolist()
    return units


def _traded(run: RunParts) -> list[RunAim]:
    assert run.aims is not None
    return [part for part in run.aims.parts if not part.aim.is_threshold]


def _found(run: RunParts, contexts: Tensor | None, index: int) -> Proposals:
    """Rows of the front in one context."""
    here = None if contexts is None else contexts[index : index + 1]
    (found,) = propose_front(
        run, here, count=_FRONT, rules=run.rules, new_only=False, evaluations=_EVALUATIONS
    )
    return found


def _front(
    run: RunParts, contexts: Tensor | None, index: int, found: Proposals, positions: Tensor
) -> dict[str, Any]:
    """Values of the front's rows and of rows of the table, in units, one list for each aim."""
    codes = found.codes
    context = None if contexts is None else contexts[index].expand(len(codes), -1)
    table = run.table
    scores = table.all_scores[positions == index][:_TRAINING]
    parts = _traded(run)
    return {
        "tradeoffs": [] if found.tradeoffs is None else found.tradeoffs.tolist(),
        "estimated": [_units(part, "estimator", codes, context, run) for part in parts],
        "judged": [_units(part, "judge", codes, context, run) for part in parts],
        "training": [table.schema.in_units(scores[:, i], i).tolist() for i in range(len(parts))],
    }


def _asked(run: RunParts, contexts: Tensor | None, front: Tensor) -> dict[str, Any]:
    """The likeliest row at trade-offs over the simplex, in the first context of the given front."""
    assert run.aims is not None
    context = None if contexts is None else contexts[0].to(run.device)
    names = run.aims.names
    grid = tradeoff_grid(len(names), _GRID)
    codes = torch.stack(
        [likely_row(under(run.at_weights(w).generator, run.rules), context) for w in grid]
    )
    values = front_values(run, codes, context)
    everything = torch.cat([values, front_values(run, front.to(codes.device), context)])
    # worth[i, j]: of row j to trade-off i, which asked for row i
    worth = scalarised(everything, grid.to(values).unsqueeze(1), run.aims.objective.kind)
    missed = worth.amax(1) - worth.diagonal()
    asked, got = grid.T.contiguous(), values.T.cpu().contiguous()
    home = codes.cpu()
    here = None if context is None else context.cpu().expand(len(home), -1)
    return {
        "weights": grid.T.tolist(),
        "estimated": [_units(part, "estimator", home, here, run) for part in _traded(run)],
        "judged": [_units(part, "judge", home, here, run) for part in _traded(run)],
        "agreement": [spearman(w, v) for w, v in zip(asked, got, strict=True)],
        "missed": float(missed.mean()),
        "different_rows": len(codes.unique(dim=0)),
    }


def _reliability(run: RunParts) -> list[dict[str, Any]]:
    """Of each chance the probabilities said, and the shares that came true, on unseen rows."""
    assert run.aims is not None
    found = []
    for place, part in enumerate(run.aims.parts):
        if part.chance is not None and part.aim.value is not None:
            rows = run.judge_rows.to(torch.device("cpu"))
            count = len(rows)
            least = torch.full((count,), part.aim.sign * part.aim.value, dtype=torch.float64)
            met = rows.all_scores[:, place] >= part.scale.apply(least, rows.context)
            found.append(_bins(part.aim.words, run, part.chance, rows.codes, rows.context, met))
    if run.aims.feasible is not None:
        rows = labelled_rows(run.table, run.config, judged=True)
        chance = run.aims.feasible
        found.append(_bins("feasible", run, chance, rows.codes, rows.context, rows.scores))
    return found


def _bins(
    name: str, run: RunParts, chance: Chance, codes: Tensor, context: Tensor | None, met: Tensor
) -> dict[str, Any]:
    said = AskedFromCpu(chance, run.device)(codes.long(), context)
    order = said.argsort(stable=True)
    parts = [part for part in order.tensor_split(_BINS) if len(part)]
    truth = met.float()
    bins = [
        {"said": float(said[p].mean()), "true": float(truth[p].mean()), "rows": len(p)}
        for p in parts
    ]
    error = sum(len(p) * abs(b["said"] - b["true"]) for p, b in zip(parts, bins, strict=True))
    return {
        "name": name,
        "bins": bins,
        "error": error / len(said),
        "brier": float((said - truth).square().mean()),
        "base_brier": float((truth.mean() - truth).square().mean()),
        "rows": len(said),
    }
