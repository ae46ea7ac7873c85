"""Preferences: what is recovered from many answers, who is found out, which pair is asked next."""

import itertools
import math
import re
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from discrete_grad.data import ScoredRows
from discrete_grad.fitting.estimator import held_out_parts
from discrete_grad.models import Estimator, EstimatorEnsemble, PreferenceModel
from discrete_grad.policies import Generator
from discrete_grad.preferences import (
    DPOConfig,
    PreferenceConfig,
    Preferences,
    answer_log_probs,
    choose_pairs,
    fit_dpo,
    fit_preference_model,
    held_out_accuracy,
    new_preference_model,
    random_pairs,
    reward_unit,
    synthetic_preferences,
)
from discrete_grad.preferences.dpo import _DPOObjective
from discrete_grad.preferences.preference_model import _PreferenceObjective
from discrete_grad.sampling import seeded
from discrete_grad.space import CategoricalSpace, ContextSpec
from discrete_grad.training.loop import Step
from tests.pretended_card import CARD, pretended_card

SPACE = CategoricalSpace.from_sizes((2, 3))
ROWS = SPACE.enumerate()
TRUE = torch.tensor([0.0, 1.0, -1.0, 0.5, 2.0, -0.5])
SMALL = PreferenceConfig(
    members=2, dim=8, hidden=(32,), weight_decay=0.0, steps=300, batch_size=256, patience=0
)


def true_reward(codes: Tensor, context: Tensor | None = None) -> Tensor:
    return TRUE[codes[..., 0] * 3 + codes[..., 1]]


def answers(count: int, seed: int = 0, **options: object) -> Preferences:
    noise = seeded(seed)
    first, second, _ = random_pairs(ROWS, None, count, generator=noise)
    return synthetic_preferences(true_reward, first, second, generator=noise, **options)


def fitted(pairs: Preferences, config: PreferenceConfig = SMALL) -> PreferenceModel:
    model = new_preference_model(
        SPACE, None, config, annotators=len(pairs.annotators), ties=pairs.has_ties, seed=0
    )
    fit_preference_model(model, pairs, config=config, seed=0)
    return model


def centred(reward: Tensor) -> Tensor:
    return reward - reward.mean(-1, keepdim=True)


def error(model: PreferenceModel) -> float:
    """Of the mean reward, but for its constant, in log-odds."""
    return (centred(model(ROWS)) - centred(TRUE)).abs().max().item()


# --- recovery -------------------------------------------------------------------------------------


def test_the_reward_is_recovered_from_many_answers_and_better_from_more() -> None:
    sure = replace(SMALL, reliability=0.999, reliability_answers=1e6)
    few, many = (fitted(answers(count), sure) for count in (300, 10_000))
    assert error(many) < 0.15
    assert error(many) < error(few)


def test_the_width_of_a_tie_is_recovered() -> None:
    sure = replace(SMALL, reliability=0.999, reliability_answers=1e6)
    pairs = answers(10_000, tie_width=0.8)
    assert pairs.has_ties
    model = fitted(pairs, sure)
    assert model.tie_width.tolist() == pytest.approx([0.8, 0.8], abs=0.08)
    assert error(model) < 0.2


@pytest.mark.slow
def test_a_flip_rate_that_is_modelled_recovers_the_scale() -> None:
    pairs = answers(10_000, reliability=0.75)
    blind = fitted(pairs, replace(SMALL, reliability=0.999, reliability_answers=1e7))
    aware = fitted(pairs, replace(SMALL, reliability=0.75, reliability_answers=1e7))
    assert error(aware) < 0.3
    spread = [centred(model(ROWS)).std().item() for model in (blind, aware)]
    assert spread[0] < 0.6 * TRUE.std().item()
    assert spread[1] == pytest.approx(TRUE.std().item(), rel=0.1)


@pytest.mark.slow
def test_a_random_and_a_reversing_annotator_are_found_out() -> None:
    noise = seeded(1)
    first, second, _ = random_pairs(ROWS, None, 6000, generator=noise)
    who = torch.arange(6000) % 4
    trust = torch.tensor([0.95, 0.95, 0.5, 0.05])
    pairs = synthetic_preferences(
        lambda codes, context: 2 * true_reward(codes),
        first,
        second,
        reliability=trust,
        annotator=who,
        generator=noise,
    )
    model = fitted(pairs)
    found = model.reliability.mean(0)
    assert found.tolist() == pytest.approx(trust.tolist(), abs=0.08)
    # a belief that weighs more than all answers holds
    sure = fitted(pairs, replace(SMALL, steps=150, reliability=0.8, reliability_answers=1e6))
    assert sure.reliability.flatten().tolist() == pytest.approx([0.8] * 8, abs=0.02)
    # taken for one annotator of middling reliability, they spoil what is learned
    together = fitted(replace(pairs, annotator=None, annotators=("",)))
    target = centred(2 * TRUE)
    errors = [(centred(m(ROWS)) - target).abs().max().item() for m in (model, together)]
    assert errors[0] < 0.5 < errors[1]


def test_the_belief_about_reliability_weighs_as_many_answers_as_it_says() -> None:
    """Against a mean over the answers: of three times as many it has a third of the weight."""
    pairs = answers(40)
    for count in (40, 120):
        data = pairs.take(torch.arange(count) % 40)
        losses = []
        for weight in (0.0, 12.0):
            config = replace(SMALL, members=2, held_out=0.25, reliability_answers=weight)
            model = new_preference_model(SPACE, None, config, seed=0)
            parts = held_out_parts(count, config, 0)
            losses.append(_PreferenceObjective(model, data, parts, config)(Step(0, "", 0)))
        share = torch.tensor(0.9)  # the first guess is the belief itself
        entropy = torch.special.entr(share) + torch.special.entr(1 - share)
        added = 12 / (0.75 * count) * 2 * entropy.item()
        assert (losses[1] - losses[0]).item() == pytest.approx(added, rel=1e-4)


def test_the_reward_depends_on_the_context() -> None:
    spec = ContextSpec(numeric=["sign"])
    noise = seeded(0)
    context = torch.tensor([[1.0], [-1.0]]).repeat_interleave(500, 0)
    first, second, context = random_pairs(
        ROWS.repeat(167, 1)[:1000], context, 3000, generator=noise
    )
    pairs = synthetic_preferences(
        lambda codes, c: c[:, 0] * true_reward(codes),
        first,
        second,
        context,
        temperature=0,
        generator=noise,
    )
    model = new_preference_model(SPACE, spec, SMALL, ties=False, seed=0)
    fit_preference_model(model, pairs, config=SMALL, seed=0)
    for sign in (1.0, -1.0):
        order = model(ROWS, torch.tensor([sign])).argsort()
        assert torch.equal(order, (sign * TRUE).argsort())


@pytest.mark.parametrize("kinds", [("mlp",), ("mlp", "multilinear")])
def test_every_member_keeps_its_own_best_weights(kinds: tuple[str, ...]) -> None:
    pairs = answers(200, reliability=0.9)
    config = replace(SMALL, members=4, architectures=kinds, patience=3, validate_every=5, steps=200)
    model = fitted(pairs, config)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert 0.6 < held_out_accuracy(model, pairs, config=config, seed=0) <= 1


def test_held_out_accuracy_by_hand() -> None:
    """Five pairs, five members, a fifth held out by each: every pair is ranked by one member."""
    config = replace(SMALL, members=5, held_out=0.2)
    first, second, _ = random_pairs(ROWS, None, 5, generator=seeded(3))
    blank = Preferences(first, second, torch.zeros(5, dtype=torch.long))
    model = new_preference_model(SPACE, None, config, seed=0)
    wins = model.differences(first, second) > 0
    from discrete_grad.fitting.estimator import held_out_parts
    from discrete_grad.training.loop import derive_seed

    parts = held_out_parts(5, config, derive_seed(0, "preference", "rows")).squeeze(1)
    assert sorted(parts.tolist()) == list(range(5))
    expected = torch.stack([wins[m, parts[m]] for m in range(5)]).double().mean().item()
    assert held_out_accuracy(model, blank, config=config, seed=0) == pytest.approx(expected)
    other = replace(blank, outcome=torch.ones(5, dtype=torch.long))
    assert held_out_accuracy(model, other, config=config, seed=0) == pytest.approx(1 - expected)


def test_the_unit_makes_the_reward_as_wide_as_a_score() -> None:
    model = fitted(answers(300))
    rows = ScoredRows(ROWS.repeat(2000, 1), torch.zeros(12_000))
    expected = model(ROWS).std(correction=0).item()
    assert reward_unit(model, rows) == pytest.approx(expected, rel=0.03)


# --- pairs ----------------------------------------------------------------------------------------


def test_random_pairs_differ_and_keep_the_first_rows_context() -> None:
    codes = ROWS[torch.tensor([0, 0, 0, 1, 5])]
    context = torch.arange(5.0).unsqueeze(1)
    first, second, where = random_pairs(codes, context, 3000, generator=seeded(0))
    assert (first != second).any(1).all()
    assert torch.equal(codes[where.squeeze(1).long()], first)
    # of the two others each is as likely, however often a row is observed
    other = second[(first == ROWS[5]).all(1)]
    assert (other == ROWS[0]).all(1).double().mean().item() == pytest.approx(0.5, abs=0.06)
    with pytest.raises(ValueError, match="two different rows"):
        random_pairs(ROWS[:1].repeat(3, 1), None, 2)


def test_synthetic_answers_follow_the_law() -> None:
    count = 20_000
    first, second = ROWS[4].expand(count, -1), ROWS[1].expand(count, -1)
    pairs = synthetic_preferences(
        true_reward, first, second, temperature=2.0, tie_width=0.3, reliability=0.9,
        generator=seeded(0),
    )  # fmt: skip
    d, w = 0.5, 0.3
    win, lose = 1 / (1 + math.exp(w - d)), 1 / (1 + math.exp(w + d))
    expected = [0.9 * win + 0.1 * lose, 0.9 * lose + 0.1 * win, 1 - win - lose]
    found = pairs.outcome.bincount(minlength=3) / count
    assert found.tolist() == pytest.approx(expected, abs=0.015)


def test_at_temperature_zero_the_better_row_wins_but_for_flips() -> None:
    first, second, _ = random_pairs(ROWS, None, 5000, generator=seeded(0))
    better = (true_reward(first) < true_reward(second)).long()
    pairs = synthetic_preferences(true_reward, first, second, temperature=0, generator=seeded(1))
    assert torch.equal(pairs.outcome, better)
    who = torch.arange(5000) % 2
    noisy = synthetic_preferences(
        true_reward, first, second, temperature=0, annotator=who,
        reliability=torch.tensor([1.0, 0.9]), generator=seeded(1),
    )  # fmt: skip
    wrong = noisy.outcome != better
    assert not wrong[who == 0].any()
    assert wrong[who == 1].double().mean().item() == pytest.approx(0.1, abs=0.02)
    equal = synthetic_preferences(
        true_reward, first, first, temperature=0, generator=seeded(1)
    ).outcome
    assert equal.double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_a_score_that_is_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        synthetic_preferences(lambda codes, _: codes.sum(-1) * math.nan, ROWS, ROWS)
    with pytest.raises(ValueError, match="temperature"):
        synthetic_preferences(true_reward, ROWS, ROWS, temperature=-1.0)


def test_the_most_telling_pair_is_chosen_by_brute_force() -> None:
    reward = EstimatorEnsemble([Estimator(SPACE, dim=4, hidden=(8,)) for _ in range(5)])
    with torch.no_grad():
        reward.stacked["head/weight"].mul_(60)
    model = PreferenceModel(reward, annotators=2, tie_width=0.3).double()
    with torch.no_grad():
        model.reliability_bias[:, 1] = torch.randn(5) / 10
    here, there = zip(*itertools.combinations(range(6), 2), strict=True)
    first, second = ROWS[list(here)], ROWS[list(there)]
    for who in (None, torch.ones(15, dtype=torch.long)):
        told = []
        for i in range(15):
            one = None if who is None else who[i]
            p = answer_log_probs(model, first[i], second[i], annotator=one).exp()
            mean = [sum(p[m, k].item() for m in range(5)) / 5 for k in range(3)]
            told.append(
                sum(
                    p[m, k].item() / 5 * math.log(p[m, k].item() / mean[k])
                    for m in range(5)
                    for k in range(3)
                )
            )
        chosen = choose_pairs(model, first, second, count=3, annotator=who).tolist()
        assert chosen == sorted(range(15), key=lambda i: -told[i])[:3]
    with pytest.raises(ValueError, match="count"):
        choose_pairs(model, first, second, count=0)


# --- DPO ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [None, "mixture", "robust"])
def test_dpo_on_many_answers_comes_near_the_exact_optimum(noise: str | None) -> None:
    """A reward that a factorised policy can express exactly, answered in log-odds."""
    parts = (torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.0, -1.0]))

    def reward(codes: Tensor, context: Tensor | None) -> Tensor:
        return parts[0][codes[..., 0]] + parts[1][codes[..., 1]]

    draws = seeded(0)
    first, second, _ = random_pairs(ROWS, None, 30_000, generator=draws)
    flip = 0.15 if noise else 0.0
    pairs = synthetic_preferences(reward, first, second, reliability=1 - flip, generator=draws)
    reference, policy = Generator(SPACE), Generator(SPACE)
    with torch.no_grad():
        reference.free_logits.copy_(torch.tensor([0.03, -0.02, 0.05, 0.0, -0.05]))
    before = reference.free_logits.clone()
    config = DPOConfig(beta=2.0, flip=flip, noise=noise or "mixture", steps=400, batch_size=512)
    fit_dpo(policy, pairs, reference, config=config, seed=0)
    exact = SPACE.softmax(10 * before + torch.cat(parts) / 2.0)
    assert (SPACE.softmax(policy()) - exact).abs().max() < 0.03
    assert torch.equal(reference.free_logits, before)


def test_no_pair_that_dpo_holds_out_is_trained_on() -> None:
    pairs, config = answers(40), DPOConfig(held_out=0.25, batch_size=64)
    policy = Generator(SPACE)
    objective = _DPOObjective(policy, pairs, torch.zeros(2, 40), config, 0, "dpo")
    looked_at: list[set[int]] = []
    objective._loss = lambda picked: looked_at.append(set(picked.tolist()))  # type: ignore
    for step in range(20):
        objective(Step(0, "dpo", step))
    objective.validate()
    *trained, held_out = looked_at
    assert len(held_out) == 10
    assert set.union(*trained) == set(range(40)) - held_out


def test_dpo_refuses_what_the_reference_never_draws() -> None:
    reference = Generator(SPACE)
    with torch.no_grad():
        reference.free_logits[0] = -math.inf
    pairs = Preferences(ROWS[3:5], ROWS[[4, 0]], torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="pair 2"):
        fit_dpo(Generator(SPACE), pairs, reference, config=DPOConfig(), seed=0)
    one = pairs.take(torch.tensor([0]))
    with pytest.raises(ValueError, match="2 pairs"):
        fit_dpo(Generator(SPACE), one, reference, config=DPOConfig(), seed=0)
    plain = torch.nn.Linear(2, 2)
    for given in ((plain, Generator(SPACE)), (Generator(SPACE), plain)):
        with pytest.raises(TypeError, match=r"^fit_dpo needs a policy with .*; Linear has none"):
            fit_dpo(given[0], pairs, given[1], config=DPOConfig(), seed=0)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"second": ROWS[:2]},
            "first and second must be codes (N, F) of one shape, got (3, 2) and (2, 2)",
        ),
        (
            {"first": ROWS[:3, 0], "second": ROWS[3:, 0]},
            "first and second must be codes (N, F) of one shape, got (3,) and (3,)",
        ),
        ({"outcome": torch.tensor([0, 1])}, "first has 3 pairs, outcome 2"),
        ({"outcome": torch.tensor([0, 3, 4])}, "outcome, pair 2: 3 is not in 0 to 2"),
        ({"outcome": torch.tensor([0, 2, -1])}, "outcome, pair 3: -1 is not in 0 to 2"),
        ({"annotator": torch.tensor([0, 0, 1])}, "annotator, pair 3: 1 is not in 0 to 0"),
        ({"annotator": torch.tensor([0, 0])}, "annotator has 2 pairs, outcome 3"),
        ({"context": torch.zeros(2, 1)}, "context has 2 pairs, outcome 3"),
    ],
)
def test_pairs_that_do_not_fit_together_are_refused(
    changes: dict[str, Tensor], message: str
) -> None:
    arguments = {"first": ROWS[:3], "second": ROWS[3:], "outcome": torch.tensor([0, 1, 2])}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Preferences(**(arguments | changes))


def test_pairs_are_moved_and_taken_whole() -> None:
    everything = Preferences(
        ROWS[:3],
        ROWS[3:],
        torch.tensor([0, 1, 2]),
        torch.tensor([[0.5], [1.5], [2.5]]),
        torch.tensor([1, 0, 1]),
        ("ann", "bob"),
    )
    with pretended_card():
        away = everything.to(CARD)
        parts = [getattr(away, f.name) for f in fields(away)[:5]]
        assert [part.device.type for part in parts] == [CARD.type] * 5
    assert away.annotators == ("ann", "bob")
    plain = Preferences(ROWS[:3], ROWS[3:], torch.tensor([0, 1, 1])).to(torch.device("cpu"))
    assert (plain.context, plain.annotator, plain.annotators) == (None, None, ("",))
    assert plain.who.tolist() == [0, 0, 0]
    some = everything.take(torch.tensor([2, 0]))
    assert torch.equal(some.first, ROWS[[2, 0]])
    assert torch.equal(some.second, ROWS[[5, 3]])
    assert (some.outcome.tolist(), some.who.tolist()) == ([2, 0], [1, 1])
    assert some.context is not None
    assert some.context.tolist() == [[2.5], [0.5]]
    assert some.annotators == ("ann", "bob")
    assert [pairs.has_ties for pairs in (everything, some, plain)] == [True, True, False]
    assert (len(everything), len(some)) == (3, 2)


def test_pairs_of_another_space_are_refused() -> None:
    pairs = Preferences(ROWS[:3], ROWS[3:], torch.tensor([0, 1, 0]))
    names = CategoricalSpace({"cut": 2, "shade": 2})
    with pytest.raises(ValueError, match=r"^first row, feature 'shade', pair 3: 2 is not in 0 to"):
        pairs.check(names, None)
    with pytest.raises(ValueError, match=r"^preferences of 2 features for a space of 1$"):
        pairs.check(CategoricalSpace({"cut": 2}), None)
    with pytest.raises(ValueError, match=r"^preferences with contexts of width None, not 1$"):
        pairs.check(SPACE, ContextSpec(numeric=["price"]))
    with pytest.raises(ValueError, match=r"^preferences with contexts of width 2, not None$"):
        replace(pairs, context=torch.zeros(3, 2)).check(SPACE, None)
    pairs.check(SPACE, None)
    swapped = Preferences(ROWS[[3, 4]], ROWS[[2, 0]], torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"^second row, feature 'shade', pair 1: 2 is not in"):
        swapped.check_rows(CategoricalSpace({"cut": 3, "shade": 2}))


def test_a_tie_needs_a_model_with_ties_and_every_annotator_a_place() -> None:
    pairs = Preferences(ROWS[:3], ROWS[3:], torch.tensor([0, 2, 0]))
    model = new_preference_model(SPACE, None, SMALL, ties=False, seed=0)
    with pytest.raises(ValueError, match="a tie"):
        fit_preference_model(model, pairs, config=SMALL, seed=0)
    two = replace(pairs, annotators=("a", "b"))
    with pytest.raises(ValueError, match="at most 1 annotators"):
        fit_preference_model(model, two, config=SMALL, seed=0)
