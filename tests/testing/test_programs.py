"""What `torch.compile` and `torch.export` are asked for, and a program of theirs that differs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad.testing import CheckResult, run_checks
from tests.testing.bugs import LAYER, Layer

SMALL = 1e-5
Program = Callable[..., Any]


def result_of(check: str) -> CheckResult:
    (result,) = run_checks(Layer, facts=LAYER, only=[check], seed=1)
    return CheckResult(check, result.status, result.message.split("\n  (")[0])


def stretched(value: Tensor) -> Tensor:
    """The same number with another gradient."""
    return value + SMALL * (value - value.detach())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda call: call, ""),
        (
            lambda call: lambda f, x: call(f, x) + SMALL,
            "torch.compile changed the value, with the same noise",
        ),
        (
            lambda call: lambda f, x: stretched(call(f, x)),
            "torch.compile changed the gradient, with the same noise: feature 'colour', category "
            "'0': expected",
        ),
    ],
    ids=["the same", "another value", "another gradient"],
)
def test_the_first_program(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Program], Program], message: str
) -> None:
    options = []

    def made(call: Program, **given: Any) -> Program:
        options.append(given)
        return change(call)

    monkeypatch.setattr(torch, "compile", made)
    result = result_of("compile")
    assert options == [{"backend": "aot_eager", "fullgraph": True}]
    assert result.status == ("failed" if message else "passed")
    assert result.message.startswith(message)


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        (lambda rows: rows, True),
        (lambda rows: rows * (1 + 1e-7), True),  # rounding
        (lambda rows: rows + 1e-4, False),
        (lambda rows: rows if len(rows) == 5 else rows + 1e-4, False),
        (lambda rows: rows.roll(1, 0), False),
    ],
)
def test_the_second_program(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor], fine: bool
) -> None:
    given = []

    def made(layer: Program, inputs: tuple[Tensor, ...], *, dynamic_shapes: Any) -> Any:
        given.append((inputs, dynamic_shapes))
        return SimpleNamespace(module=lambda: lambda x: change(layer(x)))

    monkeypatch.setattr(torch.export, "export", made)
    result = result_of("export")
    ((logits,), (sizes,)) = given[0]
    assert (logits.shape, logits.dtype) == ((5, 9), torch.float32)
    assert logits.is_contiguous()
    assert [(k, v.__name__) for k, v in sizes.items()] == [(0, "batch")]
    assert result.status == ("passed" if fine else "failed")
    assert result.message == (
        "" if fine else "the exported program gives other rows for the same noise"
    )
