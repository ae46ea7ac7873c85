"""ledidi (2.2), the peer for editing sequences, on the problems of `rules_dna`.

Not among the packages of `bench`, since it needs numba: `pip install --no-deps ledidi tangermeme
numba llvmlite pyfaidx memelite figwig` beside them. Without it the benchmark leaves it out.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.rules_dna import SPACE, Meter, Method, by_channel
from benchmarks.rules_search import ROWS

FAR = 8.0  # a score out of reach: ledidi wants a target


def installed() -> bool:
    """Whether ledidi can be imported."""
    return importlib.util.find_spec("ledidi") is not None


class _Metered(nn.Module):
    """The scorer as ledidi takes it, whose passes are counted."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self.meter = meter

    def forward(self, sequences: Tensor) -> Tensor:
        return self.meter.one_hot(sequences)


def _raised(scores: Tensor, wanted: Tensor) -> Tensor:
    """Minus the mean score, where ledidi's own loss is a squared distance from what is wanted."""
    return -scores.mean() + 0 * wanted.mean()


def by_ledidi(
    *,
    price: float,
    rate: float = 1.0,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    pruned: float = 0.0,
) -> Method:
    """Designs by ledidi, again from other noise where one stops early, until the passes are spent.

    Args:
        price: of an edit, its `l`.
        rate: its `lr`.
        loss: of scores and the target; None for its default, the squared distance.
        pruned: share of the passes that its greedy pruning takes. It takes edits back one at a
            time, on whose way there is a sequence of every number of edits.
    """

    def method(meter: Meter, seed: int) -> Tensor:
        model, start = _Metered(meter), by_channel(SPACE.one_hot(meter.asked.start[None]))
        kept, first, run = math.ceil(pruned * meter.budget), None, 0
        options: dict[str, Any] = {} if loss is None else {"output_loss": loss}
        while (steps := (meter.left - kept - 1) // (2 * ROWS)) > 0:
            designer = _designer(meter, model, steps, seed + 1000 * run, price, rate, options)
            batch = designer.fit_transform(start, torch.tensor([[FAR]]))
            first, run = batch.detach() if first is None else first, run + 1
        final = start if first is None else first
        if pruned:
            final = _pruned(meter, model, start, final)
        return final.argmax(1)

    return method


def _designer(
    meter: Meter,
    model: nn.Module,
    steps: int,
    seed: int,
    price: float,
    rate: float,
    options: dict[str, Any],
) -> Any:
    from ledidi import Ledidi

    return Ledidi(
        model,
        shape=tuple(by_channel(SPACE.one_hot(meter.asked.start)).shape),
        l=price,
        lr=rate,
        batch_size=ROWS,
        max_iter=steps,
        input_mask=~meter.asked.free,
        random_state=seed,
        verbose=False,
        **options,
    )


def _pruned(meter: Meter, model: nn.Module, start: Tensor, batch: Tensor) -> Tensor:
    """The batch, each pruned as long as passes are left; of each the best that obeys on the way."""
    from ledidi.pruning import greedy_pruning

    found = []
    for one in batch.unbind(0):
        edits = int((one != start[0]).any(0).sum())
        begun = len(meter.scores)
        if meter.left < edits * (edits + 1) // 2 + 1:
            break
        greedy_pruning(model, start, one[None], threshold=math.inf)
        found.append(_best_allowed(meter, begun))
    return torch.cat(found) if found else batch


def _best_allowed(meter: Meter, begun: int) -> Tensor:
    codes = torch.cat(meter.codes[begun:] or meter.codes[:1]).long()
    scores = torch.cat(meter.scores[begun:] or meter.scores[:1])
    scores = scores.masked_fill(~meter.asked.rules.allows(codes), -torch.inf)
    return by_channel(SPACE.one_hot(codes[scores.argmax()][None]))


METHODS: dict[str, Method] = {
    "ledidi": by_ledidi(price=0.1),
    "ledidi, tuned": by_ledidi(price=10.0),
    "ledidi, tuned, pruned": by_ledidi(price=3.0, pruned=0.3),
}
