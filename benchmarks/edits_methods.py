"""Ways to edit a row: swap search, all single swaps, straight-through layers, ledidi."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.edits_problems import PRICE, Meter, Method, Problem
from discrete_grad.gradient import Relaxation
from discrete_grad.models import swap_search
from discrete_grad.sampling import seeded

ROWS = 16  # drawn at a time, ledidi's default


def by_swaps(**options: Any) -> Method:
    """`swap_search` with some options."""

    def method(asked: Problem, meter: Meter, seed: int) -> None:
        swap_search(
            Worth(asked, meter),
            meter.start[None],
            space=asked.space,
            price=PRICE,
            seed=seed,
            **options,
        )

    return method


class Worth(nn.Module):
    """Minus the mean squared distance `(n,)` of a model's outputs from the target."""

    def __init__(self, asked: Problem, model: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.target = model, torch.tensor(asked.target)
        self.takes_codes = bool(getattr(model, "takes_codes", False))

    def forward(self, rows: Tensor) -> Tensor:
        """See the class."""
        return -(self.model(rows) - self.target).square().mean(1)


def together(asked: Problem, **options: Any) -> float:
    """Processor seconds of a start where `swap_search` edits them all in one batch."""
    cpu = time.process_time()
    swap_search(Worth(asked, asked.model), asked.starts, space=asked.space, price=PRICE, **options)
    return (time.process_time() - cpu) / len(asked.starts)


def by_layer(cls: type[Relaxation], *, rate: float, stay: float, budget: int) -> Method:
    """Descent of logits through a relaxation, from a logit for staying as the start is."""

    def method(asked: Problem, meter: Meter, seed: int) -> None:
        noise, layer = seeded(seed), _layer(cls, asked)
        home = asked.space.one_hot(meter.start)
        logits = (stay * home).requires_grad_()
        adam = torch.optim.Adam([logits], rate)
        target = torch.tensor(asked.target)
        while meter.passes + 2 * ROWS <= budget:
            rows = layer(logits.expand(ROWS, -1), generator=noise)
            error = (meter(rows) - target).square().mean(1)
            loss = error + PRICE * (len(meter.start) - (rows * home).sum(1))
            adam.zero_grad()
            loss.mean().backward()
            adam.step()

    return method


def _layer(cls: type[Relaxation], asked: Problem) -> Any:
    made: Any = cls
    return made(asked.space)


def installed() -> bool:
    """Whether ledidi can be imported."""
    return importlib.util.find_spec("ledidi") is not None


def by_ledidi(budget: int | None = None) -> Method:
    """Ledidi at its defaults, its `l` the price; cut off where its budget is spent."""

    def method(asked: Problem, meter: Meter, seed: int) -> None:
        from ledidi import Ledidi

        size = asked.space.sizes[0]
        shape = (size, asked.space.num_features)
        steps = 1000 if budget is None else max(1, (budget - 1) // (2 * ROWS))
        designer = Ledidi(
            _ByChannel(meter, size),
            shape=shape,
            l=PRICE,
            batch_size=ROWS,
            max_iter=steps,
            random_state=seed,
            verbose=False,
        )
        start = asked.space.one_hot(meter.start[None]).unflatten(1, (-1, size)).transpose(1, 2)
        designer.fit_transform(start.contiguous(), torch.tensor([asked.target]))

    return method


class _ByChannel(nn.Module):
    """The model as ledidi takes it, of `(n, K, F)`."""

    def __init__(self, meter: Meter, size: int) -> None:
        super().__init__()
        self.meter, self.size = meter, size

    def forward(self, sequences: Tensor) -> Tensor:
        found: Tensor = self.meter(sequences.transpose(1, 2).flatten(1))
        return found
