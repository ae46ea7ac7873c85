"""Families fitted together, and their weights."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.data import ScoredRows
from discrete_grad.fitting import (
    EstimatorConfig,
    GeneratorConfig,
    conformal_pessimism,
    fit_estimator,
    new_ensemble,
    stacking,
)
from discrete_grad.fitting.estimator import held_out_parts, trained_part
from discrete_grad.fitting.pessimism import PessimisticScore
from discrete_grad.fitting.stacking import _fit_weights, require_families
from discrete_grad.models import KernelEnsemble, StackedEnsemble
from discrete_grad.runs import fit, load_run
from discrete_grad.sampling import normal, random_codes, seeded
from discrete_grad.training import RunError
from discrete_grad.training.loop import derive_seed
from tests.runs.small import likely_rows, small_config, small_table

SPACE = CategoricalSpace.from_sizes((3, 4, 2))
ALL = SPACE.enumerate()
CONFIG = EstimatorConfig(members=3, hidden=(8,), dim=4, steps=40, patience=0)


def noisy(count: int, seed: int = 0) -> ScoredRows:
    generator = seeded(seed)
    codes = random_codes(SPACE, count, generator=generator)
    a, b, c = codes.unbind(-1)
    scores = 1.0 * (a == 1) + ((b + c) % 3 == 1) - 0.7
    noise = 0.3 * normal((count,), generator=generator)
    return ScoredRows(codes, (scores + noise).float())


PLACES = CategoricalSpace({f"p{i}": ["A", "C"] for i in range(8)})
PLAIN = CategoricalSpace.from_sizes((2,) * 8)


def fitted(rows: ScoredRows, config: EstimatorConfig = CONFIG, seed: int = 0) -> Any:
    ensemble = new_ensemble(SPACE, None, config, seed=seed, rows=len(rows))
    fit_estimator(ensemble, rows, config=config, seed=seed)
    return ensemble


def centred(predictions: Tensor, scores: Tensor, counts: Tensor) -> tuple[np.ndarray, np.ndarray]:
    share = counts / counts.sum()
    root = share.sqrt().numpy()
    x = (predictions - (predictions @ share).unsqueeze(1)).numpy() * root
    return x.T, (scores - scores @ share).numpy() * root


@given(seed=st.integers(0, 2**31), families=st.integers(1, 4), counted=st.booleans())
def test_weights_are_the_non_negative_least_squares(
    seed: int, families: int, counted: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stacking, "_PRIOR_ROWS", 0)
        patch.setattr(stacking, "_LEAST_WEIGHT", 0.0)
        generator = seeded(seed)
        scores = normal((40,), generator=generator)
        # alike: leaving those below 0 out at once is then not always the best
        mix = normal((families, families), generator=generator)
        predictions = mix @ normal((families, 40), generator=generator) + 0.5 * scores
        counts = torch.randint(0, 4, (40,), generator=generator).double() + 0.01
        weights, constant = _fit_weights(predictions, scores, counts if counted else None)
    counts = counts if counted else torch.ones(40).double()
    assert bool((weights >= 0).all())
    expected, _ = nnls(*centred(predictions, scores, counts))
    assert_close(weights.double().numpy(), expected, rtol=0, atol=1e-4)
    residual = scores - weights.double() @ predictions - constant
    assert abs(float((counts * residual).sum() / counts.sum())) < 1e-5


def drawn_to(
    prior: list[float], predictions: Tensor, scores: Tensor, share: float = 0.0
) -> np.ndarray:
    """Least squares with ten more rows, each of which says of each family that it has its prior.

    A row says as much as the noise lets it; ten rows say of the noise that it is all there is. The
    more rows are at least a share of the others.
    """
    rows = len(scores)
    x, y = centred(predictions, scores, torch.ones(rows).double())
    noise = (rows * nnls(x, y)[1] ** 2 + 10 * y.dot(y)) / (rows + 10)
    worth = np.sqrt(max(10 / rows, share) * noise)
    x, y = np.concatenate([x, worth * np.eye(len(prior))]), np.append(y, worth * np.array(prior))
    return np.asarray(nnls(x, y)[0])


@pytest.mark.parametrize("noise", [0.1, 0.5, 2.0])
def test_ten_rows_of_evidence_draw_the_weights_to_equal_shares(noise: float) -> None:
    scores = normal((30,), generator=seeded(0))
    predictions = torch.stack([scores + noise * normal((30,), generator=seeded(i)) for i in (1, 2)])
    weights, _ = _fit_weights(predictions, scores)
    expected = drawn_to([0.5, 0.5], predictions, scores)
    assert_close(weights.double().numpy(), expected, rtol=0, atol=1e-4)
    plain = nnls(*centred(predictions, scores, torch.ones(30).double()))[0]
    assert not np.allclose(weights, plain, atol=5e-4)
    assert_close(_fit_weights(predictions, scores, None, torch.tensor([False] * 2))[0], weights)


def test_of_a_sequence_the_weights_are_drawn_to_what_explains_most() -> None:
    scores = normal((30,), generator=seeded(0))
    shares = (1.0, 0.7, 0.0, -0.5)  # of the scores in the predictions
    predictions = torch.stack(
        [share * scores + normal((30,), generator=seeded(i)) for i, share in enumerate(shares, 1)]
    )
    x, y = centred(predictions, scores, torch.ones(30).double())
    explained = np.maximum(y @ x, 0) ** 2 / (x**2).sum(0)
    for favoured, count in ((1, 2), (2, 2), (3, 2), (0, 1)):
        sequences = torch.tensor([i == favoured for i in range(4)])
        prior = (explained * np.where(sequences, 3, 1)) ** 8
        weights, _ = _fit_weights(predictions, scores, None, sequences)
        expected = drawn_to(list(prior / prior.sum()), predictions, scores)
        assert_close(weights.double().numpy(), expected, rtol=0, atol=1e-4)
        assert (weights > 0).sum() >= count


@pytest.mark.parametrize("rows", [20, 500])
def test_a_prior_of_sequences_that_is_sure_does_not_fade_with_more_rows(rows: int) -> None:
    scores = normal((rows,), generator=seeded(0))
    predictions = torch.stack(
        [0.9 * scores + normal((rows,), generator=seeded(i)) for i in range(1, 4)]
    )
    sequences = torch.tensor([False, True, False])
    weights, _ = _fit_weights(predictions, scores, None, sequences, sure=True)
    x, y = centred(predictions, scores, torch.ones(rows).double())
    prior = (np.maximum(y @ x, 0) ** 2 / (x**2).sum(0) * [1, 3, 1]) ** 8
    expected = drawn_to(list(prior / prior.sum()), predictions, scores, 0.3)
    assert_close(weights.double().numpy(), expected, rtol=0, atol=1e-4)
    unsure, _ = _fit_weights(predictions, scores, None, sequences)
    assert (weights[1] > unsure[1] + 0.01) == (rows == 500)  # of 20 rows, ten are more than .3


def test_where_nothing_is_explained_the_families_of_a_sequence_are_alike() -> None:
    scores = normal((30,), generator=seeded(0))
    opposite, nothing = torch.stack([-scores, -2 * scores]), torch.zeros(2, 30)
    for predictions in (opposite, nothing):
        first, _ = _fit_weights(predictions, scores, None, torch.tensor([True, False]))
        other, _ = _fit_weights(predictions, scores)
        assert torch.equal(first, other)
        assert bool(first.isfinite().all())


def test_the_sequences_of_an_ensemble_are_favoured(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[list[bool], bool]] = []
    plain = stacking._fit_weights

    def fit_weights(*given: Tensor, sure: bool) -> tuple[Tensor, Tensor]:
        told.append((given[3].tolist(), sure))
        return plain(*given, sure=sure)

    monkeypatch.setattr(stacking, "_fit_weights", fit_weights)
    dna = CategoricalSpace({f"p{i}": list("ACGT") for i in range(8)})
    for space in (PLACES, dna):
        codes = random_codes(space, 60, generator=seeded(0))
        rows = ScoredRows(codes, codes.sum(-1) / 2 - 2.0)
        for families in (("networks", "sequences", "anova"), ("networks", "kernel")):
            config = replace(CONFIG, families=families, steps=2)
            fit_estimator(new_ensemble(space, None, config, seed=0), rows, config=config, seed=0)
    found, none = [False, True, False], [False, False]
    assert told == [(found, False), (none, False), (found, True), (none, False)]


def test_a_family_that_says_nothing_or_the_opposite_is_left_out() -> None:
    truth = normal((2000,), generator=seeded(0))
    noise = normal((2000,), generator=seeded(1))
    weights, constant = _fit_weights(torch.stack([noise, truth, -truth]), truth + 3)
    assert weights[0] == weights[2] == 0
    assert weights[1].item() == pytest.approx(1, abs=0.01)
    assert constant.item() == pytest.approx(3, abs=0.05)


def test_a_small_weight_is_left_out_and_the_others_fitted_anew() -> None:
    truth = normal((4000,), generator=seeded(0))
    other = normal((4000,), generator=seeded(1))
    weights, _ = _fit_weights(torch.stack([truth, other]), truth + 0.02 * other)
    assert weights[1] == 0
    alone, _ = _fit_weights(truth.unsqueeze(0), truth + 0.02 * other)
    assert weights[0].item() == pytest.approx(alone.item(), abs=2e-3)


def test_counts_are_repeated_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacking, "_PRIOR_ROWS", 0)  # which is of rows, not of observations
    scores, predictions = normal((50,), generator=seeded(0)), normal((3, 50), generator=seeded(1))
    predictions = predictions + scores
    counts = torch.randint(0, 4, (50,), generator=seeded(2))
    repeated = torch.arange(50).repeat_interleave(counts)
    weights, constant = _fit_weights(predictions, scores, counts.float())
    expected, level = _fit_weights(predictions[:, repeated], scores[repeated])
    assert_close(weights, expected, rtol=0, atol=1e-6)
    assert_close(constant, level, rtol=0, atol=1e-6)


@pytest.mark.parametrize("equal", ["families", "scores", "predictions", "one row"])
def test_singular_input_gives_finite_weights(equal: str) -> None:
    scores, predictions = normal((20,), generator=seeded(0)), normal((3, 20), generator=seeded(1))
    if equal == "families":
        predictions = predictions[:1].expand(3, -1) + scores
    elif equal == "scores":
        scores = torch.full((20,), 2.0)
    elif equal == "predictions":
        predictions = torch.ones(3, 20)
    else:
        scores, predictions = scores[:1], predictions[:, :1]
    weights, constant = _fit_weights(predictions, scores)
    assert bool(weights.isfinite().all() and (weights >= 0).all() and constant.isfinite())
    if equal == "families":
        assert_close(weights, weights[:1].expand(3), rtol=1e-3, atol=1e-4)
    if equal == "scores":
        assert_close(weights @ predictions.float() + constant, scores.float(), rtol=0, atol=0.05)


def test_weights_are_those_of_what_members_predict_for_rows_they_hold_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Tensor, Tensor]] = []
    weigh = stacking._fit_weights

    def noted(predictions: Tensor, scores: Tensor, *rest: Any, sure: bool) -> tuple[Tensor, Tensor]:
        asked.append((predictions, scores))
        return weigh(predictions, scores, *rest, sure=sure)

    seen: dict[str, Tensor] = {}
    for name in ("kernel", "anova"):
        make = stacking._FITS[name]

        def told(
            family: Any,
            rows: ScoredRows,
            weights: Tensor,
            *rest: Any,
            make: Any = make,
            name: str = name,
        ) -> bool:
            seen[name] = weights
            return make(family, rows, weights, *rest)

        monkeypatch.setitem(stacking._FITS, name, told)
    monkeypatch.setattr(stacking, "_fit_weights", noted)
    rows = noisy(200)
    model = fitted(rows)
    held_out = held_out_parts(200, CONFIG, derive_seed(0, "estimator", "rows"))
    ((predictions, scores),) = asked
    assert torch.equal(scores, rows.scores[held_out].flatten())
    networks = trained_part(model)
    own = networks.predictions(rows.codes[held_out], own_rows=True)
    assert_close(predictions[model.names.index("networks")], own.flatten())
    for weights in seen.values():
        assert weights.shape == (3, 200)
        for member, places in enumerate(held_out):
            assert (weights[member] == 0).nonzero().squeeze(1).tolist() == places.sort()[0].tolist()


def test_a_family_that_cannot_be_fitted_weighs_nothing_and_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stacking, "MOST_POINTS", 199)
    config = replace(CONFIG, families=("kernel", "anova"))
    model = fitted(noisy(200), config)
    assert model.weights[0] == 0 < model.weights[1]
    monkeypatch.setattr(KernelEnsemble, "predictions", None)
    assert_close(model(ALL), model.weights[1] * model.family(1)(ALL) + model.constant)
    monkeypatch.setattr(stacking, "MOST_POINTS", 200)
    monkeypatch.undo()
    assert fitted(noisy(200), config).weights[0] > 0


def test_a_fit_of_more_than_3000_rows_leaves_the_kernel_out() -> None:
    config = replace(CONFIG, families=("kernel", "anova"), scaling=False)
    model = fitted(noisy(3001), config)
    assert model.weights[0] == 0
    assert torch.equal(model.family(0).weights, torch.zeros(1, 3))


@pytest.mark.skipif(not importlib.util.find_spec("xgboost"), reason="the extra `trees`")
@pytest.mark.parametrize("installed", [True, False])
def test_trees_join_beyond_3000_rows_where_they_are_installed(
    monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.setattr(stacking, "MOST_POINTS", 200)
    monkeypatch.setattr(stacking, "has_trees", lambda: installed)
    config = replace(CONFIG, families=("anova", "trees"))
    tables = fitted(noisy(300), config).family(1)
    assert bool(len(tables.groups)) == installed
    assert not len(fitted(noisy(200), config).family(1).groups)


def test_trees_have_the_seed_of_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(stacking, "MOST_POINTS", 200)
    monkeypatch.setattr(stacking, "has_trees", lambda: True)
    monkeypatch.setattr(stacking, "fit_trees", lambda *_, seed: bool(seeds.append(seed)))
    for seed in (5, 5, 6):
        fitted(noisy(201), replace(CONFIG, families=("anova", "trees")), seed=seed)
    assert seeds[0] == seeds[1] != seeds[2]


def test_families_none_of_which_can_be_fitted_are_told() -> None:
    with pytest.raises(RunError, match=r"none of the families \['trees'\].* 200 rows"):
        fitted(noisy(200), replace(CONFIG, families=("trees",)))


@pytest.mark.parametrize(
    ("family", "rows", "space", "trees", "fits"),
    [
        ("networks", 10, PLAIN, False, True),
        ("anova", 10**6, PLAIN, False, True),
        ("kernel", stacking.MOST_POINTS, PLAIN, False, True),
        ("pairs", stacking.MOST_POINTS, PLAIN, False, True),
        ("kernel", stacking.MOST_POINTS + 1, PLAIN, False, False),
        ("pairs", stacking.MOST_POINTS + 1, PLAIN, False, False),
        ("trees", stacking.MOST_POINTS, PLAIN, True, False),
        ("trees", stacking.MOST_POINTS + 1, PLAIN, True, True),
        ("trees", stacking.MOST_POINTS + 1, PLAIN, False, False),
        ("sequences", 10, PLAIN, True, False),
        ("sequences", 10, PLACES, False, True),
    ],
)
def test_a_family_that_cannot_be_fitted_is_refused_beforehand(
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    rows: int,
    space: CategoricalSpace,
    trees: bool,
    fits: bool,
) -> None:
    monkeypatch.setattr(stacking, "has_trees", lambda: trees)
    require_families((family, "networks"), space, rows)
    if fits:
        require_families((family,), space, rows)
        return
    with pytest.raises(RunError, match=rf"none of the families \['{family}'\].* {rows} rows"):
        require_families((family,), space, rows)


@pytest.mark.parametrize(
    ("part", "family", "rows"), [("estimator", "kernel", 48), ("judge", "trees", 12)]
)
def test_a_fit_refuses_such_families_before_it_makes_a_folder(
    monkeypatch: pytest.MonkeyPatch, part: str, family: str, rows: int, tmp_path: Path
) -> None:
    monkeypatch.setattr(stacking, "MOST_POINTS", 20)
    monkeypatch.setattr(stacking, "has_trees", lambda: True)
    config = small_config()
    config = replace(config, **{part: replace(getattr(config, part), families=(family,))})
    with pytest.raises(RunError, match=rf"none of the families \['{family}'\].* {rows} rows"):
        fit(small_table(60), tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_of_very_many_rows_some_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacking, "_MOST_ROWS", 150)
    model = fitted(noisy(300), replace(CONFIG, families=("kernel", "anova")))
    assert len(model.family(0).points) == 150
    assert bool(model(ALL).isfinite().all())


def test_a_stack_is_about_as_good_as_its_best_family() -> None:
    rows, (a, b, c) = noisy(300), ALL.unbind(-1)
    truth = 1.0 * (a == 1) + ((b + c) % 3 == 1) - 0.7
    model = fitted(rows)
    errors = [float((model.family(i)(ALL) - truth).square().mean()) for i in range(3)]
    error = float((model(ALL) - truth).square().mean())
    assert error < 2 * min(errors)
    assert error < max(errors) / 10


def test_the_same_seed_gives_bitwise_the_same_model() -> None:
    first, second, other = (fitted(noisy(200), seed=seed) for seed in (0, 0, 1))
    state = torch.get_rng_state()
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert not torch.equal(first(ALL), other(ALL))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_ensemble_made_for_other_settings_is_refused() -> None:
    ensemble = new_ensemble(SPACE, None, CONFIG, seed=0)
    with pytest.raises(ValueError, match=r"has 3 members.*ask for 2"):
        fit_estimator(ensemble, noisy(50), config=replace(CONFIG, members=2), seed=0)


def test_what_uses_an_ensemble_takes_a_stack() -> None:
    rows = noisy(300)
    model = fitted(rows)
    config = GeneratorConfig(pessimism=1.0)
    score = PessimisticScore(model, None, config)
    expected = model(ALL) - (model.predictions(ALL).var(0, correction=0) + 1e-8).sqrt()
    assert_close(score(ALL), expected)
    k = conformal_pessimism(model, noisy(200, seed=5), 0.8)
    assert 0 < k < 1000
    unseen = noisy(2000, seed=6)
    lower = (
        model(unseen.codes)
        - k * (model.predictions(unseen.codes).var(0, correction=0) + 1e-8).sqrt()
    )
    assert 0.7 < float((lower <= unseen.scores).float().mean()) < 0.9


@pytest.mark.parametrize("families", [("networks", "kernel", "anova"), ("anova",), ("kernel",)])
@pytest.mark.parametrize("combine", ["mean", "min"])
def test_a_whole_fit_through_a_stack_is_loaded_as_it_was(
    tmp_path: Path, families: tuple[Any, ...], combine: str
) -> None:
    config = small_config()
    config = replace(
        config,
        estimator=replace(config.estimator, families=families),
        generator=replace(config.generator, combine=combine, pessimism=0.2, alignment=0.2),
    )
    run = fit(small_table(), tmp_path / "run", config)
    again = load_run(tmp_path / "run")
    codes, context = run.rows.codes, run.rows.context
    assert isinstance(run.estimator, StackedEnsemble)
    for name in ("estimator", "judge"):
        one, other = getattr(run, name), getattr(again, name)
        assert torch.equal(one.predictions(codes, context), other.predictions(codes, context))
    assert torch.equal(likely_rows(again), likely_rows(run))
    assert (
        float(torch.corrcoef(torch.stack([run.estimator(codes, context), run.rows.scores]))[0, 1])
        > 0.6
    )
