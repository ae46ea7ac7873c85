"""Learning from preferences: how well pairs are ranked, and what policies that obey are worth.

On HPOLib, whose every row has a true score: pairs of random rows, of which the better wins and one
answer in ten is flipped. A preference model learns from them, with pairs at random or actively
chosen, and a policy is optimised against it, exactly and by reinforcement learning, while the true
score is watched. Beside it stands direct preference optimisation, which needs no model.

    python -m benchmarks.preferences
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import tyro
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.harness import Benchmark, Cell, run
from benchmarks.preferences_plot import plot
from benchmarks.preferences_tables import tables
from benchmarks.preferences_world import RELIABILITY, TABLE, World, world
from benchmarks.rl import ALGORITHMS, law
from benchmarks.rl_problems import Problem, looks
from discrete_grad.data import load_example
from discrete_grad.models import PreferenceModel
from discrete_grad.policies import AutoregressiveGenerator, Generator, Policy
from discrete_grad.preferences import (
    DPOConfig,
    PreferenceConfig,
    Preferences,
    choose_pairs,
    fit_dpo,
    fit_preference_model,
    new_preference_model,
    random_pairs,
)
from discrete_grad.reinforcement import ReinforceConfig, reinforce, table_reward
from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.weighting import tilt
from discrete_grad.weighting.tilt import table_expectation

DATASET = "protein_structure"
COUNTS = (250, 500, 1000, 2000)
ROUNDS = (250, 500, 750, 1000, 1500, 2000)  # pairs after each round of active choice
POOL = 5000  # candidates of a round
ALGORITHM = "leave_one_out"
ARMS = ((2000, 0.1), (2000, 0.01), (250, 0.01))  # pairs of the model, beta of the policy
COLD = [5 * 0.6**i for i in range(16)]  # betas of the exact optimum
DPO_BETAS = (1.0, 0.1)  # in log-odds
CLEAN_PAIRS = (2000, 400_000)
CLEAN_BETAS = (0.1,)  # in standard deviations of the true score

Figures = dict[str, Any]


@dataclass(frozen=True)
class Config(harness.Config):
    """Accuracy from noisy pairs, and the true score of policies optimised for what was learned."""

    seeds: int = 10
    """Seeds 0, 1, ... of the model, the policies and DPO."""
    side_seeds: int = 3
    """Of active choice, and of the other data sets."""
    clean_seeds: int = 3
    """Of DPO from clean pairs."""
    rows: int = 6400
    """Rows that a policy may write."""


def cells(config: Config) -> list[Cell]:
    """A cell for each seed of an arm."""
    if config.quick:
        keys = [("random", DATASET, 0), ("active", DATASET, 0), ("dpo", "factorised", 0)]
        keys += [("clean", "0.1/2000", 0)]
    else:
        others = [name for name in load_example(TABLE).datasets if name != DATASET]
        pairs = [f"{beta:g}/{count}" for beta in CLEAN_BETAS for count in CLEAN_PAIRS]
        arms = [("random", DATASET, config.seeds), ("active", DATASET, config.side_seeds)]
        arms += [("dpo", name, config.seeds) for name in ("autoregressive", "factorised")]
        arms += [("clean", name, config.clean_seeds) for name in pairs]
        arms += [("random", name, config.side_seeds) for name in others]
        keys = [(arm, what, seed) for arm, what, seeds in arms for seed in range(seeds)]
    return [Cell("/".join(map(str, key)), (config, *key)) for key in keys]


def measure(config: Config, arm: str, what: str, seed: int) -> Figures:
    """Figures of one seed of an arm."""
    if arm == "random":
        return from_random(config, what, seed)
    if arm == "active":
        models = asked(config, world(what), seed)
        return {"models": {n: judged(world(what), model) for n, model in models.items()}}
    if arm == "dpo":
        return direct(config, world(DATASET), what, seed)
    beta, count = what.split("/")
    return clean(config, world(DATASET), float(beta), int(count), seed)


def from_random(config: Config, dataset: str, seed: int) -> Figures:
    """Models of the first of 2,000 pairs; where all is measured, also policies that obey them."""
    given = world(dataset)
    arms: tuple[tuple[int, float], ...] = ()
    counts: tuple[int, ...] = COUNTS[-1:]
    if dataset == DATASET:
        arms, counts = (ARMS[:1], counts) if config.quick else (ARMS, COUNTS)
    pairs = given.pairs(COUNTS[-1], seeded(seed))
    models = {n: fitted(config, given, pairs.take(torch.arange(n)), seed) for n in counts}
    paths = {}
    for count, beta in arms:
        told = problem(given, rewards(given, models[count]), beta)
        paths[f"{count}/{beta:g}"] = optimised(config, told, seed)
    return {"models": {n: judged(given, model) for n, model in models.items()}, "paths": paths}


# --- what is asked, and what is learned -----------------------------------------------------------


def asked(config: Config, given: World, seed: int) -> dict[int, PreferenceModel]:
    """Models of pairs of which all but the first round's are chosen by the model before."""
    noise = seeded(seed)
    pairs = given.pairs(COUNTS[-1], noise).take(torch.arange(ROUNDS[0]))
    models: dict[int, PreferenceModel] = {}
    for count in ROUNDS[:2] if config.quick else ROUNDS:
        if models:
            first, second, _ = random_pairs(given.codes, None, POOL, generator=noise)
            known = torch.zeros(POOL, dtype=torch.long)  # whose answers may be flipped
            told = models[len(pairs)]
            best = choose_pairs(told, first, second, count=count - len(pairs), annotator=known)
            pairs = joined(pairs, given.answers(first[best], second[best], noise=noise))
        models[count] = fitted(config, given, pairs, seed)
    return models


def joined(one: Preferences, other: Preferences) -> Preferences:
    """Both, in this order."""
    parts = ((getattr(p, name) for p in (one, other)) for name in ("first", "second", "outcome"))
    first, second, outcome = (torch.cat(list(part)) for part in parts)
    return Preferences(first, second, outcome)


def fitted(config: Config, given: World, pairs: Preferences, seed: int) -> PreferenceModel:
    """A model with the library's settings."""
    settings = PreferenceConfig(steps=20, validate_every=10) if config.quick else PreferenceConfig()
    model = new_preference_model(given.space, None, settings, ties=False, seed=seed)
    fit_preference_model(model, pairs, config=settings, seed=seed)
    return model


@torch.no_grad()
def rewards(given: World, model: PreferenceModel) -> Tensor:
    """Of all rows `(R,)`, in standard deviations from their mean."""
    found = torch.cat([model(part) for part in given.codes.split(8192)]).double()
    return (found - found.mean()) / found.std()


def judged(given: World, model: PreferenceModel) -> Figures:
    """A model's ranking, its belief in answers, and the worth of its exact optima."""
    reward = rewards(given, model)
    return {
        "accuracy": given.accuracy(reward),
        "reliability": float(model.reliability.mean()),
        "optima": [_optimum(problem(given, reward, beta)) for beta in COLD],
    }


# --- what a policy is worth -----------------------------------------------------------------------


def problem(given: World, reward: Tensor, beta: float) -> Problem:
    """To be maximised by a policy, whose truth is watched."""
    return Problem(given.space, reward, given.truth, beta)


def percentiles(values: Tensor) -> Tensor:
    """Percent of all values `(R,)` below each, and half of those equal to it."""
    ordered = values.sort().values
    below, upto = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (below + upto).double() * (50 / len(values))


def worth(problem: Problem, log_probs: Tensor) -> dict[str, float]:
    """Exact figures of a policy's law `(R,)`, by score and by percentile, true and proxy."""
    log_probs = log_probs.double()
    figures = problem.grade(log_probs)
    for name, values in (("true", problem.truth), ("proxy", problem.reward)):
        place = table_expectation(log_probs, percentiles(values))
        figures[f"{name} percentile"] = float(place)
    figures["kl"] = max(figures["kl"], 0.0)  # of rounding
    return {name: round(value, 6) for name, value in figures.items()}


def _optimum(problem: Problem) -> dict[str, float]:
    """The best policy of all, at the problem's beta."""
    best = tilt(problem.uniform, problem.reward, problem.beta)
    return {"beta": problem.beta, **worth(problem, best)}


def optimised(config: Config, problem: Problem, seed: int) -> list[dict[str, float]]:
    """Worth of a policy along its training, by reinforcement learning as in `rl`."""
    with isolated_seed(seed):
        policy = AutoregressiveGenerator(problem.space)
    options: Any = {"algorithm": ALGORITHM, "beta": problem.beta, **ALGORITHMS[ALGORITHM]}
    settings = ReinforceConfig(**options)
    rows = 1024 if config.quick else config.rows
    steps = rows // settings.group * settings.updates
    settings = replace(settings, steps=steps, validate_every=settings.updates)
    at, points = looks(rows, settings.group, 14), dict[int, dict[str, float]]()

    def callback(_: nn.Module, step: int) -> None:
        rows = settings.rows_used(step, contexts=1)
        if rows in at and step % settings.updates == 0:
            points[rows] = {"rows": float(rows), **worth(problem, law(policy))}

    reward = table_reward(problem.space, problem.reward.float())
    reinforce(policy, reward, config=settings, callback=callback, seed=seed)
    return list(points.values())


# --- without a model ------------------------------------------------------------------------------


def direct(config: Config, given: World, kind: str, seed: int) -> Figures:
    """DPO from the pairs that the preference model learns from."""
    pairs = given.pairs(COUNTS[-1], seeded(seed))
    yardstick = problem(given, given.truth, 1.0)
    found: Figures = {}
    for beta in DPO_BETAS:
        settings = DPOConfig(beta=beta, flip=1 - RELIABILITY, steps=20 if config.quick else 1000)
        found[f"{beta:g}"] = _direct(given, pairs, kind, settings, yardstick, seed)
    return found


def clean(config: Config, given: World, beta: float, count: int, seed: int) -> Figures:
    """DPO from answers whose log-odds are the truth's difference over beta: it aims at `pi*`."""
    pairs = given.pairs(count, seeded(seed), temperature=beta, reliability=1.0)
    settings = DPOConfig(
        steps=20 if config.quick else 1500,
        batch_size=256,
        held_out=min(0.125, 4000 / count),
        validate_every=50,
    )
    yardstick = problem(given, given.truth, beta)
    return _direct(given, pairs, "autoregressive", settings, yardstick, seed)


def _direct(
    given: World, pairs: Preferences, kind: str, settings: DPOConfig, yardstick: Problem, seed: int
) -> dict[str, float]:
    with isolated_seed(seed):
        policy: Policy = AutoregressiveGenerator(given.space)
        if kind == "factorised":
            policy = Generator(given.space)
    fit_dpo(policy, pairs, Generator(given.space), config=settings, seed=seed)
    log_probs = law(policy)
    return {"accuracy": given.accuracy(log_probs), **worth(yardstick, log_probs)}


BENCHMARK = Benchmark(
    name="preferences",
    title="Learning from preferences",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
