"""Tables no one here wrote, each with rows to learn from and held-out rows whose truth is known.

    python -m benchmarks.tables
    DISCRETE_GRAD_TABLES=/data/tables python -m benchmarks.tables

prints an overview and says which tables could not be had. `load("suzuki", seed=0)` gives one.
What is learnt from, and how many rows unless another number is asked for:

- `ring`: the synthetic pair interactions of `tables_ring`; 1,000 rows.
- `tf_bind_8/FACTOR`: 8-mers and how well a transcription factor binds them (`SIX6_REF_R1` is
  Design-Bench's TF Bind 8); all 32,898 rows of the worst half, palindromes twice, as there.
- `suzuki`: yields of Suzuki-Miyaura couplings; 1,500 rows of the worst 80%.
- `hpolib/...`, `hpobench/...`, `nasbench201/...`: the complete tables of `load_example`; the same.
- `diamonds`, `fair`, `flights`: prices, hours of affairs and minutes of arrival before schedule;
  all rows but a fifth, which is held out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import tables_files as files
from benchmarks.generation_common import FAMILIES, REGIMES, training_table
from benchmarks.tables_fetch import UnavailableError
from benchmarks.tables_ring import CATEGORIES, FEATURES, Ring, held_out, training_rows
from discrete_grad import CategoricalSpace
from discrete_grad.data import load_example

SIX6 = "tf_bind_8/SIX6_REF_R1"
EXAMPLES = tuple(f"{family}/{name}" for family, names in FAMILIES.items() for name in names)
DRAWN = REGIMES["worst 80%"].rows  # learnt from of a complete table, but for TF Bind 8
HELD_OUT = 0.2


@dataclass(frozen=True, eq=False)
class Task:
    """A table's rows to learn from, rows held out, and the truth where it is known.

    Args:
        name: of the table.
        features: their names.
        sizes: how many categories each has.
        codes: rows to learn from `(N, F)`, int64, in random order.
        scores: `(N,)`, float64, higher is better.
        test_codes: rows held out `(M, F)`.
        test_truth: their scores `(M,)`, float64, without noise where that is known.
        truth: true scores `(...)` of any rows `(..., F)`; None where rows are unknown.
        extremes: lowest and highest true score of all rows; None where rows are unknown.
        all_scores: true scores of all rows in the order of `space.enumerate()`; None where rows
            are unknown or too many.
        ordered: names of the features that are numbers, which every method may use as such.
        letters: categories of every feature, where they are the letters of a sequence.
    """

    name: str
    features: tuple[str, ...]
    sizes: tuple[int, ...]
    codes: Tensor
    scores: Tensor
    test_codes: Tensor
    test_truth: Tensor
    truth: Callable[[Tensor], Tensor] | None = None
    extremes: tuple[float, float] | None = None
    all_scores: Tensor | None = None
    ordered: tuple[str, ...] = ()
    letters: str = ""

    @property
    def space(self) -> CategoricalSpace:
        """The features' space."""
        sizes = dict(zip(self.features, self.sizes, strict=True))
        categories = {name: list(self.letters) or size for name, size in sizes.items()}
        return CategoricalSpace(categories, ordered=self.ordered)

    def normalised(self, codes: Tensor) -> Tensor:
        """True scores `(...)` of rows `(..., F)`, 0 for the worst row of all and 1 for the best.

        Raises:
            ValueError: where the truth of all rows is not known.
        """
        if self.truth is None or self.extremes is None:
            raise ValueError(f"{self.name}: the truth of all rows is not known")
        low, high = self.extremes
        return (self.truth(codes) - low) / (high - low)

    def percentile(self, codes: Tensor) -> Tensor:
        """Share `(...)`, in [0, 1], of all rows that are worse, equal ones counting half.

        Raises:
            ValueError: where not all rows are known.
        """
        if self.truth is None or self.all_scores is None:
            raise ValueError(f"{self.name}: not all rows are known")
        ordered, scores = self.all_scores.sort().values, self.truth(codes)
        worse = torch.searchsorted(ordered, scores)
        not_better = torch.searchsorted(ordered, scores, right=True)
        return (worse + not_better).double() / (2 * len(ordered))


def names() -> list[str]:
    """All tables; of TF Bind 8, that of SIX6 alone of those of `tables_files.factors()`."""
    return ["ring", SIX6, "suzuki", "diamonds", "fair", "flights", *EXAMPLES]


def load(name: str, seed: int = 0, rows: int | None = None) -> Task:
    """A table by name.

    Args:
        name: one of `names()`, or `tf_bind_8/` and one of `tables_files.factors()`.
        seed: decides which rows are drawn; of `ring` the truth too.
        rows: so many rows to learn from, a larger number's beginning; None for the table's own.

    Raises:
        UnavailableError: where the table cannot be fetched.
        ValueError: for an unknown name, or more rows than there are to learn from.
    """
    kind, _, rest = name.partition("/")
    if name == "ring":
        return ring(1000 if rows is None else rows, seed)
    if kind == "tf_bind_8" and rest:
        return _complete(name, *files.tf_bind(rest, seed), rows, letters=files.LETTERS)
    if name == "suzuki":
        return _complete(name, *files.suzuki(seed), DRAWN if rows is None else rows)
    if name in EXAMPLES:
        return _example(name, seed, rows)
    readers = {"diamonds": files.diamonds, "fair": files.fair, "flights": files.flights}
    if name not in readers:
        raise ValueError(f"no table is called {name!r}; there are {names()}")
    return _split(name, *readers[name](), seed, rows)


def ring(rows: int, seed: int) -> Task:
    """The synthetic table of pair interactions; see `tables_ring`."""
    drawn = Ring.draw(seed)
    codes, scores = training_rows(drawn, rows, seed)
    return Task(
        "ring",
        tuple(f"x{i}" for i in range(FEATURES)),
        (CATEGORIES,) * FEATURES,
        codes,
        scores,
        *held_out(drawn, seed),
        truth=drawn.truth,
        extremes=(drawn.minimum(), drawn.maximum()),
    )


# --- complete tables ------------------------------------------------------------------------------


def _complete(
    name: str,
    sizes: dict[str, int],
    scores: Tensor,
    learnt: Tensor,
    rows: int | None,
    ordered: tuple[str, ...] = (),
    letters: str = "",
) -> Task:
    """A table whose `scores` of `space.enumerate()` are known; `learnt` are positions there.

    All rows not learnt from are held out.
    """
    space = CategoricalSpace(sizes)
    learnt, everything = _first(name, learnt, rows), space.enumerate()
    unseen = torch.ones(len(scores), dtype=torch.bool)
    unseen[learnt] = False
    return Task(
        name,
        space.names,
        space.sizes,
        everything[learnt],
        scores[learnt],
        everything[unseen],
        scores[unseen],
        truth=partial(_looked_up, space.sizes, scores),
        extremes=(scores.min().item(), scores.max().item()),
        all_scores=scores,
        ordered=ordered,
        letters=letters,
    )


def _looked_up(sizes: Sequence[int], scores: Tensor, codes: Tensor) -> Tensor:
    return scores[files.positions(sizes, codes)]


def _example(name: str, seed: int, rows: int | None) -> Task:
    family, _, dataset = name.partition("/")
    example = load_example(family, [dataset])
    regime = REGIMES["worst 80%"]
    learnt = training_table(example, dataset, regime, seed)
    where = files.positions(example.space.sizes, learnt.codes)
    sizes = dict(zip(example.space.names, example.space.sizes, strict=True))
    pairs = zip(example.space.names, example.space.ordered, strict=True)
    ordered = tuple(feature for feature, numbers in pairs if numbers)
    return _complete(name, sizes, example.scores[0], where, rows, ordered)


def _split(name: str, columns: files.Columns, scores: Any, seed: int, rows: int | None) -> Task:
    """A fifth of the rows held out, whatever the number learnt from."""
    codes, sizes = files.coded(columns)
    space = CategoricalSpace(sizes)
    truth = torch.tensor(np.asarray(scores, dtype=float))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(truth)))
    aside = round(HELD_OUT * len(truth))
    test, learnt = order[:aside], order[aside:]
    learnt = _first(name, learnt, rows)
    shown = codes[learnt], truth[learnt], codes[test], truth[test]
    numbers = tuple(name for name, column in columns.items() if column.dtype.kind in "iuf")
    return Task(name, space.names, space.sizes, *shown, ordered=numbers)


def _first(name: str, learnt: Tensor, rows: int | None) -> Tensor:
    """The first so many of the rows to learn from; all for None."""
    if rows is not None and not 0 < rows <= len(learnt):
        raise ValueError(f"{name} has 1 to {len(learnt)} rows to learn from, not {rows}")
    return learnt[:rows]


def main() -> None:
    """Print each table's rows, features and sizes, or why it could not be had."""
    print(f"{'table':36} {'learnt':>8} {'held out':>8} {'all rows known':>14}  sizes")
    for name in names():
        try:
            task = load(name)
        except UnavailableError as error:
            print(f"{name:36} could not be had: {error}")
            continue
        known = "" if task.all_scores is None else len(task.all_scores)
        shape = f"{len(task.codes):8} {len(task.test_codes):8} {known:>14}"
        sizes = ", ".join(f"{n} {k}" for n, k in zip(task.features, task.sizes, strict=True))
        print(f"{name:36} {shape}  {sizes}")
    print("movielens could not be had: PyPI has its ratings only as Python pickles, which run code")


if __name__ == "__main__":
    main()
