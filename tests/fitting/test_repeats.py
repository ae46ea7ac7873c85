"""Equal rows: merged with mean, count and spread, learnt as so many observations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from discrete_grad.data import ScoredRows, Table, read_table
from discrete_grad.evaluation import spearman
from discrete_grad.fitting import (
    EstimatorConfig,
    GeneratorConfig,
    ReproductionConfig,
    fit_estimator,
    fit_reproduction,
    new_ensemble,
)
from discrete_grad.fitting.anova import anova_groups, fit_anova
from discrete_grad.fitting.config import Family
from discrete_grad.fitting.estimator import _EstimatorObjective
from discrete_grad.fitting.kernel import fit_kernel
from discrete_grad.fitting.repeats import _merge_equal_rows, learning_rows
from discrete_grad.models import AnovaEnsemble, KernelEnsemble
from discrete_grad.policies import Generator
from discrete_grad.runs import FitConfig, fit, load_run, write_report
from discrete_grad.sampling import normal, permutation, seeded
from discrete_grad.space import CategoricalSpace
from discrete_grad.training import RunError
from discrete_grad.training.loop import Step
from tests.runs.small import small_config, small_table

SPACE = CategoricalSpace.from_sizes((3, 2, 2))


def observations(
    count: int, seed: int, *, context: bool = False, several: bool = False
) -> ScoredRows:
    """Noisy scores of random rows, most of them repeated."""
    generator = seeded(seed)
    codes = SPACE.enumerate()[torch.randint(SPACE.num_rows, (count,), generator=generator)]
    scores = codes.sum(-1) / 2 - 1 + 0.5 * normal((count,), generator=generator)
    shown = torch.randint(2, (count, 2), generator=generator) / 2
    behaviour = torch.stack([scores, normal((count,), generator=generator)], 1)
    return ScoredRows(codes, scores, shown if context else None, behaviour if several else None)


def by_row(rows: ScoredRows) -> dict[tuple[float, ...], list[int]]:
    """Places of equal rows."""
    places: dict[tuple[float, ...], list[int]] = {}
    context = torch.zeros(len(rows), 0) if rows.context is None else rows.context
    for i, key in enumerate(torch.cat([rows.codes, context], 1).tolist()):
        places.setdefault(tuple(key), []).append(i)
    return places


@given(st.integers(1, 60), st.integers(0, 99), st.booleans(), st.booleans(), st.integers(1, 4))
def test_merged_rows_by_their_definition(
    count: int, seed: int, context: bool, several: bool, parts: int
) -> None:
    rows = observations(count, seed, context=context, several=several)
    merged, seen = _merge_equal_rows(rows, parts=parts), by_row(rows)
    groups = [
        seen[key][p::parts] for key in sorted(seen) for p in range(min(parts, len(seen[key])))
    ]
    if len(groups) == count:
        assert merged is rows
        return
    assert len(merged) == len(groups)
    for i, group in enumerate(groups):
        assert torch.equal(merged.codes[i], rows.codes[group[0]])
        assert context is False or torch.equal(merged.context[i], rows.context[group[0]])
        scores = rows.scores[group].double()
        assert merged.counts[i] == len(group)
        torch.testing.assert_close(merged.scores[i].double(), scores.mean(), atol=1e-6, rtol=0)
        wanted = scores.std(correction=0)
        torch.testing.assert_close(merged.spread[i].double(), wanted, atol=1e-6, rtol=0)
        if several:
            torch.testing.assert_close(merged.behaviour[i], rows.behaviour[group].mean(0))


def test_merging_parts_once_more_is_merging_at_once() -> None:
    rows = observations(300, 0, several=True)
    twice, once = _merge_equal_rows(_merge_equal_rows(rows, parts=3)), _merge_equal_rows(rows)
    for name in ("codes", "scores", "behaviour", "counts", "spread"):
        torch.testing.assert_close(getattr(twice, name), getattr(once, name))


def test_few_different_rows_are_learnt_in_parts_and_many_whole() -> None:
    few = learning_rows(observations(600, 0), 10**6)
    assert sorted(map(len, by_row(few).values())) == [4] * SPACE.num_rows
    codes = torch.arange(300).repeat(4).unsqueeze(1)
    for possible, parts in ((10**6, 1), (300, 4)):
        rows = learning_rows(ScoredRows(codes, torch.zeros(1200)), possible)
        assert len(rows) == 300 * parts
    # 100 rows are possible in each of three contexts, 90 are there
    pairs = torch.cartesian_prod(torch.arange(30), torch.arange(3)).repeat(4, 1)
    rows = ScoredRows(pairs[:, :1], torch.zeros(360), pairs[:, 1:].float())
    assert [len(learning_rows(rows, possible)) for possible in (100, 60)] == [90, 4 * 90]
    many = torch.arange(1400).repeat(4).unsqueeze(1)
    assert len(learning_rows(ScoredRows(many, torch.zeros(5600)), 1400)) == 2 * 1400


def fitted_families(rows: ScoredRows, weights: Tensor, groups: int) -> list[Tensor]:
    """What an ANOVA and a Gaussian process say of all rows; the same groups for all."""
    anova, kernel = AnovaEnsemble(SPACE, members=2), KernelEnsemble(SPACE, members=2)
    codes = anova.joint(rows.codes, None)
    anova.arrange(anova_groups(anova.joint.sizes, groups))
    fit_anova(anova, codes, rows.scores, weights, spread=rows.spread)
    fit_kernel(kernel, codes, rows.scores, weights, seed=0, spread=rows.spread)
    return [model.predictions(SPACE.enumerate()) for model in (anova, kernel)]


def test_a_count_is_as_many_observations_to_the_families_without_networks() -> None:
    rows = observations(150, 1)
    rows = replace(rows, scores=(rows.scores - rows.scores.mean()) / rows.scores.std())
    # the second member has not seen two of the rows
    seen = (rows.codes.sum(1) > 0).float()
    merged = _merge_equal_rows(rows)
    counts = torch.stack([merged.counts, merged.counts * (merged.codes.sum(1) > 0)]).float()
    ones = torch.stack([torch.ones(150), seen])
    literal = fitted_families(rows, ones, 150)
    for mine, wanted in zip(fitted_families(merged, counts, 150), literal, strict=True):
        torch.testing.assert_close(mine, wanted, atol=5e-5, rtol=0)
        # without the spread the noise is not known
    blind = fitted_families(replace(merged, spread=None), counts, 150)
    for mine, wanted in zip(blind, literal, strict=True):
        assert (mine - wanted).abs().max() > 0.1


@pytest.mark.parametrize("family", ["kernel", "pairs", "anova"])
def test_the_spread_of_equal_rows_is_noise_to_an_estimator(family: Family) -> None:
    rows = _merge_equal_rows(observations(150, 1))
    config = EstimatorConfig(members=2, families=(family,))
    found = []
    for learnt in (rows, replace(rows, spread=torch.zeros(len(rows)))):
        ensemble = new_ensemble(SPACE, None, config, seed=0)
        fit_estimator(ensemble, learnt, config=config, seed=0)
        found.append(ensemble(SPACE.enumerate()))
    assert (found[0] - found[1]).abs().max() > 0.01


@pytest.mark.parametrize("families", [("networks",), ("networks", "kernel", "anova")])
def test_counts_of_one_change_nothing(families: tuple[str, ...]) -> None:
    config = EstimatorConfig(members=2, hidden=(8,), steps=60, families=families)
    rows = observations(80, 2)
    ones = replace(rows, counts=torch.ones(80, dtype=torch.long), spread=torch.zeros(80))
    plain, counted = (new_ensemble(SPACE, None, config, seed=0) for _ in range(2))
    fit_estimator(plain, rows, config=config, seed=0)
    fit_estimator(counted, ones, config=config, seed=0)
    states = plain.state_dict(), counted.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("families", [("networks",), ("anova",), ("kernel",)])
def test_every_family_learns_the_mean_of_the_observations(families: tuple[str, ...]) -> None:
    """Equal rows of two scores, of which one counts for nine, or for seven and three."""
    space = CategoricalSpace.from_sizes((2,))
    codes = torch.tensor([[0], [0], [1], [1]]).repeat_interleave(100, 0)
    scores = torch.tensor([1.0, -1.0, 1.0, -1.0]).repeat_interleave(100)
    rows = ScoredRows(codes, scores, counts=torch.tensor([9, 1, 7, 3]).repeat_interleave(100))
    config = EstimatorConfig(members=4, hidden=(8,), steps=400, families=families, patience=0)
    config = replace(config, weight_decay=0.0)
    ensemble = new_ensemble(space, None, config, seed=0)
    fit_estimator(ensemble, rows, config=config, seed=0)
    wanted = torch.tensor([0.8, 0.4])
    torch.testing.assert_close(ensemble(space.enumerate()), wanted, atol=0.12, rtol=0)


def test_held_out_rows_weigh_by_their_counts() -> None:
    """Of two equal rows one counts for 99: a member that holds both out should predict it."""
    losses: list[float] = []
    space = CategoricalSpace.from_sizes((1,))
    scores = torch.tensor([1.0] * 20 + [-1.0] * 20)
    counts = torch.tensor([99] * 20 + [1] * 20)
    config = EstimatorConfig(members=1, hidden=(4,), steps=300, families=("networks",))
    config = replace(config, weight_decay=0.0, held_out=0.5, patience=0)
    fit_estimator(
        new_ensemble(space, None, config, seed=0),
        ScoredRows(torch.zeros(40, 1, dtype=torch.long), scores, counts=counts),
        config=config,
        seed=0,
        log=lambda metrics, step: losses.append(metrics["estimator/held_out_loss"]),
    )
    # the variance of 99 times 1 and once -1 is .04; unweighted it is about 2
    assert losses[-1] < 0.2


def test_a_row_is_drawn_as_often_as_it_counts() -> None:
    """Rows that count for 1, 2, 1 and 4: the ends of their observations are 1, 3, 4 and 8."""
    space, counts = CategoricalSpace.from_sizes((5,)), torch.tensor([1, 2, 1, 4, 9])
    rows = ScoredRows(space.enumerate(), torch.zeros(5), counts=counts)
    config = EstimatorConfig(members=1, hidden=(4,), families=("networks",), batch_size=8000)
    model = new_ensemble(space, None, config, seed=0)
    objective = _EstimatorObjective(model, rows, torch.tensor([[4]]), config, False)  # type: ignore
    drawn = objective._batch(Step(0, "estimator", 0)).flatten().bincount(minlength=5)
    assert (drawn / 1000).tolist() == pytest.approx([1, 2, 1, 4, 0], abs=0.2)


def test_a_reproduced_row_weighs_by_its_count() -> None:
    space = CategoricalSpace.from_sizes((2,))
    codes = torch.tensor([[0], [1]]).repeat(20, 1)
    rows = ScoredRows(codes, torch.ones(40), counts=torch.tensor([9, 1]).repeat(20))
    config = ReproductionConfig(steps=300, learning_rate=0.05, patience=0)
    policy = Generator(space)
    fit_reproduction(policy, rows, config=config, seed=0)
    assert policy().softmax(-1)[0].item() == pytest.approx(0.9, abs=0.04)


def noisy_table(columns: dict[str, list[int]], truth: Tensor, noise: float, seed: int) -> Table:
    """A log of outcomes."""
    scores = truth + noise * normal((len(truth),), generator=seeded(seed))
    return read_table({**columns, "score": scores.tolist()}, score="score")


@pytest.mark.parametrize("seed", range(3))
def test_of_two_ads_both_are_known(tmp_path: Path, seed: int) -> None:
    ad = torch.arange(100) % 2
    truth = torch.tensor([0.99, 10.5], dtype=torch.float64)
    columns = {"picture": ad.tolist(), "words": ad.tolist()}
    table = noisy_table(columns, truth[ad], 1.0, seed)
    run = fit(table, tmp_path / "run", small_config(seed=seed))
    ads = torch.tensor([[0, 0], [1, 1]])
    for model in (run.estimator, run.judge):
        torch.testing.assert_close(run.to_units(model(ads)), truth, atol=1.0, rtol=0)
    best = write_report(run)["average"][0]
    assert best["row"] == ["1", "1"]
    assert best["observed"] == pytest.approx(float(table.scores[ad == 1].mean()))


@pytest.mark.slow
def test_many_noisy_observations_of_twenty_rows_give_their_order(tmp_path: Path) -> None:
    space = CategoricalSpace.from_sizes((5, 4))
    effects = permutation(20, generator=seeded(5)).double()
    place = torch.arange(10_000) % 20
    codes = space.enumerate()[place]
    columns = {"cut": codes[:, 0].tolist(), "shade": codes[:, 1].tolist()}
    table = noisy_table(columns, effects[place], 6.0, 0)
    short = {"reproduction": ReproductionConfig(steps=50), "generator": GeneratorConfig(steps=50)}
    run = fit(table, tmp_path / "run", FitConfig(**short))
    assert len(run.rows) == len(run.judge_rows) == 80
    assert int(run.rows.counts.sum()) == 8000
    for model in (run.estimator, run.judge):
        assert spearman(model(space.enumerate()), effects) > 0.97
    top = space.enumerate()[effects.argmax()]
    assert torch.equal(run.estimator(space.enumerate()).argmax(), effects.argmax())
    # one of 10,000 draws is far above all means
    best = write_report(run)["average"][0]
    assert best["row"] == [str(code) for code in top.tolist()]
    assert best["observed"] == pytest.approx(float(table.scores[place == effects.argmax()].mean()))


def few_rows(different: int) -> Table:
    """Ten rows, of which so many differ, of three possible ones."""
    place = torch.cat([torch.arange(10) % different, torch.tensor([0, 1, 2])])
    return noisy_table({"cut": place.tolist()}, place.double(), 0.1, 0).take(range(10))


@pytest.mark.parametrize("different", [1, 2, 3])
def test_tables_of_few_different_rows_fit(tmp_path: Path, different: int) -> None:
    table, config = few_rows(different), small_config()
    aligned = replace(config.generator, alignment=0.2, trust=0.1, reference_kl=0.1)
    run = fit(table, tmp_path / "run", replace(config, generator=aligned))
    assert torch.isfinite(run.estimator(run.rows.codes)).all()
    assert len(load_run(tmp_path / "run").rows) == len(run.rows)
    assert write_report(run)["contexts"][0]["different_rows"] == different


@pytest.mark.slow
def test_policies_reproduce_observations(tmp_path: Path) -> None:
    table = noisy_table({"cut": [0] * 900 + [1] * 100}, torch.zeros(1000), 1.0, 0)
    few = EstimatorConfig(steps=50, members=2)
    made = GeneratorConfig(steps=50)
    run = fit(table, tmp_path / "run", FitConfig(estimator=few, judge=few, generator=made))
    assert run.reference().softmax(-1)[0].item() == pytest.approx(0.9, abs=0.05)


@pytest.mark.slow
def test_the_report_counts_observations_and_says_that_rows_are_merged(tmp_path: Path) -> None:
    run = fit(small_table(200, context=False), tmp_path / "run", small_config())
    held_out, said = write_report(run)["held_out"], (run.folder / "report.html").read_text()
    assert held_out["judge"]["of"] == int(run.rows.counts.sum())
    assert held_out["estimator"]["of"] == 200 - held_out["judge"]["of"]
    assert "equal rows count as one row" in said
    alone = fit(small_table(), tmp_path / "alone", small_config())
    write_report(alone)
    assert "equal rows are one" not in (alone.folder / "report.html").read_text()


def test_a_run_made_before_rows_were_merged_keeps_its_rows(tmp_path: Path) -> None:
    before = small_config(merge_repeats=False)
    values = json.loads(before.to_json())
    del values["merge_repeats"]
    assert FitConfig.from_json(json.dumps(values)) == before
    run = fit(small_table(200, context=False), tmp_path / "run", before)
    assert run.rows.counts is run.judge_rows.counts is None
    assert not by_row(run.rows).keys() & by_row(run.judge_rows).keys()
    with pytest.raises(RunError, match="repeats so few different rows"):
        fit(few_rows(1), tmp_path / "few", before)
