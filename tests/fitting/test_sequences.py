"""Convolutions as a family of the estimator: when there are any, and what they learn from."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.data import ScoredRows, Table, read_table
from discrete_grad.fitting import EstimatorConfig, fit_estimator, new_ensemble
from discrete_grad.fitting.estimator import held_out_parts, trained_part
from discrete_grad.models import EstimatorEnsemble, MixedEnsemble, StackedEnsemble
from discrete_grad.runs import FitConfig, fit, load_run
from discrete_grad.runs._recipe import estimator_facts
from discrete_grad.sampling import random_codes, seeded
from discrete_grad.training.loop import derive_seed
from tests.runs.small import small_config

SPACE = CategoricalSpace({f"p{i}": ["A", "C", "G", "T"] for i in range(10)})
CONFIG = EstimatorConfig(
    members=2, hidden=(8,), dim=4, steps=200, patience=0, families=("networks", "sequences")
)


def motif_rows(count: int) -> ScoredRows:
    """1 for rows that hold a C before a G somewhere, 0 for others; all rows are different."""
    codes = random_codes(SPACE, count, generator=seeded(0)).unique(dim=0)
    return ScoredRows(codes, holds_motif(codes))


def holds_motif(codes: Tensor) -> Tensor:
    return ((codes[:, :-1] == 1) & (codes[:, 1:] == 2)).any(-1).float()


def new(config: EstimatorConfig = CONFIG) -> StackedEnsemble:
    ensemble = new_ensemble(SPACE, None, config, seed=0)
    assert isinstance(ensemble, StackedEnsemble)
    return ensemble


def test_sequences_learn_what_may_stand_anywhere() -> None:
    model, rows = new(), motif_rows(400)
    fit_estimator(model, rows, config=CONFIG, seed=0)
    networks, sequences = model.weights.tolist()
    assert sequences > 0.7 > 0.3 > networks
    unseen = random_codes(SPACE, 2000, generator=seeded(1))
    truth = holds_motif(unseen)
    assert (model(unseen) - truth).square().mean() < 0.3 * truth.var()


def test_every_member_of_both_families_learns_from_rows_it_does_not_hold_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, rows, config = new(), motif_rows(60), replace(CONFIG, steps=30, held_out=0.4)
    held_out = held_out_parts(len(rows), config, derive_seed(0, "estimator", "rows"))
    shown: list[tuple[int, Tensor]] = []
    before = EstimatorEnsemble.predictions

    def noted(
        self: EstimatorEnsemble, row: Tensor, *rest: object, own_rows: bool = False
    ) -> Tensor:
        if self.training:
            shown.append((model.names.index(named[id(self)]), row))
        return before(self, row, *rest, own_rows=own_rows)  # type: ignore[arg-type]

    named = {id(family): name for name, family in model.families.items()}
    monkeypatch.setattr(EstimatorEnsemble, "predictions", noted)
    fit_estimator(model, rows, config=config, seed=0)
    assert len(shown) == 2 * 30
    for family in range(2):
        batches = torch.cat([row for which, row in shown if which == family], 1)
        for member, places in enumerate(held_out):
            seen = (batches[member].unsqueeze(1) == rows.codes).all(-1).any(0)
            assert not seen[places].any()
            assert seen.sum() == len(rows) - len(places)


def test_both_families_are_trained_as_one() -> None:
    model = new()
    trained = trained_part(model)
    assert isinstance(trained, MixedEnsemble)
    assert trained.sizes == [2, 2]
    assert trained.parts == [model.family(0), model.family(1)]
    alone = trained_part(new(replace(CONFIG, families=("sequences", "anova"))))
    assert isinstance(alone, EstimatorEnsemble)
    assert trained_part(new(replace(CONFIG, families=("anova", "pairs")))) is None


def test_features_that_are_no_places_have_no_sequences() -> None:
    space = CategoricalSpace.from_sizes((4,) * 10)
    assert isinstance(new_ensemble(space, None, CONFIG, seed=0), EstimatorEnsemble)
    default = new_ensemble(space, None, EstimatorConfig(), seed=0)
    assert isinstance(default, StackedEnsemble)
    assert default.names == ["networks", "kernel", "pairs", "anova", "trees"]
    with pytest.raises(ValueError, match="are not the places of one sequence"):
        new_ensemble(space, None, replace(CONFIG, families=("sequences",)), seed=0)


def test_another_seed_makes_other_members() -> None:
    def weights(seed: int) -> Tensor:
        ensemble = new_ensemble(SPACE, None, CONFIG, seed=seed)
        assert isinstance(ensemble, StackedEnsemble)
        found: Tensor = ensemble.family(1).stacked["embedding"]  # type: ignore[index]
        return found

    first, second = weights(0)
    assert not torch.equal(first, second)
    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(1), weights(0))


def sequences_table(rows: int) -> Table:
    scored = motif_rows(rows)
    columns = {
        name: [SPACE.categories[i][code] for code in scored.codes[:, i].tolist()]
        for i, name in enumerate(SPACE.names)
    }
    return read_table(columns | {"score": scored.scores.numpy()}, score="score")


def test_a_run_has_them_and_loads_them(tmp_path: Path) -> None:
    config = small_config()
    every = replace(config.estimator, families=FitConfig().estimator.families)
    run = fit(sequences_table(150), tmp_path / "run", replace(config, estimator=every, judge=every))
    estimator = run.estimator
    assert isinstance(estimator, StackedEnsemble)
    assert estimator.names[:2] == ["networks", "sequences"]
    again = load_run(tmp_path / "run").estimator
    assert torch.equal(again(run.rows.codes), estimator(run.rows.codes))
    assert "sequences" in estimator_facts(run)["families"]
