"""Digests of what a run was fitted to, by which a change is seen."""

from __future__ import annotations

import hashlib

from torch import Tensor

from discrete_grad.data import Table
from discrete_grad.preferences.preferences import Preferences

__all__ = ["ROWS", "digest_of", "pair_tensors", "table_digest", "table_tensors", "text_digest"]

ROWS = ("codes", "scores", "context", "more_scores", "failed_codes", "failed_context")
"""Tensors of a table, in the order of its digest."""

_HASHED = 2**16  # rows at a time


def table_tensors(table: Table) -> dict[str, Tensor]:
    """Tensors of a table, as far as it has them."""
    tensors = {name: getattr(table, name) for name in ROWS}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def pair_tensors(preferences: Preferences) -> dict[str, Tensor]:
    """Tensors of preferences, likewise."""
    names = ("first", "second", "outcome", "context", "annotator")
    tensors = {name: getattr(preferences, name) for name in names}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def table_digest(table: Table) -> str:
    """Digest of a table with its schema."""
    return digest_of(table_tensors(table), table.schema.to_json())


def digest_of(tensors: dict[str, Tensor], text: object) -> str:
    """Digest of tensors, in their order, and of a text."""
    digest = hashlib.sha256(str(text).encode())
    for tensor in tensors.values():
        for part in tensor.split(_HASHED):
            # a digest of the numbers, however narrow they are stored
            wide = part if part.is_floating_point() else part.long()
            digest.update(wide.contiguous().numpy().data)
    return digest.hexdigest()


def text_digest(text: str) -> str:
    """Digest of a text alone."""
    return hashlib.sha256(text.encode()).hexdigest()
