"""The functional of a row's scores that a fit makes best."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from discrete_grad import CategoricalSpace
from discrete_grad.data import ScoredRows, Table, read_table
from discrete_grad.fitting import (
    EstimatorConfig,
    GeneratorConfig,
    ReproductionConfig,
    fit_estimator,
    new_ensemble,
)
from discrete_grad.runs import FitConfig, fit


def gambles(*, minimised: bool = False) -> Table:
    """A safe 1, a lottery of mean 10.5 that mostly gives 0, and a coin that is 2 or -10."""
    generator = torch.Generator().manual_seed(0)
    kind, other = torch.randint(3, (2, 900), generator=generator)
    luck = torch.rand(900, generator=generator)
    noise = 0.01 * torch.randn(900, generator=generator)
    lottery = torch.where(luck < 0.15, 70.0, 0.0)
    coin = torch.where(luck < 0.6, 2.0, -10.0)
    score = torch.stack([torch.ones(900), lottery, coin])[kind, torch.arange(900)] + noise
    columns = {"kind": [("safe", "lottery", "coin")[i] for i in kind.tolist()], "other": other}
    if minimised:
        return read_table({**columns, "cost": -score}, score="cost:min")
    return read_table({**columns, "score": score}, score="score")


def config(maximise: str) -> FitConfig:
    few = EstimatorConfig(members=2, steps=500, weight_decay=0.03)
    return FitConfig(
        estimator=few,
        judge=replace(few, steps=30),
        reproduction=ReproductionConfig(steps=30),
        generator=GeneratorConfig(steps=30),
        maximise=maximise,  # type: ignore[arg-type]
        merge_repeats=False,
    )


@pytest.mark.parametrize("minimised", [False, True])
@pytest.mark.parametrize(
    ("maximise", "best"), [("rank", "safe"), ("mean", "lottery"), ("median", "coin")]
)
def test_each_functional_prefers_another_row(
    maximise: str, best: str, minimised: bool, tmp_path: Path
) -> None:
    run = fit(gambles(minimised=minimised), tmp_path / "run", config(maximise))
    space = run.table.schema.space
    rows = space.enumerate()
    chosen = rows[run.objective(None)(rows).argmax()]
    assert run.table.schema.decode_features(chosen.unsqueeze(0))["kind"] == [best]
    names = run.table.schema.decode_features(rows)["kind"]
    estimates = dict(zip(names, run.to_units(run.estimator(rows)).tolist(), strict=True))
    sign = -1 if minimised else 1
    if maximise == "rank":  # the order of mean ranks is not that of means: all have the mean of all
        known, slack = {"safe": 2.8, "lottery": 2.8, "coin": 2.8}, 2.0
    elif maximise == "mean":
        known, slack = {"safe": 1.0, "lottery": 10.5, "coin": -2.8}, 4.0
    else:
        known, slack = {"safe": 1.0, "lottery": 0.0, "coin": 2.0}, 0.3
    for name, value in known.items():
        assert sign * estimates[name] == pytest.approx(value, abs=slack), estimates


def test_the_absolute_error_learns_the_median() -> None:
    space = CategoricalSpace.from_sizes((2, 2))
    codes = space.enumerate().repeat(100, 1)
    luck = torch.rand(len(codes), generator=torch.Generator().manual_seed(0))
    rows = ScoredRows(codes, torch.where(luck < 0.7, 0.0, 3.0))
    settings = EstimatorConfig(members=2, steps=300, hidden=(8,), families=("networks",))
    for absolute, expected in ((True, 0.0), (False, 0.9)):
        ensemble = new_ensemble(space, None, settings, seed=0)
        fit_estimator(ensemble, rows, config=settings, seed=0, absolute=absolute)
        assert float(ensemble(codes).mean()) == pytest.approx(expected, abs=0.2)
    both = replace(settings, families=("networks", "anova"))
    with pytest.raises(ValueError, match="networks alone learn the median"):
        fit_estimator(ensemble, rows, config=both, seed=0, absolute=True)
