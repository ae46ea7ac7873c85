"""Whether rows and scales can be those of a schema: their shapes, types and ranges."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from discrete_grad.data import Schema
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.score_scale import KNOTS, ScoreScale

__all__ = ["check_rows", "check_scale", "check_table", "check_told"]

_KINDS = ("rank", "standard", "raw")


def check_scale(name: str, scale: ScoreScale) -> None:
    """Raise ValueError for a scale of a wrong form."""
    groups = len(scale.keys)
    shapes = {
        "keys": (scale.keys, (groups,), torch.int64),
        "grid": (scale.grid, (groups + 1, KNOTS), torch.float64),
        "ends": (scale.ends, (groups + 1, 2), torch.float64),
    }
    for part, (tensor, shape, dtype) in shapes.items():
        _require(f"{name}/{part}", tensor, shape, dtype)
    if scale.kind not in _KINDS:
        raise ValueError(f"{name} must be one of {', '.join(_KINDS)}, got {scale.kind!r}")
    if not 0 < float(scale.unit) < math.inf:
        raise ValueError(f"the unit of {name} must be above 0 and finite, got {scale.unit!r}")
    if not (scale.keys.diff() > 0).all():
        raise ValueError(f"{name}/keys must increase")


def check_rows(name: str, rows: ScoredRows, schema: Schema) -> None:
    """Raise ValueError for scaled rows that no table of the schema has."""
    count = len(rows.codes)
    _check_codes(f"{name}/codes", rows.codes, schema)
    _require(f"{name}/scores", rows.scores, (count,), torch.float32)
    _check_context(f"{name}/context", rows.context, count, schema)
    if rows.behaviour is not None:
        shape = (count, rows.behaviour.shape[-1])
        _require(f"{name}/behaviour", rows.behaviour, shape, torch.float32)
    for part, least in (("counts", 1), ("spread", 0)):
        tensor = getattr(rows, part)
        if tensor is not None:
            _require(f"{name}/{part}", tensor, (count,), None)
            if (tensor < least).any():
                raise ValueError(f"{name}/{part} must be at least {least}")


def check_table(tensors: dict[str, Tensor], schema: Schema) -> None:
    """Raise ValueError for tensors of a table that the schema does not describe.

    The scores of a table without any are NaN.
    """
    for column in (*schema.features, *schema.context):
        if not isinstance(column.name, str):
            raise ValueError(f"the name of a column must be text, got {column.name!r:.80}")
    count = len(tensors["codes"])
    if not count:
        raise ValueError("the table has no row")
    _check_codes("codes", tensors["codes"], schema)
    _require("scores", tensors["scores"], (count,), torch.float64, finite=bool(schema.score))
    _check_context("context", tensors.get("context"), count, schema)
    if ("more_scores" in tensors) != bool(schema.more_scores):
        raise ValueError("more_scores must be there for further scores, and only for these")
    if schema.more_scores:
        shape = (count, len(schema.more_scores))
        _require("more_scores", tensors["more_scores"], shape, torch.float64)
    if (failed := tensors.get("failed_codes")) is not None:
        _check_codes("failed_codes", failed, schema)
        _check_context("failed_context", tensors.get("failed_context"), len(failed), schema)


def check_told(tensors: dict[str, Tensor], names: object, schema: Schema) -> None:
    """Raise ValueError for rows of a round that the schema does not describe.

    Args:
        tensors: `codes`, `context`, of width 0 without contexts, and `scores` of what was told,
            NaN for rows that failed.
        names: of the measurements, if these are such.
        schema: of the run's table.
    """
    count, spec = len(tensors["codes"]), schema.context_spec
    _check_codes("codes", tensors["codes"], schema)
    width = 0 if spec is None else spec.width
    _require("context", tensors["context"], (count, width), torch.float32)
    if (scores := tensors.get("scores")) is not None:
        shape = (count, 1 + len(schema.more_scores))
        _require("scores", scores, shape, torch.float64, finite=False)
        given = names if isinstance(names, list) else []
        named = len(given) == count and all(isinstance(name, str) for name in given)
        if not named or scores.isinf().any():
            raise ValueError("each row needs a name, and scores that are finite or NaN")


def _check_codes(name: str, codes: Tensor, schema: Schema) -> None:
    sizes = torch.tensor(schema.space.sizes)
    _require(name, codes, (len(codes), len(sizes)), None)
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise ValueError(f"{name} must be whole numbers, got {codes.dtype}")
    if len(codes) and (codes.amin() < 0 or (codes.amax(0).long() >= sizes).any()):
        raise ValueError(f"{name} are beyond the categories of the table")


def _check_context(name: str, context: Tensor | None, count: int, schema: Schema) -> None:
    spec = schema.context_spec
    if (context is None) != (spec is None):
        raise ValueError(f"{name} must be there if, and only if, the table has contexts")
    if context is not None and spec is not None:
        _require(name, context, (count, spec.width), torch.float32)


def _require(
    name: str,
    tensor: Tensor,
    shape: tuple[int, ...],
    dtype: torch.dtype | None,
    *,
    finite: bool = True,
) -> None:
    if tensor.shape != shape or (dtype is not None and tensor.dtype != dtype):
        wanted = f"{shape} of {dtype or tensor.dtype}"
        raise ValueError(f"{name} must be {wanted}, got {tuple(tensor.shape)} of {tensor.dtype}")
    if finite and not tensor.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinity")
