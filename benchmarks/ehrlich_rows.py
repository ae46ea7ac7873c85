"""Rows asked about and rows to ask about: an archive, recombination, and exact draws of chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from discrete_grad import CategoricalSpace

Truth = Callable[[Tensor], Tensor]
"""Codes `(N, F)` -> values `(N,)`, at least 0, or `-inf` where infeasible."""


@dataclass
class Archive:
    """All rows asked about, each asked once, with a trace of the best value."""

    truth: Truth
    length: int
    budget: int
    codes: Tensor = field(init=False)
    values: Tensor = field(init=False)
    trace: list[tuple[int, float]] = field(default_factory=list)
    """Rises of the best value: rows asked about so far, value."""
    since: int = 0
    """Rows before this one are parents no more."""

    def __post_init__(self) -> None:
        self.codes = torch.empty(0, self.length, dtype=torch.long)
        self.values = torch.empty(0)
        self._keys = torch.empty(0, dtype=torch.long)
        self._factors = torch.randint(-(2**62), 2**62, (self.length,)) | 1

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def best(self) -> float:
        """The best value seen, 0 before any."""
        return self.trace[-1][1] if self.trace else 0.0

    def unseen(self, codes: Tensor) -> Tensor:
        """The different rows among `codes` that were not asked about, in their order."""
        keys = self.keys(codes)
        _, inverse = keys.unique(return_inverse=True)
        first = torch.full((len(codes),), len(codes)).scatter_reduce(
            0, inverse, torch.arange(len(codes)), "amin"
        )
        new = (first[inverse] == torch.arange(len(codes))) & ~torch.isin(keys, self._keys)
        return codes[new]

    def keys(self, codes: Tensor) -> Tensor:
        """A number for each row, different for different rows but for a chance of about 2^-62."""
        return (codes * self._factors).sum(-1)

    def ask(self, codes: Tensor) -> Tensor:
        """Values of the unseen rows among `codes`, as far as the budget goes."""
        new = self.unseen(codes)[: max(0, self.budget - len(self))]
        values = self.truth(new) if len(new) else torch.empty(0)
        for i in (values > self.best).nonzero().flatten().tolist():
            if values[i] > self.best:
                self.trace.append((len(self) + i + 1, values[i].item()))
        self.codes, self.values = torch.cat([self.codes, new]), torch.cat([self.values, values])
        self._keys = torch.cat([self._keys, self.keys(new)])
        return values

    def log_scores(self) -> tuple[Tensor, Tensor]:
        """Feasible rows `(n, F)` and their log-values `(n,)`, a 0 as a quarter of the least."""
        feasible = self.values >= 0
        values = self.values[feasible]
        positive = values[values > 0]
        floor = positive.min() / 4 if len(positive) else torch.tensor(1e-3)
        return self.codes[feasible], values.clamp_min(floor).log()

    def parents(self, count: int, elite: int, levels: int) -> Tensor:
        """Rows drawn from the best, a quarter of them from each of the best values alike."""
        feasible = (self.values[self.since :] >= 0).nonzero().flatten() + self.since
        values = self.values[feasible]
        ranked = (values + 1e-6 * torch.rand(len(values))).argsort(descending=True)[:elite]
        best = ranked[torch.randint(len(ranked), (count - count // 4,))]
        highest = values.unique()[-levels:]
        level = highest[torch.randint(len(highest), (count // 4, 1))]
        others = torch.multinomial((values == level).float(), 1).squeeze(1)
        return self.codes[feasible[torch.cat([best, others])]]


def chain(log_p: Tensor, table: Tensor, count: int) -> Tensor:
    """Rows from a distribution of independent tokens times the probability of being feasible.

    Exact, by messages from the end to the beginning: p(x) ~ prod_i p_i(x_i) A(x_i, x_{i+1}).

    Args:
        log_p: `(N, F, V)`, log-probabilities of each token.
        table: `(V, V)`, log A.
        count: rows for each of the N.

    Returns:
        Codes `(N count, F)`.
    """
    follow, tokens = table.exp(), log_p.exp()
    ahead = [torch.ones_like(tokens[:, 0])]
    for i in range(tokens.shape[1] - 1, 0, -1):
        message = (tokens[:, i] * ahead[-1]) @ follow.T
        ahead.append(message / message.amax(-1, keepdim=True))
    weights = (tokens * torch.stack(ahead[::-1], 1)).repeat_interleave(count, 0)
    rows = [_pick(weights[:, 0])]
    for i in range(1, tokens.shape[1]):
        rows.append(_pick(weights[:, i] * follow[rows[-1]]))
    return torch.stack(rows, 1)


def _pick(weights: Tensor) -> Tensor:
    sums = weights.cumsum(-1)
    target = torch.rand(len(weights), 1) * sums[:, -1:] * (1 - 1e-6)
    return (sums <= target).sum(-1)


def moved(parents: Tensor, count: int) -> Tensor:
    """Half of `count` rows are parents, half have a segment of another, half of them from afar."""
    length = parents.shape[1]
    place = torch.arange(length)
    own, other = (parents[torch.randint(len(parents), (count,))] for _ in range(2))
    cut = torch.randint(length, (count, 2)).sort(-1).values
    inside = (place >= cut[:, :1]) & (place <= cut[:, 1:])
    near, far = torch.randint(-3, 4, (count, 1)), torch.randint(length, (count, 1))
    shift = torch.where(torch.rand(count, 1) < 0.5, near, far)
    crossed = torch.where(inside, other.gather(1, (place + shift) % length), own)
    return torch.where(torch.rand(count, 1) < 0.5, crossed, own)


def rates(count: int, length: int) -> Tensor:
    """Number `(count, 1)` of a row's tokens to draw anew: about 1, 2, a tenth or a third."""
    choices = torch.tensor([1 / length, 2 / length, 0.1, 0.3])
    return choices[torch.randint(len(choices), (count, 1))]


def nearby(space: CategoricalSpace, rows: Tensor, rate: Tensor) -> Tensor:
    """Logits `(N, D)` of rows of which a share `(N, 1)` of the tokens is drawn anew."""
    other = rate / space.sizes[0]
    return ((1 - rate + other) / other).log() * space.one_hot(rows)
