"""Samplers of the reward-weighted distribution against the exact one, on complete tables.

The reward is the first data set's score of NASBench201 (one repeat) and of HPOBench, in standard
deviations of the table; the reference is uniform, or an autoregressive generator with large random
weights. Laws are exact where they can be: of best of n, hard and soft (the latter is that of
importance sampling's weights and of resampling by them), and of Metropolis-Hastings, whose
transition matrix is applied to the whole table. The law of twisted SMC is pooled over many runs.
How often the reported intervals of log Z hold the truth is counted over independent runs.

    python -m benchmarks.tilt
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks import harness
from benchmarks.harness import Benchmark, Cell, run
from benchmarks.tilt_laws import (
    TableReference,
    TableReward,
    TableTwist,
    chain_laws,
    divergence,
    pooled,
    total_variation,
    transition,
    untwisted_law,
)
from benchmarks.tilt_tables import plot, tables
from discrete_grad.data import load_example
from discrete_grad.policies import AutoregressiveGenerator
from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.space import CategoricalSpace
from discrete_grad.weighting import (
    ExactTilt,
    PrefixValue,
    RewardWeighted,
    TablePotential,
    fit_prefix_value,
    importance_sampling,
    twisted_smc,
)
from discrete_grad.weighting.best_of_n import best_of_n_law, soft_best_of_n_law
from discrete_grad.weighting.particles import Twist, no_twist
from discrete_grad.weighting.prefix_value import PrefixValueConfig
from discrete_grad.weighting.smc import log_z_bounds

TABLES = {"nasbench201": "cifar10", "hpobench": "car"}
REFERENCES = ("uniform", "autoregressive")
BETAS = (1.0, 0.1, 0.01)  # standard deviations of the score
SHARPER = 50.0  # times the initial weights of the generator's last layer
POOLS = tuple(4**k for k in range(2, 9))  # n of importance sampling and best of n
RUNS = tuple(4**k for k in range(2, 8))  # particles of an SMC run
COUNTS = (64, 256, 1024, 4096)  # of importance sampling's interval
BOUND_PARTICLES, BOUND_ROWS = 64, 8  # of the bounds
FIT_ROWS, FIT_STEPS = 2048, 500  # of the learned twist
AT_ONCE = 2**16  # particles
NEAR = 5e-3  # total variation below which chains need not go on
PROPOSALS = ("reference", "twisted")

Figures = dict[str, Any]


@dataclass(frozen=True)
class Config(harness.Config):
    """Distance of samplers' laws from the exact one against evaluations, and intervals of log Z."""

    particles: int = 2**18
    """Of SMC, in all, for each law that is pooled."""
    steps: int = 2**15
    """Of the chains, at most; they end where they are within .005 of the target."""
    repeats: int = 1000
    """Runs in which the interval of log Z is looked at; half as many for the bounds of SMC."""


def cells(config: Config) -> list[Cell]:
    """A cell for each table, reference, beta and family of samplers."""
    worlds = [(t, r, b) for t in TABLES for r in REFERENCES for b in BETAS]
    chosen = [("nasbench201", "uniform", 0.1)] if config.quick else worlds
    return [
        Cell(f"{table}/{reference}/{beta:g}/{family}", (config, table, reference, beta, family))
        for table, reference, beta in chosen
        for family in ("draws", "chains", "particles")
    ]


def measure(config: Config, table: str, reference: str, beta: float, family: str) -> Figures:
    """Figures of one cell: the points of each sampler's line, and of each interval."""
    target = world(table, reference, beta)
    families = {"draws": draws, "chains": chains, "particles": particles}
    return families[family](config, target, target.exact())


# --- worlds ---------------------------------------------------------------------------------------


def world(table: str, reference: str, beta: float) -> RewardWeighted:
    """A table as a target, its score in standard deviations."""
    example = load_example(table, [TABLES[table]], repeat_seed=0)
    score, space = example.scores[0].double(), example.space
    reward = TableReward(space, (score - score.mean()) / score.std())
    log_probs = torch.zeros(space.num_rows) if reference == "uniform" else generated(space)
    return RewardWeighted(TableReference(space, log_probs), reward, beta)


@torch.no_grad()
def generated(space: CategoricalSpace) -> Tensor:
    """Log-probabilities `(R,)` of a generator that was not trained, but is far from uniform."""
    with isolated_seed(0):
        model = AutoregressiveGenerator(space)
    model.network.head.weight.mul_(SHARPER)
    log_probs: Tensor = model.log_prob(space.enumerate())
    return log_probs


# --- independent draws ----------------------------------------------------------------------------


def draws(config: Config, target: RewardWeighted, exact: ExactTilt) -> Figures:
    """Exact laws of best of n, hard and soft; coverage of importance sampling's interval."""
    lines: Figures = {"reference": [], "soft best of n": [], "best of n": []}
    lines["reference"].append(_point(1, exact.log_reference.exp(), exact))
    for n in POOLS[:3] if config.quick else POOLS:
        soft = soft_best_of_n_law(exact.log_reference, exact.reward, exact.beta, n)
        hard = best_of_n_law(exact.log_reference, exact.reward, n)
        lines["soft best of n"].append(_point(n, soft.exp(), exact))
        lines["best of n"].append(_point(n, hard.exp(), exact))
    batch, noise = torch.zeros(50 if config.quick else config.repeats, 1), seeded(0)
    held = {}
    for n in COUNTS[:2] if config.quick else COUNTS:
        samples = importance_sampling(target, batch, n, generator=noise)
        assert samples.log_z_interval is not None
        held[f"importance {n}"] = _held(samples.log_z_interval, exact)
    return {"lines": lines, "intervals": held}


def _point(evaluations: int, law: Tensor, exact: ExactTilt) -> dict[str, float]:
    tv, kl = total_variation(law, exact.probs), divergence(law, exact.log_probs)
    return {"evaluations": float(evaluations), "tv": tv, "kl": kl}


def _held(interval: tuple[Tensor, Tensor], exact: ExactTilt) -> dict[str, float]:
    """In how many runs the interval lies too high or too low, and of how many it is finite."""
    high, low = interval[0] > exact.log_z, interval[1] < exact.log_z
    width = interval[1] - interval[0]
    finite, missed = width.isfinite(), high | low
    held = {
        "runs": len(width),
        "too high": int(high.sum()),
        "too low": int(low.sum()),
        "missed": int(missed.sum()),
        "finite": int(finite.sum()),
        "missed though finite": int((missed & finite).sum()),
    }
    return held | ({"width": float(width[finite].median())} if finite.any() else {})


# --- chains ---------------------------------------------------------------------------------------


def chains(config: Config, target: RewardWeighted, exact: ExactTilt) -> Figures:
    """Exact laws of Metropolis-Hastings; an informed step takes a value and a derivative."""
    lines: Figures = {}
    for proposal, cost in (("uniform", 1), ("informed", 2)):
        points = lines[f"chain {proposal}"] = []
        start, step = exact.log_reference.exp(), transition(target, proposal)
        for steps, law in chain_laws(step, start, 64 if config.quick else config.steps):
            points.append(_point(cost * (steps + 1), law, exact))
            if points[-1]["tv"] < NEAR:
                break
    return {"lines": lines, "intervals": {}}


# --- particles ------------------------------------------------------------------------------------


def particles(config: Config, target: RewardWeighted, exact: ExactTilt) -> Figures:
    """Laws of twisted SMC, exact without a twist and else pooled, and coverage of its bounds."""
    noise, lines, held = seeded(0), Figures(), Figures()
    total = 2**13 if config.quick else config.particles
    counts = RUNS[:2] if config.quick else RUNS
    for proposal in PROPOSALS:
        each = target.space.sizes[-1] if proposal == "twisted" else 1
        laws = {n: untwisted_law(exact, target.space, n, proposal) for n in counts}
        lines[f"smc none {proposal}"] = [_point(n * each, law, exact) for n, law in laws.items()]
    for name, twist in twists(target, noise).items():
        for proposal in PROPOSALS:
            if name != "exact":  # whose runs have no error but rounding's
                held |= _bounds(config, target, exact, twist, proposal, name)
            if name != "none":
                smc = partial(twisted_smc, target, twist=twist, generator=noise)
                lines[f"smc {name} {proposal}"] = [
                    _pooled(partial(smc, proposal=proposal, count=n), exact, target.space, n, total)
                    # with the exact twist no run differs from any other
                    for n in (counts[:2] if (name, proposal) == ("exact", "twisted") else counts)
                ]
    rows = target.space.row_number(exact.sample(total, generator=noise))
    shares = rows.bincount(minlength=len(exact.codes)) / total
    floor = total_variation(shares.double(), exact.probs)
    return {"lines": lines, "intervals": held, "floor": floor}


def twists(target: RewardWeighted, noise: torch.Generator) -> dict[str, Twist]:
    """None, one learned from a few rows, and the exact one."""
    exact, codes = target.exact(), target.reference.sample(None, FIT_ROWS, generator=noise)
    with isolated_seed(0):
        learned = PrefixValue(target.space)
    weight = target.rewards(codes) / target.beta
    fit_prefix_value(learned, codes, weight, config=PrefixValueConfig(steps=FIT_STEPS), seed=0)
    known = TablePotential(target.space, exact.log_reference, exact.reward / exact.beta)
    learned.requires_grad_(False)
    return {"none": no_twist, "learned": TableTwist(learned), "exact": TableTwist(known)}


def _pooled(
    smc: Callable[..., Any], exact: ExactTilt, space: CategoricalSpace, count: int, total: int
) -> dict[str, float]:
    runs = max(1, min(AT_ONCE, total // 2) // count)
    blocks = max(1, total // (2 * runs * count))
    found = pooled(lambda context: smc(context=context), exact, space, runs=runs, blocks=blocks)
    return found.figures(exact)


def _bounds(
    config: Config, target: RewardWeighted, exact: ExactTilt, twist: Twist, how: str, name: str
) -> Figures:
    runs, noise = 50 if config.quick else config.repeats // 2, seeded(1)
    rows = exact.sample(BOUND_ROWS * runs, generator=noise).view(BOUND_ROWS, runs, -1)
    bounds = log_z_bounds(
        target,
        rows,
        torch.zeros(runs, 1),
        BOUND_PARTICLES,
        twist=twist,
        proposal=how,  # type: ignore[arg-type]
        generator=noise,
    )
    return {f"smc {name} {how} {BOUND_PARTICLES}": _held(bounds, exact)}


BENCHMARK = Benchmark(
    name="tilt",
    title="Samplers of the reward-weighted distribution",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
