"""Figures of a run's report, recomputed from its folder by other code: plain numpy and pandas.

The models are kernels, whose weights tell which rows they learned from; a minimised score, rows
that are there several times, and two contexts, each large enough for a scale and ranges of its own.
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from discrete_grad.data import Aim, read_table
from discrete_grad.runs import fit, write_report
from tests.runs.small import small_config

Array = np.ndarray[Any, Any]
_SIZES = {"cut": 3, "shade": 4, "clasp": 2, "metal": 3}


def _columns(rows: int = 300) -> dict[str, list[Any]]:
    draw = np.random.default_rng(5)
    columns = {name: draw.integers(size, size=rows) for name, size in _SIZES.items()}
    shop = (draw.random(rows) < 0.4).astype(int)
    cost = columns["cut"] + 2 * ((columns["shade"] + shop) % 4 == 1) - 1.5 * columns["clasp"]
    cost = 7 + 3 * shop + cost + 0.3 * columns["metal"] + 0.4 * draw.standard_normal(rows)
    named = {name: [f"{name}{code}" for code in codes] for name, codes in columns.items()}
    return named | {"shop": [("east", "west")[i] for i in shop], "cost": cost.tolist()}


@dataclass(frozen=True)
class Folder:
    """What a run's folder says, read without the library."""

    path: Path
    columns: dict[str, list[Any]]

    @cached_property
    def report(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.path / "report.json").read_text())
        return loaded

    @cached_property
    def names(self) -> list[list[str]]:
        schema = json.loads((self.path / "schema.json").read_text())
        return [feature["values"] for feature in schema["features"]]

    @cached_property
    def shops(self) -> list[str]:
        (shop,) = json.loads((self.path / "schema.json").read_text())["context"]
        found: list[str] = shop["values"]
        return found

    @cached_property
    def table(self) -> pd.DataFrame:
        """Codes of the features and of the shop, and the cost."""
        pairs = zip(_SIZES, self.names, strict=True)
        coded = {name: [n.index(v) for v in self.columns[name]] for name, n in pairs}
        coded["shop"] = [self.shops.index(value) for value in self.columns["shop"]]
        return pd.DataFrame(coded | {"cost": self.columns["cost"]})

    @cached_property
    def every_row(self) -> Array:
        return np.array(list(product(*(range(size) for size in _SIZES.values()))))

    @cached_property
    def prepared(self) -> dict[str, Array]:
        return load_file(self.path / "prepared.safetensors")

    def weights(self, name: str) -> dict[str, Array]:
        return load_file(self.path / "weights" / f"{name}.safetensors")

    def rows(self, side: str) -> pd.DataFrame:
        """Rows of `rows` or `judge_rows`, with `scaled` and `count`."""
        frame = pd.DataFrame(self.prepared[f"{side}/codes"].astype(int), columns=[*_SIZES])
        frame["shop"] = self.prepared[f"{side}/context"].argmax(1)
        frame["scaled"] = self.prepared[f"{side}/scores"].astype(float)
        frame["count"] = self.prepared.get(f"{side}/counts", np.ones(len(frame))).astype(int)
        return frame

    def members(self, name: str, codes: Array, shop: Array) -> Array:
        """Scaled predictions `(M, N)` of rows `(N, F)` in shops `(N,)`: Rasmussen, 2.25."""
        saved, kernel = self.weights(name), "families.kernel."
        points, alike = saved[f"{kernel}points"], saved[f"{kernel}alike"][:, 0].astype(float)
        joint = np.column_stack([codes, shop])
        same = joint[:, None] == points[None]
        correlation = np.where(same, 1.0, alike).prod(-1)
        scores = correlation @ saved[f"{kernel}weights"] + saved[f"{kernel}offsets"]
        mixed: Array = saved["constant"] + saved["weights"] * scores.T
        return mixed

    def units(self, name: str, scaled: Array, shop: Array) -> tuple[Array, Array]:
        """Costs of scaled predictions, and which of them lie below every cost of their shop."""
        saved, told = self.weights("calibration"), np.empty(len(scaled))
        beyond = np.zeros(len(scaled), bool)
        for code, group in self.table.groupby("shop")["cost"]:
            here, better = shop == code, -group.to_numpy()
            x, y = saved[f"{name}/x"][code], saved[f"{name}/y"][code]
            free = better.mean() + better.std() * _through(x, y, scaled[here])
            low, high = better.min(), better.max()
            told[here] = -free.clip(low, high)
            beyond[here] = free > high + 1e-6 * (high - low)
        return told, beyond

    def scores(self, name: str, codes: Array, shop: int) -> dict[str, Array]:
        """`scaled`, `units`, `std` in units and `beyond` of rows in one shop."""
        shops = np.full(len(codes), shop)
        found = self.members(name, codes, shops)
        scaled, std = found.mean(0), found.std(0)
        units, beyond = self.units(name, scaled, shops)
        ends = [self.units(name, scaled + sign * std, shops)[0] for sign in (1, -1)]
        return {
            "scaled": scaled,
            "units": units,
            "std": abs(ends[0] - ends[1]) / 2,
            "beyond": beyond,
        }

    def logits(self, path: Path, shop: int) -> list[Array]:
        """Of each feature, of a generator with one hidden layer."""
        saved = {name: part.astype(float) for name, part in load_file(path).items()}
        hidden = saved["trunk.0.weight"][:, shop] + saved["trunk.0.bias"]
        hidden = hidden / (1 + np.exp(-hidden))
        flat = saved["heads.linear.weight"] @ hidden + saved["heads.linear.bias"]
        return np.split(flat, np.cumsum([*_SIZES.values()])[:-1])

    def law(self, path: Path, shop: int) -> list[Array]:
        return [np.exp(part) / np.exp(part).sum() for part in self.logits(path, shop)]

    def context(self, place: int) -> tuple[dict[str, Any], int]:
        """Part of the report on a context, and the code of its shop."""
        part = self.report["contexts"][place]
        return part, self.shops.index(part["label"].removeprefix("shop="))

    def codes_of(self, row: list[str]) -> Array:
        return np.array([[n.index(v) for n, v in zip(self.names, row, strict=True)]])

    def file(self, policy: str) -> Path:
        stage = {"data policy": "reference", "naive baseline": "naive"}.get(policy, policy)
        return self.path / "weights" / f"{stage}.safetensors"


def _through(x: Array, y: Array, at: Array) -> Array:
    """The line through knots, going on with the slope of the outermost three tenths of them."""
    outer = int(len(x) * 0.3)
    first, last = slice(None, outer), slice(-outer, None)
    slopes = [np.ptp(y[part]) / np.ptp(x[part]) if np.ptp(x[part]) else 0 for part in (first, last)]
    knots, place = np.unique(x, return_index=True)
    beside = slopes[0] * np.minimum(at - x[0], 0) + slopes[1] * np.maximum(at - x[-1], 0)
    inside: Array = np.interp(at, knots, y[place])
    return inside + beside


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    path, columns = tmp_path_factory.mktemp("recomputed") / "run", _columns()
    config = small_config()
    kernel = {"families": ("kernel",), "members": 3}
    parts = {name: replace(getattr(config, name), **kernel) for name in ("estimator", "judge")}
    table = read_table(columns, score=Aim("cost", "min"), context=["shop"])
    run = fit(table, path, replace(config, judge_share=0.4, **parts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("discrete_grad.runs.report.render_html", lambda report: "")  # takes seconds
        write_report(run)
    return Folder(path, columns)


def approx(value: Any, error: float = 1e-4) -> Any:
    """Within float32's error of sums of some hundred terms."""
    return pytest.approx(value, rel=error, abs=error)


def test_which_rows_each_model_learned_from(folder: Folder) -> None:
    """Each observation is on one side: counts and sums of scores of every row say so."""
    keys = [*_SIZES, "shop"]
    table, sides = folder.table, [folder.rows(name) for name in ("rows", "judge_rows")]
    rank = table.groupby("shop")["cost"].rank(ascending=False)
    last = table.groupby("shop")["cost"].transform("size") - 1
    table = table.assign(scaled=((rank - 1) / last - 0.5) * np.sqrt(12), count=1)
    wanted = table.groupby(keys)[["scaled", "count"]].sum()
    both = pd.concat(sides).assign(scaled=lambda frame: frame["scaled"] * frame["count"])
    found = both.groupby(keys)[["scaled", "count"]].sum()
    assert found.index.equals(wanted.index)
    assert found["count"].equals(wanted["count"])
    assert (found["scaled"] - wanted["scaled"]).abs().max() < 0.02  # the scale has 2,049 knots
    for name, side in zip(("estimator", "judge"), sides, strict=True):
        points = folder.weights(name)["families.kernel.points"]
        assert {*map(tuple, points.tolist())} == {*side[keys].itertuples(index=False, name=None)}
    assert sides[1]["count"].sum() == pytest.approx(0.4 * len(table), abs=0.06 * len(table))


@pytest.mark.parametrize(("name", "unseen"), [("estimator", "judge_rows"), ("judge", "rows")])
def test_grades_are_of_rows_the_model_has_not_seen(folder: Folder, name: str, unseen: str) -> None:
    rows = folder.rows(unseen)
    rows = rows.loc[rows.index.repeat(rows["count"])]
    codes, shop = rows[[*_SIZES]].to_numpy(), rows["shop"].to_numpy()
    predicted = folder.members(name, codes, shop).mean(0)
    told, errors = folder.report["held_out"][name], predicted - rows["scaled"].to_numpy()
    ranks = pd.DataFrame({"a": predicted, "b": rows["scaled"].to_numpy()}).round(6).rank()
    assert told["rows"] == told["of"] == len(rows)
    assert told["rmse"] == approx(np.sqrt((errors**2).mean()))
    assert told["spearman"] == approx(ranks["a"].corr(ranks["b"]), 1e-3)


def test_facts_of_the_table(folder: Folder) -> None:
    report, table = folder.report, folder.table
    assert report["rows"] == len(table)
    assert report["minimised"] is True
    assert [(f["name"], f["size"]) for f in report["features"]] == [*_SIZES.items()]
    assert report["possible_rows"] == np.prod([*_SIZES.values()]) == len(folder.every_row)
    assert report["max_entropy"] == pytest.approx(np.log([*_SIZES.values()]).sum())
    assert report["contexts_in_table"] == table["shop"].nunique() == len(report["contexts"])
    assert report["nearest"]["different_rows"] == len(table[[*_SIZES]].drop_duplicates())
    assert report["estimator"]["rows"] == folder.rows("rows")["count"].sum()
    assert report["estimator"]["families"]["kernel"] == approx(
        folder.weights("estimator")["weights"][0]
    )


@pytest.mark.parametrize("place", [0, 1])
def test_scores_observed_in_a_context(folder: Folder, place: int) -> None:
    part, shop = folder.context(place)
    here = folder.table[folder.table["shop"] == shop]
    assert part["rows"] == len(here)
    assert part["different_rows"] == len(here[[*_SIZES]].drop_duplicates())
    ordered = np.sort(here["cost"])
    for share, told in part["quantiles"].items():
        assert told == pytest.approx(ordered[round(float(share) * (len(here) - 1))])


@pytest.mark.parametrize("place", [0, 1])
def test_the_best_training_row(folder: Folder, place: int) -> None:
    """By the shrunken mean of its costs: analysis of variance of one random factor."""
    part, shop = folder.context(place)
    here = folder.table[folder.table["shop"] == shop]
    by_row = here.groupby([*_SIZES])["cost"]
    count, mean = by_row.size(), by_row.mean()
    total, groups, middle = len(here), len(count), here["cost"].mean()
    within = (here["cost"] - by_row.transform("mean")).pow(2).sum() / (total - groups)
    between = (count * (mean - middle) ** 2).sum() - (groups - 1) * within
    between = max(0.0, between / (total - (count**2).sum() / total))
    shrunken = (mean - middle) * count * between / (count * between + within)
    entry = _entry(part, "best training row")
    assert tuple(folder.codes_of(entry["row"])[0]) == shrunken.idxmin()
    assert entry["observed"] == pytest.approx(mean[shrunken.idxmin()])
    _is_told(folder, entry, folder.codes_of(entry["row"]), shop)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("policy", ["data policy", "naive baseline", "generator"])
def test_the_most_likely_row(folder: Folder, policy: str, place: int) -> None:
    part, shop = folder.context(place)
    law = folder.law(folder.file(policy), shop)
    entry = _entry(part, f"{policy}, most likely row")
    codes = folder.codes_of(entry["row"])
    assert [int(p.argmax()) for p in law] == codes[0].tolist()
    _is_told(folder, entry, codes, shop)


def _entry(part: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in part["entries"] if entry["name"] == name)


def _is_told(folder: Folder, entry: dict[str, Any], codes: Array, shop: int) -> None:
    """Estimate, its spread, the judge's score, beyond or not, and the distance to a known row."""
    estimate, judged = (folder.scores(name, codes, shop) for name in ("estimator", "judge"))
    assert entry["estimated"] == approx(estimate["units"][0])
    assert entry["estimated_std"] == approx(estimate["std"][0])
    assert entry["judged"] == approx(judged["units"][0])
    assert entry["beyond_observed"] == estimate["beyond"][0]
    known = folder.table[[*_SIZES]].to_numpy()
    assert entry["nearest_mean"] == entry["nearest_min"] == (known != codes).sum(1).min()


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("policy", ["random rows", "data policy", "naive baseline", "generator"])
def test_samples_of_a_policy(folder: Folder, policy: str, place: int) -> None:
    """The report keeps the scores of the samples, and these tell the rows."""
    part, shop = folder.context(place)
    entry = _entry(part, policy if policy == "random rows" else f"{policy}, samples")
    kept, rows = part["samples"][policy], folder.every_row
    every = {name: folder.scores(name, rows, shop) for name in ("estimator", "judge")}
    pairs = np.column_stack([every[name]["units"] for name in every])
    off = np.abs(np.column_stack([kept["estimated"], kept["judged"]])[:, None] - pairs[None]).sum(2)
    drawn = off.argmin(1)
    assert off.min(1).max() < 1e-3
    assert len(drawn) == folder.report["samples"]
    assert entry["estimated"] == approx(pairs[drawn, 0].mean())
    assert entry["judged"] == approx(pairs[drawn, 1].mean())
    assert entry["estimated_std"] == approx(every["estimator"]["std"][drawn].mean())
    assert entry["beyond_observed"] == every["estimator"]["beyond"][drawn].mean()
    # rows whose scores are clamped to the same ends look alike
    assert entry["distinct_share"] >= len(np.unique(drawn)) / len(drawn)
    if policy != "random rows":
        law = folder.law(folder.file(policy), shop)
        assert entry["entropy"] == approx(-sum((p * np.log(p)).sum() for p in law))
        chances = np.array([np.prod([p[c] for p, c in zip(law, r, strict=True)]) for r in rows])
        expected = chances @ pairs[:, 0]
        spread = np.sqrt(chances @ (pairs[:, 0] - expected) ** 2 / len(drawn))
        assert abs(entry["estimated"] - expected) < 5 * spread
        # the kernel is a product over the features: the soft row has the expected score
        soft = chances @ every["estimator"]["scaled"]
        hard = every["estimator"]["scaled"][drawn].mean()
        assert entry["soft_hard_gap"] == approx(soft - hard, 0.02)


def test_each_context_is_drawn_from_by_noise_of_its_own(folder: Folder) -> None:
    """The random rows of the two contexts are of one law, and not the same rows."""
    drawn = []
    for place in range(2):
        part, shop = folder.context(place)
        every, kept = folder.scores("judge", folder.every_row, shop), part["samples"]["random rows"]
        drawn.append(np.abs(np.subtract.outer(kept["judged"], every["units"])).argmin(1))
    assert (drawn[0] == drawn[1]).mean() < 0.2


def test_averages_over_the_contexts(folder: Folder) -> None:
    for index, entry in enumerate(folder.report["average"]):
        parts = [context["entries"][index] for context in folder.report["contexts"]]
        for key in ("estimated", "estimated_std", "judged", "beyond_observed", "nearest_mean"):
            assert entry[key] == pytest.approx(np.mean([part[key] for part in parts]))
        for key in ("observed", "entropy", "distinct_share", "soft_hard_gap"):
            known = [part[key] for part in parts if part[key] is not None]
            assert entry[key] == (pytest.approx(np.mean(known)) if known else None)


@pytest.mark.parametrize("place", [0, 1])
def test_probabilities_of_the_generator(folder: Folder, place: int) -> None:
    part, shop = folder.context(place)
    law = folder.law(folder.file("generator"), shop)
    for names, chances, told in zip(folder.names, law, part["probabilities"], strict=True):
        assert [name for name, _ in told] == names
        assert [chance for _, chance in told] == approx(chances.tolist(), 1e-3)


def test_states_along_the_training(folder: Folder) -> None:
    """Distance from the data policy, and scores of the most likely rows."""
    part = folder.report["exploitation"]
    assert part["reference_name"] == "data policy"
    shops = [folder.context(place)[1] for place in range(2)]
    for point in part["points"]:
        file = folder.path / "trail" / f"{point['step']:06d}.safetensors"
        distances, told = [], []
        for shop in shops:
            law, data = folder.law(file, shop), folder.law(folder.file("data policy"), shop)
            parts = zip(law, data, strict=True)
            distances.append(sum((p * np.log(p / q)).sum() for p, q in parts))
            likely = np.array([[int(p.argmax()) for p in law]])
            sides = (folder.scores(name, likely, shop) for name in ("estimator", "judge"))
            told.append([side["units"][0] for side in sides])
        assert point["kl"] == approx(np.mean(distances))
        assert [point["row"][key] for key in ("estimated", "judged")] == approx(np.mean(told, 0))
    best = min(part["points"], key=lambda point: point["row"]["judged"])
    assert part["best"]["row"]["step"] == best["step"]


@pytest.mark.parametrize("place", [0, 1])
def test_effects_of_single_swaps(folder: Folder, place: int) -> None:
    part, shop = folder.context(place)
    own = folder.codes_of(_entry(part, "generator, most likely row")["row"])
    before = folder.scores("estimator", own, shop)["scaled"]
    told = folder.report["swaps"]["maps"][place]["features"]
    for feature, swaps in enumerate(told):
        for code, (name, exact, predicted) in enumerate(swaps):
            swapped = own.copy()
            swapped[0, feature] = code
            if code == own[0, feature]:
                assert (name, exact, predicted) == (folder.names[feature][code], None, None)
                continue
            effect = folder.scores("estimator", swapped, shop)["scaled"] - before
            # linear in each feature: the gradient at the row is exact
            assert (exact, predicted) == (approx(effect[0], 1e-3), approx(effect[0], 1e-3))


def test_rows_to_try(folder: Folder) -> None:
    told = folder.report["rows_to_try"]
    rows = pd.DataFrame(told["rows"], columns=told["columns"])
    seen = {tuple(row) for row in folder.table[[*_SIZES, "shop"]].to_numpy().astype(int).tolist()}
    assert told["of"] == told["contexts"] == rows["shop"].nunique() == 2
    assert len(rows) == 8
    for row in rows.itertuples():
        codes = folder.codes_of([getattr(row, name) for name in _SIZES])
        shop = folder.shops.index(row.shop)
        assert ((*codes[0].tolist(), shop) not in seen) is told["new"]
        for column, name in (("estimated_score", "estimator"), ("judge_score", "judge")):
            assert getattr(row, column) == approx(folder.scores(name, codes, shop)["units"][0])


def test_curves_are_the_log(folder: Folder) -> None:
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    log = pd.DataFrame(lines)
    for stage, curves in folder.report["curves"].items():
        for metric, (steps, values) in curves.items():
            known = log[["step", f"{stage}/{metric}"]].dropna()
            assert (steps, values) == (known["step"].tolist(), known.iloc[:, 1].tolist())
