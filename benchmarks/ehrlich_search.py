"""Maximise a black box on rows of neighbours by a generator trained through what was learned.

A round: fit both estimators to all rows seen; recombine good rows; train the generator, conditioned
on a recombined row and held near it, through the estimators; draw children from it and by random
swaps, both weighted by the probability of being feasible; ask the truth about those that a member
of the estimator, drawn at random for each, likes best.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.ehrlich_models import Motifs, Transitions, fit_motifs, fit_transitions
from benchmarks.ehrlich_rows import Archive, chain, moved, nearby, rates
from discrete_grad import CategoricalSpace, ContextSpec, GradientEstimator
from discrete_grad.gradient import catalogue
from discrete_grad.objectives import expected_score_loss, kl_to_reference
from discrete_grad.policies import Generator


@dataclass(frozen=True)
class Settings:
    """Of the search; the same for every function."""

    generator: float = 0.5
    """Share of the children that the generator makes of recombined parents, not random swaps."""
    method: str = "ReinMax"
    """Gradient estimator that the generator is trained by."""
    samples: int = 2
    batch: int = 500
    """Rows asked about in a round, at least."""
    growth: float = 0.05
    """Of those seen before, if that is more."""
    greedy: float = 0.7
    """Share of them that the estimators like best; the others are drawn children as they come."""
    patience: int = 6000
    """Rows without a better one after which parents are sought among new rows alone."""
    parents: int = 64
    elite: int = 200
    """Parents are drawn from so many best rows."""
    levels: int = 6
    """Or, a quarter of them, with one of so many best values."""
    children: int = 80
    """Candidates for each parent, from which the rows to ask about are chosen."""
    members: int = 2
    channels: int = 32
    steps: int = 150
    """Of the estimators' training in a round."""
    generator_steps: int = 40
    temperature: float = 0.2
    """Log-score that is worth a nat of distance between the generator and its reference."""
    optimism: float = 0.5
    """Standard deviations between the members added to their mean."""
    feasibility: float = 0.3
    """Weight of the log-probability of being feasible in the generator's objective."""


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

    def policy(self, rows: Tensor, reference: Tensor) -> Tensor:
        """The generator's logits `(N, D)` for rows `(N, F)`, its context, beside a reference."""
        logits: Tensor = self.generator(self.space.one_hot(rows)) + reference
        return logits

    def objective(self, rows: Tensor) -> Tensor:
        """Objective `(...)` of the generator, in nats of distance from its reference."""
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
            rows = moved(parents, 32)
            reference = nearby(self.space, rows, rates(len(rows), rows.shape[1]))
            logits = self.policy(rows, reference)
            loss = expected_score_loss(self.method, f, logits)
            loss = loss + kl_to_reference(self.space, logits, reference)
            self._train.zero_grad()
            loss.backward()
            self._train.step()

    @torch.no_grad()
    def children(self, parents: Tensor) -> Tensor:
        """Feasible-looking rows near parents, by the generator, then by random swaps."""
        settings, table = self.settings, self.feasibility.table()
        rows = moved(parents, len(parents) * settings.children)
        logits = nearby(self.space, rows, rates(len(rows), rows.shape[1]))
        first = round(settings.generator * len(rows))
        if first:
            logits[:first] = self.policy(rows[:first], logits[:first])
        log_p = self.space.log_softmax(logits).unflatten(-1, (-1, self.size))
        return torch.cat([chain(part, table, 1) for part in log_p.split(1024)])

    @torch.no_grad()
    def fresh(self, count: int) -> Tensor:
        """Rows that look feasible, otherwise at random."""
        uniform = torch.full((1, self.space.num_features, self.size), -math.log(self.size))
        return chain(uniform, self.feasibility.table(), count)

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
        pool = archive.unseen(self.children(parents))
        batch = max(settings.batch, round(settings.growth * len(archive)))
        order = self.liked(pool).argsort(descending=True)
        greedy = round(settings.greedy * batch)
        best, others = pool[order[:greedy]], pool[order[greedy:]]
        return torch.cat([best, others[torch.randperm(len(others))[: batch - greedy]]])


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
    best, risen = 0.0, 0
    while archive.best < 1 and len(archive) < archive.budget:
        began = time.process_time()
        loss = found.fit(archive, steps)
        fitted = time.process_time()
        if stuck := len(archive) - risen > settings.patience:
            archive.since, best = len(archive), 0.0
        rows = found.fresh(settings.batch) if stuck else found.propose(archive)
        values = archive.ask(rows)
        if len(values) and (values.max() > best or stuck):
            best, risen = values.max().item(), len(archive)
        steps = settings.steps
        yield {
            "rows": len(archive),
            "best": archive.best,
            "loss": loss,
            "fresh": stuck,
            "feasible": (values >= 0).double().mean().item(),
            "seconds": (fitted - began, time.process_time() - fitted),
        }
        if not len(values):
            return
