"""Messages about models that lack a part, and the size of what is asked at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from discrete_grad import CategoricalSpace
from discrete_grad.models.protocol import ask, dtype_of, has, require, space_of
from discrete_grad.models.row_search import contexts_at_once

SPACE = CategoricalSpace.from_sizes((2, 3))
CODES = torch.tensor([[1, 2], [0, 1]])


def lonely(row: Tensor) -> Tensor:
    """Takes no context."""
    return row.sum(-1)


class Wide(nn.Module):
    """Answers two numbers a row."""

    def forward(self, row: Tensor) -> Tensor:
        return row[:, :2]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ask(lonely, SPACE, (CODES,), torch.ones(2, 1)),
            TypeError,
            "lonely is called with 2 tensors, rows before a context: too many positional arguments",
        ),
        (
            lambda: ask(Wide(), SPACE, (CODES,), None),
            ValueError,
            "Wide must answer 2 rows by a tensor (2,), got (2, 2)",
        ),
        (
            lambda: ask(lonely, SPACE, (CODES,), None, width="L"),
            ValueError,
            "lonely must answer 2 rows by a tensor (2, L), got (2,)",
        ),
        (
            lambda: ask(lambda row: [1.0], SPACE, (CODES,), None),  # type: ignore[arg-type,return-value]
            ValueError,
            "<lambda> must answer 2 rows by a tensor (2,), got list",
        ),
        (
            lambda: ask(lambda row, c: row, SPACE, (CODES,), torch.ones(3, 1)),
            ValueError,
            "rows and context must go together, got (2, 2), (3, 1)",
        ),
        (
            lambda: require("a test", nn.Linear(2, 2), "parameters", "std"),
            TypeError,
            "a test needs a model with `std(row, context)`; Linear has none",
        ),
        (
            lambda: require("a test", lonely, "forward", "parameters"),
            TypeError,
            "a test needs a model with `parameters()` of an `nn.Module`; function has none",
        ),
        (
            lambda: space_of("a test", nn.Linear(2, 2), None),
            TypeError,
            "a test needs the features, and Linear has no `space`: give `space=`",
        ),
    ],
)
def test_what_does_not_fit_is_named(call: Callable[[], Any], error: Any, message: str) -> None:
    with pytest.raises(error) as told:
        call()
    said = str(told.value)
    assert said.removeprefix("test_protocol.").endswith(message) or said == message
    assert said.count("\n") == 0


def test_spaces_that_differ_are_both_named() -> None:
    model = nn.Linear(2, 2)
    model.space = SPACE  # type: ignore[assignment]
    other = CategoricalSpace.from_sizes((2, 2))
    assert space_of("a test", model, None) == space_of("a test", model, SPACE) == SPACE
    assert space_of("a test", lonely, other) == other
    with pytest.raises(ValueError, match=r"^a test is for rows of .*x1: 2\), and Linear for rows"):
        space_of("a test", model, other)


def test_parts_are_told_from_layers_of_their_name() -> None:
    model = nn.Module()
    model.std, model.to_latent, model.space = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    assert [has(model, part) for part in ("std", "to_latent", "space", "predictions")] == [
        False,
        True,
        True,
        False,
    ]
    assert [has(lonely, part) for part in ("forward", "parameters")] == [True, False]
    assert not has(3, "forward")


def test_the_type_is_that_of_the_first_floating_tensor() -> None:
    model = nn.Module()
    model.register_buffer("places", torch.zeros(2, dtype=torch.long))
    assert dtype_of(model) == torch.float32
    model.register_buffer("scale", torch.zeros(2, dtype=torch.float16))
    assert dtype_of(model) == torch.float16
    model.weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    assert dtype_of(model) == torch.float64
    assert dtype_of(lonely) == torch.float32


def test_rows_and_contexts_are_broadcast_and_one_row_has_one_answer() -> None:
    def both(first: Tensor, second: Tensor, context: Tensor) -> Tensor:
        return (first * second).sum(-1) + context[:, 0]

    rows = (CODES.view(2, 1, 2), SPACE.one_hot(CODES))
    found = ask(both, SPACE, rows, torch.tensor([[10.0], [20.0]]))
    assert found.tolist() == [[12.0, 20.0], [10.0, 22.0]]
    alone = ask(both, SPACE, (CODES[0], CODES[0]), torch.tensor([0.5]))
    assert (alone.item(), alone.shape) == (2.5, ())


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ((1, 10, 1), 14_027),
        ((2, 300, 1), 4044),
        ((8, 300, 2), 3578),
        ((40, 5000, 1), 1755),
        ((40, 5000, 3), 740),
    ],
)
def test_so_many_contexts_are_searched_at_a_time(options: tuple[int, int, int], count: int) -> None:
    """2^22 over the codes of a context: (1, 10, 1) has a pool of 10 rows and 64 swaps of one."""
    large = CategoricalSpace.from_sizes((40, 7, 30))
    assert contexts_at_once(large, *options) == count
