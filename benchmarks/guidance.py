"""Guidance towards new rewards: expected reward against KL, with the exact tilt as the frontier.

First exactly: on all 15,625 rows of NASBench201 with exact conditionals, where the sequence law of
every rule is enumerated. Then a learned conditional model of HPOLib and HPOBench, and 20 reward
functions of its attributes, against best-of-n at the same number of forward passes and against
value-guided decoding.

    python -m benchmarks.guidance
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks import harness
from benchmarks.guidance_tables import plot, tables
from benchmarks.harness import Benchmark, Cell, run
from discrete_grad.data import Example, ScoredRows, load_example
from discrete_grad.fitting import ReproductionConfig, fit_reproduction
from discrete_grad.policies import AutoregressiveGenerator, SequentialPolicy
from discrete_grad.sampling import isolated_seed, permutation, random_indices, seeded
from discrete_grad.space import ContextSpec
from discrete_grad.weighting import (
    AttributeSet,
    Guidance,
    Guided,
    PrefixValue,
    TablePolicy,
    TablePotential,
    ValueGuided,
    beta_for_kl,
    exact_log_probs,
    fit_prefix_value,
    tilt,
)
from discrete_grad.weighting.best_of_n import best_of_n_law
from discrete_grad.weighting.guidance_exact import exact_grade
from discrete_grad.weighting.prefix_value import PrefixValueConfig
from discrete_grad.weighting.tilt import coldest, table_expectation, table_kl

GAMMAS = (1.0, 2.0, 4.0, 8.0)
RULES = ("z_scored", "jensen", "posterior", "exact")
EXACT_REWARDS = ("mean", "apart", "middle")
BETAS = (0.4, 0.2, 0.1, 0.05)
FAMILIES = ("hpolib", "hpobench")
LEARNED_RULES = ("z_scored", "jensen", "exact")
VALUE_KL = 2.0  # nats; where value-guided decoding aims

Reward = Callable[[Tensor], Tensor]
Figures = dict[str, Any]


@dataclass(frozen=True)
class Config(harness.Config):
    """Expected reward against KL of guidance, exactly and with a learned model."""

    seeds: int = 3
    """Training sets and fits of the learned part: seeds 0, 1, ..."""
    rows: int = 5000
    """Rows of the table that the conditional model is trained on."""
    steps: int = 2000
    """Of its training, at 256 rows."""
    vectors: int = 32
    """Attribute vectors that guidance asks about; best-of-n draws one row more than that."""
    samples: int = 500
    """Rows drawn for each reward, rule and strength."""
    rewards: int = 20
    """Reward functions of the learned part."""


def cells(config: Config) -> list[Cell]:
    """A cell for each exact reward, then one for each family and seed."""
    exact = [Cell(f"exact/{name}", (config, "exact", name, 0)) for name in EXACT_REWARDS]
    learned = [
        Cell(f"learned/{family}/{seed}", (config, "learned", family, seed))
        for seed in range(1 if config.quick else config.seeds)
        for family in (FAMILIES[1:] if config.quick else FAMILIES)
    ]
    return (exact[:1] if config.quick else exact) + learned


def measure(config: Config, part: str, name: str, seed: int) -> Figures:
    """Figures of one cell."""
    return exact_part(config, name) if part == "exact" else learned_part(config, name, seed)


def fifths(example: Example) -> Tensor:
    """Attributes `(rows, data sets)`: the fifth, 0 to 4, of each data set's scores."""
    ranks = example.scores.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return (ranks * 5 // example.space.num_rows).T.double()


# --- exact ----------------------------------------------------------------------------------------


def exact_reward(name: str) -> Reward:
    """High in all three data sets; high in the third and low in the first; a middle cell."""
    rewards: dict[str, Reward] = {
        "mean": lambda y: y.mean(-1) / 4,
        "apart": lambda y: (1 + (y[:, 2] - y[:, 0]) / 4) / 2,
        "middle": lambda y: (-(y - 2).square().sum(-1) / 2).exp(),
    }
    return rewards[name]


def exact_part(config: Config, name: str) -> Figures:
    """Expected reward and KL of every rule and strength, by enumeration."""
    example, reward = load_example("nasbench201", repeat_seed=0), exact_reward(name)
    attributes, space = fifths(example), example.space
    policy = TablePolicy.from_rows(space, torch.zeros(space.num_rows), attributes)
    truth, base = reward(attributes), exact_log_probs(policy)
    guides: dict[str, SequentialPolicy[Any]] = {}
    for gamma in GAMMAS[1:2] if config.quick else GAMMAS:
        for rule in RULES:
            how = Guidance(gamma=gamma, rule=rule)  # type: ignore[arg-type]
            worth = reward(policy.support.vectors)
            guides[f"{rule} {gamma:g}"] = Guided(policy, policy.support, worth, guidance=how)
    for beta in BETAS[2:3] if config.quick else BETAS:
        potential = TablePotential(space, base, truth / beta)
        guides[f"tilt {beta:g}"] = ValueGuided(policy, potential)
    figures: Figures = {"base": {"reward": float(truth.mean()), "kl": 0.0}}
    for label, guide in guides.items():
        mean, kl = exact_grade(guide, policy, truth)
        figures[label] = {"reward": float(mean), "kl": float(kl)}
    return figures


# --- learned --------------------------------------------------------------------------------------


def reward_functions(attributes: Tensor, count: int) -> list[Reward]:
    """Weighted means, differences between halves of the data sets, and cells to be hit, in turn.

    All lie between 0 and 1. The same for every seed.
    """
    noise, found, size = seeded(0), list[Reward](), attributes.shape[1]
    for i in range(count):
        weights = random_indices(5, (size,), generator=noise).double() + 0.1
        half, place = size // 2, permutation(size, generator=noise)
        signs = torch.where(place < half, 1 / half, -1 / (size - half)).double()
        row = random_indices(len(attributes), (1,), generator=noise)
        mean, target = weights / weights.sum(), attributes[row]
        kinds: list[Reward] = [
            lambda y, w=mean: y @ w / 4,  # type: ignore[misc]
            lambda y, s=signs: (1 + y @ s / 4) / 2,  # type: ignore[misc]
            lambda y, c=target: (-(y - c).square().sum(-1) / (2 * size)).exp(),  # type: ignore[misc]
        ]
        found.append(kinds[i % 3])
    return found


def conditional_model(
    config: Config, example: Example, codes: Tensor, attributes: Tensor, seed: int
) -> AutoregressiveGenerator:
    """One network for p(row | attributes) and p(row), trained by maximum likelihood."""
    spec = ContextSpec(numeric=list(example.datasets))
    with isolated_seed(seed):
        model = AutoregressiveGenerator(example.space, attributes=spec, hidden=(96,))
    steps = 20 if config.quick else config.steps
    settings = ReproductionConfig(steps=steps, batch_size=256, validate_every=100, patience=steps)
    rows = ScoredRows(codes, torch.ones(len(codes)))
    fit_reproduction(model, rows, config=settings, seed=seed, attributes=attributes)
    return model


def learned_part(config: Config, family: str, seed: int) -> Figures:
    """For each reward the figures of each method."""
    example = load_example(family)
    noise, attributes = seeded(seed), fifths(example)
    rows = permutation(len(attributes), generator=noise)[: config.rows]
    codes, seen = example.space.enumerate()[rows], attributes[rows].float()
    # numbers about 0, as a network wants them
    model = conditional_model(config, example, codes, seen / 2 - 1, seed)
    support = AttributeSet.from_rows(seen / 2 - 1, size=config.vectors, generator=noise)
    base = exact_log_probs(model)
    rewards = reward_functions(attributes, 2 if config.quick else config.rewards)
    return {
        str(i): _one_reward(config, model, support, base, reward, attributes, seed)
        for i, reward in enumerate(rewards)
    }


def _one_reward(
    config: Config,
    model: AutoregressiveGenerator,
    support: AttributeSet,
    base: Tensor,
    reward: Reward,
    attributes: Tensor,
    seed: int,
) -> Figures:
    truth = reward(attributes)
    worth = reward(2 * support.vectors.double() + 2)
    start = float(table_expectation(base, truth))
    figures: Figures = {"base": {"reward": start, "kl": 0.0, "frontier": start}}
    for rule in LEARNED_RULES:
        for gamma in GAMMAS[1:2] if config.quick else GAMMAS:
            how = Guidance(gamma=gamma, rule=rule)  # type: ignore[arg-type]
            guided = Guided(model, support, worth, guidance=how)
            figures[f"{rule} {gamma:g}"] = _sampled(config, guided, base, truth, seed)
    best = best_of_n_law(base, truth, len(support.prior) + 1)
    kl = float(table_kl(best, base))
    figures["best of n"] = _figures(float(table_expectation(best, truth)), kl, base, truth)
    valued = _value_guided(config, model, base, truth, seed)
    figures["value"] = _sampled(config, valued, base, truth, seed)
    return figures


def _value_guided(
    config: Config, model: AutoregressiveGenerator, base: Tensor, truth: Tensor, seed: int
) -> ValueGuided:
    """Guidance by a value fitted to rows of the model whose true reward is known."""
    most = float(table_kl(coldest(base, truth), base))
    beta = float(beta_for_kl(base, truth, min(VALUE_KL, most / 2)))
    codes = model.sample(count=config.rows, generator=seeded(seed))
    weight = truth[model.space.row_number(codes)] / beta
    with isolated_seed(seed):
        value = PrefixValue(model.space)
    settings = PrefixValueConfig(steps=20 if config.quick else 500)
    fit_prefix_value(value, codes, weight, config=settings, seed=seed)
    return ValueGuided(model, value.requires_grad_(False))


def _sampled(
    config: Config, guided: SequentialPolicy[Any], base: Tensor, truth: Tensor, seed: int
) -> dict[str, float]:
    """True reward of rows drawn, and the mean of `log guided - log base` over them."""
    codes = guided.sample(count=config.samples, generator=seeded(seed))
    index = guided.space.row_number(codes)
    apart = guided.log_prob(codes).double() - base[index]
    return _figures(float(truth[index].mean()), float(apart.mean()), base, truth)


def _figures(reward: float, kl: float, base: Tensor, truth: Tensor) -> dict[str, float]:
    """With the most that any distribution at this KL can expect."""
    cold = coldest(base, truth)
    if kl >= 0.999 * float(table_kl(cold, base)):
        best = cold
    else:
        best = tilt(base, truth, beta_for_kl(base, truth, max(kl, 1e-6)))
    return {"reward": reward, "kl": kl, "frontier": float(table_expectation(best, truth))}


BENCHMARK = Benchmark(
    name="guidance",
    title="Guidance towards new rewards",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
