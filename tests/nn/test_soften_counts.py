"""Counts of categories: integers to the model, until it takes them for floating numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.nn import soften
from tests.nn.test_soften_moves import Model

SPACE = CategoricalSpace({"cut": 3, "colour": 4, "shape": 2})
CODES = torch.tensor([[2, 3, 1], [0, 0, 0], [1, 1, 1], [2, 2, 0]])
ROWS = SPACE.one_hot(CODES, dtype=torch.float64)
TABLE = torch.arange(8.0).view(4, 2).double()
ONES = torch.arange(4)


def counted(x: Any) -> Any:
    return F.one_hot(x, 4)


WAYS: dict[str, Callable[[Any], Any]] = {
    "cast": lambda x: counted(x).double(),
    "cast to": lambda x: counted(x).to(torch.float64),
    "cast by name": lambda x: counted(x).to(dtype=torch.float64),
    "cast like": lambda x: counted(x).type_as(TABLE),
    "narrow integers": lambda x: counted(x).int().sum(1).double(),
    "other integers by name": lambda x: counted(x).to(dtype=torch.int32).double(),
    "sum": lambda x: counted(x).sum(1).double() @ TABLE,
    "cumulative": lambda x: counted(x).cumsum(1).double(),
    "product with integers": lambda x: (counted(x) @ torch.eye(4).long()).double(),
    "integers by einsum": lambda x: torch.einsum("nfk,k->nf", counted(x), ONES).double(),
    "mean": lambda x: torch.mean(counted(x), 1, dtype=torch.float64),
    "sum as floats": lambda x: counted(x).sum(1, dtype=torch.float64),
    "ratio": lambda x: (counted(x) / 2).double(),
    "plus and minus": lambda x: (1 - (counted(x) + 3) * 2).double(),
    "beside a float": lambda x: (counted(x) * 0.5).double(),
    "negative": lambda x: (-counted(x)).double(),
    "parts": lambda x: torch.stack([p.double() for p in counted(x).unbind(1)][::-1]),
    "split": lambda x: counted(x).split([1, 3], -1)[1].double(),
    "chunks": lambda x: counted(x).chunk(2, -1)[0].double(),
    "iterated": lambda x: torch.stack([row.sum(0) for row in counted(x)]).double(),
    "joined": lambda x: torch.cat([counted(x), counted(x).flip(1)], -1).double(),
    "masked": lambda x: (counted(x) * ONES).sum(-1).double(),
    "transposed": lambda x: counted(x).transpose(1, 2).flatten(1).double(),
    "picked": lambda x: counted(x)[:, torch.tensor([2, 0])].double(),
    "selected": lambda x: counted(x).index_select(-1, torch.tensor([3, 1])).double(),
    "repeated": lambda x: counted(x).repeat(1, 2, 1).sum((0, 1)).double(),
    "beside half precision": lambda x: counted(x).double() @ TABLE + counted(x).half().sum(),
    "asked": lambda x: counted(x).double() * counted(x).size(-1) * len(counted(x)),
    "filled like": lambda x: counted(x).double() + torch.full_like(counted(x), 3).double(),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_values_are_those_of_integers(way: Callable[[Any], Any]) -> None:
    model = Model([], way)
    expected = model(CODES)[0]
    found = soften(model, SPACE)(ROWS)[0]
    assert found.dtype == expected.dtype
    assert_close(found, expected)


def test_half_a_category_counts_by_half() -> None:
    row = 0.25 * ROWS[:2] + 0.75 * ROWS[2:]
    for way in ("sum", "parts", "plus and minus", "product with integers"):
        model = Model([], WAYS[way])
        hard = [model(codes)[0] for codes in (CODES[:2], CODES[2:])]
        assert_close(soften(model, SPACE)(row)[0], 0.25 * hard[0] + 0.75 * hard[1])


def test_what_the_model_sees() -> None:
    seen: list[Any] = []

    def look(x: Any) -> Tensor:
        counts = counted(x)
        seen.extend([counts.dtype, counts.type(), counts.shape, counts.device.type, len(counts)])
        seen.extend([counts.is_floating_point(), isinstance(counts, Tensor)])
        seen.extend([counts.int().dtype, counts.to(dtype=torch.int16).dtype])
        return counts.double()

    for row in (ROWS, CODES):
        soften(Model([], look), SPACE)(row)
        assert seen[:5] == [torch.int64, "torch.LongTensor", (4, 3, 4), "cpu", 4]
        assert seen[5:] == [False, True, torch.int32, torch.int16]
        seen.clear()


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("bool", lambda x: counted(x).bool()),
        ("to", lambda x: counted(x).to(torch.bool)),
        ("add", lambda x: counted(x) + x.unsqueeze(-1)),
        ("argmax", lambda x: counted(x).argmax(-1)),
        ("gt", lambda x: counted(x) > 0),
    ],
)
def test_what_soft_counts_cannot_say(name: str, way: Callable[[Any], Any]) -> None:
    start = (
        rf"^soften: '{name}' in .* \(feature 'cut', 'colour', 'shape'\) needs the value of a code"
    )
    with pytest.raises(TypeError, match=start):
        soften(Model([], way), SPACE)(ROWS)
