"""The Gaussian process, fitted: the textbook's posterior, of each member's own rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.fitting import kernel
from discrete_grad.fitting.kernel import fit_kernel
from discrete_grad.models import KernelEnsemble
from discrete_grad.sampling import normal, random_codes, seeded

SPACE = CategoricalSpace({"a": 3, "b": 4, "c": 8}, ordered=("c",))
ROWS = SPACE.enumerate()


def noisy(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random rows of an effect of `a`, and of a smooth one of the ordered `c`; `b` has none."""
    generator = seeded(seed)
    codes = random_codes(SPACE, count, generator=generator)
    scores = 0.8 * (codes[:, 0] == 1) + torch.sin(codes[:, 2] / 2) - 0.5
    return codes, scores + 0.2 * normal((count,), generator=generator)


def fitted(codes: Tensor, scores: Tensor, weights: Tensor) -> KernelEnsemble:
    model = KernelEnsemble(SPACE)
    fit_kernel(model, codes, scores, weights, seed=0)
    return model


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[kernel.KernelValues]:
    """The hyperparameters of the fits."""
    values: list[kernel.KernelValues] = []
    maximise = kernel.maximise

    def noted(prior: kernel.KernelPrior, *rest: Tensor, **options: Any) -> None:
        maximise(prior, *rest, **options)
        with torch.no_grad():
            values.append(prior.values())

    monkeypatch.setattr(kernel, "maximise", noted)
    return values


@pytest.fixture
def as_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hyperparameters stay what they begin with."""
    monkeypatch.setattr(kernel, "maximise", lambda *_, **options: None)


def covariance(values: kernel.KernelValues, first: Tensor, second: Tensor) -> np.ndarray:
    """Prior covariance of rows, entry by entry."""
    alike, amplitude = values.alike.tolist(), float(values.amplitude)
    table = np.zeros((len(first), len(second)))
    for i, one in enumerate(first.tolist()):
        for j, other in enumerate(second.tolist()):
            product = 1.0
            for column, (differ, share, reach) in enumerate(alike):
                near = float(one[column] == other[column])
                if SPACE.ordered[column]:
                    far = abs(one[column] - other[column]) / (SPACE.sizes[column] - 1)
                    near = share * math.exp(-far / reach) + (1 - share) * near
                product *= differ + (1 - differ) * near
            table[i, j] = amplitude * product + float(values.level)
    return table


def test_the_posterior_mean_is_the_textbooks(found: list[kernel.KernelValues]) -> None:
    codes, scores = noisy(90)
    counts = 1 + torch.arange(90) % 3
    weights = torch.stack([torch.ones(90), counts.double()]).double()
    weights[0, :30] = 0
    model = fitted(codes, scores, weights)
    (values,) = found
    for member, weight in enumerate(weights):
        kept = weight > 0
        own = covariance(values, codes[kept], codes[kept])
        own += np.diag(float(values.noise) / weight[kept].numpy())
        across = covariance(values, ROWS, codes[kept])
        mean = across @ np.linalg.inv(own) @ scores[kept].numpy()
        assert_close(
            model.predictions(ROWS)[member].double(), torch.from_numpy(mean), rtol=0, atol=1e-4
        )


def test_likelihood_rises_and_what_matters_is_told_apart(found: list[kernel.KernelValues]) -> None:
    codes, scores = noisy(400)
    model = fitted(codes, scores, torch.ones(1, 400))
    (values,) = found

    def evidence(values: kernel.KernelValues) -> float:
        own = covariance(values, codes[:200], codes[:200]) + float(values.noise) * np.eye(200)
        y = scores[:200].numpy()
        return float(-y @ np.linalg.solve(own, y) / 2 - np.linalg.slogdet(own)[1] / 2)

    with torch.no_grad():
        before = kernel.KernelPrior(model.joint).values()
    assert evidence(values) > evidence(before) + 20
    differ, share, _ = values.alike.unbind(1)
    assert differ[1] > 0.97 > differ[0]  # b makes no difference
    assert share[2] > 0.5  # c's categories are alike by their distance
    assert 0.02 < float(values.noise) < 0.08  # .04 is the truth
    truth = 0.8 * (ROWS[:, 0] == 1) + torch.sin(ROWS[:, 2] / 2) - 0.5
    assert float((model(ROWS) - truth).square().mean()) < 0.01


def test_the_slope_of_the_likelihood_is_the_true_one() -> None:
    codes, scores = noisy(40)
    prior = kernel.KernelPrior(KernelEnsemble(SPACE).joint)
    counts = 1.0 + (torch.arange(40) % 2).double()
    values = prior.values()
    own = values.amplitude * prior.correlations(codes, codes) + values.level
    own = own + torch.diag(values.noise / counts)
    within = 0.3 * (counts - 1)  # of two observations, about their mean
    apart = (counts * within).sum() / values.noise + (counts - 1).sum() * values.noise.log()
    fit = scores @ torch.linalg.solve(own, scores) + torch.logdet(own)
    loss = (fit + apart) / 2 / counts.sum()
    names, parameters = zip(*prior.named_parameters(), strict=True)
    expected = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "_STEPS", 1)
        kernel.maximise(prior, codes, scores, counts, seed=0, spread=within.sqrt())
    for name, parameter in prior.named_parameters():
        assert_close(parameter.grad, expected[name], rtol=1e-8, atol=1e-10)


def test_an_ordered_column_uses_the_distance() -> None:
    codes, scores = noisy(200)
    unseen = codes[:, 2] == 4
    model = fitted(codes[~unseen], scores[~unseen], torch.ones(1, int((~unseen).sum())))
    plain = KernelEnsemble(CategoricalSpace.from_sizes(SPACE.sizes))
    fit_kernel(plain, codes[~unseen], scores[~unseen], torch.ones(1, int((~unseen).sum())), seed=0)
    row, truth = torch.tensor([[0, 0, 4]]), math.sin(2.0) - 0.5
    assert abs(model(row).item() - truth) < 0.15
    assert abs(plain(row).item() - truth) > 0.3


@pytest.mark.usefixtures("as_at_first")
def test_repeated_rows_are_one_with_less_noise() -> None:
    codes, scores = noisy(40)
    counts = 1 + torch.arange(40) % 4
    repeated = torch.arange(40).repeat_interleave(counts)
    once = fitted(codes, scores, counts.unsqueeze(0).double())
    literal = fitted(codes[repeated], scores[repeated], torch.ones(1, len(repeated)))
    assert_close(once(ROWS), literal(ROWS), rtol=0, atol=1e-5)
    assert not torch.allclose(once(ROWS), fitted(codes, scores, torch.ones(1, 40))(ROWS), atol=0.05)


@pytest.mark.usefixtures("as_at_first")
def test_a_member_does_not_see_the_rows_that_weigh_0() -> None:
    codes, scores = noisy(60)
    weights = torch.ones(3, 60)
    weights[0, :20] = weights[1, 20:40] = 0
    changed = scores.clone()
    changed[:20] += 10
    before, after = (fitted(codes, s, weights).predictions(ROWS) for s in (scores, changed))
    assert torch.equal(after[0], before[0])
    assert not torch.allclose(after[1], before[1], atol=0.5)
    assert not torch.allclose(after[2], before[2], atol=0.5)


def test_rows_beyond_those_of_the_likelihood_count_for_the_posterior(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel, "_SUBSET", 50)
    codes, scores = noisy(200)
    model = fitted(codes, scores, torch.ones(1, 200))
    assert torch.equal(model.points, codes)
    assert bool((model.weights != 0).all())


def test_the_seed_draws_the_rows_of_the_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_SUBSET", 50)
    (codes, scores), found = noisy(200), []
    for seed in (0, 0, 1):
        model = KernelEnsemble(SPACE)
        fit_kernel(model, codes, scores, torch.ones(1, 200), seed=seed)
        found.append(model.alike)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_more_rows_than_it_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="takes 3000 rows, got 3001"):
        fitted(torch.zeros(3001, 3).long(), torch.zeros(3001), torch.ones(1, 3001))


def test_rows_that_all_agree_and_scores_that_are_all_equal_give_no_nan() -> None:
    for codes, scores in (
        (torch.zeros(30, 3).long(), torch.zeros(30)),
        (noisy(30)[0], torch.zeros(30)),
        (torch.zeros(30, 3).long(), noisy(30)[1]),
    ):
        assert bool(fitted(codes, scores, torch.ones(2, 30)).predictions(ROWS).isfinite().all())
