"""Problems of editing DNA: a frozen convolutional scorer, a sequence, and rules; and its meter.

A network learns how strongly sequences of 200 bases bind: three motifs of 8 to 10 bases, each worth
what its best match is worth, two of them worth more together. It is then frozen, and a new random
sequence is to be edited: at most 5 edits, 20 bases fixed at either end, and nowhere a site of 6
bases, which is the middle of the strongest motif, so that what the scorer likes is forbidden.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from discrete_grad.rules import Avoids, Fix, Rules, Within
from discrete_grad.sampling import (
    isolated_seed,
    normal,
    random_codes,
    random_indices,
    seeded,
    uniform,
)
from discrete_grad.space import CategoricalSpace

LENGTH, EDITS, ENDS = 200, 5, 20
BASES = "ACGT"
SPACE = CategoricalSpace({f"p{i}": list(BASES) for i in range(LENGTH)})
MOTIFS = (8, 9, 10)  # lengths
STEPS = 1000  # of training
LOOKS = (500, 1000, 2000, 5000, 10_000, 20_000)


class Scorer(nn.Module):
    """Binding strengths `(N, outputs)` of one-hot sequences `(N, 4, L)`, channels first."""

    def __init__(self, channels: int = 32, outputs: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(4, channels, 11, padding=5),
            nn.ReLU(),
            nn.MaxPool1d(4),
            nn.Conv1d(channels, channels, 5, padding=2),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Linear(2 * channels, channels), nn.ReLU(), nn.Linear(channels, outputs)
        )

    def forward(self, sequences: Tensor) -> Tensor:
        """See the class."""
        seen: Tensor = self.body(sequences)
        value: Tensor = self.head(torch.cat([seen.amax(-1), seen.mean(-1)], -1))
        return value


def by_channel(flat: Tensor) -> Tensor:
    """Rows `(N, 4 L)` as the scorer reads them, `(N, 4, L)`."""
    by_place: Tensor = flat.unflatten(-1, (-1, 4))
    return by_place.transpose(-1, -2)


@dataclass(frozen=True)
class Motifs:
    """Weights `(4, length)` of the bases of each motif."""

    weights: tuple[Tensor, ...]

    @classmethod
    def make(cls, seed: int) -> Motifs:
        """One base of each position counts most."""
        noise = seeded(seed)
        return cls(tuple(_weights(n, noise) for n in MOTIFS))

    def consensus(self, number: int) -> list[int]:
        """Best base of each position."""
        best: list[int] = self.weights[number].argmax(0).tolist()
        return best

    def strength(self, codes: Tensor) -> Tensor:
        """True binding `(N,)` of sequences `(N, L)`."""
        flat = by_channel(SPACE.one_hot(codes))
        best = [_match(flat, weights) for weights in self.weights]
        return torch.stack(best).sum(0) + 2 * best[0] * best[1]


def _weights(length: int, noise: torch.Generator) -> Tensor:
    return normal((4, length), generator=noise).float().mul(2).log_softmax(0)


def _match(flat: Tensor, weights: Tensor) -> Tensor:
    """Best match of a motif, from 0 on; 1 for the perfect one."""
    found = nn.functional.conv1d(flat, weights.unsqueeze(0)).squeeze(1).amax(-1)
    perfect = float(weights.amax(0).sum())
    chance = float(weights.mean(0).sum())
    return ((found - chance) / (perfect - chance)).clamp_min(0) ** 4


@cache
def scorer(seed: int, steps: int) -> tuple[Scorer, Motifs]:
    """A network trained on random sequences with pieces of motifs, frozen."""
    motifs, noise = Motifs.make(seed), seeded(seed)
    with isolated_seed(seed):
        network = Scorer()
    adam = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 1e-2, steps)
    for _ in range(steps):
        codes = implanted(motifs, 64, noise)
        loss = nn.functional.mse_loss(
            network(by_channel(SPACE.one_hot(codes))).squeeze(-1), motifs.strength(codes)
        )
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    return network.eval().requires_grad_(False), motifs


def implanted(motifs: Motifs, count: int, noise: torch.Generator) -> Tensor:
    """Random sequences, into each of which parts of the motifs are written."""
    codes = random_codes(SPACE, count, generator=noise)
    for number, length in enumerate(MOTIFS):
        motif = torch.tensor(motifs.consensus(number))
        start = random_indices(LENGTH - length, (count, 1), generator=noise)
        share, drawn = (uniform((count, n), generator=noise) for n in (1, length))
        place = start + torch.arange(length)
        codes = codes.scatter(-1, place, torch.where(share > drawn, motif, codes.gather(-1, place)))
    return codes


@dataclass(frozen=True)
class Problem:
    """What is to be edited."""

    network: Scorer
    start: Tensor
    """Codes `(L,)`."""
    rules: Rules
    avoided: str

    @property
    def free(self) -> Tensor:
        """Whether each position `(L,)` may be edited."""
        place = torch.arange(LENGTH)
        return (place >= ENDS) & (place < LENGTH - ENDS)


def problem(seed: int, number: int, steps: int = STEPS) -> Problem:
    """A random sequence that obeys, drawn exactly, and the rules of its edits."""
    network, motifs = scorer(seed, steps)
    avoided = "".join(BASES[code] for code in motifs.consensus(2)[2:8])
    site = Avoids(avoided)
    law = Rules(SPACE, [site]).condition(torch.zeros(SPACE.width))
    start = law.sample(1, generator=seeded(1000 * seed + number))[0]
    row = [BASES[code] for code in start.tolist()]
    ends = [*range(ENDS), *range(LENGTH - ENDS, LENGTH)]
    fixed = [Fix(SPACE.names[place], row[place]) for place in ends]
    rules = Rules(SPACE, [Within(row, edits=EDITS), site, *fixed])
    return Problem(network, start, rules, avoided)


@dataclass
class Meter:
    """Scores sequences and keeps all of them; a row forward is a pass, and a row backward."""

    asked: Problem
    budget: int
    passes: int = 0
    codes: list[Tensor] = field(default_factory=list)
    scores: list[Tensor] = field(default_factory=list)
    at: list[int] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Passes that may still be made."""
        return self.budget - self.passes

    def one_hot(self, sequences: Tensor) -> Tensor:
        """Scores `(N, 1)` of `(N, 4, L)`; a backward pass counts where one can follow."""
        value: Tensor = self.asked.network(sequences)
        self._kept(sequences.detach().argmax(1), value, 1 + sequences.requires_grad)
        return value

    def flat(self, rows: Tensor) -> Tensor:
        """Scores `(..., N)` of rows `(..., N, 4 L)`."""
        scores = self.one_hot(by_channel(rows.flatten(0, -2))).squeeze(-1)
        return scores.view(rows.shape[:-1])

    def rows(self, codes: Tensor) -> Tensor:
        """Scores `(N,)` of codes `(N, L)`, as many as the budget lets."""
        codes = codes[: max(self.left, 0)]
        if not len(codes):
            return torch.zeros(0)
        with torch.no_grad():
            return self.one_hot(by_channel(SPACE.one_hot(codes))).squeeze(-1)

    def _kept(self, codes: Tensor, value: Tensor, passes: int) -> None:
        self.passes += len(codes) * passes
        self.codes.append(codes.to(torch.int8))
        self.scores.append(value.detach().squeeze(-1))
        self.at += [self.passes] * len(codes)


Method = Callable[[Meter, int], Tensor]
"""Spends the meter's budget, from a seed; returns the sequences `(N, L)` it would hand over."""


def graded(asked: Problem, method: Method, budget: int, seed: int) -> dict[str, Any]:
    """Score reached, edits, seconds and broken rules of one run."""
    meter = Meter(asked, budget)
    wall, cpu = time.perf_counter(), time.process_time()
    final = method(meter, seed)
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    start = float(asked.network(by_channel(SPACE.one_hot(asked.start[None]))))
    codes, scores = torch.cat(meter.codes).long(), torch.cat(meter.scores)
    legal = asked.rules.allows(codes)
    at = torch.tensor(meter.at)
    best = [_best(scores, legal & (at <= look), start) for look in _looks(budget)]
    handed = asked.rules.allows(final)
    place = scores.masked_fill(~legal, -torch.inf).argmax()
    return spent | {
        "start": start,
        "gains": [value - start for value in best],
        "looks": _looks(budget),
        "passes": meter.passes,
        "edits": int((codes[place] != asked.start).sum()) if legal.any() else 0,
        "broken": float((~legal).float().mean()),
        "broken at the end": float((~handed).float().mean()),
        "edits at the end": float((final != asked.start).sum(-1).float().mean()),
    }


def _looks(budget: int) -> list[int]:
    return [*(look for look in LOOKS if look < budget), budget]


def _best(scores: Tensor, legal: Tensor, start: float) -> float:
    """Best allowed score so far; the start is allowed."""
    best: float = scores[legal].max().item() if legal.any() else start
    return max(start, best)


def best_seen(meter: Meter, count: int = 16) -> Tensor:
    """The best different sequences `(N, L)` that were scored."""
    codes, scores = torch.cat(meter.codes).long(), torch.cat(meter.scores)
    order: Sequence[int] = scores.argsort(descending=True).tolist()
    kept: dict[bytes, Tensor] = {}
    for place in order:
        kept.setdefault(codes[place].numpy().tobytes(), codes[place])
        if len(kept) == count:
            break
    return torch.stack(list(kept.values()))
