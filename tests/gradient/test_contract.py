"""The contract, clause by clause, on every gradient estimator of the table."""

import copy
import inspect
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import (
    IMLE,
    AdaptiveIMLE,
    Carms,
    CategoricalSpace,
    DecoupledStraightThrough,
    DeterministicStraightThrough,
    Entmax,
    Enumerate,
    GappedStraightThrough,
    GradientEstimator,
    GumbelRao,
    GumbelSoftmax,
    LeaveOneOut,
    Rebar,
    Reinforce,
    ReinMax,
    ReinMaxRao,
    Softmax,
    StraightThrough,
    on_codes,
)
from discrete_grad.gradient import base
from discrete_grad.gradient._numbers import as_number
from discrete_grad.gradient.reinmax import reinmax_surrogate
from discrete_grad.testing import CHECKS, Subject, parametrize_with_checks
from tests.goodness import assert_law
from tests.gradient import contract
from tests.gradient.cases import BINARY_CASES, BY_NAME, CASES, SHARP, Case
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function, given_noise
from tests.strategies import DTYPES, TOLERANCE, random_logits

INF = math.inf
# the noise can be handed over, and means the same for every feature
GIVEN = [case for case in CASES if case.noise != "rows"]
ALIKE = [case for case in CASES if case.noise == "codes"]
# one of each class, for what depends on the code and not on its settings
METHODS = list({type(case.estimator()): case for case in CASES}.values())
USUAL = [case for case in METHODS if type(case.estimator()) in (StraightThrough, ReinMax)]
OTHERS = [case for case in METHODS if case not in USUAL]
UNBIASED = [case for case in CASES if case.exact_on == "everything"]

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_given = pytest.mark.parametrize("case", GIVEN, ids=str)
every_alike = pytest.mark.parametrize("case", ALIKE, ids=str)


def test_every_exported_gradient_estimator_has_a_case() -> None:
    from discrete_grad import gradient

    exported = set(gradient.catalogue().values())
    assert exported == {
        cls
        for cls in map(vars(gradient).get, gradient.__all__)
        if inspect.isclass(cls)
        and issubclass(cls, gradient.GradientEstimator)
        and not inspect.isabstract(cls)
    }
    assert exported == {type(case.estimator()) for case in (*CASES, *BINARY_CASES)}


# --- what anyone can check: the kit ---------------------------------------------------------------

# what depends on the class and not on its settings, and takes seconds
OF_A_CLASS = ("compile", "export", "law_of_many_categories", "pickle")
OF_RULES = ("rules", "rules_law", "rules_gradient")
# by many draws where the noise is more than the rows; below, under 6, the same is exact for every
# case whose noise can be handed over
RELATIONS = ("padding", "permuted_categories", "permuted_features", "independent_features")
BY_DRAWS = [case for case in CASES if case in METHODS or case not in ALIKE or not case.local]
OF_A_CASE = [name for name in CHECKS if name not in (*OF_A_CLASS, *OF_RULES, *RELATIONS)]


@parametrize_with_checks([contract.subject(case) for case in CASES], only=OF_A_CASE)
def test_of_the_kit(method: Subject, check: Callable[[Subject], None]) -> None:
    check(method)


@parametrize_with_checks([contract.subject(case) for case in BY_DRAWS], only=RELATIONS)
def test_of_the_kit_by_draws(method: Subject, check: Callable[[Subject], None]) -> None:
    check(method)


@parametrize_with_checks([contract.subject(case) for case in USUAL], only=OF_A_CLASS)
def test_of_the_kit_for_the_usual_classes(
    method: Subject, check: Callable[[Subject], None]
) -> None:
    check(method)


@pytest.mark.slow
@parametrize_with_checks([contract.subject(case) for case in OTHERS], only=OF_A_CLASS)
def test_of_the_kit_for_each_other_class(method: Subject, check: Callable[[Subject], None]) -> None:
    check(method)


@parametrize_with_checks([contract.subject(case) for case in SHARP], only=["extreme_logits"])
def test_of_the_kit_when_sharp(method: Subject, check: Callable[[Subject], None]) -> None:
    check(method)


# cases that are a class at its defaults
DEFAULTS = {repr(case.estimator(RAGGED)): case for case in CASES}
CLASSES = [type(case.estimator()) for case in METHODS]
AS_CASES = [cls for cls in CLASSES if repr(cls(RAGGED)) in DEFAULTS]


@pytest.mark.parametrize("cls", AS_CASES, ids=lambda cls: cls.__name__)
def test_the_facts_are_those_of_the_case_at_the_defaults(cls: type[GradientEstimator]) -> None:
    claims, facts = contract.subject(DEFAULTS[repr(cls(RAGGED))]).claims, cls.facts
    for name in ("forward", "bias", "needs_derivative", "binary_only", "linear_in_f", "slope"):
        assert getattr(facts, name) == getattr(claims, name)
    assert facts.experimental == (cls is ReinMaxRao)


# the class itself as the factory: what a user would try first
@parametrize_with_checks(CLASSES, only=["rows", "scale", *OF_RULES])
def test_of_the_kit_by_the_facts(method: Subject, check: Callable[[Subject], None]) -> None:
    check(method)


@parametrize_with_checks(
    [cls for cls in CLASSES if cls not in AS_CASES],
    only=["bias", "black_box", "affine_in_f", "direction"],
)
def test_of_the_kit_at_other_defaults(method: Subject, check: Callable[[Subject], None]) -> None:
    check(method)


# --- 1. forward ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [1e-4, 100.0])
def test_law_of_gumbel_softmax_at_every_temperature(tau: float) -> None:
    # at a high temperature the relaxed rows are so flat that half precision sees ties everywhere
    logits = random_logits(RAGGED, masked=True).bfloat16()
    layer = GumbelSoftmax(RAGGED, tau=tau)
    rows = layer(logits.expand(20_000, -1), generator=contract.seeded())
    assert_law(RAGGED, logits, RAGGED.argmax(rows))


# --- 3 and 4. bias --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in CASES if case.function_of_codes], ids=str)
def test_bias(case: Case) -> None:
    contract.check_bias(case)
    contract.check_claim_is_tight(case)


BLACK_BOX = [case for case in UNBIASED if not case.needs_derivative and case.function_of_codes]


@pytest.mark.parametrize("case", BLACK_BOX, ids=str)
def test_unbiased_for_a_black_box(case: Case) -> None:
    contract.check_unbiased_for_a_black_box(case)


@pytest.mark.parametrize("tau", [0.5, 1.3])
def test_reinmax_away_from_tau_one_is_biased_on_linear_functions(tau: float) -> None:
    case = BY_NAME["ReinMax(tau=1.3)"]
    f = function(TINY, "linear")
    _, gradient = contract.expected(case, TINY, TINY_LOGITS, f)
    assert (gradient - contract.truth(TINY, TINY_LOGITS, f)[1]).abs().max() > 1e-2


@pytest.mark.parametrize("hard", [True, False])
def test_gumbel_softmax_bias_on_a_linear_function_falls_with_tau(hard: bool) -> None:
    # two categories: only the difference of the noises matters, logistic; a grid of its quantiles
    # integrates over it
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    noise = torch.stack([u.logit(), torch.zeros_like(u)], -1).unsqueeze(0)
    space, logits = CategoricalSpace({"x": 2}), torch.tensor([1.0, 0.0], dtype=torch.float64)
    bias = []
    for tau in (1.0, 0.5, 0.1, 0.01):
        estimator = GumbelSoftmax(space, tau=tau, hard=hard)
        with contract.given_gumbel(space, logits.expand(len(u), -1), noise):
            _, gradient = contract.value_and_gradient(
                estimator, lambda rows: rows[..., 0], logits.expand(len(u), -1)
            )
        p = logits.softmax(-1)[0]
        bias.append(abs(gradient.mean(0)[0] - p * (1 - p)).item())
    assert bias == sorted(bias, reverse=True)
    assert bias[0] > 1e-2
    assert bias[-1] < 1e-4


# --- 5. identities --------------------------------------------------------------------------------


def test_reinmax_at_tau_one_is_the_mean_of_straight_through_and_darn() -> None:
    rows = RAGGED.enumerate()
    rows = rows[RAGGED.log_prob(RAGGED_LOGITS, rows) > -INF]
    logits = RAGGED_LOGITS.expand(len(rows), -1)
    f = function(RAGGED, "cubic")
    with contract.given_codes(rows.unsqueeze(0)):
        _, reinmax = contract.value_and_gradient(ReinMax(RAGGED), f, logits)
        _, straight = contract.value_and_gradient(StraightThrough(RAGGED), f, logits)
    hard = RAGGED.one_hot(rows, dtype=torch.float64)
    score = hard - RAGGED.softmax(logits)
    leaf = hard.clone().requires_grad_()
    products = torch.autograd.grad(f(leaf).sum(), leaf)[0] * score
    darn = torch.cat(
        [
            part.sum(-1, keepdim=True) * s
            for part, s in zip(RAGGED.split(products), RAGGED.split(score), strict=True)
        ],
        -1,
    )
    assert_close(reinmax, (straight + darn) / 2, rtol=0, atol=1e-14)


def test_leave_one_out_ignores_a_constant() -> None:
    for samples in (2, 3):
        case = BY_NAME[f"LeaveOneOut(samples={samples})"]
        logits, f = random_logits(RAGGED, (20,)), function(RAGGED, "cubic")
        gumbel = contract.gumbel_noise(case, logits)
        value, gradient = given_noise(case, RAGGED, f, logits, gumbel)
        shifted = given_noise(case, RAGGED, lambda rows, f=f: f(rows) + 1000, logits, gumbel)
        assert_close(shifted[0], value + 1000)
        assert_close(shifted[1], gradient, rtol=0, atol=1e-11)


def test_softmax_is_exact_in_value_and_gradient_on_multilinear_functions() -> None:
    f = function(RAGGED, "multilinear")
    value, gradient = contract.value_and_gradient(Softmax(RAGGED), f, RAGGED_LOGITS)
    true_value, true_gradient = contract.truth(RAGGED, RAGGED_LOGITS, f)
    assert_close(value, true_value, rtol=0, atol=1e-14)
    assert_close(gradient, true_gradient, rtol=0, atol=1e-14)


def test_straight_through_at_a_deterministic_draw_is_the_deterministic_form() -> None:
    logits, f = random_logits(RAGGED, (20,)), function(RAGGED, "cubic")
    with contract.given_codes(RAGGED.argmax(logits).unsqueeze(0)):
        drawn = contract.value_and_gradient(StraightThrough(RAGGED), f, logits)
    expected = contract.value_and_gradient(DeterministicStraightThrough(RAGGED), f, logits)
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))


@pytest.mark.parametrize("tau", [0.3, 1.0])
@pytest.mark.parametrize("hard", [True, False])
def test_gumbel_softmax_stands_in_for_the_functional_form(tau: float, hard: bool) -> None:
    space, logits = CategoricalSpace({"x": 7}), random_logits(CategoricalSpace({"x": 7}), (30,))
    weights = torch.randn(7, generator=contract.seeded(), dtype=torch.float64)
    torch.manual_seed(0)
    noise = -torch.empty_like(logits).exponential_().log()
    torch.manual_seed(0)
    leaf = logits.clone().requires_grad_()
    row = F.gumbel_softmax(leaf, tau=tau, hard=hard)
    (gradient,) = torch.autograd.grad((row**2 @ weights).sum(), leaf)
    leaf = logits.clone().requires_grad_()
    with contract.given_gumbel(space, logits, noise):
        mine = GumbelSoftmax(tau=tau, hard=hard)(leaf)
    (my_gradient,) = torch.autograd.grad((mine**2 @ weights).sum(), leaf)
    assert_close(mine, row, rtol=0, atol=1e-15)
    assert_close(my_gradient, gradient)


@every_case
def test_no_space_is_one_feature(case: Case) -> None:
    space, f = CategoricalSpace({"x": 5}), function(CategoricalSpace({"x": 5}), "cubic")
    logits = random_logits(space, (10,), masked=True)
    mine = contract.value_and_gradient(case.estimator(), f, logits, generator=contract.seeded())
    named = contract.value_and_gradient(
        case.estimator(space), f, logits, generator=contract.seeded()
    )
    assert all(torch.equal(a, b) for a, b in zip(mine, named, strict=True))


@pytest.mark.parametrize("case", [case for case in CASES if case.deterministic], ids=str)
def test_samples_change_nothing_where_there_is_no_noise(case: Case) -> None:
    logits, f = random_logits(RAGGED, (5,), masked=True), function(RAGGED, "cubic")
    once = contract.value_and_gradient(case.make(RAGGED, samples=1), f, logits)
    often = contract.value_and_gradient(case.make(RAGGED, samples=3), f, logits)
    for mine, expected in zip(often, once, strict=True):
        assert_close(mine, expected)


# --- 6. metamorphic -------------------------------------------------------------------------------


@every_given
def test_permuted_categories(case: Case) -> None:
    contract.check_permuted_categories(case)


@every_alike
def test_permuted_features(case: Case) -> None:
    contract.check_permuted_features(case)


@every_given
def test_padding_counts_for_nothing(case: Case) -> None:
    contract.check_padding_counts_for_nothing(case)


@pytest.mark.parametrize("case", [case for case in ALIKE if case.local], ids=str)
def test_features_are_independent(case: Case) -> None:
    contract.check_features_are_independent(case)


@every_given
def test_batch_splits(case: Case) -> None:
    contract.check_batch_splits(case)


# --- 7. formulas ----------------------------------------------------------------------------------


@every_given
def test_formula(case: Case) -> None:
    contract.check_formula(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.smooth], ids=str)
def test_derivatives_of_a_smooth_value(case: Case) -> None:
    contract.check_derivatives_of_a_smooth_value(case)


def test_surrogates_with_frozen_noise_pass_gradcheck() -> None:
    logits = random_logits(TINY, (3,)).requires_grad_()
    q = TINY.softmax(random_logits(TINY, (3,), generator=1))
    assert torch.autograd.gradcheck(TINY.softmax, logits)
    assert torch.autograd.gradcheck(lambda leaf: TINY.softmax_jacobian(q, leaf), logits)
    assert torch.autograd.gradgradcheck(TINY.softmax, logits)


# --- 8. randomness and transforms -----------------------------------------------------------------


@every_case
def test_vmap(case: Case) -> None:
    if case.noise != "rows":
        contract.check_vmap(case)
    if not case.is_layer:  # of layers the kit knows
        contract.check_vmap_draws(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in METHODS if not case.is_layer], ids=str)
def test_compile(case: Case) -> None:
    contract.check_compile(case)


@pytest.mark.slow
def test_compile_with_the_default_backend() -> None:
    logits = random_logits(RAGGED, (5,), masked=True)
    uniform = torch.rand(5, 4, generator=contract.seeded(), dtype=torch.float64)

    def row(logits: Tensor, uniform: Tensor) -> Tensor:
        hard = RAGGED.one_hot(base.categorical(RAGGED, logits, uniform), dtype=logits.dtype)
        return base.straight_through(hard, reinmax_surrogate(RAGGED, logits, hard, 1.0))

    torch.compiler.reset()
    results = []
    for call in (row, torch.compile(row, fullgraph=True)):
        leaf = logits.clone().requires_grad_()
        value = call(leaf, uniform)
        results.append((value.detach(), *torch.autograd.grad((value**3).sum(), leaf)))
    assert torch.equal(results[0][0], results[1][0])
    assert_close(results[0][1], results[1][1])


# --- 9. numerics ----------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=lambda dtype: str(dtype)[6:])
def test_precision(case: Case, dtype: torch.dtype) -> None:
    contract.check_precision(case, dtype, 4 * TOLERANCE[dtype])


# --- 10. the estimator behind f -------------------------------------------------------------------


@every_case
def test_black_boxes(case: Case) -> None:
    codes_seen = []

    def black_box(codes: Tensor) -> Tensor:
        codes_seen.append(codes)
        return codes.sum(-1)

    estimator, f = case.estimator(RAGGED), on_codes(RAGGED, black_box)
    logits = RAGGED_LOGITS.expand(6, -1).clone().requires_grad_()
    if case.needs_derivative:
        with pytest.raises(ValueError, match=r"no derivative in the row.*LeaveOneOut"):
            estimator.expectation(f, logits)
        return
    value = estimator.expectation(f, logits)
    assert value.dtype == logits.dtype  # the integer values of the black box became floating
    value.sum().backward()
    assert logits.grad.abs().max() > 0
    RAGGED.check_codes(codes_seen[0])
    assert codes_seen[0].shape[1:] == (6, 4)


# --- as modules -----------------------------------------------------------------------------------


@every_case
def test_copies_look_alike(case: Case) -> None:
    estimator = case.estimator(RAGGED)
    for other in (pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator)):
        assert repr(other) == repr(estimator)


@every_case
def test_repr_names_the_space_and_the_hyperparameters(case: Case) -> None:
    shown = repr(case.make(RAGGED, samples=7))
    assert shown.startswith(f"{type(case.estimator()).__name__}(")
    assert "CategoricalSpace(a: 2, one: 1, b: 3, c: 3)" in shown
    assert "samples=7" in shown
    assert "None" in repr(case.estimator())


def test_repr_of_hyperparameters() -> None:
    assert repr(GumbelSoftmax(tau=0.5)) == "GumbelSoftmax(None, samples=1, tau=0.5, hard=True)"
    assert repr(Reinforce(decay=0.5)) == "Reinforce(None, samples=1, decay=0.5)"
    assert repr(Enumerate(max_rows=9)) == "Enumerate(None, samples=1, max_rows=9)"


TEMPERED = (GappedStraightThrough, GumbelRao, GumbelSoftmax, ReinMax, ReinMaxRao, Softmax)


class Schedule(nn.Module):
    """A temperature in a buffer, as the schedules of discrete_grad.nn are."""

    def __init__(self, tau: float) -> None:
        super().__init__()
        self.register_buffer("tau", torch.tensor(tau))

    def forward(self) -> Tensor:
        return self.tau


@pytest.mark.parametrize("cls", TEMPERED)
def test_temperature_from_a_schedule(cls: type[GumbelSoftmax]) -> None:
    logits, f = random_logits(RAGGED, (5,)), function(RAGGED, "cubic")
    scheduled = cls(RAGGED, tau=Schedule(0.25))
    fixed = cls(RAGGED, tau=0.25)
    pairs = [
        contract.value_and_gradient(e, f, logits, generator=contract.seeded())
        for e in (scheduled, fixed)
    ]
    for mine, expected in zip(*pairs, strict=True):
        assert_close(mine, expected)
    assert list(scheduled.state_dict()) == ["tau.tau"]
    scheduled.load_state_dict({"tau.tau": torch.tensor(2.0)})
    sharper, _ = contract.value_and_gradient(scheduled, f, logits, generator=contract.seeded())
    assert sharper.isfinite().all()


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", TEMPERED)
@pytest.mark.parametrize("tau", [0, 0.0, -1.0, math.nan, INF, None, "1", torch.ones(1)])
def test_bad_temperature(cls: type[GumbelSoftmax], tau: float) -> None:
    with pytest.raises(ValueError, match="tau must be a finite number above 0"):
        cls(tau=tau)


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), torch.tensor(0.5), 0.5])
def test_numbers_of_numpy_and_of_torch_are_temperatures(number: float) -> None:
    for cls in TEMPERED:
        assert cls(tau=number).tau == 0.5
    two = DecoupledStraightThrough(tau_f=number, tau_b=np.int64(2))
    assert (two.tau_f, two.tau_b) == (0.5, 2.0)


def test_and_so_they_are_other_hyperparameters() -> None:
    half, two = np.float32(0.5), torch.tensor(2)
    assert IMLE(step=two).step == 2.0
    assert GappedStraightThrough(gap=half).gap == 0.5
    assert Entmax(alpha=two).alpha == 2.0
    assert Carms(independent=half).independent == 0.5
    assert Rebar(eta=half, learn_eta=False).eta == 0.5
    adaptive = AdaptiveIMLE(beta=half, density=two, rate=half)
    assert (adaptive.beta.item(), adaptive.density, adaptive.rate) == (0.5, 2.0, 0.5)
    for none in (None, "1", torch.ones(1), torch.tensor(1.0, requires_grad=True), 1j):
        assert as_number(none) is None


@every_case
def test_too_few_samples(case: Case) -> None:
    least = case.estimator().min_samples
    name = type(case.estimator()).__name__
    for samples in (least - 1, -1, 1.5, None):
        with pytest.raises(ValueError, match=f"{name} needs samples >= {least}"):
            case.make(RAGGED, samples=samples)  # type: ignore[arg-type]
    assert LeaveOneOut.min_samples == 2


@every_case
def test_bad_logits(case: Case) -> None:
    f, estimator = function(RAGGED, "linear"), case.estimator(RAGGED)
    masked = RAGGED_LOGITS.expand(3, -1).clone()
    masked[1, 3:6] = -INF
    bad = [
        (masked, ValueError, "feature 'b' has every category masked"),
        (RAGGED_LOGITS.nan_to_num(neginf=math.nan), ValueError, "feature 'c' has a logit of nan"),
        (RAGGED_LOGITS.nan_to_num(neginf=INF), ValueError, "feature 'c' has a logit of inf"),
        (torch.zeros(3, 8), ValueError, r"must be \(\.\.\., 9\), got \(3, 8\).*b: 3"),
        (torch.zeros(()), ValueError, r"got \(\)"),
        (torch.zeros(9, dtype=torch.long), TypeError, "floating tensor.*int64"),
    ]
    for logits, error, words in bad:
        with pytest.raises(error, match=words):
            estimator.expectation(f, logits)
        if case.is_layer:
            with pytest.raises(error, match=words):
                estimator(logits)
    for empty in (torch.zeros(()), torch.zeros(3, 0), None):
        with pytest.raises(ValueError, match="K >= 1"):
            case.estimator().expectation(f, empty)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="feature 'x' has every category masked"):
        case.estimator().expectation(f, torch.full((3,), -INF))


@every_case
def test_f_of_another_shape(case: Case) -> None:
    estimator, logits = case.estimator(RAGGED), RAGGED_LOGITS.expand(4, -1)
    for f, got in (
        (lambda rows: rows.sum(-1, keepdim=True), r"got \(\d+, 4, 1\)"),
        (lambda rows: rows.sum(), r"got \(\)"),
        (lambda rows: rows.sum(-1).mean(0), r"got \(4,\)"),
        (lambda rows: 1.0, "got float"),
    ):
        with pytest.raises(ValueError, match=rf"f must map flat rows \(\d+, 4, 9\).*{got}"):
            estimator.expectation(f, logits)


@every_case
def test_bad_space(case: Case) -> None:
    with pytest.raises(TypeError, match=r"space must be a CategoricalSpace or None, got \(2, 3\)"):
        case.make((2, 3), samples=case.samples)  # type: ignore[arg-type]


def test_enumerate_refuses_a_large_space() -> None:
    space = CategoricalSpace.from_sizes((10,) * 9)
    with pytest.raises(ValueError, match="1,000,000,000 rows, more than max_rows=1,000,000"):
        Enumerate(space).expectation(lambda rows: rows.sum(-1), torch.zeros(90))


def test_enumerate_gives_a_forbidden_row_no_say_even_where_f_is_infinite() -> None:
    logits = torch.tensor([0.0, -INF, 0.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    value = Enumerate(TINY).expectation(
        lambda rows: torch.where(rows[..., 1] == 1, INF, rows[..., 4]), logits
    )
    assert_close(value.item(), 1 / (1 + math.exp(-1) + math.exp(-2)))
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.isfinite().all()
    assert (gradient[:2] == 0).all()
