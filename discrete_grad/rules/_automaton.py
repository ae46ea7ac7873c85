"""The automaton of all rules together, as index tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from discrete_grad.rules._pieces import DEAD, Ints

__all__ = ["Automaton", "Layer", "Tensors"]


@dataclass(frozen=True, eq=False)
class Layer:
    """Edges of one layer. Categories that lead alike from every state form a class.

    Args:
        feature: whose categories it reads.
        classes: the classes' places in the list of all classes, as a slice.
        states: S, the number of states before it.
        after: the number of states behind it.
        kinds: `(S * d,)`, the class of each of the d edges of a state, counted from the layer's
            first; an edge that only fills up the list has the class without categories.
        targets: `(S * d,)`, the states they lead to.
        steps: `(S + 1, K)`, the state behind each category; the last state is the dead one.
    """

    feature: int
    classes: slice
    states: int
    after: int
    kinds: Tensor
    targets: Tensor
    steps: Tensor

    @property
    def edges(self) -> int:
        """Edges a state, d."""
        return len(self.kinds) // self.states

    def to(self, device: torch.device) -> Layer:
        """The same on a device."""
        kinds, targets, steps = (t.to(device) for t in (self.kinds, self.targets, self.steps))
        return Layer(self.feature, self.classes, self.states, self.after, kinds, targets, steps)


@dataclass(frozen=True, eq=False)
class Tensors:
    """Layers and classes on one device.

    Args:
        layers: in the order in which the automaton reads them.
        groups: `(n, z)`, columns of n classes of at most z categories each; a place left over has
            the column D, which stands for none.
        places: `(W,)`, where each class lies among the groups, one after the other.
        class_of: `(D,)`, the class of each column; W - 1 for a category that never occurs.
        columns: `(D,)`, all columns with those of a class side by side.
        bounds: `(2, W)`, first place of each class in `columns`, and the one behind its last.
    """

    layers: tuple[Layer, ...]
    groups: tuple[Tensor, ...]
    places: Tensor
    class_of: Tensor
    columns: Tensor
    bounds: Tensor


@dataclass(frozen=True, eq=False)
class Automaton:
    """Minimal layered automaton over features of the given sizes.

    Args:
        sizes: of the features, in their own order.
        order: the feature of each layer.
        tables: of each layer, `(S, K)`: see `_pieces`.
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]
    tables: tuple[Ints, ...]
    _on_cpu: Tensors = field(init=False)
    _elsewhere: dict[torch.device, Tensors] = field(init=False)

    @property
    def states(self) -> tuple[int, ...]:
        """Number of states before each layer, and behind the last."""
        return (*(len(table) for table in self.tables), 1)

    @cached_property
    def num_rows(self) -> int:
        """Number of rows it allows."""
        rows = np.array([1, 0], dtype=object)  # behind the last layer, and from the dead state
        for table in reversed(self.tables):
            rows = np.append(rows[table].sum(1), 0)
        return int(rows[0])

    def run(self, codes: Tensor) -> Tensor:
        """Whether each row of codes `(..., F)` is allowed, `(...)`."""
        state = torch.zeros(codes.shape[:-1], dtype=torch.long, device=codes.device)
        columns = codes.long().unbind(-1)
        for layer in self.tensors(codes.device).layers:
            state = layer.steps[state, columns[layer.feature]]
        return state == 0

    def enumerate(self) -> Tensor:
        """Every row it allows, `(num_rows, F)`, sorted, the last feature slowest to matter."""
        state, rows = np.zeros(1, np.int64), np.zeros((1, 0), np.int64)
        for table in self.tables:
            parent, code = (table[state] != DEAD).nonzero()
            rows = np.concatenate([rows[parent], code[:, None]], 1)
            state = table[state[parent], code]
        rows = rows[:, np.argsort(self.order)]
        return torch.from_numpy(rows[np.lexsort(rows.T[::-1])])

    def tensors(self, device: torch.device) -> Tensors:
        """The automaton on a device, where it is kept."""
        if device.type == "cpu":
            return self._on_cpu
        if torch.compiler.is_compiling():  # the compiler keeps constants of its own
            return _moved(self._on_cpu, device)
        if device not in self._elsewhere:
            self._elsewhere[device] = _moved(self._on_cpu, device)
        return self._elsewhere[device]

    def __post_init__(self) -> None:
        # at once, since the compiler does not follow a cached property
        object.__setattr__(self, "_on_cpu", self._made())
        object.__setattr__(self, "_elsewhere", {})

    def _made(self) -> Tensors:
        offsets = np.cumsum([0, *self.sizes])
        layers: list[Layer] = []
        members: list[Ints] = []
        after = [*(len(table) for table in self.tables[1:]), 1]
        for feature, table, behind in zip(self.order, self.tables, after, strict=True):
            edges = _edges(table)
            first = len(members)
            members += [offsets[feature] + columns for columns in edges.members]
            classes = slice(first, len(members))
            steps = np.where(table == DEAD, behind, table)
            steps = np.concatenate([steps, np.full((1, table.shape[1]), behind)])
            index = (torch.from_numpy(np.ascontiguousarray(a)) for a in (*edges.index, steps))
            layers.append(Layer(feature, classes, len(table), behind, *index))
        members.append(np.zeros(0, np.int64))  # the class of what never occurs
        return _with_classes(tuple(layers), members, int(offsets[-1]))


@dataclass(frozen=True, eq=False)
class _Edges:
    members: list[Ints]  # categories of each class; maybe a last one without any
    index: tuple[Ints, Ints]  # class and target of every edge


def _edges(table: Ints) -> _Edges:
    """Edges of a table `(S, K)`, as many from each state."""
    ways, of_class = np.unique(table, axis=1, return_inverse=True)
    of_class = of_class.reshape(-1)
    alive = ways != DEAD  # (S, C)
    some = alive.any(0)
    members = [np.flatnonzero(of_class == c) for c in np.flatnonzero(some)]
    ways, alive = ways[:, some], alive[:, some]
    most = int(alive.sum(1).max())
    # the living edges of a state first
    kinds = np.argsort(~alive, axis=1, kind="stable")[:, :most]
    there = np.take_along_axis(alive, kinds, 1)
    targets = np.where(there, np.take_along_axis(ways, kinds, 1), 0)
    if not there.all():
        kinds = np.where(there, kinds, len(members))
        members.append(np.zeros(0, np.int64))
    return _Edges(members, (kinds.flatten(), targets.flatten()))


def _with_classes(layers: tuple[Layer, ...], members: Sequence[Ints], width: int) -> Tensors:
    """The tensors of the classes, of which the last has no categories."""
    # filled up to a power of two, so that there are few groups
    room = np.array([1 << max(len(some) - 1, 0).bit_length() for some in members])
    groups, places = [], np.zeros(len(members), np.int64)
    found = 0
    for size in sorted(set(room.tolist())):
        here = np.flatnonzero(room == size)
        table = np.full((len(here), size), width)
        for row, number in zip(table, here.tolist(), strict=True):
            row[: len(members[number])] = members[number]
        places[here] = found + np.arange(len(here))
        found += len(here)
        groups.append(torch.from_numpy(table))
    class_of = np.full(width, len(members) - 1)
    for number, some in enumerate(members):
        class_of[some] = number
    columns = np.argsort(class_of, kind="stable")
    ends = np.searchsorted(class_of[columns], np.arange(len(members)), side="right")
    bounds = np.stack([np.append(0, ends[:-1]), ends])
    tensors = (torch.from_numpy(a) for a in (places, class_of, columns, bounds))
    return Tensors(layers, tuple(groups), *tensors)


def _moved(tensors: Tensors, device: torch.device) -> Tensors:
    index = (tensors.places, tensors.class_of, tensors.columns, tensors.bounds)
    return Tensors(
        tuple(layer.to(device) for layer in tensors.layers),
        tuple(group.to(device) for group in tensors.groups),
        *(some.to(device) for some in index),
    )
