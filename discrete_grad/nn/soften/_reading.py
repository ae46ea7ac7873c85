"""Ways of reading codes: which columns an operation on traced codes gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["Reads", "follow"]


@dataclass(frozen=True)
class Reads:
    """Content of a traced value: columns of the codes, each with a number added.

    Attributes:
        features: which columns.
        starts: what is added to each.
        single: the value is one column `(N,)`, not `(N, len(features))`.
    """

    features: tuple[int, ...]
    starts: tuple[int, ...]
    single: bool = False

    def pick(self, index: int | slice | list[int]) -> Reads:
        """The columns that an index selects."""
        count = len(self.features)
        if isinstance(index, int):
            if not -count <= index < count:
                raise IndexError(f"column {index} of codes that have {count}")
            return Reads((self.features[index],), (self.starts[index],), single=True)
        chosen = range(count)[index] if isinstance(index, slice) else index
        features, starts = self.features, self.starts
        return Reads(tuple(features[i] for i in chosen), tuple(starts[i] for i in chosen))

    def columns(self) -> tuple[Reads, ...]:
        """One by one."""
        return tuple(self.pick(i) for i in range(len(self.features)))

    def shift(self, added: Any) -> Reads | None:
        """The columns with a number added to all, or one to each; None for anything else."""
        count = len(self.starts)
        if isinstance(added, Tensor):
            fits = added.numel() == 1 or added.shape[-1] == added.numel() == count
            if not fits or added.dim() > (1 if self.single else 2):
                return None
            added = added.flatten().tolist()
        elif isinstance(added, int):
            added = [added]
        else:
            return None
        added = added * count if len(added) == 1 else added
        return replace(self, starts=tuple(a + b for a, b in zip(self.starts, added, strict=True)))


_UNCHANGED = {"long", "int", "to", "type", "contiguous", "clone", "detach"}
_LAST = (-1, 1)
_SWAPS = ([0, 1], [-1, 0], [-2, -1], [-2, 1])


def follow(node: fx.Node, known: Callable[[Any], Any]) -> Any:
    """Result of an operation on codes.

    Args:
        node: the operation.
        known: tells of an argument of it what it holds: `Reads`, a tuple of them, a constant, None.

    Returns:
        `Reads`, a tuple of them for several values, a device, or None if it cannot be told.
    """
    name = str(getattr(node.target, "__name__", node.target))
    if name in ("add", "iadd"):
        pair = [known(argument) for argument in _arguments(node, "input", "other")]
        pair.sort(key=lambda value: not isinstance(value, Reads))
        return pair[0].shift(pair[1]) if pair and isinstance(pair[0], Reads) else None
    source = node.args[0] if node.args else node.kwargs.get("input")
    held = known(source) if isinstance(source, fx.Node) else None
    if isinstance(held, tuple):
        return held[node.args[1]] if name == "getitem" else None  # type: ignore[index]
    if not isinstance(held, Reads):
        return None
    if name == "getattr" and node.args[1] == "device":
        return torch.device("cpu")  # to compute constants with; the graph keeps the question
    if name in _UNCHANGED:
        return held
    return None if held.single else _columns(node, name, held, known)


def _columns(node: fx.Node, name: str, reads: Reads, known: Callable[[Any], Any]) -> Any:
    """Columns of codes `(N, F)`."""
    if name == "getitem":
        return _getitem(reads, node.args[1], known)
    if name == "t" or (name == "getattr" and node.args[1] == "T"):
        return reads.columns()
    if name == "transpose" and sorted(_arguments(node, "input", "dim0", "dim1")[1:]) in _SWAPS:
        return reads.columns()
    if name == "unbind" and _arguments(node, "input", "dim")[1:] in ([-1], [1]):
        return reads.columns()
    if name == "select":
        dim, index = _arguments(node, "input", "dim", "index")[1:] or (None, None)
        return reads.pick(index) if dim in _LAST and isinstance(index, int) else None
    if name == "split":
        size, dim = _arguments(node, "input", "split_size", "dim")[1:] or (None, None)
        if dim in _LAST and isinstance(size, int):
            return tuple(reads.pick(slice(i, i + size)) for i in range(0, len(reads.starts), size))
    return None


def _getitem(reads: Reads, index: Any, known: Callable[[Any], Any]) -> Reads | None:
    """`codes[:, i]` and `codes[..., i]`, i a number, a slice or a list of numbers."""
    if not isinstance(index, tuple) or len(index) != 2 or index[0] not in (Ellipsis, slice(None)):
        return None
    last = known(index[1])
    if isinstance(last, Tensor) and last.dim() < 2:
        last = last.tolist()
    if isinstance(last, list):
        return reads.pick(list(last)) if all(type(i) is int for i in last) else None
    return reads.pick(last) if isinstance(last, (int, slice)) else None


def _arguments(node: fx.Node, *names: str) -> list[Any]:
    """The arguments in order, by position or name; empty if there are others or too few."""
    named = dict(node.kwargs)
    rest = [named.pop(name) for name in names[len(node.args) :] if name in named]
    found = [*node.args, *rest]
    return found if len(found) == len(names) and not named else []
