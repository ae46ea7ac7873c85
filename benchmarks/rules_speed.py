"""Times and memory of `rules`: the law of allowed rows, and what one would do without it."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import peak_bytes
from discrete_grad.rules import Budget, Forbid, Rules, Within
from discrete_grad.sampling import categorical, normal, seeded, uniform_like
from discrete_grad.space import CategoricalSpace

Times = dict[str, float]
"""Milliseconds of a call, the median: `wall`, and `cpu` of this process."""

DRAWN = 256  # rows asked of each method
LISTED = 10**7  # rows that a list may have
TEN = 10  # categories of each feature where the table grows


def timed(call: Callable[[], object], rounds: int) -> Times:
    """Medians over rounds, after one that does not count."""
    call()
    return _medians([_once(call) for _ in range(rounds)])


def _once(call: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def _medians(pairs: Sequence[tuple[float, float]]) -> Times:
    wall, cpu = (1e3 * median(times) for times in zip(*pairs, strict=True))
    return {"wall": wall, "cpu": cpu}


# --- against a list of rows and against rejection -------------------------------------------------


def table_rules(features: int) -> Rules:
    """A budget, and categories that may not be neighbours, on features of ten categories.

    Prices are 0, 1, ... 9; the limit is 2 a feature, where a feature costs 4.5 on average.
    """
    space = CategoricalSpace.from_sizes((TEN,) * features)
    names = space.names
    costs: dict[str | int, int] = {code: code for code in range(1, TEN)}
    apart = [Forbid({before: 0, after: 0}) for before, after in itertools.pairwise(names)]
    return Rules(space, [Budget(dict.fromkeys(names, costs), limit=2 * features), *apart])


def against(features: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Time to draw 256 allowed rows from independent features given the rules, by each way.

    Every way draws from the same law. Rejection stops after some seconds; the time that it would
    take follows from the exact probability that a row is allowed.
    """
    rules = table_rules(features)
    logits = normal((rules.space.width,), generator=seeded(features))
    noise = seeded(0)
    law = rules.condition(logits)
    share = float(law.log_z().double().exp())
    found = {
        "rows": float(rules.space.num_rows),
        "allowed": float(rules.num_rows),
        "share": share,
        "states": max(rules.states),
        "compile": timed(lambda: table_rules(features), rounds),
        "law": timed(lambda: rules.condition(logits).sample(DRAWN, generator=noise), rounds),
        "memory": peak_bytes(lambda: rules.condition(logits).sample(DRAWN, generator=noise)),
    }
    found["rejection"] = _rejection(rules, logits, share, rounds, seconds, noise)
    if rules.space.num_rows <= LISTED:
        found["list"] = timed(lambda: by_list(rules, logits, noise), min(rounds, 3))
        found["list memory"] = peak_bytes(lambda: by_list(rules, logits, noise))
    return found


def by_list(rules: Rules, logits: Tensor, noise: torch.Generator) -> Tensor:
    """Allowed rows `(256, F)` out of a list of all rows: made, filtered, weighted, drawn from."""
    rows = rules.space.enumerate(max_rows=LISTED)
    rows = rows[_obey(rows)]
    weights = rules.space.log_prob(logits, rows).softmax(-1)
    return rows[torch.multinomial(weights, DRAWN, replacement=True, generator=noise)]


def _obey(rows: Tensor) -> Tensor:
    """The rules of `table_rules` written by hand, without an automaton."""
    neighbours = (rows[:, 1:] == 0) & (rows[:, :-1] == 0)
    return (rows.sum(-1) <= 2 * rows.shape[-1]) & ~neighbours.any(-1)


def by_rejection(
    rules: Rules, logits: Tensor, noise: torch.Generator, seconds: float = math.inf
) -> tuple[Tensor, int]:
    """Allowed rows `(256, F)`, or as many as were found in time, and how many were drawn."""
    began, drawn, kept = time.perf_counter(), 0, list[Tensor]()
    many = logits.expand(2**14, -1)
    while not kept or (sum(map(len, kept)) < DRAWN and time.perf_counter() - began < seconds):
        uniform = uniform_like(rules.space, many, generator=noise)
        rows = categorical(rules.space, many, uniform)
        drawn += len(rows)
        kept.append(rows[_obey(rows)])
    return torch.cat(kept)[:DRAWN], drawn


def _rejection(
    rules: Rules,
    logits: Tensor,
    share: float,
    rounds: int,
    seconds: float,
    noise: torch.Generator,
) -> dict[str, float]:
    """Milliseconds of rejection; where it did not end, those that its share of rows makes."""
    wall, cpu = time.perf_counter(), time.process_time()
    rows, drawn = by_rejection(rules, logits, noise, seconds)
    spent = time.perf_counter() - wall, time.process_time() - cpu
    if len(rows) == DRAWN:
        few = rounds if spent[0] < seconds / rounds else 1
        return timed(lambda: by_rejection(rules, logits, noise), few) | {"found": DRAWN}
    factor = 1e3 * DRAWN / share / drawn
    return {"wall": spent[0] * factor, "cpu": spent[1] * factor, "found": len(rows)}


# --- growth ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """A space, how many edits of a row are allowed, and logits."""

    features: int = 48
    categories: int = 16
    edits: int = 8
    batch: int = 32


GROWTH: Mapping[str, Sequence[int]] = {
    "features": (32, 64, 128, 256, 512),
    "categories": (64, 128, 256, 512, 1024),
    "edits": (16, 32, 64, 128),
    "batch": (64, 128, 256, 512, 1024),
}
BASES = {
    "edits": Size(features=256, categories=4, batch=64)
}  # where states, not categories, decide
SETTINGS = (Size(32, 32, 5, 256), Size(200, 32, 10, 64), Size(1000, 4, 20, 64))
STAGES = ("forward + backward", "sample", "straight-through", "mode", "entropy")


class Calls:
    """What is timed at a size."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.space = CategoricalSpace.from_sizes((size.categories,) * size.features)
        self.rules = self.compile()
        logits = normal((size.batch, self.space.width), generator=seeded(0))
        self.slopes = normal((size.batch, self.space.width), generator=seeded(1))
        self.logits, self.noise = logits.requires_grad_(), seeded(2)
        self.law = self.rules.condition(logits)

    def compile(self) -> Rules:
        """At most so many edits of a row."""
        return Rules(self.space, [Within([0] * self.size.features, edits=self.size.edits)])

    def stages(self) -> dict[str, Callable[[], object]]:
        """One call each. Samples and modes are of a law that is there already."""
        return {
            "forward + backward": lambda: self._back(lambda law: law.log_z()),
            "sample": lambda: self.law.sample(1, generator=self.noise),
            "straight-through": lambda: self._back(lambda law: law.marginals() * self.slopes),
            "mode": lambda: self.law.mode(),
            "entropy": lambda: self._back(lambda law: law.entropy()),
        }

    def _back(self, value: Callable[[Any], Tensor]) -> None:
        self.logits.grad = None
        value(self.rules.condition(self.logits)).sum().backward()


def growth(axis: str, rounds: int, count: int) -> dict[str, Any]:
    """Times and memory of the first sizes along an axis, the sizes in turn in every round."""
    base = BASES.get(axis, Size())
    found = [Calls(replace(base, **{axis: value})) for value in GROWTH[axis][:count]]
    names = ("compile", *STAGES)
    spent: list[dict[str, list[tuple[float, float]]]] = [{n: [] for n in names} for _ in found]
    for turn in range(rounds + 1):
        for calls, times in zip(found, spent, strict=True):
            every = {"compile": calls.compile, **calls.stages()}
            for name, call in every.items():
                pair = _once(call)
                if turn:  # the first does not count
                    times[name].append(pair)
    points = [
        {name: _medians(pairs) for name, pairs in times.items()} | _facts(calls)
        for calls, times in zip(found, spent, strict=True)
    ]
    return {"axis": axis, "sizes": list(GROWTH[axis][:count]), "points": points}


def _facts(calls: Calls) -> dict[str, Any]:
    """Peak bytes of one law's log Z with its derivative, and of the straight-through gradient."""
    stages = calls.stages()
    memory = {name: peak_bytes(stages[name]) for name in ("forward + backward", "sample")}
    return {"memory": memory, "states": sum(calls.rules.states)}


def setting(number: int, rounds: int) -> dict[str, Any]:
    """Times and memory at one of three sizes."""
    size = SETTINGS[number]
    calls = Calls(size)
    times = {name: timed(call, rounds) for name, call in calls.stages().items()}
    return {
        "size": [size.features, size.categories, size.edits, size.batch],
        "compile": timed(calls.compile, 3),
        "times": times,
        "memory": {name: peak_bytes(call) for name, call in calls.stages().items()},
    }
