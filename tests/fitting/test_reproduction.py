"""Policies that reproduce rows, against the law that the rows were drawn from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.data import ScoredRows
from discrete_grad.fitting import ReproductionConfig, fit_reproduction
from discrete_grad.fitting.reproduction import _ReproductionObjective
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.reinforcement import ReinforceConfig, reinforce
from discrete_grad.sampling import isolated_seed, random_indices, seeded
from discrete_grad.training.loop import Step
from discrete_grad.weighting import exact_log_probs
from discrete_grad.weighting.tilt import table_kl

SPACE = CategoricalSpace({"cut": 3, "shade": 3})
SPEC = ContextSpec(numeric=["side"])
QUICK = ReproductionConfig(steps=250, learning_rate=2e-2, patience=0)


def autoregressive(*, context: bool = False, attributes: bool = False) -> AutoregressiveGenerator:
    with isolated_seed(0):
        return AutoregressiveGenerator(
            SPACE,
            SPEC if context else None,
            attributes=SPEC if attributes else None,
            hidden=(24,),
        )


def table(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sides `(N, 1)`, -1 or 1, and rows whose features are equal on one, opposite on the other."""
    noise = seeded(seed)
    side = random_indices(2, (count, 1), generator=noise)
    first = random_indices(3, (count, 1), generator=noise)
    return 2.0 * side - 1, torch.cat([first, torch.where(side == 1, first, 2 - first)], 1)


def law_of(codes: Tensor) -> Tensor:
    """Log-frequencies `(9,)`, a ninth of a row added to each."""
    counts = SPACE.row_number(codes).bincount(minlength=9) + 1 / 9
    return (counts / counts.sum()).log().double()


def test_dependent_features_are_learned_by_an_autoregressive_policy_alone():
    _, codes = table(600)
    rows, wanted = ScoredRows(codes, torch.ones(600)), law_of(codes)
    policy, plain = autoregressive(), Generator(SPACE)
    fit_reproduction(policy, rows, config=QUICK, seed=0)
    assert table_kl(wanted, exact_log_probs(policy)) < 0.01
    assert not any(p.requires_grad for p in policy.parameters())
    fit_reproduction(plain, rows, config=QUICK, seed=0)
    own = SPACE.log_prob(plain().double(), SPACE.enumerate())
    marginals = sum((wanted.exp()[:, None] * SPACE.one_hot(SPACE.enumerate())), torch.zeros(6))
    assert table_kl(own, SPACE.log_prob(marginals.log().double(), SPACE.enumerate())) < 0.01
    assert table_kl(wanted, own) > 0.3


@pytest.mark.parametrize("told", ["context", "attributes"])
def test_each_side_has_its_law(told: str):
    sides, codes = table(600)
    rows = ScoredRows(codes, torch.ones(600), sides if told == "context" else None)
    given = {"attributes": sides} if told == "attributes" else {}
    policy = autoregressive(**{told: True})
    fit_reproduction(policy, rows, config=QUICK, seed=0, **given)
    for side in (-1.0, 1.0):
        wanted = law_of(codes[sides[:, 0] == side])
        log_p = policy.log_prob(SPACE.enumerate(), **{told: torch.tensor([side])}).double()
        assert table_kl(wanted, log_p) < 0.03


def test_what_is_hidden_is_learned_too():
    sides, codes = table(600)
    rows, wanted = ScoredRows(codes, torch.ones(600)), law_of(codes)
    for hide, least, most in ((0.3, 0.0, 0.02), (0.0, 0.05, 99.0)):
        policy = autoregressive(attributes=True)
        fit_reproduction(policy, rows, config=QUICK, seed=0, attributes=sides, hide=hide)
        assert least < table_kl(wanted, exact_log_probs(policy)) < most
    policy = autoregressive(attributes=True)
    fit_reproduction(policy, rows, config=QUICK, seed=0, attributes=sides, hide=1.0)
    told = policy.log_prob(SPACE.enumerate(), None, torch.tensor([1.0])).double()
    assert table_kl(law_of(codes[sides[:, 0] == 1]), told) > 0.3


def test_the_held_out_loss_is_what_the_loss_of_a_step_is_expected_to_be():
    sides, codes = table(400)
    rows, model = ScoredRows(codes, torch.full((400,), 2.0)), autoregressive(attributes=True)
    every = torch.arange(400)
    objective = _ReproductionObjective(
        model, rows, (every, every), 40_000, attributes=sides, hide=0.3
    )
    with torch.no_grad():
        expected, found = objective.validate(), objective(Step(0, "", 0))
        known = -model.log_prob(codes, None, sides).mean() / 2
        hidden = -model.log_prob(codes).mean() / 2
    torch.testing.assert_close(expected, 0.7 * known + 0.3 * hidden)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)


def test_other_rows_are_hidden_in_every_step():
    """Of equal rows, so that the loss depends on nothing but how many are hidden."""
    rows, sides = (
        ScoredRows(torch.zeros(20, 2, dtype=torch.long), torch.ones(20)),
        torch.ones(20, 1),
    )
    model, every = autoregressive(attributes=True), torch.arange(20)
    model.network.null.data += 1
    options = {"attributes": sides, "hide": 0.5}
    objective = _ReproductionObjective(model, rows, (every, every), 20, **options)
    losses = {round(objective(Step(0, "", i)).item(), 5) for i in range(60)}
    assert 3 <= len(losses) <= 21


def test_patience_keeps_what_was_best_on_the_rows_held_out():
    """Rows without any structure, which a large network would learn by heart."""
    space = CategoricalSpace.from_sizes((8, 8, 8))
    codes = random_indices(8, (60, 3), generator=seeded(0))
    rows, unseen = ScoredRows(codes, torch.ones(60)), space.enumerate()
    losses = []
    for patience in (3, 0):
        with isolated_seed(0):
            model = AutoregressiveGenerator(space, hidden=(64,))
        config = replace(QUICK, patience=patience, validate_every=10)
        fit_reproduction(model, rows, config=config, seed=0)
        losses.append(-model.log_prob(unseen).mean().item())
    assert losses[0] < 7 < losses[1] - 1  # nats; 6.24 at best


def test_the_seed_decides_and_nothing_else_is_touched():
    sides, codes = table(100)
    state, laws = torch.get_rng_state(), []
    for seed in (0, 0, 1):
        policy = autoregressive(attributes=True)
        config = replace(QUICK, steps=3)
        rows = ScoredRows(codes, torch.ones(100))
        fit_reproduction(policy, rows, config=config, seed=seed, attributes=sides)
        laws.append(exact_log_probs(policy))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(laws[0], laws[1])
    assert not torch.equal(laws[0], laws[2])


def test_faults_are_named():
    sides, codes = table(20)
    rows = ScoredRows(codes, torch.ones(20))
    plain, model = Generator(SPACE), autoregressive(attributes=True)
    unknown = sides.index_fill(0, torch.tensor([7]), torch.nan)
    faults = [
        ((plain, rows.take(torch.arange(3))), {}, "at least 4 rows, got 3"),
        ((plain, replace(rows, scores=-rows.scores)), {}, "above 0, got -1 for row 0"),
        ((plain, replace(rows, scores=rows.scores[1:])), {}, r"must be \(20,\), got \(19,\)"),
        ((plain, replace(rows, context=sides[1:])), {}, r"context must be \(20, C\), got"),
        ((model, rows), {"attributes": unknown}, "finite, got nan in row 7, column 0"),
        ((plain, rows), {"attributes": sides}, "a Generator takes none"),
        ((model, rows), {"attributes": sides[1:]}, r"attributes must be \(20, C\), got \(19, 1\)"),
        ((model, rows), {"attributes": sides, "hide": 1.5}, "hide is a share"),
        ((autoregressive(), rows), {"attributes": sides}, "takes no"),
    ]
    for arguments, options, message in faults:
        with pytest.raises(ValueError, match=message):
            fit_reproduction(*arguments, config=QUICK, seed=0, **options)


def test_a_wrong_number_is_named_wherever_it_stands():
    """Even in a row that no step would have drawn."""
    _, codes = table(20)
    for place in range(20):
        wrong = codes.clone()
        wrong[place, 1] = 3
        config, even = replace(QUICK, steps=1, batch_size=1), torch.ones(20)
        with pytest.raises(ValueError, match="'shade' has code 3; its codes are 0 to 2"):
            fit_reproduction(Generator(SPACE), ScoredRows(wrong, even), config=config, seed=0)
        for score in (0.0, torch.nan, torch.inf):
            rows = ScoredRows(codes, even.index_fill(0, torch.tensor([place]), score))
            with pytest.raises(ValueError, match=f"above 0, got {score:g} for row {place}"):
                fit_reproduction(Generator(SPACE), rows, config=config, seed=0)


def test_a_fitted_policy_learns_on_once_it_is_told_to():
    _, codes = table(50)
    config = replace(QUICK, steps=5)
    policy = autoregressive()
    fit_reproduction(policy, ScoredRows(codes, torch.ones(50)), config=config, seed=0)
    before = exact_log_probs(policy)

    def reward(rows: Tensor, context: Tensor | None) -> Tensor:
        return rows.sum(-1).float()

    for algorithm in ("leave_one_out", "a2c"):
        task = ReinforceConfig(algorithm=algorithm, steps=3, group=8)
        with pytest.raises(ValueError, match=r"it is frozen.*requires_grad_\(\) lets it learn on"):
            reinforce(policy, reward, config=task)
    with pytest.raises(ValueError, match="it is frozen"):
        fit_reproduction(policy, ScoredRows(codes, torch.ones(50)), config=config, seed=0)
    reinforce(policy.requires_grad_(), reward, config=ReinforceConfig(steps=3, group=8))
    assert not torch.equal(exact_log_probs(policy), before)
