"""Problems of editing rows: sequences through a frozen CNN, and places with very many categories.

A network with two outputs learns how strongly sequences of 200 bases bind two proteins, each by
three motifs (those of `rules_dna`). It is frozen, and a sequence is worth minus the mean squared
distance of the outputs from what is wanted, less .1 for each edit. The wide problem has 20 places
of 20,000 categories each, through a frozen network of random weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.rules_dna import SPACE, Motifs, Scorer, by_channel, implanted
from discrete_grad.models import Estimator
from discrete_grad.sampling import isolated_seed, random_codes, seeded
from discrete_grad.space import CategoricalSpace

PRICE = 0.1
STARTS = 8
HIGH = 2.0  # wanted binding; 1 is a perfect motif
WIDE = CategoricalSpace.from_sizes((20_000,) * 20)
LOOKS = (30, 100, 300, 1000, 3000, 10_000, 30_000)
TASKS = ("raise", "lower", "two outputs", "wide")


class Twin(nn.Module):
    """Binding strengths `(N, 2)` of flat rows `(N, 800)`."""

    def __init__(self) -> None:
        super().__init__()
        self.scorer = Scorer(outputs=2)

    def forward(self, rows: Tensor) -> Tensor:
        """See the class."""
        found: Tensor = self.scorer(by_channel(rows))
        return found


@cache
def twin(seed: int, steps: int) -> tuple[Twin, tuple[Motifs, Motifs]]:
    """A network trained on random sequences with pieces of both proteins' motifs, frozen."""
    both, noise = (Motifs.make(seed), Motifs.make(seed + 1000)), seeded(seed)
    with isolated_seed(seed):
        network = Twin()
    adam = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 1e-2, steps)
    for _ in range(steps):
        codes = torch.cat([implanted(motifs, 32, noise) for motifs in both])
        wanted = torch.stack([motifs.strength(codes) for motifs in both], 1)
        loss = nn.functional.mse_loss(network(SPACE.one_hot(codes)), wanted)
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    return network.eval().requires_grad_(False), both


@dataclass(frozen=True)
class Problem:
    """What is to be edited, and where to."""

    space: CategoricalSpace
    model: Callable[[Tensor], Tensor]
    """Flat rows `(n, D)`, or codes -> outputs `(n, M)`."""
    starts: Tensor
    """Codes `(STARTS, F)`."""
    target: tuple[float, ...]

    def loss(self, outputs: Tensor, codes: Tensor, start: Tensor) -> Tensor:
        """Losses `(n,)`."""
        error = (outputs - torch.tensor(self.target)).square().mean(1)
        return error + PRICE * (codes != start).sum(1)


def problem(task: str, seed: int, steps: int) -> Problem:
    """The starts of a task and its frozen model."""
    noise = seeded(10_000 + seed)
    if task == "wide":
        return _wide(seed, noise)
    network, (first, second) = twin(seed, steps)
    if task == "raise":
        codes = random_codes(SPACE, STARTS, generator=noise)
        return Problem(SPACE, _First(network), codes, (HIGH,))
    strong = first if task == "lower" else second
    drawn = implanted(strong, 32 * STARTS, noise)
    codes = drawn[strong.strength(drawn).topk(STARTS).indices]
    if task == "lower":
        return Problem(SPACE, _First(network), codes, (0.0,))
    return Problem(SPACE, network, codes, (HIGH, 0.0))


class _First(nn.Module):
    """The first output alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.network(rows)[:, :1]
        return found


class _Column(nn.Module):
    """An estimator's standardised score as the one output."""

    takes_codes = True

    def __init__(self, network: nn.Module, mean: float, spread: float) -> None:
        super().__init__()
        self.network, self.mean, self.spread = network, mean, spread

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = (self.network(rows).unsqueeze(1) - self.mean) / self.spread
        return found


def _wide(seed: int, noise: torch.Generator) -> Problem:
    with isolated_seed(seed):
        network = Estimator(WIDE, dim=8, hidden=(64, 64)).eval().requires_grad_(False)
    known = network(random_codes(WIDE, 1000, generator=noise))
    model = _Column(network, float(known.mean()), float(known.std()))
    return Problem(WIDE, model, random_codes(WIDE, STARTS, generator=noise), (5.0,))


class Meter(nn.Module):
    """The model of one start, that counts rows and keeps the least loss so far.

    A row forward is an evaluation, and its gradient another one.
    """

    def __init__(self, asked: Problem, start: Tensor) -> None:
        super().__init__()
        self.asked, self.start = asked, start
        self.takes_codes = bool(getattr(asked.model, "takes_codes", False))
        self.passes, self.found = 0, _Found()

    def forward(self, rows: Tensor) -> Tensor:
        """Outputs `(n, M)` of flat rows or codes."""
        outputs = self.asked.model(rows)
        hard = self.asked.space.argmax(rows.detach()) if rows.is_floating_point() else rows
        losses = self.asked.loss(outputs.detach(), hard, self.start)
        self.passes += len(rows) * (1 + rows.requires_grad)
        self.found.add(self.passes, losses, hard)
        return outputs


@dataclass
class _Found:
    """Least loss after some evaluations."""

    at: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best: Tensor | None = None

    def add(self, passes: int, losses: Tensor, codes: Tensor) -> None:
        least = float(losses.min())
        if not self.losses or least < self.losses[-1]:
            self.best = codes[losses.argmin()]
        self.at.append(passes)
        self.losses.append(min([least, *self.losses[-1:]]))

    def after(self, passes: int) -> float:
        """Least loss of so many evaluations, or of the first ones."""
        fine = [loss for at, loss in zip(self.at, self.losses, strict=True) if at <= passes]
        return (fine or self.losses[:1])[-1]


Method = Callable[[Problem, Meter, int], None]
"""Edits the meter's start, with a seed; what counts is what the meter has seen."""


def graded(asked: Problem, method: Method, seed: int, starts: int = STARTS) -> dict[str, Any]:
    """Least losses, evaluations, edits and processor seconds, means over the starts, one by one."""
    losses, passes, edits, curves = [], [], [], []
    cpu = time.process_time()
    for number, start in enumerate(asked.starts[:starts]):
        meter = Meter(asked, start)
        method(asked, meter, STARTS * seed + number)
        losses.append(meter.found.losses[-1])
        passes.append(meter.passes)
        assert meter.found.best is not None  # it was asked
        edits.append(int((meter.found.best != start).sum()))
        curves.append([meter.found.after(look) for look in LOOKS])
    spent = (time.process_time() - cpu) / starts
    mean = [sum(curve[i] for curve in curves) / starts for i in range(len(LOOKS))]
    return {
        "loss": sum(losses) / starts,
        "passes": sum(passes) / starts,
        "edits": sum(edits) / starts,
        "cpu": spent,
        "curve": mean,
        "starts": starts,
    }
