"""Under which names operations on codes are known, and how they come to be followed."""

import operator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.nn import soften
from discrete_grad.nn.soften import _codes, _followed
from tests.nn.test_soften_moves import Model


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[Any, str]:
    found: dict[Any, str] = {}
    monkeypatch.setattr(_followed, "_NAMES", found)
    monkeypatch.setattr(_codes, "_RULES", {})
    return found


def test_functions_methods_and_operators(names: dict[Any, str]) -> None:
    assert _followed.known("add", "one_hot", "int", "nothing") == (
        "add",
        "one_hot",
        "int",
        "nothing",
    )
    assert names == {
        torch.add: "add",
        Tensor.add: "add",
        Tensor.__add__: "add",
        F.one_hot: "one_hot",
        Tensor.int: "int",  # and not Tensor.__int__, which asks for a value
    }


def test_a_rule_is_found_by_each_of_its_names(names: dict[Any, str]) -> None:
    def double(name: str, func: Any, args: Any, kwargs: Any) -> str:
        return f"{name} of {args}"

    assert _codes.rule("add", "sub")(double) is double
    assert {"add", "sub"} == set(names.values())
    assert _codes.Codes.operate("sub", torch.sub, (1,), {}) == "sub of (1,)"
    assert _codes.Codes.operate("mul", torch.mul, (1,), {}) is NotImplemented


def test_operators_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(_followed, "follow", lambda *call: given.append(call))
    method = _followed._operator("__add__")
    assert method.__name__ == "__add__"
    codes: Any = object()
    method(codes, 3)
    assert given == [(Tensor.__add__, (codes, 3), {})]
    _followed._method(Tensor.add, codes, 4, alpha=2)
    assert given[1] == (Tensor.add, (codes, 4), {"alpha": 2})


# --- what a model may ask of codes ----------------------------------------------------------------

SEVEN = CategoricalSpace({f"c{i}": 2 for i in range(7)})
CODES = torch.tensor([[0, 1, 0, 1, 1, 0, 1], [1, 1, 0, 0, 1, 0, 0]])


def told_by(look: Any, space: CategoricalSpace = SEVEN, *, soft: bool = True) -> Any:
    """What a model that asks its codes returns."""
    kept: list[Any] = []

    def asked(x: Any) -> Tensor:
        kept.append(look(x))
        return torch.zeros(len(x))

    codes = CODES[:, : space.num_features]
    soften(Model([], asked), space)(space.one_hot(codes) if soft else codes)
    return kept[0]


def test_codes_in_words() -> None:
    whole = "codes (2, 7) of a soft row (c0, c1, c2, c3, c4, c5)"
    assert told_by(repr) == told_by(str) == told_by(lambda x: f"{x}") == whole
    assert told_by(lambda x: repr(x[:, 1])) == "codes (2,) of a soft row (c1)"
    counts = "counts (2, 2, 3) of a soft row (c3, c5)"
    assert told_by(lambda x: repr(F.one_hot(x[:, 3:6:2], 3))) == counts


@pytest.mark.parametrize(
    "look",
    [
        lambda x: (x.dtype, x.device, x.ndim, x.shape, x.size(1), x.numel(), x.layout),
        lambda x: (x.is_cuda, x.is_sparse, x.requires_grad, x.grad, x.grad_fn, x.is_leaf),
        lambda x: (x.T.shape, x.mT.shape, x.int().dtype, x.float().is_floating_point()),
        lambda x: (x.itemsize, x.dim(), x.element_size(), x.nelement()),
        lambda x: (x.data.shape, isinstance(x, Tensor), x.type(), len(x), x.get_device()),
    ],
)
def test_answers_are_those_of_integers(look: Any) -> None:
    assert told_by(look) == told_by(look, soft=False)


@pytest.mark.parametrize("bound", [-1, 0, 1, 2])
@pytest.mark.parametrize("name", ["lt", "le", "gt", "ge", "eq", "ne"])
def test_a_comparison_has_an_answer_where_all_codes_have_the_same(name: str, bound: int) -> None:
    compare = getattr(operator, name)
    answers = {compare(code, bound) for code in range(2)}
    if len(answers) == 1:
        assert told_by(lambda x: compare(x, bound).unique().tolist()) == [*answers]
    else:
        with pytest.raises(TypeError, match="needs"):
            told_by(lambda x: compare(x, bound))


def test_a_column_has_no_transpose_of_its_own() -> None:
    assert told_by(lambda x: x[:, 0].T.shape) == (2,)


@pytest.mark.parametrize(
    ("name", "look"),
    [("hash", hash), (".real", lambda x: x.real), (".imag", lambda x: x.imag)],
)
def test_what_codes_cannot_say(name: str, look: Any) -> None:
    seven = r"'c0', 'c1', 'c2', 'c3', 'c4', 'c5', \.\.\."
    with pytest.raises(TypeError, match=rf"^soften: '{name}' in '.+' \(feature {seven}\) needs"):
        told_by(look)
    six = CategoricalSpace({f"c{i}": 2 for i in range(6)})
    with pytest.raises(TypeError, match=rf"\(feature {seven[:-8]}\) needs"):
        told_by(look, six)


def test_what_no_tensor_has() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        told_by(lambda x: x.nothing)
