"""Reinforcement learning from a distilled guided policy against learning from scratch.

A conditional model of a table's rows knows p(row | attributes); its p(row) is the base policy. For
a reward function of the attributes, unseen in training, the guided model is distilled into a copy
of the base for 50 steps, which asks for no reward of a row. Then the same reinforcement learning
starts from the base and from the copy. `E[r] - beta KL(policy || base)` is graded exactly, and its
optimum is known.

    python -m benchmarks.warm_start
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks import guidance, harness
from benchmarks.guidance import conditional_model, fifths, reward_functions
from benchmarks.harness import Benchmark, Cell, Results, Table, failures, interval, run, succeeded
from benchmarks.rl_problems import looks
from discrete_grad.data import load_example
from discrete_grad.evaluation import mean_interval
from discrete_grad.models import AutoregressiveGenerator, Policy
from discrete_grad.sampling import permutation, seeded
from discrete_grad.training import (
    DistillConfig,
    ReinforceConfig,
    distill_guidance,
    reinforce,
    table_reward,
)
from discrete_grad.weighting import (
    AttributeSet,
    Guidance,
    Guided,
    beta_for_kl,
    coldest,
    exact_log_probs,
    log_partition,
    table_expectation,
    table_kl,
)

TITLES = {"nasbench201": "NASBench201", "hpobench": "HPOBench"}
KINDS = ("mean", "trade-off", "cell")  # of the reward functions, in turn
SHARES = (0.9, 0.95, 0.99)
GROUP = 64  # rows an update
LOOKS = 40

Figures = dict[str, Any]
Points = list[dict[str, float]]


@dataclass(frozen=True)
class Config(harness.Config):
    """Rows that a distilled warm start saves."""

    seeds: int = 5
    """Training sets, models and runs: seeds 0, 1, ..."""
    rewards: int = 4
    """Reward functions of each table, the first of those of the guidance benchmark."""
    kl: float = 2.5
    """Divergence of the optimum from the base policy in nats, which decides beta."""
    gamma: float = 2.0
    """Strength of the guidance."""
    distill_steps: int = 50
    """Of the distillation."""
    steps: int = 400
    """Updates of each run, at 64 rows."""
    learning_rate: float = 3e-3
    """Of both runs; the best of a grid for learning from scratch, on seed 100."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Maximise `E[r] - beta KL(policy || base)`; laws and rewards `(rows,)` of all rows."""

    base: Tensor
    reward: Tensor
    beta: float

    def grade(self, log_probs: Tensor) -> dict[str, float]:
        """Exact figures of a law; `share` of the way from the base, 0, to the optimum, 1."""
        start = float(table_expectation(self.base, self.reward))
        optimum = self.beta * float(log_partition(self.base, self.reward, self.beta))
        mean = float(table_expectation(log_probs, self.reward))
        kl = float(table_kl(log_probs, self.base))
        share = (mean - self.beta * kl - start) / (optimum - start)
        return {"share": share, "reward": mean, "kl": kl}


def cells(config: Config) -> list[Cell]:
    """A cell for each table and seed: one model serves all reward functions."""
    seeds = range(1 if config.quick else config.seeds)
    names = list(TITLES)[:1] if config.quick else list(TITLES)
    return [Cell(f"{name}/{seed}", (config, name, seed)) for seed in seeds for name in names]


def measure(config: Config, table: str, seed: int) -> Figures:
    """Figures of each reward function."""
    example, noise = load_example(table), seeded(seed)
    attributes = fifths(example)
    rows = permutation(len(attributes), generator=noise)[: guidance.Config.rows]
    codes, seen = example.space.enumerate()[rows], attributes[rows].float() / 2 - 1
    learnt = guidance.Config(quick=config.quick)
    model = conditional_model(learnt, example, codes, seen, seed)
    support = AttributeSet.from_rows(seen, size=learnt.vectors, generator=noise)
    base, count = exact_log_probs(model).double(), 2 if config.quick else config.rewards
    found = {}
    for i, reward in enumerate(reward_functions(attributes, count)):
        asked = posed(base, reward(attributes), config.kl)
        guided = Guided(
            model,
            support,
            reward(2 * support.vectors.double() + 2),
            guidance=Guidance(gamma=config.gamma),
        )
        found[f"{KINDS[i % 3]} {i // 3 + 1}"] = compared(config, model, guided, asked, seed)
    return found


def posed(base: Tensor, reward: Tensor, kl: float) -> Problem:
    """With the beta at which the optimum is so far from the base, or half as far as it can be."""
    most = float(table_kl(coldest(base, reward), base))
    return Problem(base, reward, float(beta_for_kl(base, reward, min(kl, most / 2))))


def compared(
    config: Config, model: AutoregressiveGenerator, guided: Guided, asked: Problem, seed: int
) -> Figures:
    """The paths of both runs, and what the distillation took."""
    warm, began = copy.deepcopy(model).requires_grad_(True), time.perf_counter()
    settings = DistillConfig(steps=config.distill_steps)
    losses = distill_guidance(warm, guided, config=settings, seed=seed)
    seconds = time.perf_counter() - began
    scratch = copy.deepcopy(model).requires_grad_(True)
    return {
        "beta": asked.beta,
        "distill_seconds": seconds,
        "distill_losses": [losses[0], losses[-1]],
        "scratch": learned(config, scratch, model, asked, seed),
        "warm": learned(config, warm, model, asked, seed),
    }


def learned(
    config: Config,
    policy: AutoregressiveGenerator,
    base: AutoregressiveGenerator,
    asked: Problem,
    seed: int,
) -> Points:
    """Train a policy, in place; its path. The clock stands still while it is graded."""
    steps, path = 20 if config.quick else config.steps, Points()
    at, began, paused = {0} | looks(steps * GROUP, GROUP, LOOKS), time.perf_counter(), 0.0

    def look(policy: Policy, rows: int) -> None:
        nonlocal paused
        now = time.perf_counter()
        if rows in at and isinstance(policy, AutoregressiveGenerator):
            figures = asked.grade(exact_log_probs(policy).double())
            path.append({"rows": rows, "seconds": now - began - paused, **figures})
        paused += time.perf_counter() - now

    settings = ReinforceConfig(
        algorithm="leave_one_out",
        group=GROUP,
        steps=steps,
        beta=asked.beta,
        learning_rate=config.learning_rate,
        validate_every=1,
    )
    reward = table_reward(policy.space, asked.reward.float())
    reinforce(policy, reward, settings, reference=base, look=look, seed=seed)
    return path


# --- tables and plot ------------------------------------------------------------------------------


def came(path: Points, share: float, kind: str = "rows") -> float | None:
    """Rows or seconds from which on a path keeps a share, on a straight line between two looks.

    0 where it begins there; None where it ends below.
    """
    last = max((i for i, point in enumerate(path) if point["share"] < share), default=-1)
    if last < 0 or last == len(path) - 1:
        return None if path[-1]["share"] < share else 0.0
    below, above = path[last], path[last + 1]
    part = (share - below["share"]) / (above["share"] - below["share"])
    return below[kind] + part * (above[kind] - below[kind])


def saved(figures: Figures, share: float) -> float | None:
    """Log of the ratio of rows, scratch to warm; at least one update counts, so 0 rows are 64."""
    rows = [came(figures[run], share) for run in ("scratch", "warm")]
    if rows[0] is None or rows[1] is None:
        return None
    return math.log(max(rows[0], GROUP) / max(rows[1], GROUP))


def tables(results: Results) -> list[Table]:
    """Rows, then shares and seconds."""
    cells = _by_reward(succeeded(results))
    if not cells:
        return [Table("Warm start", ("nothing yet",), []), failures(results)]
    return [_rows(cells), _costs(cells), failures(results)]


def _by_reward(done: dict[str, Figures]) -> dict[tuple[str, str], list[Figures]]:
    """The seeds of each table and reward."""
    found: dict[tuple[str, str], list[Figures]] = {}
    for name in TITLES:
        for key in sorted(key for key in done if key.startswith(f"{name}/")):
            for reward, figures in done[key].items():
                if reward != "seconds":
                    found.setdefault((name, reward), []).append(figures)
    return found


def _rows(cells: dict[tuple[str, str], list[Figures]]) -> Table:
    header = ["", "reward", "share at the warm start"]
    for share in SHARES:
        header += [f"{share:.0%}: scratch", "warm", "ratio"]
    rows = []
    for (name, reward), seeds in cells.items():
        begins = interval([figures["warm"][0]["share"] for figures in seeds], 2)
        line = [TITLES[name], reward, begins]
        for share in SHARES:
            line += [_median(seeds, run, share) for run in ("scratch", "warm")]
            line.append(_ratio([saved(figures, share) for figures in seeds]))
        rows.append(line)
    for name in dict.fromkeys(name for name, _ in cells):
        every = list(zip(*(seeds for (own, _), seeds in cells.items() if own == name), strict=True))
        line = [TITLES[name], "all", ""]
        for share in SHARES:
            line += ["", "", _ratio([_mean([saved(f, share) for f in seed]) for seed in every])]
        rows.append(line)
    note = (
        "Rows whose reward is asked for until the policy keeps 90, 95 and 99% of the exact way "
        "from the base policy to the optimum: medians over seeds. Ratio: rows from scratch over "
        "rows from the warm start, geometric mean with a 95% interval over seeds; 0 rows count as "
        "one update of 64. In brackets how many seeds came so far. All: the geometric mean of the "
        "reward functions."
    )
    return Table("Rows until reinforcement learning is near its optimum", header, rows, note)


def _median(seeds: Sequence[Figures], run: str, share: float) -> str:
    rows = [came(figures[run], share) for figures in seeds]
    reached = sum(one is not None for one in rows)
    middle = statistics.median_low([math.inf if one is None else one for one in rows])
    kept = "" if reached == len(rows) else f" ({reached} of {len(rows)})"
    return "-" + kept if middle == math.inf else f"{middle:,.0f}{kept}"


def _mean(logs: Sequence[float | None]) -> float | None:
    """None where one is."""
    found = [one for one in logs if one is not None]
    return statistics.mean(found) if len(found) == len(logs) else None


def _ratio(logs: Sequence[float | None]) -> str:
    """Geometric mean and interval of ratios whose logarithms are given."""
    found = [one for one in logs if one is not None]
    if not found:
        return "-"
    mean, low, high = (math.exp(one) for one in mean_interval(found))
    kept = "" if len(found) == len(logs) else f" ({len(found)} of {len(logs)})"
    return f"{mean:.2f}{kept}" if high == math.inf else f"{mean:.2f} [{low:.2f}, {high:.2f}]{kept}"


def _costs(cells: dict[tuple[str, str], list[Figures]]) -> Table:
    header = (
        "",
        "reward",
        "beta",
        "KL at the warm start",
        "seconds of distillation",
        "seconds to 95%: scratch",
        "warm, with distillation",
        "share at the end: scratch",
        "warm",
    )
    rows = []
    for (name, reward), seeds in cells.items():
        kl = interval([figures["warm"][0]["kl"] for figures in seeds], 2)
        beta = statistics.median(figures["beta"] for figures in seeds)
        ends = [interval([f[run][-1]["share"] for f in seeds], 4) for run in ("scratch", "warm")]
        took = statistics.median(figures["distill_seconds"] for figures in seeds)
        spent = [_seconds(seeds, run) for run in ("scratch", "warm")]
        rows.append((TITLES[name], reward, f"{beta:.3f}", kl, f"{took:.1f}", *spent, *ends))
    note = (
        "Seconds are medians over seeds, on one core and without grading; the distillation, which "
        "asks for no reward of a row, counts in the warm start's. Shares and KL (nats) are exact, "
        "means with a 95% interval over seeds."
    )
    return Table("What the distillation takes, and how far both come", header, rows, note)


def _seconds(seeds: Sequence[Figures], run: str) -> str:
    found = []
    for figures in seeds:
        seconds = came(figures[run], 0.95, "seconds")
        before = figures["distill_seconds"] if run == "warm" else 0.0
        found.append(math.inf if seconds is None else seconds + before)
    middle = statistics.median_low(found)
    return "-" if middle == math.inf else f"{middle:.1f}"


def plot(results: Results, path: Path) -> None:
    """Share of the way that is missing against rows, a thin line for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    cells = _by_reward(succeeded(results))
    names = list(dict.fromkeys(name for name, _ in cells))
    if not names:
        return
    wide = max(sum(own == name for own, _ in cells) for name in names)
    shape = {"figsize": (3.4 * wide, 3 * len(names)), "sharey": True, "squeeze": False}
    figure, axes = plt.subplots(len(names), wide, **shape)
    for (name, reward), seeds in cells.items():
        column = [own for table, own in cells if table == name].index(reward)
        axis = axes[names.index(name)][column]
        for run, colour in (("scratch", "C0"), ("warm", "C1")):
            _draw(axis, [figures[run] for figures in seeds], run, colour)
        for share in SHARES:
            axis.axhline(1 - share, color="gray", linewidth=0.6)
        axis.set(xscale="log", yscale="log", title=f"{TITLES[name]}, {reward}", xlabel="rows + 64")
    axes[0][0].set_ylabel("share of the way missing")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw(axis: Any, paths: Sequence[Points], run: str, colour: str) -> None:
    """Seeds thin, their median thick."""
    rows = [point["rows"] + GROUP for point in paths[0]]
    missing = [[max(1 - point["share"], 1e-4) for point in path] for path in paths]
    for line in missing:
        axis.plot(rows, line, color=colour, linewidth=0.5, alpha=0.5)
    middle = [statistics.median(column) for column in zip(*missing, strict=True)]
    label = {"scratch": "from the base", "warm": "from the distilled copy"}[run]
    axis.plot(rows, middle, color=colour, linewidth=1.8, label=label)


BENCHMARK = Benchmark(
    name="warm_start",
    title="Reinforcement learning from a distilled guided policy",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
