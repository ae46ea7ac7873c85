"""Losses on pairs: hand formulas, gradients in float64, and DPO's optimum by enumeration."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from discrete_grad.objectives import bradley_terry_loss, dpo_loss
from discrete_grad.objectives.preference import OUTCOMES, outcome_information, preference_log_probs

numbers = st.floats(-30, 30)
widths = st.floats(0, 20)
shares = st.floats(0, 1)


def double(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@given(numbers, widths, shares)
def test_answers_have_total_probability_one(d: float, width: float, trust: float) -> None:
    probs = preference_log_probs(double(d), tie_width=width, reliability=trust).exp()
    assert probs.sum().item() == pytest.approx(1, abs=1e-12)


@given(st.floats(-10, 10), st.floats(0, 5), shares)
def test_rao_kupper_and_crowd_bt_by_hand(d: float, width: float, trust: float) -> None:
    strong, weak, theta = math.exp(d), 1.0, math.exp(width)
    first = strong / (strong + theta * weak)
    second = weak / (weak + theta * strong)
    expected = [
        trust * first + (1 - trust) * second,
        trust * second + (1 - trust) * first,
        (theta**2 - 1) * strong * weak / ((strong + theta * weak) * (weak + theta * strong)),
    ]
    probs = preference_log_probs(double(d), tie_width=width, reliability=trust).exp()
    assert probs.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-14)


@given(numbers, widths, shares)
def test_the_two_rows_may_be_swapped(d: float, width: float, trust: float) -> None:
    here, there = (
        preference_log_probs(double(x), tie_width=width, reliability=trust) for x in (d, -d)
    )
    assert torch.allclose(here, there[[1, 0, 2]], rtol=1e-12)


def test_without_ties_and_noise_it_is_the_logistic_loss() -> None:
    d = torch.linspace(-200, 200, 41)
    loss = bradley_terry_loss(d, torch.zeros(41, dtype=torch.long))
    assert torch.allclose(loss, torch.nn.functional.softplus(-d))
    assert bradley_terry_loss(d, torch.full((41,), 2)).eq(math.inf).all()


@pytest.mark.parametrize("outcome", [0, 1, 2])
def test_gradients_in_every_argument(outcome: int) -> None:
    d, width = double(0.7).requires_grad_(), double(0.4).requires_grad_()
    trust = double(0.8).requires_grad_()

    def loss(d: Tensor, width: Tensor, trust: Tensor) -> Tensor:
        return bradley_terry_loss(d, torch.tensor(outcome), tie_width=width, reliability=trust)

    assert torch.autograd.gradcheck(loss, (d, width, trust))


@pytest.mark.parametrize("trust", [0.0, 1.0])
@pytest.mark.parametrize("d", [-90.0, 0.0, 90.0])
def test_gradients_at_the_edges_are_numbers(d: float, trust: float) -> None:
    leaves = [torch.tensor(x, requires_grad=True) for x in (d, 0.0, trust)]
    for outcome in (0, 1):
        loss = bradley_terry_loss(
            leaves[0], torch.tensor(outcome), tie_width=leaves[1], reliability=leaves[2]
        )
        gradients = torch.autograd.grad(loss, leaves)
        assert loss.isfinite()
        assert all(g.isfinite() for g in gradients)


def test_a_sure_annotator_is_not_taken_for_a_noisy_one_in_the_tails() -> None:
    d = torch.tensor(300.0, requires_grad=True)
    loss = bradley_terry_loss(d, torch.tensor(1), reliability=torch.tensor(1.0))
    (gradient,) = torch.autograd.grad(loss, d)
    assert (loss.item(), gradient.item()) == (300.0, 1.0)


def test_outcomes_broadcast_against_members() -> None:
    d = torch.randn(3, 5)
    outcome = torch.tensor([0, 1, 0, 1, 0])
    loss = bradley_terry_loss(d, outcome, tie_width=torch.zeros(3, 1))
    assert torch.allclose(loss[2], bradley_terry_loss(d[2], outcome))


@pytest.mark.parametrize(
    "changes", [{"tie_width": -0.1}, {"reliability": 1.2}, {"reliability": math.nan}]
)
def test_numbers_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        preference_log_probs(torch.zeros(2), **changes)


# --- DPO ------------------------------------------------------------------------------------------

BETA = 0.7
ROWS = 6


def enumerated(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Log-reference and reward `(R,)`, and pi* = ref exp(r / beta) / Z."""
    generator = torch.Generator().manual_seed(seed)
    log_ref = torch.randn(ROWS, generator=generator, dtype=torch.float64).log_softmax(0)
    reward = torch.randn(ROWS, generator=generator, dtype=torch.float64)
    return log_ref, reward, (log_ref + reward / BETA).log_softmax(0)


def expected_loss(
    logits: Tensor, log_ref: Tensor, reward: Tensor, width: float, rate: float, **options: object
) -> Tensor:
    """The DPO loss over all pairs, averaged over answers that are flipped at a rate."""
    first, second = torch.cartesian_prod(*[torch.arange(ROWS)] * 2).T
    difference = reward[first] - reward[second]
    told = preference_log_probs(difference, tie_width=width, reliability=1 - rate).exp()
    log_pi = logits.log_softmax(0)
    total = torch.zeros((), dtype=torch.float64)
    for code in range(3 if width else 2):
        loss = dpo_loss(
            torch.stack([log_pi[first], log_pi[second]]),
            torch.stack([log_ref[first], log_ref[second]]),
            torch.full_like(first, code),
            beta=BETA,
            tie_width=width,
            **options,
        )
        total = total + (told[:, code] * loss).mean()
    return total


KEEPING = [
    (0.0, 0.0, {}),
    (0.6, 0.0, {}),
    (0.0, 0.2, {"flip": 0.2, "noise": "mixture"}),
    (0.6, 0.2, {"flip": 0.2, "noise": "mixture"}),
    (0.0, 0.2, {"flip": 0.2, "noise": "robust"}),
    (0.6, 0.2, {"flip": 0.2, "noise": "robust"}),
]


@pytest.mark.parametrize(("width", "rate", "options"), KEEPING)
def test_the_gradient_of_dpo_is_zero_at_the_exact_optimum(
    width: float, rate: float, options: dict[str, object]
) -> None:
    log_ref, reward, best = enumerated()
    logits = best.clone().requires_grad_()
    loss = expected_loss(logits, log_ref, reward, width, rate, **options)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().max() < 1e-14
    shifted = log_ref.clone().requires_grad_()
    loss = expected_loss(shifted, log_ref, reward, width, rate, **options)
    assert torch.autograd.grad(loss, shifted)[0].abs().max() > 1e-2


@pytest.mark.parametrize(("width", "rate", "options"), KEEPING)
def test_descent_on_dpo_reaches_the_exact_optimum(
    width: float, rate: float, options: dict[str, object]
) -> None:
    log_ref, reward, best = enumerated(1)
    logits = log_ref.clone().requires_grad_()
    newton = torch.optim.LBFGS(
        [logits],
        max_iter=300,
        tolerance_grad=1e-13,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        newton.zero_grad()
        loss = expected_loss(logits, log_ref, reward, width, rate, **options)
        loss.backward()
        return loss

    newton.step(closure)
    assert torch.allclose(logits.log_softmax(0).exp(), best.exp(), atol=1e-8)


def test_flips_that_nobody_accounts_for_move_the_optimum() -> None:
    log_ref, reward, best = enumerated()
    for options in ({}, {"flip": 0.2, "noise": "conservative"}):
        logits = best.clone().requires_grad_()
        loss = expected_loss(logits, log_ref, reward, 0.0, 0.2, **options)
        assert torch.autograd.grad(loss, logits)[0].abs().max() > 1e-3


def test_conservative_dpo_is_least_at_the_smoothed_label() -> None:
    """cDPO stops where the implied preference is 1 - flip instead of running away."""
    margin = double(math.log(0.8 / 0.2) / BETA)
    log_probs = torch.stack([margin, double(0.0)]).requires_grad_()
    options = {"beta": BETA, "flip": 0.2, "noise": "conservative"}
    loss = dpo_loss(log_probs, torch.zeros(2).double(), torch.tensor(0), **options)
    assert torch.autograd.grad(loss, log_probs)[0].abs().max() < 1e-15


def test_robust_dpo_is_unbiased_answer_by_answer() -> None:
    log_probs, reference = torch.randn(2, 2, 4, dtype=torch.float64)
    zeros = torch.zeros(4, dtype=torch.long)
    noisy = [
        dpo_loss(log_probs, reference, zeros + code, beta=BETA, flip=0.3, noise="robust")
        for code in (0, 1)
    ]
    clean = dpo_loss(log_probs, reference, zeros, beta=BETA)
    assert torch.allclose(0.7 * noisy[0] + 0.3 * noisy[1], clean)


def test_the_gradient_of_dpo_by_hand() -> None:
    """beta sigmoid(r_l - r_w) (grad log pi_w - grad log pi_l): Rafailov et al., section 4."""
    log_probs = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    loss = dpo_loss(log_probs, reference, torch.ones(5, dtype=torch.long), beta=BETA).sum()
    (gradient,) = torch.autograd.grad(loss, log_probs, retain_graph=True)
    implicit = BETA * (log_probs - reference).detach()
    weight = BETA * torch.sigmoid(implicit[0] - implicit[1])
    assert torch.allclose(gradient, torch.stack([weight, -weight]))
    assert torch.autograd.grad(loss, reference, allow_unused=True) == (None,)


@pytest.mark.parametrize(
    "changes", [{"beta": 0.0}, {"flip": 0.5}, {"flip": -0.1}, {"noise": "magic"}]
)
def test_dpo_refuses_numbers_out_of_range(changes: dict[str, object]) -> None:
    arguments = {"beta": 1.0, **changes}
    with pytest.raises(ValueError, match=next(iter(changes))):
        dpo_loss(torch.zeros(2, 1), torch.zeros(2, 1), torch.tensor([0]), **arguments)


# --- information ----------------------------------------------------------------------------------


def test_information_is_the_mutual_information_of_member_and_answer() -> None:
    log_p = torch.randn(4, 7, 3, dtype=torch.float64).log_softmax(-1)
    joint = log_p.exp() / 4
    independent = joint.sum(0, keepdim=True) * joint.sum(-1, keepdim=True)
    expected = (joint * (joint / independent).log()).sum((0, -1))
    assert torch.allclose(outcome_information(log_p), expected)


def test_information_needs_disagreement_between_sure_members() -> None:
    sure = preference_log_probs(torch.tensor([[50.0, 50.0], [-50.0, 50.0]]), tie_width=0.1)
    unsure = preference_log_probs(torch.zeros(2, 2), tie_width=0.1)
    assert outcome_information(sure).tolist() == pytest.approx([math.log(2), 0], abs=1e-6)
    assert outcome_information(unsure).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_the_names_of_the_outcomes_follow_their_codes() -> None:
    probs = preference_log_probs(torch.tensor(5.0), tie_width=0.1).exp()
    assert OUTCOMES[int(probs.argmax())] == "first"
    assert OUTCOMES[int(preference_log_probs(torch.tensor(0.0), tie_width=3.0).argmax())] == "tie"
