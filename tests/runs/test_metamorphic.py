"""A table that is changed in a known way, and what a whole fit of it must and must not change.

Each test says how equal: `bitwise`, every byte of every tensor of the run; or within float error.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from discrete_grad.data import Aim, ScoredRows, TableWarning, read_table
from discrete_grad.runs import FitConfig, Run, fit, write_report
from tests.runs.small import small_config

Columns = dict[str, list[Any]]
_SIZES = {"cut": 3, "shade": 4, "clasp": 2, "metal": 5, "shop": 2}
_SHOPS = ("shop0", "shop1")
_UNITS = ("observed", "estimated", "estimated_std", "judged")
# of both ensembles, and of the three policies
_DRAWN = ("/weight", "anova.cells", "kernel.weights", "linear.weight", "trunk.0.weight")
_TABLE_ALONE = ("rows.safetensors", "prepared.safetensors:scale", "prepared.safetensors:standard")


def columns(*, repeated: bool = False) -> Columns:
    """160 rows, all different, or some of them there several times."""
    draw = np.random.default_rng(3)
    place = draw.choice(240, 160, replace=repeated)
    codes = dict(zip(_SIZES, np.unravel_index(place, [*_SIZES.values()]), strict=True))
    score = codes["cut"] + 2.0 * ((codes["shade"] + codes["shop"]) % 4 == 1) - 1.5 * codes["clasp"]
    score = score + 0.25 * codes["metal"] + 0.4 * draw.standard_normal(160)
    named = {name: [f"{name}{code}" for code in column] for name, column in codes.items()}
    # so few digits that twice the score plus three has no rounding
    return named | {"score": (np.round(score * 4096) / 4096).tolist()}


def config(**changes: object) -> FitConfig:
    """Every stage and every family of estimators, with few steps."""
    base = small_config()
    loop = {"steps": 10, "validate_every": 5}
    every = FitConfig().estimator.families
    ensemble = replace(base.estimator, members=2, hidden=(8,), dim=2, families=every, **loop)
    parts = {
        "estimator": ensemble,
        "judge": ensemble,
        "reproduction": replace(base.reproduction, **loop),
        "generator": replace(base.generator, hidden=(8,), **loop),
    }
    return replace(base, **(parts | changes))


class Fits:
    """Fits of tables, each done once, with their reports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: dict[str, Run] = {}

    def __call__(self, name: str, table: Columns, *, goal: Any = "max", seed: int = 0) -> Run:
        if name not in self.runs:
            read = read_table(table, score=Aim("score", goal), context=["shop"])
            self.runs[name] = fit(read, self.folder / name, config(seed=seed))
        return self.runs[name]

    @functools.cached_property
    def base(self) -> Run:
        return self("base", columns())

    @functools.cached_property
    def base_report(self) -> dict[str, Any]:
        return report(self.base)


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Fits:
    return Fits(tmp_path_factory.mktemp("metamorphic"))


def report(run: Run) -> dict[str, Any]:
    """The run's report, without its page, which takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("discrete_grad.runs.report.render_html", lambda report: "")
        return json.loads(json.dumps(write_report(run)))


def tensors(run: Run) -> dict[str, Tensor]:
    """`weights/judge.safetensors:NAME` and the like -> every tensor of the folder."""
    return {
        f"{path.relative_to(run.folder)}:{name}": tensor
        for path in sorted(run.folder.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def differing(run: Run, other: Run) -> set[str]:
    """Names of the tensors that are not bitwise the same."""
    a, b = tensors(run), tensors(other)
    same = {n for n in a.keys() & b.keys() if a[n].shape == b[n].shape and torch.equal(a[n], b[n])}
    return (a.keys() | b.keys()) - same


def different(rows: ScoredRows) -> Tensor:
    """Different rows in lexicographic order, each with its context."""
    assert rows.context is not None
    return torch.cat([rows.codes.float(), rows.context], 1).unique(dim=0)


def generated(run: Run, *shops: str) -> dict[str, list[Any]]:
    """Columns of three rows for each shop."""
    found: dict[str, list[Any]] = run.generate({"shop": list(shops)}, rows=3).to_dict("list")
    return found


def renamed(value: Any, change: Callable[[str], str]) -> Any:
    """JSON with every text changed but the keys of dicts."""
    if isinstance(value, Mapping):
        return {key: renamed(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def entries(part: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each line of a report's tables: figures in the score's units, and the others."""
    for line in (*part["average"], *(e for c in part["contexts"] for e in c["entries"])):
        units = {key: line[key] for key in _UNITS}
        yield units, {key: value for key, value in line.items() if key not in _UNITS}


# --- the seed -------------------------------------------------------------------------------------


def test_the_same_seed_changes_no_byte(fits: Fits) -> None:
    """Of any file, the report among them."""
    again = fits("again", columns())
    assert report(again) == fits.base_report
    files = [p for p in fits.base.folder.rglob("*") if p.is_file()]
    for path in files:
        assert path.read_bytes() == (again.folder / path.relative_to(fits.base.folder)).read_bytes()
    assert len(files) == sum(path.is_file() for path in again.folder.rglob("*"))


def test_another_seed_changes_every_random_thing_and_nothing_else(fits: Fits) -> None:
    """The split, the weights of every stage, the draws of the report; not what is of the table."""
    other = fits("other", columns(), seed=1)
    changed = differing(fits.base, other)
    assert not {name for name in changed if name.startswith(_TABLE_ALONE)}
    assert {f"prepared.safetensors:{side}/codes" for side in ("rows", "judge_rows")} <= changed
    drawn = {n for n in tensors(other) if n.startswith("weights/") and n.endswith(_DRAWN)}
    assert drawn <= changed
    assert len(drawn) == 2 * 5 + 3 * 2
    told = report(other)
    for mine, his in zip(fits.base_report["contexts"], told["contexts"], strict=True):
        assert (mine["rows"], mine["quantiles"]) == (his["rows"], his["quantiles"])
        assert mine["entries"][0]["row"] == his["entries"][0]["row"]
        assert all(mine["samples"][name] != his["samples"][name] for name in mine["samples"])


def test_models_of_one_run_do_not_share_their_noise(fits: Fits) -> None:
    """Neither judge and estimator, nor their members, nor the policies."""
    found = tensors(fits.base)
    name = "families.networks.stacked.embedding/weight"
    sides = [found[f"weights/{stage}.safetensors:{name}"] for stage in ("estimator", "judge")]
    members = torch.cat(sides)
    policies = [
        found[f"weights/{stage}.safetensors:heads.linear.weight"]
        for stage in ("reference", "naive", "generator")
    ]
    for group in (members, torch.stack(policies)):
        apart = torch.pdist(group.flatten(1))
        assert apart.min() > 0.1 * group.std() * group[0].numel() ** 0.5


# --- the names and the order of things ------------------------------------------------------------


def test_renamed_categories_rename_what_is_told(fits: Fits) -> None:
    """Names in the same order: bitwise; the report differs in the names alone."""
    named = {k: [f"x {v}" for v in c] if k != "score" else c for k, c in columns().items()}
    other = fits("renamed", named)
    assert not differing(fits.base, other)
    back = renamed(report(other), lambda text: text.replace("x ", ""))
    assert back == renamed(fits.base_report, lambda text: text.replace("x ", ""))
    rows = generated(other, *(f"x {shop}" for shop in _SHOPS))
    assert renamed(rows, lambda text: text.removeprefix("x ")) == generated(fits.base, *_SHOPS)


def test_the_order_of_different_rows_changes_nothing(fits: Fits) -> None:
    """Bitwise but for the table's own file: the split is of the rows in lexicographic order."""
    order = np.random.default_rng(0).permutation(160)
    other = fits("rows", {name: [column[i] for i in order] for name, column in columns().items()})
    changed = differing(fits.base, other)
    assert {name.split(":")[0] for name in changed} == {"rows.safetensors"}
    assert generated(other, *_SHOPS) == generated(fits.base, *_SHOPS)


def test_the_order_of_repeated_rows_decides_which_of_equal_observations_are_whose(
    fits: Fits,
) -> None:
    """Up to the order: the same different rows on both sides, scales and weights to begin with."""
    table = columns(repeated=True)
    order = np.random.default_rng(0).permutation(160)
    first = fits("repeated", table)
    other = fits("repeated rows", {k: [column[i] for i in order] for k, column in table.items()})
    changed = differing(first, other)
    assert not {n for n in changed if n.startswith(("prepared.safetensors:s", "trail/000000"))}
    for rows in ("rows", "judge_rows"):
        assert torch.equal(different(getattr(first, rows)), different(getattr(other, rows)))


def test_permuted_columns_keep_what_is_of_the_table(fits: Fits) -> None:
    """Bitwise the scales; the features come in the table's order and the split is another."""
    table = columns()
    other = fits("columns", {name: table[name] for name in reversed(table)})
    changed = differing(fits.base, other)
    assert not {n for n in changed if n.startswith("prepared.safetensors:s")}
    assert other.table.schema.space.names == fits.base.table.schema.space.names[::-1]
    assert len(other.judge_rows) == len(fits.base.judge_rows)
    told = report(other)
    for mine, his in zip(fits.base_report["contexts"], told["contexts"], strict=True):
        assert (mine["rows"], mine["quantiles"]) == (his["rows"], his["quantiles"])
        assert mine["entries"][0]["row"] == his["entries"][0]["row"][::-1]
        assert mine["entries"][0]["observed"] == his["entries"][0]["observed"]


# --- the score ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("goal", "factor", "shift"), [("max", 2, 0), ("min", 2, 3)])
def test_another_unit_of_the_score_changes_the_figures_in_it(
    fits: Fits, goal: str, factor: int, shift: int
) -> None:
    """Bitwise every weight and every draw; figures in the unit exactly, with a shift within 1e-9.

    The sign is turned where the score is minimised.
    """
    sign = 1 if goal == "max" else -1
    table = columns()
    table["score"] = [sign * (factor * value + shift) for value in table["score"]]
    other = fits(f"{goal} {factor} {shift}", table, goal=goal)
    changed = {name for name in differing(fits.base, other) if not name.startswith(_TABLE_ALONE)}
    assert not changed
    error = 1e-9 if shift else 0.0
    for mine, his in zip(entries(fits.base_report), entries(report(other)), strict=True):
        assert mine[1] == his[1]
        for key, value in mine[0].items():
            spread = key == "estimated_std"
            wanted = value if value is None else value * factor + (not spread) * shift
            wanted = wanted if value is None or spread else sign * wanted
            assert his[0][key] == (None if value is None else pytest.approx(wanted, error, error))
    rows, others = generated(fits.base, *_SHOPS), generated(other, *_SHOPS)
    for name in _SIZES:
        assert rows[name] == others[name]
    for name in ("estimated_score", "judge_score"):
        wanted = [sign * (factor * value + shift) for value in rows[name]]
        assert others[name] == pytest.approx(wanted, error, error)


def test_ranks_know_the_order_of_the_scores_alone(fits: Fits) -> None:
    """A bent score: the same split, and what is learned within one of the scale's 2,048 steps."""
    table = columns()
    other = fits("bent", table | {"score": [np.exp(value / 2) for value in table["score"]]})
    for side in ("rows", "judge_rows"):
        a, b = getattr(fits.base, side), getattr(other, side)
        assert torch.equal(a.codes, b.codes)
        assert (a.scores - b.scores).abs().max() < 2 * 3**0.5 / 2048


# --- rows and columns that say nothing new --------------------------------------------------------


def test_columns_that_say_nothing_change_nothing(fits: Fits) -> None:
    """Bitwise: a constant and a name of each row are left out, and the table says so."""
    table = {"maker": ["one"] * 160} | columns() | {"id": [f"row {i}" for i in range(160)]}
    with pytest.warns(TableWarning, match="maker|id") as told:
        other = fits("more columns", table)
    assert all(any(name in str(w.message) for w in told) for name in ("'maker'", "'id'"))
    assert not differing(fits.base, other)


def test_a_table_given_twice_knows_nothing_more(fits: Fits) -> None:
    """Equal: ranges, best rows; no row is on both sides, so that none is graded by its double."""
    other = fits("twice", {name: 2 * column for name, column in columns().items()})
    changed = differing(fits.base, other)
    assert not {n for n in changed if n.endswith(("/ends", "/keys")) or "trail/000000" in n}
    a, b = (tensors(run)["prepared.safetensors:standard/grid"] for run in (fits.base, other))
    torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-14)
    sides = [different(rows) for rows in (other.rows, other.judge_rows)]
    assert sum(map(len, sides)) == len(torch.cat(sides).unique(dim=0)) == 160
    told = report(other)
    assert told["rows"] == 320
    assert told["nearest"] == fits.base_report["nearest"]
    for mine, his in zip(fits.base_report["contexts"], told["contexts"], strict=True):
        assert (2 * mine["rows"], mine["different_rows"]) == (his["rows"], his["different_rows"])
        ends = ("0.0", "1.0")
        assert [mine["quantiles"][q] for q in ends] == [his["quantiles"][q] for q in ends]
        best, twice = mine["entries"][0], his["entries"][0]
        assert (best["row"], best["observed"]) == (twice["row"], pytest.approx(twice["observed"]))


# --- questions to a finished run ------------------------------------------------------------------


def test_the_order_of_questions_is_the_order_of_answers(fits: Fits) -> None:
    """Rows to be scored within float error, as batches differ; generated rows of contexts equal."""
    run, table = fits.base, columns()
    order = np.random.default_rng(1).permutation(160)
    del table["score"]
    scores = run.score(table).to_dict("list")
    again = run.score({n: [c[i] for i in order] for n, c in table.items()}).to_dict("list")
    for name in ("estimated_score", "judge_score"):
        wanted = [scores[name][i] for i in order]
        assert again[name] == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    for name in ("rank", "in_table", "beyond_observed"):
        assert again[name] == [scores[name][i] for i in order]
    turned = generated(run, *reversed(_SHOPS))
    assert {n: c[3:] + c[:3] for n, c in turned.items()} == generated(run, *_SHOPS)
