"""Planted bugs in the later relaxations: each is caught by a clause of the contract."""

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.gradient import (
    base,
    entmax,
    gapped_straight_through,
    gumbel_rao,
    imle,
    reinmax_rao,
)
from discrete_grad.sampling import gumbel_like
from tests.gradient import contract
from tests.gradient.cases import BY_NAME
from tests.gradient.test_mutants import (
    GRADIENT,
    Mutant,
    softmax_without_one_over_tau,
    softmax_without_tau,
)

DARN = BY_NAME["Darn"]
DECOUPLED = BY_NAME["DecoupledStraightThrough(tau_f=2.0, tau_b=0.7)"]
RAO = BY_NAME["GumbelRao(tau=0.5, inner_samples=10)"]
GAPPED = BY_NAME["GappedStraightThrough(gap=1.0, tau=1.0)"]
ENTMAX, SPARSEMAX = BY_NAME["Entmax(alpha=1.5)"], BY_NAME["Entmax(alpha=2.0)"]
FIXED_STEP, ADAPTIVE = BY_NAME["IMLE(step=10.0)"], BY_NAME["AdaptiveIMLE(beta=1.0)"]
IMLE_OF_TWO = BY_NAME["IMLE(step=3.0)"]
REINMAX_RAO = BY_NAME["ReinMaxRao(tau=1.0, inner_samples=10)"]

# --- DARN -----------------------------------------------------------------------------------------


def darn_without_probabilities(space: CategoricalSpace, logits: Tensor, hard: Tensor) -> Tensor:
    step = base.increment(logits)
    pairs = zip(space.blocks(hard), space.blocks(step), strict=True)
    return space.join([s * (s * theta).sum(-1, keepdim=True) for s, theta in pairs])


def darn_across_features(space: CategoricalSpace, logits: Tensor, hard: Tensor) -> Tensor:
    score = hard - space.softmax(logits.detach())
    return score * (score * base.increment(logits)).sum(-1, keepdim=True)


def darn_with_live_score(space: CategoricalSpace, logits: Tensor, hard: Tensor) -> Tensor:
    score = hard - space.softmax(logits)
    finite = logits.masked_fill(logits == -torch.inf, 0)
    pairs = zip(space.blocks(score), space.blocks(finite), strict=True)
    return space.join([s * (s * theta).sum(-1, keepdim=True) for s, theta in pairs])


def darn_with_infinite_logits(space: CategoricalSpace, logits: Tensor, hard: Tensor) -> Tensor:
    score = hard - space.softmax(logits.detach())
    pairs = zip(space.blocks(score), space.blocks(logits), strict=True)
    return space.join([s * (s * theta).sum(-1, keepdim=True) for s, theta in pairs])


# --- decoupled ------------------------------------------------------------------------------------


def always_tau_one(tau: float) -> float:
    return 1.0


# --- Gumbel-Rao -----------------------------------------------------------------------------------


def noise_that_ignores_the_row(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, gumbel: Tensor
) -> Tensor:
    return logits + gumbel


def conditional_without_log_z(logits: Tensor, hard: Tensor, gumbel: Tensor) -> Tensor:
    top = (hard * gumbel).sum(-1, keepdim=True)
    return torch.where(hard > 0, top, -torch.logaddexp(-gumbel - logits, -top))


def conditional_that_is_not_cut_off(logits: Tensor, hard: Tensor, gumbel: Tensor) -> Tensor:
    top = (hard * gumbel).sum(-1, keepdim=True) + logits.logsumexp(-1, keepdim=True)
    return torch.where(hard > 0, top, torch.minimum(logits + gumbel, top))


def rao_through_the_noise(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, gumbel: Tensor, tau: float
) -> Tensor:
    finite = logits.masked_fill(logits == -torch.inf, -1e3)
    perturbed = gumbel_rao._conditional_perturbed(space, finite, hard, gumbel)
    return space.softmax(perturbed / tau).mean(0)


def rao_without_one_over_tau(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, gumbel: Tensor, tau: float
) -> Tensor:
    perturbed = gumbel_rao._conditional_perturbed(space, logits.detach(), hard, gumbel)
    return space.softmax(perturbed / tau + base.increment(logits)).mean(0)


def rao_summed(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, gumbel: Tensor, tau: float
) -> Tensor:
    return SURROGATE(space, logits, hard, gumbel, tau) * len(gumbel)


def inner_noise_without_generator(logits: Tensor, *, generator: object) -> Tensor:
    return gumbel_like(logits)


SURROGATE = gumbel_rao.gumbel_rao_surrogate

# --- gapped ---------------------------------------------------------------------------------------


def nothing_moved(logits: Tensor, hard: Tensor, gap: float) -> Tensor:
    return logits


def only_the_drawn_moved(logits: Tensor, hard: Tensor, gap: float) -> Tensor:
    return torch.where(hard > 0, logits.amax(-1, keepdim=True), logits)


def all_others_lowered(logits: Tensor, hard: Tensor, gap: float) -> Tensor:
    return torch.where(hard > 0, logits.amax(-1, keepdim=True), logits - gap)


def drawn_raised_by_the_gap(logits: Tensor, hard: Tensor, gap: float) -> Tensor:
    return torch.where(hard > 0, logits.amax(-1, keepdim=True) + gap, logits)


def live_moves(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, gap: float, tau: float
) -> Tensor:
    pairs = zip(space.blocks(logits), space.blocks(hard), strict=True)
    moved = [gapped_straight_through._moved(theta, drawn, gap) for theta, drawn in pairs]
    return space.softmax(space.join(moved) / tau)


# --- entmax ---------------------------------------------------------------------------------------


def threshold_without_derivative(logits: Tensor, alpha: float) -> Tensor:
    best = logits.detach().amax(-1, keepdim=True)
    scores = ((logits - best) * (alpha - 1)).clamp_min(-1)
    threshold = entmax._threshold(scores.detach(), alpha)
    return entmax._powers(scores, threshold, alpha)[0]


def logits_without_scale(logits: Tensor, alpha: float) -> Tensor:
    return ENTMAX_BLOCK(logits / (alpha - 1), alpha)


def derivative_of_a_softmax(logits: Tensor, alpha: float) -> Tensor:
    p = ENTMAX_BLOCK(logits.detach(), alpha)
    step = base.increment(logits)
    return p + p * (step - (p * step).sum(-1, keepdim=True))


def first_order_only(logits: Tensor, alpha: float) -> Tensor:
    p, step = ENTMAX_BLOCK(logits.detach(), alpha), base.increment(logits)
    s = torch.where(p > 0, p ** (2 - alpha), 0)
    return p + s * (step - (s * step).sum(-1, keepdim=True) / s.sum(-1, keepdim=True))


def masked_logits_as_zeros(logits: Tensor, alpha: float) -> Tensor:
    return ENTMAX_BLOCK(logits.masked_fill(logits == -torch.inf, 0), alpha)


ENTMAX_BLOCK = entmax._entmax_block

# --- I-MLE ----------------------------------------------------------------------------------------


def wrong_direction(
    space: CategoricalSpace, perturbed: Tensor, g: Tensor, step: Tensor | float, rules: None
) -> Tensor:
    return DIFFERENCE(space, perturbed, -g, step, rules)


def opposite_sign(
    space: CategoricalSpace, perturbed: Tensor, g: Tensor, step: Tensor | float, rules: None
) -> Tensor:
    return -DIFFERENCE(space, perturbed, g, step, rules)


def missing_one_over_step(
    space: CategoricalSpace, perturbed: Tensor, g: Tensor, step: Tensor | float, rules: None
) -> Tensor:
    return DIFFERENCE(space, perturbed, g, step, rules) * step


def rows_of_another_draw(
    space: CategoricalSpace, perturbed: Tensor, g: Tensor, step: Tensor | float, rules: None
) -> Tensor:
    return DIFFERENCE(space, perturbed.roll(1, 0), g, step, rules)


def norm_of_all_entries(
    space: CategoricalSpace, perturbed: Tensor, g: Tensor, beta: Tensor
) -> Tensor:
    finite = perturbed.masked_fill(perturbed == -torch.inf, 0)
    return beta * finite.norm(dim=-1, keepdim=True) / g.norm(dim=-1, keepdim=True)


def norm_over_the_batch(
    space: CategoricalSpace, perturbed: Tensor, g: Tensor, beta: Tensor
) -> Tensor:
    return (
        RELATIVE_STEP(space, perturbed, g, beta) * 0
        + RELATIVE_STEP(space, perturbed[:1], g[:1], beta).mean()
    )


def beta_doubled(space: CategoricalSpace, perturbed: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    return RELATIVE_STEP(space, perturbed, g, 2 * beta)


def padding_in_the_mean(space: CategoricalSpace, flat: Tensor, allowed: Tensor) -> Tensor:
    centred = [x - x.mean(-1, keepdim=True) for x in space.blocks(flat)]
    return space.join(centred).norm(dim=-1, keepdim=True)


DIFFERENCE, RELATIVE_STEP = imle._target_difference, imle._relative_step

# --- ReinMax-Rao ----------------------------------------------------------------------------------


def rao_at_the_logits(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, gumbel: Tensor, tau: float
) -> Tensor:
    inner = SURROGATE(space, logits, hard, gumbel, tau)
    return 2 * inner - space.softmax(logits) / 2


def rao_without_the_first_order_part(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, gumbel: Tensor, tau: float
) -> Tensor:
    return REINMAX_RAO_SURROGATE(space, logits, hard, gumbel, tau) + space.softmax(logits) / 2


def rao_through_the_middle(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, gumbel: Tensor, tau: float
) -> Tensor:
    middle = (space.softmax(logits) + hard) / 2
    phi = middle.masked_fill(middle == 0, 1).log().masked_fill(middle == 0, -torch.inf)
    return 2 * SURROGATE(space, phi, hard, gumbel, tau) - space.softmax(logits) / 2


REINMAX_RAO_SURROGATE = reinmax_rao._reinmax_rao_surrogate


MUTANTS = [
    Mutant(name, f"{GRADIENT}.{target}", replacement, check, case, tuple(arguments))
    for name, target, replacement, check, case, *arguments in [
        (
            "DARN: score without -pi",
            "darn._darn_surrogate",
            darn_without_probabilities,
            contract.check_bias,
            DARN,
        ),
        (
            "DARN: one product for all features",
            "darn._darn_surrogate",
            darn_across_features,
            contract.check_formula,
            DARN,
        ),
        (
            "DARN: score not detached",
            "darn._darn_surrogate",
            darn_with_live_score,
            contract.check_formula,
            DARN,
        ),
        (
            "DARN: 0 * -inf",
            "darn._darn_surrogate",
            darn_with_infinite_logits,
            contract.check_finite,
            DARN,
            torch.float64,
        ),
        (
            "decoupled: missing 1 / tau_b",
            "decoupled_straight_through.tempered_softmax",
            softmax_without_one_over_tau,
            contract.check_formula,
            DECOUPLED,
        ),
        (
            "decoupled: tau_b left out",
            "decoupled_straight_through.tempered_softmax",
            softmax_without_tau,
            contract.check_formula,
            DECOUPLED,
        ),
        (
            "decoupled: tau_f left out",
            "decoupled_straight_through.current_tau",
            always_tau_one,
            contract.check_law,
            DECOUPLED,
            torch.float64,
        ),
        (
            "Gumbel-Rao: noise that ignores the row",
            "gumbel_rao._conditional_perturbed",
            noise_that_ignores_the_row,
            contract.check_formula,
            RAO,
        ),
        (
            "Gumbel-Rao: log Z left out",
            "gumbel_rao._conditional_block",
            conditional_without_log_z,
            contract.check_formula,
            RAO,
        ),
        (
            "Gumbel-Rao: noise clipped, not cut off",
            "gumbel_rao._conditional_block",
            conditional_that_is_not_cut_off,
            contract.check_formula,
            RAO,
        ),
        (
            "Gumbel-Rao: derivative of the conditional noise",
            "gumbel_rao.gumbel_rao_surrogate",
            rao_through_the_noise,
            contract.check_formula,
            RAO,
        ),
        (
            "Gumbel-Rao: missing 1 / tau",
            "gumbel_rao.gumbel_rao_surrogate",
            rao_without_one_over_tau,
            contract.check_formula,
            RAO,
        ),
        (
            "Gumbel-Rao: sum over the inner samples",
            "gumbel_rao.gumbel_rao_surrogate",
            rao_summed,
            contract.check_formula,
            RAO,
        ),
        (
            "Gumbel-Rao: generator ignored by the inner noise",
            "gumbel_rao.gumbel_like",
            inner_noise_without_generator,
            contract.check_generator,
            RAO,
        ),
        (
            "gapped: nothing moved",
            "gapped_straight_through._moved",
            nothing_moved,
            contract.check_formula,
            GAPPED,
        ),
        (
            "gapped: the others keep their logits",
            "gapped_straight_through._moved",
            only_the_drawn_moved,
            contract.check_formula,
            GAPPED,
        ),
        (
            "gapped: all others lowered",
            "gapped_straight_through._moved",
            all_others_lowered,
            contract.check_formula,
            GAPPED,
        ),
        (
            "gapped: the drawn raised by the gap",
            "gapped_straight_through._moved",
            drawn_raised_by_the_gap,
            contract.check_formula,
            GAPPED,
        ),
        (
            "gapped: moves with a gradient",
            "gapped_straight_through._gapped_surrogate",
            live_moves,
            contract.check_formula,
            GAPPED,
        ),
        (
            "entmax: threshold not differentiated",
            "entmax._entmax_block",
            threshold_without_derivative,
            contract.check_gradient_is_on_the_simplex,
            ENTMAX,
        ),
        (
            "entmax: alpha - 1 left out",
            "entmax._entmax_block",
            logits_without_scale,
            contract.check_formula,
            ENTMAX,
        ),
        (
            "entmax: derivative of a softmax",
            "entmax._entmax_block",
            derivative_of_a_softmax,
            contract.check_formula,
            SPARSEMAX,
        ),
        (
            "entmax: no second derivative",
            "entmax._entmax_block",
            first_order_only,
            contract.check_derivatives_of_a_smooth_value,
            ENTMAX,
        ),
        (
            "entmax: a mask taken for a logit of 0",
            "entmax._entmax_block",
            masked_logits_as_zeros,
            contract.check_rows,
            ENTMAX,
            torch.float64,
        ),
        (
            "I-MLE: moved along the gradient",
            "imle._target_difference",
            wrong_direction,
            contract.check_formula,
            FIXED_STEP,
        ),
        (
            "I-MLE: wrong sign",
            "imle._target_difference",
            opposite_sign,
            contract.check_formula,
            FIXED_STEP,
        ),
        (
            "I-MLE: missing 1 / step",
            "imle._target_difference",
            missing_one_over_step,
            contract.check_formula,
            FIXED_STEP,
        ),
        (
            "I-MLE: rows of another draw",
            "imle._target_difference",
            rows_of_another_draw,
            contract.check_formula,
            IMLE_OF_TWO,
        ),
        (
            "adaptive I-MLE: norms that a shift changes",
            "imle._relative_step",
            norm_of_all_entries,
            contract.check_gradient_is_on_the_simplex,
            ADAPTIVE,
        ),
        (
            "adaptive I-MLE: one step for all rows",
            "imle._relative_step",
            norm_over_the_batch,
            contract.check_batch_splits,
            ADAPTIVE,
        ),
        (
            "adaptive I-MLE: beta doubled",
            "imle._relative_step",
            beta_doubled,
            contract.check_formula,
            ADAPTIVE,
        ),
        (
            "adaptive I-MLE: padding in the mean",
            "imle._centred_norm",
            padding_in_the_mean,
            contract.check_padding_counts_for_nothing,
            ADAPTIVE,
        ),
        (
            "ReinMax-Rao: at the logits, not the middle",
            "reinmax_rao._reinmax_rao_surrogate",
            rao_at_the_logits,
            contract.check_formula,
            REINMAX_RAO,
        ),
        (
            "ReinMax-Rao: first-order part left out",
            "reinmax_rao._reinmax_rao_surrogate",
            rao_without_the_first_order_part,
            contract.check_formula,
            REINMAX_RAO,
        ),
        (
            "ReinMax-Rao: middle with a gradient",
            "reinmax_rao._reinmax_rao_surrogate",
            rao_through_the_middle,
            contract.check_formula,
            REINMAX_RAO,
        ),
    ]
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_planted_bug_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutant.target, mutant.replacement)
    # RuntimeError: gradcheck, vmap and compile fail in their own words
    with pytest.raises((AssertionError, RuntimeError)):
        mutant.check(mutant.case, *mutant.arguments)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_same_clause_holds_without_the_bug(mutant: Mutant) -> None:
    mutant.check(mutant.case, *mutant.arguments)
