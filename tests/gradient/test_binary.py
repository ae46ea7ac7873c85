"""The contract on spaces of binary features, for the methods that take no others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import Arms, CategoricalSpace, Disarm
from tests.gradient import contract
from tests.gradient.cases import BINARY_CASES, Case
from tests.gradient.contract import function
from tests.gradient.test_evaluation import run
from tests.strategies import DTYPES, TOLERANCE, random_logits

INF = torch.inf
BINARY = CategoricalSpace({"a": 2, "one": 1, "b": 2, "c": 2, "d": 2})
SMALL = CategoricalSpace({"a": 2, "b": 2})
# the first category of d is masked
LOGITS = torch.tensor([0.5, -0.3, 1.7, 0.2, -0.9, 0.6, 0.4, -INF, -0.5], dtype=torch.float64)

CLAUSES = [
    contract.check_gradient_is_on_the_simplex,
    contract.check_bias,
    contract.check_unbiased_for_a_black_box,
    contract.check_permuted_categories,
    contract.check_permuted_features,
    contract.check_features_are_independent,
    contract.check_batch_splits,
    contract.check_affine_in_f,
    contract.check_formula,
    contract.check_generator,
    contract.check_vmap,
    contract.check_vmap_draws,
    contract.check_compile,
    contract.check_empty_batch,
    contract.check_layout,
    contract.check_frozen_f,
    contract.check_f_learns_too,
    contract.check_rows_hide_the_surrogate,
    contract.check_direction_and_scale,
    contract.check_fresh_noise,
]
METHODS = (Arms, Disarm)

every_case = pytest.mark.parametrize("case", BINARY_CASES, ids=str)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])


@pytest.fixture(autouse=True)
def _binary_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "RAGGED", BINARY)
    monkeypatch.setattr(contract, "RAGGED_LOGITS", LOGITS)
    monkeypatch.setattr(contract, "TINY", SMALL)
    monkeypatch.setattr(contract, "TINY_LOGITS", LOGITS[3:7])


def test_the_methods_are_those_that_say_so() -> None:
    assert {type(case.estimator()) for case in BINARY_CASES} == set(METHODS)
    assert all(cls.facts.binary_only for cls in METHODS)


@every_case
@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
def test_contract(case: Case, clause: Callable[[Case], None]) -> None:
    clause(case)


@every_case
@every_dtype
def test_rows_and_numerics(case: Case, dtype: torch.dtype) -> None:
    contract.check_rows(case, dtype)
    contract.check_finite(case, dtype)
    if dtype != torch.float64:
        contract.check_precision(case, dtype, 4 * TOLERANCE[dtype])


@every_case
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["float64", "bfloat16"])
def test_law(case: Case, dtype: torch.dtype) -> None:
    contract.check_law(case, dtype)


@every_case
def test_padding_counts_for_nothing(case: Case) -> None:
    # "one" with a second category that is masked
    space = CategoricalSpace.from_sizes((2,) * 5)
    columns = torch.tensor([0, 1, 2, 4, 5, 6, 7, 8, 9])
    logits, f = LOGITS.expand(20, -1), function(BINARY, "cubic")
    gumbel = contract.gumbel_noise(case, logits)
    value, gradient = contract.given_noise(case, BINARY, f, logits, gumbel)
    padded = torch.full((20, 10), -INF, dtype=torch.float64).index_copy(-1, columns, logits)
    noise = torch.zeros(len(gumbel), 20, 10, dtype=torch.float64).index_copy(-1, columns, gumbel)
    new = contract.given_noise(case, space, lambda rows: f(rows[..., columns]), padded, noise)
    assert_close(new[0], value)
    assert_close(new[1][..., columns], gradient)
    assert (new[1][..., 3] == 0).all()


@every_case
def test_f_sees_as_many_rows_as_declared(case: Case) -> None:
    estimator = case.estimator(BINARY)
    counter, _ = run(estimator, function(BINARY, "cubic"), random_logits(BINARY, (3,)))
    assert counter.rows == estimator.cost(BINARY).evaluations
    assert estimator.cost(BINARY).backward == 0


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
def test_a_feature_that_is_not_binary_is_named(cls: type[Arms]) -> None:
    words = f"{cls.__name__} needs features of at most 2 categories, but 'cut' has 3; use Carms"
    with pytest.raises(ValueError, match=words):
        cls(CategoricalSpace({"size": 2, "cut": 3, "colour": 7}))
    with pytest.raises(ValueError, match="but 'x' has 5"):
        cls().expectation(lambda rows: rows.sum(-1), torch.zeros(5))
    with pytest.raises(TypeError, match=r"space must be a CategoricalSpace or None, got \(2, 3\)"):
        cls((2, 3))  # type: ignore[arg-type]
    least = cls.min_samples
    with pytest.raises(ValueError, match=f"{cls.__name__} needs samples >= {least}"):
        cls(samples=least - 1)
    with pytest.raises(ValueError, match="f must map flat rows"):
        cls().expectation(lambda rows: rows.sum(), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="feature 'x' has every category masked"):
        cls().expectation(lambda rows: rows.sum(-1), torch.full((2,), -INF))
