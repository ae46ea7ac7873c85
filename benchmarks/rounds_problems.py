"""Problems of the benchmark of rounds: rows of a space and what measuring them gives."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks import tables
from discrete_grad import CategoricalSpace

COMPLETE = {
    "Suzuki": "suzuki",
    "HPOLib protein": "hpolib/protein_structure",
    "TF Bind 8": tables.SIX6,
}
"""Tables of which every row is known."""
EHRLICH = {
    "Ehrlich (32, 32, c4, k4)": (32, 32, 4, 4),
    "Ehrlich (32, 128, c4, k4)": (32, 128, 4, 4),
    "Ehrlich (32, 256, c8, k8)": (32, 256, 8, 8),
}
"""Tokens, length, motifs and their length, which is the quantisation too."""
NEAR = 3  # random swaps of the one feasible row, at most, among the first rows


@dataclass(frozen=True, eq=False)
class Problem:
    """What is measured.

    Args:
        space: of the rows.
        value: codes `(n, F)` -> values `(n,)` in [0, 1], 1 at the best row of all; NaN for a row
            that fails.
        first: `(n, F)`, rows that every method is told first, beside those it asks for.
    """

    space: CategoricalSpace
    value: Callable[[Tensor], Tensor]
    first: Tensor


def problem(name: str, seed: int, batch: int) -> Problem:
    """A problem by its name; a seed decides the function of Ehrlich and the first rows."""
    return _ehrlich(name, seed, batch) if name in EHRLICH else _complete(name)


def _complete(name: str) -> Problem:
    task = tables.load(COMPLETE[name], seed=0)
    nothing = torch.empty(0, len(task.sizes), dtype=torch.long)
    return Problem(task.space, lambda codes: task.normalised(codes).double(), nothing)


def _ehrlich(name: str, seed: int, batch: int) -> Problem:
    size, length, motifs, quarters = EHRLICH[name]
    function = importlib.import_module("holo.test_functions.closed_form").Ehrlich(
        num_states=size,
        dim=length,
        num_motifs=motifs,
        motif_length=quarters,
        quantization=quarters,
        random_seed=seed,
    )
    row = function.initial_solution()
    noise = torch.Generator().manual_seed(seed)
    swapped = (
        torch.rand(batch, length, generator=noise)
        < NEAR * torch.rand(batch, 1, generator=noise) / length
    )
    near = torch.where(swapped, torch.randint(size, swapped.shape, generator=noise), row)
    near[0] = row

    def value(codes: Tensor) -> Tensor:
        values: Tensor = function(codes).double()
        return values.masked_fill(values.isinf(), torch.nan)

    tokens = [f"token {i}" for i in range(size)]
    return Problem(CategoricalSpace({f"place {i}": tokens for i in range(length)}), value, near)
