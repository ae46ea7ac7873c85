"""A run of several aims, a threshold and rows that may fail, from fit to report."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from discrete_grad.data import Aim, Table, read_contexts, read_table
from discrete_grad.fitting import EstimatorConfig, GeneratorConfig, ReproductionConfig
from discrete_grad.fitting.aims import fit_chance
from discrete_grad.fitting.estimator import held_out_parts
from discrete_grad.models.pareto import non_dominated
from discrete_grad.preferences import PreferenceConfig, Preferences
from discrete_grad.rules import Fix
from discrete_grad.runs import (
    FitConfig,
    Run,
    _aim_stages,
    _aims,
    fit,
    generate,
    load_run,
    write_report,
)
from discrete_grad.runs._folder import load_weights
from discrete_grad.runs._prepared import Observations
from discrete_grad.runs._stages import Work, trained
from discrete_grad.runs.pareto_front import front_values
from discrete_grad.training import RunError
from discrete_grad.training.checkpoint import load_tensors, save_tensors
from discrete_grad.training.loop import derive_seed

AIMS = ["yield", "cost:min", "purity>=0.5"]
CONFIG = FitConfig(
    estimator=EstimatorConfig(members=2, families=("anova",)),
    judge=EstimatorConfig(members=2, steps=100, families=("networks",), hidden=(16,)),
    reproduction=ReproductionConfig(steps=5),
    generator=GeneratorConfig(steps=150, hidden=(16,)),
)


def columns() -> dict[str, Any]:
    """Yield and cost rise with x, cost with y; rows with z = 2 fail, those of w < 2 are pure."""
    rng = np.random.default_rng(0)
    x, y, z, w = rng.integers(0, 4, (4, 400))
    failed = z == 2
    return {
        "x": x,
        "y": y,
        "z": z,
        "w": w,
        "shop": np.array(["east", "west"])[rng.integers(0, 2, 400)],
        "yield": np.where(failed, np.nan, 10.0 * x + z),
        "cost": 2.0 * x + y + 0.1 * rng.normal(size=400),
        "purity": np.where(w < 2, 0.9, 0.1) + 0.01 * rng.normal(size=400),
        "ok": ~failed,
    }


def read(score: list[str] | str, **given: Any) -> Table:
    return read_table(
        columns(),
        score=score,
        context="shop",
        features=["x", "y", "z", "w"],
        feasible="ok",
        **given,
    )


def test_thresholds_alone_have_a_chance_of_being_met(monkeypatch: pytest.MonkeyPatch) -> None:
    for aim in (Aim("ph", "target", 7.4), Aim("cost", "min"), Aim("look", "behaviour")):
        monkeypatch.setattr(_aims, "_aims", lambda work, aim=aim: [aim])
        work: Any = object()  # which nothing is asked of
        assert _aims._chance(work, 0, {}) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(read(AIMS), tmp_path_factory.mktemp("aims") / "run", CONFIG)


def rows_of(run: Run, **given: Any) -> dict[str, list[Any]]:
    contexts = read_contexts({"shop": ["east"]}, run.table.schema)
    return generate(run, *contexts, rows=4, new_only=False, **given)


def test_the_trade_off_decides_which_rows_are_written(run: Run) -> None:
    high, low = (rows_of(run, tradeoff={name: 1.0}) for name in ("yield", "cost"))
    assert set(high["x"]) == {3}
    assert set(low["x"]) == {0}
    assert min(high["estimated_yield"]) > 25 > 10 > max(low["estimated_yield"])
    assert max(low["estimated_cost"]) < 4 < min(high["estimated_cost"])
    assert min(high["judge_yield"]) > max(low["judge_yield"])
    for rows in (high, low):
        assert 2 not in rows["z"]
        assert max(rows["w"]) < 2
        assert min(rows["probability_feasible"]) > 0.9
        assert min(rows["probability_purity>=0.5"]) > 0.9
    assert high["tradeoff_yield"] == [1.0] * 4
    assert rows_of(run)["tradeoff_cost"] == [0.5] * 4


def test_likeliest_rows_follow_the_trade_off_without_any_search(run: Run) -> None:
    context = run.table.schema.encode_context({"shop": ["east"]})
    space = run.table.schema.space
    high, low = (
        space.argmax(run.at({name: 1.0}).generator(context))[0].tolist()
        for name in ("yield", "cost")
    )
    assert high[0] == 3
    assert low[0] < 2
    assert low[1] == 0
    assert high[2] != 2
    assert low[2] != 2


def test_the_front_is_not_dominated_and_reaches_both_ends(run: Run) -> None:
    rows = rows_of(run, front=6)
    assert list(rows)[:3] == ["shop", "tradeoff_yield", "tradeoff_cost"]
    assert 3 <= len(rows["x"]) <= 6
    schema = run.table.schema
    context = schema.encode_context({"shop": ["east"]})
    assert context is not None
    codes = schema.encode_features({name: rows[name] for name in schema.space.names})
    values = front_values(run, codes, context[0])
    # by what the models say; shown scores stay within those observed, where they may be equal
    everything = front_values(run, schema.space.enumerate(), context[0])
    assert non_dominated(torch.cat([values, everything]))[: len(values)].all()
    assert rows["x"][0] == 3
    assert rows["x"][-1] == 0
    assert rows["tradeoff_yield"] == sorted(rows["tradeoff_yield"], reverse=True)
    assert 2 not in rows["z"]


def test_a_run_shows_its_aims(run: Run) -> None:
    assert "; aims: yield:max, cost:min, purity>=0.5; feasible: ok; rows: " in repr(run)


def test_a_loaded_run_writes_the_same_rows(run: Run) -> None:
    again = load_run(run.folder)
    assert again.table.schema == run.table.schema
    for given in ({"tradeoff": {"yield": 0.7, "cost": 0.3}}, {"front": 4}):
        assert rows_of(again, **given) == rows_of(run, **given)


def test_rules_hold_on_the_front(run: Run) -> None:
    rows = rows_of(run, front=6, rules=[Fix("x", 1)])
    assert set(rows["x"]) == {1}
    assert 2 not in rows["z"]


@pytest.mark.parametrize("off", [5e-7, -5e-7, 2e-6, -2e-6])
def test_weights_sum_to_1_but_for_a_millionth(run: Run, off: float) -> None:
    if abs(off) < 1e-6:
        assert run.at({"yield": 0.25, "cost": 0.75 + off}).aims.tradeoff[0] == 0.25
    else:
        with pytest.raises(RunError, match=r"the weights must have the sum 1, theirs is "):
            run.at({"yield": 0.25, "cost": 0.75 + off})


def test_what_a_run_keeps_of_its_aims_may_not_be_missing_or_damaged(
    run: Run, tmp_path: Path
) -> None:
    folder = shutil.copytree(run.folder, tmp_path / "run")
    chances = folder / "weights" / "chances.safetensors"
    lines, _ = load_tensors(chances)
    assert set(lines) == {"2", "feasible"}
    for name in lines:
        save_tensors(chances, {n: line for n, line in lines.items() if n != name}, {})
        with pytest.raises(RunError, match=rf"chances.safetensors is missing, or lacks '{name}'$"):
            load_run(folder)
        save_tensors(chances, {**lines, name: lines[name] / 0}, {})
        with pytest.raises(RunError, match=rf"chances.safetensors is damaged: {name} holds NaN or"):
            load_run(folder)
    chances.unlink()
    with pytest.raises(RunError, match=r"chances.safetensors is missing, or lacks '2'$"):
        load_run(folder)
    save_tensors(chances, lines, {})
    load_run(folder)
    (folder / "weights" / "calibration-3.safetensors").unlink()
    with pytest.raises(RunError, match=r"calibration-3.safetensors is missing: the scores of the"):
        load_run(folder)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"tradeoff": {"yeild": 1.0}}, "'yeild' is no aim that is traded off.*mean 'yield'"),
        ({"tradeoff": {"purity": 1.0}}, "'purity' is no aim that is traded off"),
        ({"tradeoff": {"yield": 1.5, "cost": -0.5}}, "'cost' must be at least 0, got -0.5"),
        ({"tradeoff": "yield=1"}, r"such as \{'yield': 0.5, 'cost': 0.5\}, got 'yield=1'"),
        ({"tradeoff": {"yield": 0.5}}, "sum 1, theirs is 0.5"),
        ({"tradeoff": {"yield": float("nan")}}, "must be at least 0, got nan"),
        ({"tradeoff": {"yield": 1.0}, "front": 3}, "not both"),
        ({"front": 0}, "at least 1 row, got 0"),
        ({"front": 3, "diversity": 2}, "diversity must be 1, got 2"),
    ],
)
def test_a_wrong_trade_off_is_told(run: Run, given: dict[str, Any], told: str) -> None:
    with pytest.raises(RunError, match=told):
        rows_of(run, **given)


def test_the_report_says_what_was_asked_and_got(run: Run) -> None:
    report = write_report(run)
    part = report["aims"]
    assert part["words"] == ["yield:max", "cost:min", "purity>=0.5"]
    assert part["asked"]["agreement"][0] > 0.5
    assert part["asked"]["agreement"][1] > 0.5
    assert part["asked"]["missed"] < 0.1
    assert {chance["name"] for chance in part["reliability"]} == {"purity>=0.5", "feasible"}
    for chance in part["reliability"]:
        assert chance["brier"] < 0.5 * chance["base_brier"]
    assert report["score_name"] == "yield"
    page = (run.folder / "report.html").read_text()
    assert '<section id="aims">' in page
    assert report["exploitation"] is not None


@pytest.mark.parametrize(("score", "factor"), [(AIMS, 2.5), ("yield", 1.0)])
def test_a_generator_of_several_aims_has_more_entropy(
    run: Run, score: list[str] | str, factor: float
) -> None:
    work = work_of(run)
    work.table = read(score)
    trains = trained(work, replace(run.config.generator, entropy=0.02))
    assert trains.keywords["config"].entropy == pytest.approx(0.02 * factor)  # type: ignore[attr-defined]


def work_of(run: Run) -> Work:
    work = Work(run.folder, run.config, run.table, run.source, None, run.device)
    for stage in work.stages:
        work.models[stage.name] = stage.model(work)
        load_weights(work.models[stage.name], work.weights(stage.name))
    return work


def test_the_chance_is_fitted_on_rows_held_out_to_the_threshold_it_is_asked_at(run: Run) -> None:
    part, seen = run.aims.parts[2], Observations(run.table, run.config)
    rows, purity = seen.aim_rows(2, seen.mine), seen.truth(seen.mine, 2)
    assert rows.counts is not None
    assert rows.repeated
    settings = run.config.estimator.for_rows(len(rows))
    places = held_out_parts(len(rows), settings, derive_seed(run.config.seed, "estimator", "rows"))
    some = rows.take(places)
    above = part.estimator.predictions(some.codes, some.context, own_rows=True)
    above = above - part.chance.threshold(some.context)
    met, counts = (purity[places] >= 0.5).float(), rows.counts[places]
    expected = fit_chance(above.flatten(), met.flatten(), counts.flatten())
    torch.testing.assert_close(part.chance.line, expected)


def test_the_judge_of_each_aim_is_calibrated_on_its_own_rows(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[Any] = []
    monkeypatch.setattr(_aim_stages, "write_calibration", lambda *given: known.append(given[1]))
    work, seen = work_of(run), Observations(run.table, run.config)
    _aim_stages.calibrate_aims(work)
    assert len(known) == 2
    for aim, sides in enumerate(known, start=1):
        for name, places in (("estimator", seen.mine), ("judge", seen.judged)):
            assert torch.equal(sides[name].rows.scores, seen.aim_rows(aim, places).scores)
            assert torch.equal(sides[name].truth, seen.truth(places, aim))
            assert sides[name].model is work.models[f"{name}-{aim + 1}"]


def test_a_killed_fit_goes_on_where_it_was(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    log: list[str] = []

    def killed(metrics: dict[str, float], step: int) -> None:
        log.extend(metrics)
        if any(name.startswith("judge-3/") for name in metrics):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(read(AIMS), folder, CONFIG, log=killed)
    assert any(name.startswith("judge-2/") for name in log)
    fit(read(AIMS), folder, CONFIG, resume=True)
    for path in sorted((run.folder / "weights").iterdir()):
        assert (folder / "weights" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_row_that_fails_is_not_made_good_by_being_liked(tmp_path: Path) -> None:
    table = read(AIMS)
    rows = torch.randint(4, (2, 300, 4), generator=torch.Generator().manual_seed(0))
    # rows of z = 2 always fail, and are liked most
    outcome = torch.where(rows[0, :, 2] == 2, 0, torch.where(rows[1, :, 2] == 2, 1, 2))
    context = table.context
    assert context is not None
    answers = Preferences(rows[0], rows[1], outcome, context[:1].expand(300, -1))
    config = replace(
        CONFIG,
        preference=PreferenceConfig(members=2, steps=100),
        generator=replace(CONFIG.generator, preference=100.0, steps=40),
    )
    run = fit(table, tmp_path / "run", config, preferences=answers)
    assert run.preference is not None
    codes, here = torch.zeros(4, 4).long(), context[:1].expand(4, -1)
    codes[:, 2] = torch.arange(4)
    assert int(run.preference(codes, here).argmax()) == 2
    assert int(run.objective(here)(codes).argmax()) != 2
    assert 2 not in rows_of(run)["z"]
    assert min(rows_of(load_run(run.folder))["probability_feasible"]) > 0.5


def test_a_single_threshold_is_met(tmp_path: Path) -> None:
    run = fit(read("purity<=0.5"), tmp_path / "run", CONFIG)
    rows = rows_of(load_run(tmp_path / "run"))
    assert min(rows["w"]) >= 2
    assert min(rows["probability_purity<=0.5"]) > 0.9
    assert "tradeoff_purity" not in rows
    with pytest.raises(RunError, match="no aims to be traded off"):
        run.at({"purity": 1.0})
    with pytest.raises(RunError, match="the fit has no front"):
        rows_of(run, front=3)
