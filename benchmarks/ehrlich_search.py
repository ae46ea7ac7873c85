"""Maximise a black box on rows of neighbours by a generator trained through what was learned.

A round: fit both estimators to all rows seen; train the generator, conditioned on a parent row,
through them; draw children of good parents from it, and by random moves; ask the truth about those
that an estimator drawn at random for each likes best.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.ehrlich_models import Motifs, Transitions, fit_motifs, fit_transitions
from discrete_grad import CategoricalSpace, ContextSpec, GradientEstimator
from discrete_grad.gradient import catalogue
from discrete_grad.models import Generator
from discrete_grad.objectives import entropy_bonus, expected_score_loss

Truth = Callable[[Tensor], Tensor]
"""Codes `(N, F)` -> values `(N,)`, at least 0, or `-inf` where infeasible."""


@dataclass(frozen=True)
class Settings:
    """Of the search; the same for every function."""

    generator: bool = True
    """Without one, all children come from random moves."""
    moves: bool = True
    """Without them, all children come from the generator."""
    method: str = "LeaveOneOut"
    """Gradient estimator that the generator is trained by."""
    samples: int = 8
    batch: int = 500
    """Rows asked about in a round, at least."""
    growth: float = 0.05
    """Of those seen before, if that is more."""
    greedy: float = 0.7
    """Share of them that the estimators like best; the others are drawn children as they come."""
    parents: int = 64
    elite: int = 200
    """Parents are drawn from so many best rows."""
    levels: int = 6
    """Or, a quarter of them, with one of so many best values."""
    children: int = 80
    """Of a parent in a generation."""
    generations: int = 1
    """Generations under the estimators alone, before the truth is asked."""
    members: int = 2
    channels: int = 32
    steps: int = 150
    """Of the estimators' training in a round."""
    generator_steps: int = 40
    temperature: float = 0.05
    """Log-score that is worth a nat of entropy of the generator's."""
    optimism: float = 0.5
    """Standard deviations between the members added to their mean."""
    feasibility: float = 0.3
    """Weight of the log-probability of being feasible in the generator's objective."""
    kept: float = 0.9
    """Probability with which an untrained generator keeps a parent's token."""


# --- rows seen ------------------------------------------------------------------------------------


@dataclass
class Archive:
    """All rows asked about, each asked once, with a trace of the best value."""

    truth: Truth
    length: int
    budget: int
    codes: Tensor = field(init=False)
    values: Tensor = field(init=False)
    trace: list[tuple[int, float]] = field(default_factory=list)
    """Where the best value rose: rows asked about so far, value."""

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
        feasible = (self.values >= 0).nonzero().flatten()
        values = self.values[feasible]
        ranked = (values + 1e-6 * torch.rand(len(values))).argsort(descending=True)[:elite]
        best = ranked[torch.randint(len(ranked), (count - count // 4,))]
        highest = values.unique()[-levels:]
        level = highest[torch.randint(len(highest), (count // 4, 1))]
        others = torch.multinomial((values == level).float(), 1).squeeze(1)
        return self.codes[feasible[torch.cat([best, others])]]


# --- children -------------------------------------------------------------------------------------


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
    """Half of `count` rows are parents, half have a segment of another parent, maybe shifted."""
    length = parents.shape[1]
    place = torch.arange(length)
    own, other = (parents[torch.randint(len(parents), (count,))] for _ in range(2))
    cut = torch.randint(length, (count, 2)).sort(-1).values
    inside = (place >= cut[:, :1]) & (place <= cut[:, 1:])
    shift = torch.randint(-3, 4, (count, 1))
    crossed = torch.where(inside, other.gather(1, (place + shift) % length), own)
    return torch.where(torch.rand(count, 1) < 0.5, crossed, own)


def mutations(rows: Tensor, size: int) -> Tensor:
    """Log-probabilities `(N, F, V)` of tokens near rows: about 1, 2, a tenth or a third differ."""
    length = rows.shape[1]
    rates = torch.tensor([1 / length, 2 / length, 0.1, 0.3])
    rate = rates[torch.randint(len(rates), (len(rows), 1, 1))]
    return ((1 - rate) * torch.nn.functional.one_hot(rows, size) + rate / size).log()


# --- the search -----------------------------------------------------------------------------------


class Search:
    """The models, and what a round does with them.

    Args:
        space: of the rows, features of one size.
        kernel: width of the estimator's window.
        settings: of the search.
    """

    def __init__(self, space: CategoricalSpace, kernel: int, settings: Settings) -> None:
        self.space, self.settings = space, settings
        self.size = space.sizes[0]
        self.feasibility = Transitions(space)
        self.motifs = Motifs(
            space, kernel=kernel, members=settings.members, channels=settings.channels
        )
        context = ContextSpec(dict.fromkeys(space.names, self.size))
        self.generator = Generator(context, space, hidden=(128,))
        self.anchor = math.log((self.size - 1) * settings.kept / (1 - settings.kept))
        self.method: GradientEstimator = catalogue()[settings.method](
            space, samples=settings.samples
        )
        self._fit = torch.optim.Adam(self.motifs.parameters(), lr=3e-3)
        self._train = torch.optim.Adam(self.generator.parameters(), lr=3e-3)
        self.spread = 1.0

    def fit(self, archive: Archive, steps: int) -> float:
        """Both estimators on all rows seen; the loss of the motifs' fit, in variances."""
        fit_transitions(self.feasibility, archive.codes, archive.values >= 0)
        codes, scores = archive.log_scores()
        self.spread = max(scores.std().item(), 1e-3)
        target = (scores - scores.mean()) / self.spread
        return fit_motifs(self.motifs, self._fit, codes, target, steps=steps)

    def policy(self, parents: Tensor) -> Tensor:
        """The generator's logits `(N, D)` for parents `(N, F)`, its context."""
        context = self.space.one_hot(parents)
        logits: Tensor = self.generator(context) + self.anchor * context
        return logits

    def objective(self, rows: Tensor) -> Tensor:
        """What the generator is trained for, `(...)` in nats of its entropy; flat or codes."""
        settings = self.settings
        if not torch.is_grad_enabled():
            rows = self.space.argmax(rows)
        scores = self.spread * self.motifs.predictions(rows)
        spread = (scores.var(0, correction=0) + 1e-8).sqrt()
        optimistic = (scores.mean(0) + settings.optimism * spread) / settings.temperature
        pairs: Tensor = self.feasibility.to_latent(rows)
        return optimistic + settings.feasibility * pairs.clamp_min(-3).sum(-1)

    def train(self, parents: Tensor) -> None:
        """Some steps of the generator, through both estimators."""
        needs = self.method.facts.needs_derivative

        def f(rows: Tensor) -> Tensor:
            with torch.set_grad_enabled(needs):
                return self.objective(rows)

        for _ in range(self.settings.generator_steps):
            logits = self.policy(parents[torch.randperm(len(parents))[:32]])
            loss = expected_score_loss(self.method, f, logits)
            loss = loss - entropy_bonus(self.space, logits)
            self._train.zero_grad()
            loss.backward()
            self._train.step()

    @torch.no_grad()
    def children(self, parents: Tensor) -> Tensor:
        """Feasible-looking rows near parents, from the generator, then by random moves."""
        settings, table = self.settings, self.feasibility.table()
        count = len(parents) * settings.children
        both, drawn = settings.generator and settings.moves, []
        if settings.generator:
            log_p = self.space.log_softmax(self.policy(parents)).unflatten(-1, (-1, self.size))
            drawn.append(chain(log_p, table, settings.children // (1 + both)))
        if settings.moves:
            rows = moved(parents, count // (1 + both))
            drawn.append(chain(mutations(rows, self.size), table, 1))
        return torch.cat(drawn)

    @torch.no_grad()
    def liked(self, rows: Tensor) -> Tensor:
        """Score of each row by a member drawn at random, with its log-probability, `(N,)`."""
        scores = self.spread * self.motifs.predictions(rows)
        member = torch.randint(len(scores), (1, len(rows)))
        liked: Tensor = scores.gather(0, member)[0] + self.feasibility(rows)
        return liked

    def propose(self, archive: Archive) -> Tensor:
        """The next rows to ask about."""
        settings = self.settings
        parents = archive.parents(settings.parents, settings.elite, settings.levels)
        if settings.generator:
            self.train(parents)
        first = self.children(parents)
        pool = archive.unseen(first)
        liked = self.liked(pool)
        for _ in range(1, settings.generations):
            best = pool[liked.topk(min(settings.parents, len(pool))).indices]
            more = self.children(best)
            pool, liked = torch.cat([pool, more]), torch.cat([liked, self.liked(more)])
        batch = max(settings.batch, round(settings.growth * len(archive)))
        greedy = round(settings.greedy * batch)
        best = archive.unseen(pool[liked.argsort(descending=True)])[:greedy]
        others = first[torch.randperm(len(first))[: batch - len(best)]]
        return torch.cat([best, others])


def start(archive: Archive, row: Tensor, size: int, count: int) -> None:
    """Ask about a row `(F,)` and rows of up to 3 random swaps of it."""
    rate = 3 * torch.rand(count, 1) / len(row)
    swapped = torch.rand(count, len(row)) < rate
    near = torch.where(swapped, torch.randint(size, swapped.shape), row)
    archive.ask(torch.cat([row.unsqueeze(0), near])[:count])


def search(
    archive: Archive, row: Tensor, size: int, kernel: int, settings: Settings
) -> Iterator[dict[str, Any]]:
    """Rounds until the best value is 1 or the budget is spent; what each did.

    Args:
        archive: empty; holds the rows afterwards.
        row: `(F,)`, where to begin.
        size: V, categories of each feature.
        kernel: width of the estimator's window.
        settings: of the search.
    """
    start(archive, row, size, settings.batch)
    space = CategoricalSpace.from_sizes((size,) * len(row))
    found = Search(space, kernel, settings)
    steps = 2 * settings.steps
    while archive.best < 1 and len(archive) < archive.budget:
        began = time.process_time()
        loss = found.fit(archive, steps)
        fitted = time.process_time()
        rows = found.propose(archive)
        values = archive.ask(rows)
        steps = settings.steps
        yield {
            "rows": len(archive),
            "best": archive.best,
            "loss": loss,
            "feasible": (values >= 0).double().mean().item(),
            "seconds": (fitted - began, time.process_time() - fitted),
        }
        if not len(values):
            return
