"""The contract can fail: each planted bug is caught by the clause meant for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.gradient import _tempered, base
from discrete_grad.gradient.gumbel_softmax import _relaxed_row
from discrete_grad.sampling import categorical, gumbel_like, uniform_like
from tests.gradient import contract
from tests.gradient.cases import BY_NAME, SHARP, Case

GUMBEL = BY_NAME["GumbelSoftmax(tau=1.0, hard=True)"]
SHARP_GUMBEL = BY_NAME["GumbelSoftmax(tau=0.3, hard=True)"]
STRAIGHT, REINMAX = BY_NAME["StraightThrough"], BY_NAME["ReinMax(tau=1.0)"]
SOFTMAX, EXACT = BY_NAME["Softmax(tau=0.5)"], BY_NAME["Enumerate"]
PAIR, TRIPLE = BY_NAME["LeaveOneOut(samples=2)"], BY_NAME["LeaveOneOut(samples=3)"]
REINFORCE = BY_NAME["Reinforce(baseline=0.7)"]

GRADIENT = "discrete_grad.gradient"
SPACE = "discrete_grad.space.CategoricalSpace"


@dataclass(frozen=True)
class Mutant:
    """A planted bug: `replacement` at `target`, to be caught by `check(case, *arguments)`."""

    name: str
    target: str
    replacement: Callable[..., object]
    check: Callable[..., None]
    case: Case
    arguments: tuple[torch.dtype | float, ...] = ()

    def __str__(self) -> str:
        return self.name


# --- the gradient ---------------------------------------------------------------------------------


def wrong_sign(hard: Tensor, surrogate: Tensor) -> Tensor:
    return hard - (surrogate - surrogate.detach())


def missing_detach(hard: Tensor, surrogate: Tensor) -> Tensor:
    return hard - surrogate + surrogate


def wrong_order(hard: Tensor, surrogate: Tensor) -> Tensor:
    return hard - surrogate.detach() + surrogate


def soft_forward(hard: Tensor, surrogate: Tensor) -> Tensor:
    return surrogate


def first_category_left_out(hard: Tensor, surrogate: Tensor) -> Tensor:
    kept = torch.cat([surrogate[..., :1].detach(), surrogate[..., 1:]], -1)
    return base.straight_through(hard, kept)


def last_feature_counted_twice(hard: Tensor, surrogate: Tensor) -> Tensor:
    twice = torch.cat([surrogate[..., :-3], 2 * surrogate[..., -3:]], -1)
    return base.straight_through(hard, twice)


def row_without_one_over_tau(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, tau: float
) -> Tensor:
    row = _relaxed_row(space, logits, gumbel, tau)
    return row.detach() + tau * (row - row.detach())


def softmax_without_one_over_tau(space: CategoricalSpace, logits: Tensor, tau: float) -> Tensor:
    row = _tempered.tempered_softmax(space, logits, tau)
    return row.detach() + tau * (row - row.detach())


def softmax_without_tau(space: CategoricalSpace, logits: Tensor, tau: float) -> Tensor:
    return space.softmax(logits)


def tempered_in_half_precision(space: CategoricalSpace, logits: Tensor, tau: float) -> Tensor:
    return space.softmax(logits / tau)


def rounded_row(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, tau: float) -> Tensor:
    half = logits.dtype == torch.float32  # in which half precision comes here
    return _relaxed_row(space, logits, gumbel.round() if half else gumbel, tau)


def jacobian_without_outer_product(
    self: CategoricalSpace, probabilities: Tensor, vector: Tensor
) -> Tensor:
    return probabilities * vector


def softmax_of_padded(self: CategoricalSpace, logits: Tensor) -> Tensor:
    parts = self.split(logits)
    widest = max(self.sizes)
    padded = [torch.nn.functional.pad(part, (0, widest - part.shape[-1])) for part in parts]
    rows = [row.softmax(-1)[..., :k] for row, k in zip(padded, self.sizes, strict=True)]
    return torch.cat(rows, -1)


def softmax_over_the_whole_width(self: CategoricalSpace, logits: Tensor) -> Tensor:
    return logits.softmax(-1)


def reinmax_without_factor_two(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, tau: float
) -> Tensor:
    pi = space.softmax(logits)
    finite = logits.masked_fill(logits == -torch.inf, 0)
    return space.softmax_jacobian((pi.detach() + hard) / 2, finite) - pi / 2


def reinmax_with_live_point(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, tau: float
) -> Tensor:
    pi = space.softmax(logits)
    finite = logits.masked_fill(logits == -torch.inf, 0)
    return 2 * space.softmax_jacobian((pi + hard) / 2, finite) - pi / 2


def reinmax_with_infinite_logits(
    space: CategoricalSpace, logits: Tensor, hard: Tensor, tau: float
) -> Tensor:
    pi = space.softmax(logits)
    return 2 * space.softmax_jacobian((pi.detach() + hard) / 2, logits) - pi / 2


# --- score functions ------------------------------------------------------------------------------


def n_for_n_minus_one(values: Tensor, advantages: Tensor, log_prob: Tensor) -> Tensor:
    return base.score_function(values, values - values.mean(0), log_prob)


def no_baseline(values: Tensor, advantages: Tensor, log_prob: Tensor) -> Tensor:
    return base.score_function(values, values, log_prob)


def baseline_over_the_batch(values: Tensor, advantages: Tensor, log_prob: Tensor) -> Tensor:
    return base.score_function(values, values - values.mean(), log_prob)


def live_advantage(values: Tensor, advantages: Tensor, log_prob: Tensor) -> Tensor:
    product = advantages * log_prob
    return (values + product - product.detach()).mean(0)


def dead_value(values: Tensor, advantages: Tensor, log_prob: Tensor) -> Tensor:
    return base.score_function(values.detach(), advantages, log_prob)


def equal_log_prob(self: CategoricalSpace, logits: Tensor, row: Tensor) -> Tensor:
    return logits.sum(-1).expand(row.shape[:-1]) * 0


# --- what f is asked ------------------------------------------------------------------------------


def sum_over_samples(f: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    return f(rows) * len(rows)


def sign_of_f(f: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    values = f(rows)
    return values / values.abs().detach()


def largest_value_one(f: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    values = f(rows)
    return values / values.abs().max().detach()


def complement_of_the_row(f: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    return f(1 - rows)


def f_in_training_mode(f: torch.nn.Module, rows: Tensor) -> Tensor:
    return f.train()(rows)


# --- randomness -----------------------------------------------------------------------------------


def generator_ignored(space: CategoricalSpace, logits: Tensor, *, generator: object) -> Tensor:
    return uniform_like(space, logits)


def one_uniform_for_all_features(
    space: CategoricalSpace, logits: Tensor, *, generator: torch.Generator | None
) -> Tensor:
    uniform = uniform_like(space, logits, generator=generator)
    return uniform[..., :1].expand_as(uniform).contiguous()


def the_same_uniform_every_time(
    space: CategoricalSpace, logits: Tensor, *, generator: object
) -> Tensor:
    return uniform_like(space, logits, generator=None) * 0 + 0.4


def flattened_draw(space: CategoricalSpace, logits: Tensor, uniform: Tensor) -> Tensor:
    return categorical(space, logits / 2, uniform)


def next_category(space: CategoricalSpace, logits: Tensor, uniform: Tensor) -> Tensor:
    return (categorical(space, logits, uniform) + 1) % torch.tensor(space.sizes)


def gumbel_in_half_precision(logits: Tensor, *, generator: torch.Generator | None) -> Tensor:
    u = torch.empty_like(logits).uniform_(generator=generator)
    return -torch.log(-torch.log(u.clamp_min(torch.finfo(u.dtype).tiny)))


def gumbel_shared_by_the_batch(logits: Tensor, *, generator: torch.Generator | None) -> Tensor:
    return gumbel_like(logits[0, :1], generator=generator).expand_as(logits)


def gumbel_by_memory_order(logits: Tensor, *, generator: torch.Generator | None) -> Tensor:
    u = torch.empty_like(logits).uniform_(generator=generator)
    return -torch.log(-torch.log(u))


def always(tensor: Tensor) -> bool:
    return True


MUTANTS = [
    Mutant(name, target, replacement, check, case, tuple(arguments))
    for name, target, replacement, check, case, *arguments in [
        (
            "wrong sign",
            f"{GRADIENT}.straight_through.straight_through",
            wrong_sign,
            contract.check_bias,
            STRAIGHT,
        ),
        (
            "missing detach: hard - s + s",
            f"{GRADIENT}.straight_through.straight_through",
            missing_detach,
            contract.check_formula,
            STRAIGHT,
        ),
        (
            "hard - s.detach() + s",
            f"{GRADIENT}.reinmax.straight_through",
            wrong_order,
            contract.check_rows_hide_the_surrogate,
            REINMAX,
        ),
        (
            "soft row forward",
            f"{GRADIENT}.straight_through.straight_through",
            soft_forward,
            contract.check_rows,
            STRAIGHT,
            torch.float64,
        ),
        (
            "a category left out of the gradient",
            f"{GRADIENT}.straight_through.straight_through",
            first_category_left_out,
            contract.check_permuted_categories,
            STRAIGHT,
        ),
        (
            "a feature counted twice",
            f"{GRADIENT}.straight_through.straight_through",
            last_feature_counted_twice,
            contract.check_permuted_features,
            STRAIGHT,
        ),
        (
            "missing 1 / tau, Gumbel-softmax",
            f"{GRADIENT}.gumbel_softmax._relaxed_row",
            row_without_one_over_tau,
            contract.check_formula,
            SHARP_GUMBEL,
        ),
        (
            "missing 1 / tau, softmax",
            f"{GRADIENT}.softmax.tempered_softmax",
            softmax_without_one_over_tau,
            contract.check_derivatives_of_a_smooth_value,
            SOFTMAX,
        ),
        (
            "tau left out",
            f"{GRADIENT}.softmax.tempered_softmax",
            softmax_without_tau,
            contract.check_formula,
            SOFTMAX,
        ),
        (
            "logits / tau in half precision",
            f"{GRADIENT}.softmax.tempered_softmax",
            tempered_in_half_precision,
            contract.check_finite,
            SHARP[0],
            torch.float16,
        ),
        (
            "noise rounded in half precision",
            f"{GRADIENT}.gumbel_softmax._relaxed_row",
            rounded_row,
            contract.check_precision,
            GUMBEL,
            torch.bfloat16,
            4e-2,
        ),
        (
            "dropped -p p^T",
            f"{SPACE}.softmax_jacobian",
            jacobian_without_outer_product,
            contract.check_gradient_is_on_the_simplex,
            REINMAX,
        ),
        (
            "padding counted",
            f"{SPACE}.softmax",
            softmax_of_padded,
            contract.check_padding_counts_for_nothing,
            STRAIGHT,
        ),
        (
            "softmax across features",
            f"{SPACE}.softmax",
            softmax_over_the_whole_width,
            contract.check_features_are_independent,
            STRAIGHT,
        ),
        (
            "ReinMax: factor 2 dropped",
            f"{GRADIENT}.reinmax.reinmax_surrogate",
            reinmax_without_factor_two,
            contract.check_bias,
            REINMAX,
        ),
        (
            "ReinMax: midpoint not detached",
            f"{GRADIENT}.reinmax.reinmax_surrogate",
            reinmax_with_live_point,
            contract.check_formula,
            REINMAX,
        ),
        (
            "ReinMax: 0 * -inf",
            f"{GRADIENT}.reinmax.reinmax_surrogate",
            reinmax_with_infinite_logits,
            contract.check_finite,
            REINMAX,
            torch.float64,
        ),
        (
            "N for N - 1",
            f"{GRADIENT}.leave_one_out.score_function",
            n_for_n_minus_one,
            contract.check_unbiased_for_a_black_box,
            TRIPLE,
        ),
        (
            "no baseline",
            f"{GRADIENT}.leave_one_out.score_function",
            no_baseline,
            contract.check_formula,
            PAIR,
        ),
        (
            "baseline over the batch",
            f"{GRADIENT}.leave_one_out.score_function",
            baseline_over_the_batch,
            contract.check_batch_splits,
            PAIR,
        ),
        (
            "baseline that sees its own row",
            f"{GRADIENT}.reinforce.score_function",
            n_for_n_minus_one,
            contract.check_bias,
            REINFORCE,
        ),
        (
            "advantage not detached",
            f"{GRADIENT}.leave_one_out.score_function",
            live_advantage,
            contract.check_f_learns_too,
            PAIR,
        ),
        (
            "gradient of f itself lost",
            f"{GRADIENT}.reinforce.score_function",
            dead_value,
            contract.check_f_learns_too,
            REINFORCE,
        ),
        (
            "rows weighted equally",
            f"{SPACE}.log_prob",
            equal_log_prob,
            contract.check_formula,
            EXACT,
        ),
        (
            "sum over the samples",
            f"{GRADIENT}.base.evaluate",
            sum_over_samples,
            contract.check_formula,
            SHARP_GUMBEL,
        ),
        (
            "f replaced by its sign",
            f"{GRADIENT}.base.evaluate",
            sign_of_f,
            contract.check_affine_in_f,
            STRAIGHT,
        ),
        (
            "f scaled by its largest value",
            f"{GRADIENT}.base.evaluate",
            largest_value_one,
            contract.check_empty_batch,
            STRAIGHT,
        ),
        (
            "f asked about another row",
            f"{GRADIENT}.base.evaluate",
            complement_of_the_row,
            contract.check_layer_is_the_expectation,
            STRAIGHT,
        ),
        (
            "f put in training mode",
            f"{GRADIENT}.base.evaluate",
            f_in_training_mode,
            contract.check_frozen_f,
            STRAIGHT,
        ),
        (
            "generator ignored",
            f"{GRADIENT}.base.uniform_like",
            generator_ignored,
            contract.check_generator,
            PAIR,
        ),
        (
            "generator ignored by the layer",
            f"{GRADIENT}.base.uniform_like",
            generator_ignored,
            contract.check_layer_takes_a_generator,
            REINMAX,
        ),
        (
            "one uniform for all features",
            f"{GRADIENT}.base.uniform_like",
            one_uniform_for_all_features,
            contract.check_law,
            STRAIGHT,
            torch.float64,
        ),
        (
            "the same noise every time",
            f"{GRADIENT}.base.uniform_like",
            the_same_uniform_every_time,
            contract.check_vmap_draws,
            STRAIGHT,
        ),
        (
            "draw from flattened logits",
            f"{GRADIENT}.base.categorical",
            flattened_draw,
            contract.check_law,
            REINFORCE,
            torch.float64,
        ),
        (
            "next category drawn",
            f"{GRADIENT}.base.categorical",
            next_category,
            contract.check_rows,
            STRAIGHT,
            torch.float64,
        ),
        (
            "Gumbel noise in half precision",
            f"{GRADIENT}.gumbel_softmax.gumbel_like",
            gumbel_in_half_precision,
            contract.check_law,
            GUMBEL,
            torch.bfloat16,
        ),
        (
            "noise shared by the batch",
            f"{GRADIENT}.gumbel_softmax.gumbel_like",
            gumbel_shared_by_the_batch,
            contract.check_law,
            GUMBEL,
            torch.float64,
        ),
        (
            "noise shared by the batch, told by the batch",
            f"{GRADIENT}.gumbel_softmax.gumbel_like",
            gumbel_shared_by_the_batch,
            contract.check_fresh_noise,
            GUMBEL,
        ),
        (
            "noise in memory order",
            f"{GRADIENT}.gumbel_softmax.gumbel_like",
            gumbel_by_memory_order,
            contract.check_layout,
            GUMBEL,
        ),
        (
            "values read under vmap",
            "discrete_grad.space._features.can_inspect",
            always,
            contract.check_vmap,
            STRAIGHT,
        ),
        (
            "values read under compile",
            "discrete_grad.space._features.can_inspect",
            always,
            contract.check_compile,
            STRAIGHT,
        ),
        (
            "values read under export",
            "discrete_grad.space._features.can_inspect",
            always,
            contract.check_export,
            STRAIGHT,
        ),
    ]
]

FALSE_CLAIMS = [
    (replace(STRAIGHT, exact_on="quadratic"), contract.check_bias),
    (replace(REINMAX, exact_on="everything"), contract.check_bias),
    (replace(GUMBEL, exact_on="multilinear"), contract.check_bias),
    (replace(SOFTMAX, exact_on="multilinear"), contract.check_bias),
    (replace(REINMAX, exact_on="multilinear"), contract.check_claim_is_tight),
    (replace(GUMBEL, slope=(1.0, 1.2)), contract.check_direction_and_scale),
]


every_seed = pytest.mark.parametrize("seed", [0, 1])


@every_seed
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_planted_bug_is_caught(
    mutant: Mutant, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "SEED", seed)
    monkeypatch.setattr(mutant.target, mutant.replacement)
    # RuntimeError: gradcheck, vmap and compile fail in their own words
    with pytest.raises((AssertionError, RuntimeError)):
        mutant.check(mutant.case, *mutant.arguments)


@every_seed
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_same_clause_holds_without_the_bug(
    mutant: Mutant, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "SEED", seed)
    mutant.check(mutant.case, *mutant.arguments)


@pytest.mark.parametrize(("case", "check"), FALSE_CLAIMS, ids=lambda x: getattr(x, "__name__", x))
def test_a_false_claim_is_caught(case: Case, check: Callable[[Case], None]) -> None:
    with pytest.raises(AssertionError):
        check(case)


def test_every_clause_of_the_contract_catches_something() -> None:
    clauses = {name for name in vars(contract) if name.startswith("check_")}
    used = {mutant.check.__name__ for mutant in MUTANTS}
    assert clauses == used | {check.__name__ for _, check in FALSE_CLAIMS}
