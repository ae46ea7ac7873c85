"""Under which names operations on codes are known, and how they come to be followed."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.nn.soften import _codes, _followed


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
