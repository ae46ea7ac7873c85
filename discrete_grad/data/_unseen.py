"""Categories that no row has."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from discrete_grad.data.schema import Schema
from discrete_grad.data.vocabulary import Vocabulary

__all__ = ["Unseen", "unused", "without_unseen"]

Unseen = Literal["keep", "drop"]


def unused(feature: Vocabulary, codes: Tensor) -> Tensor:
    """Booleans `(K,)`, whether none of the codes `(N,)` is the category."""
    return codes.long().bincount(minlength=len(feature)) == 0


def without_unseen(schema: Schema, codes: Tensor) -> tuple[Schema, Tensor]:
    """The schema without the categories that no row has, and the codes `(N, F)` under it."""
    features, columns = [], []
    for feature, column in zip(schema.features, codes.unbind(1), strict=True):
        kept = ~unused(feature, column)
        if not feature.edges and not kept.all():  # intervals between quantiles hold rows
            values = tuple(feature.decode(kept.nonzero()[:, 0]))
            feature = replace(feature, values=values)
            column = (kept.cumsum(0) - 1)[column.long()].to(codes.dtype)
        features.append(feature)
        columns.append(column)
    schema = replace(schema, features=tuple(features))
    return schema, torch.stack(columns, 1).to(schema.code_dtype)
