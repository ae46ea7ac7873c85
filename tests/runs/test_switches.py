"""Every switch of a fit: it does what it says, and survives an interruption."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from discrete_grad.data import ScoredRows
from discrete_grad.fitting import (
    EstimatorConfig,
    GeneratorConfig,
    conformal_pessimism,
    fit_estimator,
    new_ensemble,
)
from discrete_grad.fitting.pessimism import PessimisticScore
from discrete_grad.hamming import nearest_hamming
from discrete_grad.models import EstimatorEnsemble, MixedEnsemble, MultilinearEstimator
from discrete_grad.rules import Forbid, Rules
from discrete_grad.runs import FitConfig, Run, fit, generate, load_run, polished_row, write_report
from discrete_grad.sampling import normal, seeded
from discrete_grad.space import CategoricalSpace
from tests.runs.small import likely_rows, small_config, small_table, weights_of

SPACE = CategoricalSpace.from_sizes((3, 4))


def everything() -> FitConfig:
    """All switches at once."""
    config = small_config(polish=True)
    return replace(
        config,
        estimator=replace(
            config.estimator,
            architectures=("mlp", "shallow", "multilinear"),
            members=4,
            conservative=0.1,
            families=("networks",),
        ),
        generator=replace(
            config.generator,
            diversity=0.01,
            trust=0.1,
            trust_radius=1.0,
            coverage=0.8,
            alignment=0.2,
        ),
    )


def noisy_rows(count: int, seed: int) -> ScoredRows:
    """Random rows; their score has noise of deviation .5."""
    generator = seeded(seed)
    codes = torch.stack(
        [torch.randint(k, (count,), generator=generator) for k in SPACE.sizes], dim=-1
    )
    noise = normal((count,), generator=generator)
    return ScoredRows(codes, codes.sum(-1) / 2 - 1 + 0.5 * noise)


def quickly(**changes: object) -> EstimatorConfig:
    """A short training of networks."""
    usual = EstimatorConfig(
        members=4, hidden=(16,), steps=200, patience=0, families=("networks",), scaling=False
    )
    return replace(usual, **changes)


def fitted(config: EstimatorConfig, rows: ScoredRows) -> EstimatorEnsemble | MixedEnsemble:
    """An ensemble fitted to the rows."""
    ensemble = new_ensemble(SPACE, None, config, seed=0)
    fit_estimator(ensemble, rows, config=config, seed=0)
    return ensemble


def assert_best_that_obeys(run: Run, row: Tensor, rules: Rules, context: Tensor) -> None:
    """No swap to a row that obeys, as near to the observed ones as this, has a higher score."""
    swaps = run.table.schema.space.swaps(row)
    trusted = run.config.generator
    near = nearest_hamming(swaps, run.rows.codes) <= trusted.trust_radius
    swaps = swaps[rules.allows(swaps) & (near if trusted.trust else True)]
    score = run.objective(context)
    assert rules.allows(row)
    assert (score(row) >= score(swaps)).all()


@pytest.mark.slow
def test_a_run_with_all_switches_is_loaded_and_resumed_as_it_was(tmp_path: Path) -> None:
    table, config = small_table(), everything()
    run = fit(table, tmp_path / "whole", config)
    again = load_run(tmp_path / "whole")
    assert isinstance(again.estimator, MixedEnsemble)
    assert again.estimator.sizes == [2, 1, 1]
    assert again.pessimism == run.pessimism > 0
    assert torch.equal(likely_rows(again), likely_rows(run))
    context = table.context[0]
    free = polished_row(run, context)
    assert torch.equal(polished_row(again, context), free)
    space = table.schema.space
    rules = Rules(space, [Forbid({space.names[0]: int(free[0])})])
    assert_best_that_obeys(run, polished_row(run, context, rules), rules, context)

    def interrupted(metrics: dict[str, float], step: int) -> None:
        if "estimator/loss" in metrics and step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(table, tmp_path / "cut", config, log=interrupted)
    fit(table, tmp_path / "cut", config, resume=True)
    assert weights_of(tmp_path / "cut") == weights_of(tmp_path / "whole")
    report = write_report(run)
    names = [entry["name"] for entry in report["average"]]
    assert "polished, most likely row" in names
    assert report["policies"][-1] == "generator"


def test_generate_proposes_the_polished_row(tmp_path: Path) -> None:
    config = small_config(polish=True)
    run = fit(small_table(context=False), tmp_path / "run", config)
    row = polished_row(run, None)
    score = run.objective(None)
    swaps = run.table.schema.space.swaps(row)
    assert score(row) >= score(swaps).max()
    values = run.table.schema.decode_features(row.unsqueeze(0))
    written = generate(run, {}, None, rows=24, new_only=False)
    pairs = zip(*(written[name] for name in values), strict=True)
    assert tuple(v[0] for v in values.values()) in set(pairs)


def test_polish_stays_near_the_rows_where_the_generator_has_to(tmp_path: Path) -> None:
    config = small_config(polish=True)
    trusting = replace(config.generator, trust=0.1, trust_radius=0.0)
    table = small_table(rows=20, context=False)
    run = fit(table, tmp_path / "run", replace(config, generator=trusting))
    space, known = run.table.schema.space, run.rows.codes
    likely = space.argmax(run.generator())
    row = polished_row(run, None)
    assert torch.equal(row, likely) or (row == known).all(-1).any()


@pytest.mark.parametrize("combine", ["mean", "median", "min"])
def test_the_pessimistic_score_by_its_definition(combine: str) -> None:
    ensemble = new_ensemble(SPACE, None, EstimatorConfig(members=4), seed=0)
    rows = SPACE.enumerate()
    values = ensemble.predictions(rows).double()
    middle = values.sort(0).values[1:3].mean(0)
    centre = {"mean": values.mean(0), "median": middle, "min": values.amin(0)}[combine]
    deviation = (values - values.mean(0)).square().mean(0).sqrt()
    for pessimism in (0.0, 1.5):
        config = GeneratorConfig(combine=combine, pessimism=pessimism)
        score = PessimisticScore(ensemble, None, config)
        expected = (centre - pessimism * deviation).float()
        torch.testing.assert_close(score(rows), expected, atol=2e-4, rtol=0)


def test_the_pessimistic_score_of_members_that_agree_has_a_gradient() -> None:
    ensemble = new_ensemble(SPACE, None, EstimatorConfig(members=2), seed=0)
    for parameter in ensemble.parameters():
        parameter.data[1] = parameter.data[0]
    rows = SPACE.one_hot(SPACE.enumerate()).requires_grad_()
    PessimisticScore(ensemble, None, GeneratorConfig(pessimism=1.0))(rows).sum().backward()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_the_calibrated_bound_covers_the_share_it_promises(coverage: float) -> None:
    config = quickly()
    ensemble = fitted(config, noisy_rows(100, seed=1))
    pessimism = conformal_pessimism(ensemble, noisy_rows(999, seed=2), coverage)
    fresh = noisy_rows(20_000, seed=3)
    score = PessimisticScore(ensemble, None, GeneratorConfig(pessimism=pessimism))
    covered = (score(fresh.codes) <= fresh.scores).double().mean().item()
    # given the calibration rows the coverage is Beta(1000 c, 1000 (1 - c)), of deviation at most
    # .016; k is at least 0, so it may cover more
    assert covered > coverage - 5 * 0.016
    assert pessimism == 0 or covered < coverage + 5 * 0.016


@pytest.mark.parametrize("coverage", [0.55, 0.56, 0.57, 0.58, 0.9, 0.95, 0.99])
def test_no_rounding_asks_for_a_row_too_many(coverage: float) -> None:
    """(99 + 1) * 0.55 is 55, and 55.000000000000007 in floating point."""
    ensemble = EstimatorEnsemble([MultilinearEstimator(SPACE) for _ in range(2)])
    codes = torch.zeros(99, SPACE.num_features, dtype=torch.long)
    predicted = ensemble.predictions(codes).detach()
    spread = (predicted.var(0, correction=0) + 1e-8).sqrt()
    deviations = torch.arange(1.0, 100.0)
    rows = ScoredRows(codes, predicted.mean(0) - deviations * spread)
    found = conformal_pessimism(ensemble, rows, coverage)
    assert found == pytest.approx(round(100 * coverage), abs=0.01)


def test_calibration_refuses_what_it_cannot_promise() -> None:
    ensemble, rows = fitted(quickly(steps=20), noisy_rows(50, seed=1)), noisy_rows(8, seed=2)
    assert conformal_pessimism(ensemble, rows, 0.88) >= 0
    for coverage, count in ((0.9, 8), (1.0, 8), (0.0, 8), (0.5, 0)):
        with pytest.raises(ValueError, match="rows to calibrate"):
            conformal_pessimism(ensemble, rows.take(torch.arange(count)), coverage)
    with pytest.raises(ValueError, match="2 members and 9 rows to calibrate on, got 4 and 8"):
        conformal_pessimism(ensemble, rows, 0.9)
    alone = fitted(quickly(steps=20, members=1), noisy_rows(50, seed=1))
    with pytest.raises(ValueError, match="2 members"):
        conformal_pessimism(alone, rows, 0.5)


def test_conservative_training_lowers_rows_that_were_not_seen() -> None:
    rows = noisy_rows(200, seed=1)
    seen = rows.codes[:, 1] < 3
    rows = rows.take(seen.nonzero().squeeze(-1))
    unseen = SPACE.enumerate()[SPACE.enumerate()[:, 1] == 3]

    def excess(conservative: float) -> Tensor:
        ensemble = fitted(quickly(conservative=conservative), rows)
        return ensemble(unseen).mean() - ensemble(rows.codes).mean()

    assert excess(0.5) < excess(0.0) - 0.1


def test_members_of_every_architecture_learn_and_keep_their_own_best_weights() -> None:
    rows = noisy_rows(400, seed=1)
    config = quickly(architectures=("mlp", "multilinear"), patience=5, validate_every=10)
    mixed = fitted(config, rows)
    truth = rows.codes.sum(-1) / 2 - 1
    errors = (mixed.predictions(rows.codes) - truth).square().mean(-1)
    assert errors.max() < 0.1 * truth.var()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coverage": 1.0}, "coverage"),
        ({"coverage": 0.5, "combine": "min"}, "calibrates the mean"),
        ({"diversity": -1.0}, "diversity"),
        ({"trust_radius": -1.0}, "trust_radius"),
    ],
)
def test_settings_out_of_range_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FitConfig(generator=replace(GeneratorConfig(), **change)).check()


def test_an_ensemble_needs_a_member_for_each_architecture() -> None:
    few = EstimatorConfig(members=1, architectures=("mlp", "shallow"))
    with pytest.raises(ValueError, match=r"estimator\.members"):
        FitConfig(estimator=few).check()
