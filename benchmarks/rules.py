"""Rules: how fast the exact law of allowed rows is, gradients of k-subsets, and editing DNA.

Four parts. `against` draws allowed rows by the law, by rejection and out of a list of all rows.
`growth` and `setting` time the law as features, categories, states and batch grow. `subset` has the
moments of gradients of 5 of 10. `edit` edits sequences through a frozen scorer, where ledidi and
simple searches have as many passes of the scorer.

    python -m benchmarks.rules
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import tyro

from benchmarks import harness, rules_dna, rules_peers, rules_search, rules_speed, rules_subsets
from benchmarks.harness import Benchmark, Cell, run
from benchmarks.rules_tables import plot, tables

__all__ = ["BENCHMARK"]

FEATURES: Sequence[int] = (3, 4, 5, 6, 7, 8, 10, 14, 20, 28, 40)


@dataclass(frozen=True)
class Config(harness.Config):
    """Options of the rules; `workers` is 1 whatever is asked: these are times."""

    rounds: int = 15
    """Of each call that is timed; half as many of those along an axis."""
    rejection: float = 5.0
    """Seconds after which rejection stops."""
    draws: int = rules_subsets.DRAWS
    """Gradients of a method whose moments are not exact."""
    toys: int = 10
    """Seeds of the k-subset toy."""
    scorers: int = 3
    """Networks of which sequences are edited."""
    sequences: int = 3
    """For each scorer."""
    passes: int = 5000
    """Rows forward and rows backward through the scorer, a run."""


def small(config: Config) -> Config:
    """A smoke test's."""
    config = replace(config, rounds=2, rejection=0.2, draws=200, toys=1)
    return replace(config, scorers=1, sequences=1, passes=128)


def cells(config: Config) -> list[Cell]:
    """Speed first, then gradients, then edits: one for each scorer."""
    quick = config.quick
    config, features, growing = (small(config), (3, 14), 2) if quick else (config, FEATURES, 9)
    found = [
        Cell(f"against/{n:02d}", ("against", n, config.rounds, config.rejection)) for n in features
    ]
    settings = range(1 if quick else len(rules_speed.SETTINGS))
    found += [Cell(f"setting/{n}", ("setting", n, config.rounds)) for n in settings]
    axes = list(rules_speed.GROWTH)[: 1 if quick else None]
    found += [
        Cell(f"growth/{axis}", ("growth", axis, config.rounds // 2, growing)) for axis in axes
    ]
    found += [
        Cell(f"subset/{seed:02d}", ("subset", seed, config.draws)) for seed in range(config.toys)
    ]
    steps = 20 if quick else rules_dna.STEPS
    return found + [
        Cell(f"edit/{scorer}", ("edit", scorer, config.sequences, config.passes, steps))
        for scorer in range(config.scorers)
    ]


def methods() -> dict[str, rules_dna.Method]:
    """Every way to edit; the peer's if it is installed."""
    peers = rules_peers.METHODS if rules_peers.installed() else {}
    return rules_search.METHODS | peers


def measure(part: str, *arguments: Any) -> dict[str, Any]:
    """Figures of a part."""
    parts = {
        "against": rules_speed.against,
        "growth": rules_speed.growth,
        "setting": rules_speed.setting,
        "subset": rules_subsets.measure,
        "edit": edited,
    }
    found: dict[str, Any] = parts[part](*arguments)  # type: ignore[operator]
    return found


def edited(scorer: int, sequences: int, passes: int, steps: int) -> dict[str, Any]:
    """Runs of each method, one for each sequence, the methods in turn."""
    runs: dict[str, Any] = {name: [] for name in methods()}
    for number in range(sequences):
        asked = rules_dna.problem(scorer, number, steps)
        for name, method in methods().items():
            runs[name].append(rules_dna.graded(asked, method, passes, seed=0))
    return {"runs": runs}


BENCHMARK = Benchmark(
    name="rules",
    title="Rules: the exact law of allowed rows",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, replace(tyro.cli(Config), workers=1))  # or they would slow each other
