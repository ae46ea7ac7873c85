"""Planted bugs in the newest gradient estimators: each is caught by a clause of the contract."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, blocks
from discrete_grad.gradient import centred_reinmax, entropy_weighted, low_variance_reinmax
from discrete_grad.gradient._control_variate import score
from tests.gradient import contract
from tests.gradient.cases import BY_NAME
from tests.gradient.test_mutants import GRADIENT, Mutant

CENTRED = centred_reinmax._centred_reinmax
WEIGHTS, ENTROPY = low_variance_reinmax._weights, entropy_weighted._entropy_weights


def by_all_rows(space: CategoricalSpace, logits: Tensor, hard: Tensor, slopes: Tensor) -> Tensor:
    first = space.softmax_jacobian(space.softmax(logits), slopes.mean(0))
    correction = CENTRED(space, logits, hard, slopes) - first
    return first + correction * (len(hard) - 1) / len(hard)


def across_features(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, slopes: Tensor
) -> Tensor:
    scores, mean = score(space, logits, hard), slopes.mean(0)
    along = (scores * (slopes - mean)).sum(-1, keepdim=True)
    first = space.softmax_jacobian(space.softmax(logits), mean)
    return first + (scores * along).sum(0) / (2 * (len(hard) - 1))


def weights_of_reinmax(pi: Tensor) -> tuple[Tensor, Tensor]:
    return pi, torch.ones_like(pi)


def ratio_of_one(pi: Tensor) -> tuple[Tensor, Tensor]:
    return WEIGHTS(pi)[0], torch.ones_like(pi)


def of_all_categories(logits: Tensor) -> Tensor:
    allowed = (logits > -torch.inf).sum(-1, keepdim=True).clamp_min(2)
    return ENTROPY(logits) * allowed.to(logits.dtype).log() / math.log(max(2, logits.shape[-1]))


def always_a_draw(logits: Tensor) -> Tensor:
    return torch.ones_like(logits[..., :1])


def in_bits(logits: Tensor) -> Tensor:
    log_p = blocks.log_softmax(logits)
    found: Tensor = -(log_p.exp() * log_p.clamp_min(-1e4)).sum(-1, keepdim=True) / math.log(2)
    return found.clamp(0, 1)


PLANTED: list[tuple[str, str, Callable[..., object], Callable[..., None], str]] = [
    (
        "centred: by the mean of all rows, N for N - 1",
        "centred_reinmax._centred_reinmax",
        by_all_rows,
        contract.check_bias,
        "CentredReinMax(samples=2)",
    ),
    (
        "centred: one product for all features",
        "centred_reinmax._centred_reinmax",
        across_features,
        contract.check_formula,
        "CentredReinMax(samples=3)",
    ),
    (
        "low variance: the weights of ReinMax",
        "low_variance_reinmax._weights",
        weights_of_reinmax,
        contract.check_formula,
        "LowVarianceReinMax",
    ),
    (
        "low variance: first-order part without its ratio",
        "low_variance_reinmax._weights",
        ratio_of_one,
        contract.check_bias,
        "LowVarianceReinMax",
    ),
    (
        "entropy: padding counted in the maximum",
        "entropy_weighted._entropy_weights",
        of_all_categories,
        contract.check_padding_counts_for_nothing,
        "EntropyWeighted",
    ),
    (
        "entropy: always a draw",
        "entropy_weighted._entropy_weights",
        always_a_draw,
        contract.check_formula,
        "EntropyWeighted",
    ),
    (
        "entropy: in bits, without its maximum",
        "entropy_weighted._entropy_weights",
        in_bits,
        contract.check_formula,
        "EntropyWeighted",
    ),
]
MUTANTS = [
    Mutant(name, f"{GRADIENT}.{target}", replacement, check, BY_NAME[case])
    for name, target, replacement, check, case in PLANTED
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_planted_bug_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutant.target, mutant.replacement)
    with pytest.raises(AssertionError):
        mutant.check(mutant.case, *mutant.arguments)
