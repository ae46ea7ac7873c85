"""The comparison of `benchmarks.gradients` on a second family of functions.

They are models that a user has, each fitted to a table, and were made after the gradient
estimators: see `benchmarks.problems_second`.

    python -m benchmarks.gradients_second            # about 20 minutes on one core
    python -m benchmarks.gradients_second --quick    # a smoke test of the script
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import tyro

from benchmarks.gradients import LOGITS, Config, measure
from benchmarks.gradients_tables import BOTH, Family, plot, tables
from benchmarks.harness import Benchmark, Cell, run
from benchmarks.problems_second import SECOND_KINDS, make_second

PLAN: dict[str, Sequence[str]] = {
    "ragged": ("interactions", "attention", "trees", "kernel"),
    "letters": ("attention", "convolution"),
    "hpolib": ("attention", "trees", "kernel"),
}
SECOND = Family(
    kinds=SECOND_KINDS,
    main=tuple(PLAN),
    about=(
        "Models fitted to tables: 7 features of 2 to 10 categories (all but the convolution), 8 of "
        "4 (attention, convolution) and the 9 of a real table (attention, trees, kernel)."
    ),
)


def cells(config: Config) -> list[Cell]:
    """Every problem, with all methods and budgets in it."""
    if config.quick:
        places = {kind: where for where, kinds in PLAN.items() for kind in kinds}
        some = [(places[kind], kind, BOTH[i % 2], LOGITS[0], 0) for i, kind in enumerate(places)]
        return [
            Cell("/".join(map(str, problem)), (*problem, config.only, 2, 3, 20)) for problem in some
        ]
    options = (config.only, config.rounds, config.warm_up, config.steps)
    plan = [
        (where, kind, extension, kind_of_logits, seed)
        for seed in range(config.seeds)
        for kind_of_logits in LOGITS
        for where, kinds in PLAN.items()
        for kind in kinds
        for extension in BOTH
    ]
    return [Cell("/".join(map(str, problem)), (*problem, *options)) for problem in plan]


BENCHMARK = Benchmark(
    name="gradients_second",
    title="The same for a second family of functions: models fitted to tables",
    cells=cells,
    measure=partial(measure, make_second),
    tables=partial(tables, family=SECOND),
    plot=partial(plot, family=SECOND),
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
