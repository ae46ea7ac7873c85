"""Estimators against peers: each peer on rows whose law is known, figures, and tables."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import Tensor

from benchmarks import estimators, estimators_networks, estimators_tables, harness
from benchmarks.estimators_common import agreement, columns, in_parts, indicators, one_hot, ranks
from benchmarks.estimators_networks import hamming_kernel
from benchmarks.estimators_ours import as_table, fitted_estimator, generated_rows
from benchmarks.estimators_peers import PEERS
from benchmarks.estimators_settings import QUICK, SETTINGS, Setting
from benchmarks.estimators_tables import ALL_ROWS, GENERATED, LOCAL, METHODS, OURS, by_seed, of
from benchmarks.generation_common import recipe
from benchmarks.tables import _complete, ring
from discrete_grad import CategoricalSpace
from discrete_grad.models.sequence import letters_of
from discrete_grad.runs import FitConfig
from discrete_grad.sampling import isolated_seed, random_codes, seeded

SIZES = (4, 3, 5)
SPACE = CategoricalSpace.from_sizes(SIZES)


def additive(codes: Tensor) -> Tensor:
    return (codes.double() * torch.tensor([1.0, -2.0, 0.5])).sum(-1)


def interacting(codes: Tensor) -> Tensor:
    """A sum over pairs without main effects, so that an additive model learns nothing."""
    signs = [torch.tensor([1.0, -1, 1, -1]), torch.tensor([1.0, 0, -1]), torch.tensor([1.0] * 5)]
    first, second, _ = (sign[code] for sign, code in zip(signs, codes.T, strict=True))
    return first * second


def drawn(count: int, seed: int) -> Tensor:
    with isolated_seed(seed):
        return torch.stack([torch.randint(k, (count,)) for k in SIZES], -1)


# --- peers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if not peer.sequences])
def test_a_peer_learns_a_sum_over_features(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators_networks, "PASSES", 4)
    if not PEERS[name].installed:
        pytest.skip(f"{PEERS[name].package} is not installed")
    codes = drawn(300, 0)
    before = torch.get_rng_state()
    predict = PEERS[name].fit(codes, additive(codes), SPACE, 0)
    assert torch.equal(torch.get_rng_state(), before)
    everything = SPACE.enumerate()
    predicted = predict(everything)
    assert predicted.dtype == torch.float64
    assert agreement(predicted, additive(everything)) > 0.95
    assert torch.allclose(predict(everything[7:9]), predicted[7:9], atol=1e-5)


def test_networks_of_convolutions_learn_letters_beside_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(estimators_networks, "CNNS", 1)
    monkeypatch.setattr(estimators_networks, "PASSES", 4)
    space = CategoricalSpace({f"x{i}": ["A", "C", "G", "T"] for i in range(8)})
    codes = random_codes(space, 600, generator=seeded(0))
    beside = ((codes[:, :-1] == 1) & (codes[:, 1:] == 2)).any(1).double()
    predict = PEERS["5 CNNs, ranks"].fit(codes[:400], beside[:400], space, 0)
    assert agreement(predict(codes[400:]), beside[400:]) > 0.6


@pytest.mark.parametrize("name", ["ridge on pairs, ranks", "Gaussian process, ranks"])
def test_pairs_are_learnt_by_those_that_see_them(name: str) -> None:
    codes = drawn(200, 1)
    everything = SPACE.enumerate()
    with isolated_seed(2):  # without any noise a Gaussian process may fail to be fitted
        noise = 0.1 * torch.randn(len(codes), dtype=torch.float64)
    found = PEERS[name].fit(codes, interacting(codes) + noise, SPACE, 0)(everything)
    assert agreement(found, interacting(everything)) > 0.9
    alone = PEERS["ridge, ranks"].fit(codes, interacting(codes), SPACE, 0)(everything)
    assert agreement(alone, interacting(everything)) < 0.5


def test_ranked_peers_see_ranks() -> None:
    codes = drawn(300, 0)
    everything = SPACE.enumerate()
    fit = PEERS["ridge, ranks"].fit
    plain, skewed = (fit(codes, s, SPACE, 0) for s in (additive(codes), additive(codes).exp()))
    assert torch.allclose(plain(everything), skewed(everything))


def test_a_package_that_is_missing_is_named() -> None:
    peer = estimators.PEERS["ridge, ranks"]
    missing = type(peer)(peer.fit, "no_such_package")
    assert not missing.installed
    setting = QUICK["cifar10"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(estimators.PEERS, "ridge, ranks", missing)
        figures = estimators.measure(estimators.Config(quick=True), setting, 0, "ridge, ranks")
    assert figures == {"left out": "the package no_such_package is not installed"}


def test_more_rows_than_a_peer_may_see_are_left_out() -> None:
    setting = Setting("ring", 2001)
    figures = estimators.measure(estimators.Config(), setting, 0, "Gaussian process, ranks")
    assert figures == {"left out": "more than 2,000 rows take too long"}


def test_the_kernel_is_botorchs() -> None:
    from botorch.models.kernels.categorical import CategoricalKernel

    mine, theirs = hamming_kernel(SPACE), CategoricalKernel(ard_num_dims=3)
    for kernel in (mine, theirs):
        kernel.lengthscale = torch.tensor([0.3, 1.0, 2.0])
    first, second = drawn(6, 0).float(), drawn(4, 1).float()
    expected = theirs(first, second).to_dense()
    assert torch.allclose(mine(first, second).to_dense(), expected, atol=1e-6)
    assert torch.allclose(mine(first, diag=True), torch.ones(6))


# --- what they share ------------------------------------------------------------------------------


def test_ranks_share_ties_and_are_scaled() -> None:
    found = ranks(torch.tensor([5.0, 1.0, 5.0, 9.0]))
    assert found[0] == found[2]
    assert found.mean().item() == pytest.approx(0.0, abs=1e-12)
    assert found.square().mean().item() == pytest.approx(1.0)
    assert ranks(torch.ones(3)).tolist() == [0, 0, 0]


def test_agreement_is_spearmans() -> None:
    from scipy.stats import spearmanr

    with isolated_seed(0):
        mine, truth = torch.randint(5, (50,)).double(), torch.randint(7, (50,)).double()
    assert agreement(mine, truth) == pytest.approx(spearmanr(mine, truth).statistic)
    assert agreement(torch.zeros(50), truth) == 0.0


def test_the_ones_of_a_row() -> None:
    codes = torch.tensor([[3, 0, 4], [0, 2, 1]])
    assert torch.equal(
        torch.from_numpy(one_hot(codes, SIZES).toarray()), SPACE.one_hot(codes).double()
    )
    where = columns(codes, SIZES, [(0, 1), (1, 2)])
    assert where[:, 3].tolist() == [12 + 3 * 3 + 0, 12 + 0 * 3 + 2]
    assert where[:, 4].tolist() == [24 + 0 * 5 + 4, 24 + 2 * 5 + 1]
    matrix = indicators(where, 39).toarray()
    assert matrix.sum(1).tolist() == [5, 5]
    assert matrix[1, where[1]].tolist() == [1] * 5


def test_parts_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.estimators_common.CHUNK", 7)
    sizes: list[int] = []

    def counted(codes: Tensor) -> Tensor:
        sizes.append(len(codes))
        return additive(codes)

    assert torch.equal(in_parts(counted)(SPACE.enumerate()), additive(SPACE.enumerate()))
    assert sizes == [7] * 8 + [4]


# --- figures --------------------------------------------------------------------------------------


def test_recall_by_hand() -> None:
    truth = torch.arange(30.0)
    assert estimators.recall(truth, truth) == 1.0
    assert estimators.recall(-truth, truth) == 0.0
    swapped = truth.clone()
    swapped[[29, 26]] = swapped[[26, 29]]
    assert estimators.recall(swapped, truth) == pytest.approx(2 / 3)


def known() -> Any:
    scores = additive(SPACE.enumerate())
    sizes = dict(zip(SPACE.names, SIZES, strict=True))
    return _complete("toy", sizes, scores, torch.arange(20), None)


def test_proposals_of_a_perfect_estimator_are_the_best_rows() -> None:
    task = known()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimators, "PROPOSED", 10)
        rows = [
            estimators.best_of_all(additive, SPACE),
            estimators.local_search(additive, SPACE, 256, 0),
        ]
    best = task.all_scores.topk(10).values
    assert torch.equal(additive(rows[1]), best)  # all within two swaps of the best
    for proposed in rows:
        assert len(proposed.unique(dim=0)) == 10
        assert torch.equal(additive(proposed)[0], best[0])
        found = estimators.worth(task, proposed)
        assert found["first score"] == found["best score"] == 1.0
    assert torch.equal(additive(rows[0]), best)


def test_worth_by_hand() -> None:
    task = known()
    codes = torch.tensor([[0, 2, 0], [3, 0, 4], [0, 0, 0]])  # -4, the least; 5, the most; 0
    found = estimators.worth(task, codes)
    assert found["first score"] == 0.0
    assert found["best score"] == 1.0
    assert found["median score"] == pytest.approx(4 / 9)
    assert found["mean score"] == pytest.approx((0 + 1 + 4 / 9) / 3)
    assert found["first percentile"] == pytest.approx(0.5 / 60)
    assert found["rows"] == 3


def test_a_ring_has_scores_and_no_percentiles() -> None:
    task = ring(10, seed=0)
    found = estimators.worth(task, task.test_codes[:5])
    assert "median score" in found
    assert not any("percentile" in name for name in found)


def test_memory_of_a_call_is_what_it_added() -> None:
    def predict(codes: Tensor) -> Tensor:
        return codes

    def hungry() -> Any:
        return torch.ones(64, 2**20).sum() and predict  # 256 MiB

    found, figures = estimators.measured(hungry)
    assert found is predict
    assert 200 < figures["MiB"] < 400
    assert estimators.measured(lambda: predict)[1]["MiB"] < 50


# --- ours -----------------------------------------------------------------------------------------


def test_ours_learns_and_generates() -> None:
    config = recipe(FitConfig(), 0, quick=True)
    codes = drawn(200, 0)
    predict = fitted_estimator(codes, additive(codes), SPACE, 0, config.estimator)
    assert agreement(predict(SPACE.enumerate()), additive(SPACE.enumerate())) > 0.9
    few = codes[:40]  # so that some rows are new
    rows = generated_rows(few, additive(few), SPACE, config, 10)
    assert rows.shape == (10, 3)
    assert additive(rows).mean() > additive(SPACE.enumerate()).mean()


def test_the_table_has_the_codes_as_its_categories() -> None:
    codes = torch.tensor([[3, 0, 2], [1, 0, 4]])  # not every category is there
    table = as_table(codes, torch.tensor([1.0, 2.0]), SPACE)
    assert table.schema.space.sizes == SIZES
    assert torch.equal(table.codes, codes)
    assert table.scores.tolist() == [1.0, 2.0]
    assert letters_of(table.schema.space) is None


def test_the_table_of_a_sequence_has_its_letters() -> None:
    space = CategoricalSpace({f"p{i}": ["A", "C"] for i in range(8)})
    plain = CategoricalSpace.from_sizes((2,) * 8)
    codes, scores = torch.tensor([[0] * 8, [1] * 8]), torch.tensor([1.0, 2.0])
    assert letters_of(as_table(codes, scores, space).schema.space) == (0, 1) * 8
    assert letters_of(as_table(codes, scores, plain).schema.space) is None


# --- cells and tables -----------------------------------------------------------------------------


def test_cells_are_of_every_setting_seed_and_method() -> None:
    config = estimators.Config(seeds=(2, 3))
    cells = estimators.cells(config)
    bind = sum(setting.table.startswith("tf_bind_8") for setting in SETTINGS.values())
    assert len({cell.key for cell in cells}) == len(cells)
    assert len(cells) == len(METHODS) * (2 * (len(SETTINGS) - bind) + 3 * bind)
    for cell in cells:
        label, seed, method = cell.key.split("/")
        assert cell.arguments == (config, SETTINGS[label], int(seed), method)
    few = estimators.cells(estimators.Config(datasets=("fair",), methods=(OURS,)))
    assert [cell.key for cell in few] == [f"fair/{seed}/{OURS}" for seed in range(5)]


@pytest.mark.parametrize("option", ["datasets", "methods"])
def test_what_there_is_not_is_told(option: str) -> None:
    with pytest.raises(SystemExit, match="there is no 'carr'"):
        estimators.cells(estimators.Config(**{option: ("carr",)}))


def fake(without: Sequence[str] = ()) -> dict[str, Any]:
    """Results of three seeds, in which ours is .1 above the first peer and so on down."""
    config = estimators.Config(seeds=(3, 3))
    cells: dict[str, Any] = {}
    for cell in estimators.cells(config):
        _, seed, method = cell.key.split("/")
        value = 0.9 - 0.1 * METHODS.index(method) + 0.002 * int(seed)
        worth = {
            f"{w} {k}": value for w in ("first", "best", "median") for k in ("score", "percentile")
        }
        cells[cell.key] = {"spearman": value, "recall": value, "fit seconds": 1.0, "MiB": 2.0}
        cells[cell.key] |= {LOCAL: worth, ALL_ROWS: worth}
        cells[cell.key] |= {GENERATED: worth} if method == OURS else {}
        if method in without:
            cells[cell.key] = {"left out": "too long"}
    cells[f"suzuki/0/{OURS}"] = {"failed": "no result within 3600 s"}
    settings = json.loads(json.dumps(asdict(config), default=str))
    return {"benchmark": "estimators", "settings": settings, "cells": cells}


def test_tables_of_incomplete_results(tmp_path: Path) -> None:
    results = fake(without=["TabM, ranks"])
    tables = {table.title: table for table in estimators_tables.tables(results)}
    for table in tables.values():
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.header)}
        json.dumps(table.html())
    leading = {row[0]: row for row in next(iter(tables.values())).rows}
    assert leading["suzuki"][2] == "0.903"  # of seeds 1 and 2
    assert leading["suzuki"][-1] == "+0.100 [+0.100, +0.100]"
    assert leading["HPOBench"][3] == "0.802"
    assert leading["fair"][2 + METHODS.index("TabM, ranks")] == "-"
    assert tables["Left out"].rows == [["TabM, ranks", "too long"]]
    assert tables["Failures"].rows == [(f"`suzuki/0/{OURS}`", "no result within 3600 s")]
    bind = {row[0]: row for row in tables["TF Bind 8: proposed rows"].rows}
    assert bind[f"{OURS}, {GENERATED}"][1].startswith("0.902 [")
    assert ".985" in tables["TF Bind 8: proposed rows"].note
    estimators_tables.plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_the_mean_is_of_what_every_method_was_fitted_to() -> None:
    results = fake()
    for seed in range(3):
        results["cells"][f"flights/{seed}/ridge, ranks"] = {"left out": "too long"}
        for method in METHODS:
            results["cells"][f"fair/{seed}/{method}"]["spearman"] = 0.0
    table = estimators_tables.tables(results)[0]
    count = len(list(estimators_tables.groups(estimators_tables.indexed(results))))
    label, _, mean, *_ = table.rows[-2]
    lead = table.rows[-1]
    assert lead[3] == f"+{0.1 * (count - 1) / count:.3f} ({count})"  # level on fair
    ridge = 2 + METHODS.index("ridge, ranks")
    assert lead[ridge] == f"+{0.5 * (count - 2) / (count - 1):.3f} ({count - 1})"
    assert label == f"mean of the {count - 1} lines that all methods were fitted to"
    assert float(mean) == pytest.approx(0.902 * (count - 2) / (count - 1), abs=1e-3)


def test_the_mean_leaves_out_methods_that_are_for_sequences_alone() -> None:
    results, name = fake(), "5 CNNs, ranks"
    for key, cell in results["cells"].items():
        if key.endswith(name) and not key.startswith("TF Bind 8"):
            cell |= {"left out": "no sequence"}
            del cell["spearman"]
    table = estimators_tables.tables(results)[0]
    label, means = table.rows[-2][0], table.rows[-2]
    assert label == f"mean of the {len(table.rows) - 2} lines that all methods were fitted to"
    assert means[2 + METHODS.index(name)] == "-"
    alone = {key: cell for key, cell in results["cells"].items() if key.endswith(name)}
    table = estimators_tables.tables(results | {"cells": alone})[0]
    assert table.header == ("", "seeds", name)
    known = {row[0] for row in table.rows if row[2] != "-"}
    assert {label[:9] for label in known} == {"TF Bind 8"}


def test_a_figure_by_seed() -> None:
    cells = estimators_tables.indexed(fake())
    assert by_seed(cells, "suzuki", OURS, of("spearman")) == {1: 0.902, 2: 0.904}
    assert by_seed(cells, "suzuki", OURS, of(GENERATED, "no such")) == {}


def test_the_versions_of_the_peers_are_kept() -> None:
    assert {"scikit-learn", "tabm", "xgboost-cpu", "botorch"} <= set(harness.PEERS)


def test_boosted_trees_are_told_which_features_are_categories() -> None:
    from benchmarks.estimators_trees import _boosted

    model: HistGradientBoostingRegressor = _boosted(CategoricalSpace.from_sizes((4, 256)), 0)
    assert model.categorical_features == [True, False]
    assert model.max_iter == 1000
    assert model.early_stopping is True
