"""What is refused: the message names the operation, the user's line, feature and rows."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.nn import soften
from tests.nn.test_soften_moves import Model

SPACE = CategoricalSpace({"cut": 3, "colour": 4, "shape": 2})
ROWS = SPACE.one_hot(torch.tensor([[2, 3, 1], [0, 0, 0], [1, 1, 1], [2, 2, 0]]))
PAIR, INTS, NINE = torch.ones(2, 3), torch.tensor([5, 3]), torch.ones(9, 9)
ALL = "'cut', 'colour', 'shape'"
CUT = ": the table has 2 rows; feature 'cut' needs rows 0 to 2"
COLOUR = ": the table has 2 rows; feature 'colour' needs rows 0 to 3"
NO_MIXTURE = " looks up int64 values, of which there is no mixture. Codes may be "

LookUp = Callable[[Any], Any]


def each(offsets: Tensor) -> LookUp:
    return lambda x: torch.ones(6, 2)[x + offsets]


# operation, its look-up, the features it is about, the message
REFUSALS: list[tuple[str, LookUp, str, str]] = [
    ("embedding", lambda x: F.embedding(x, PAIR), ALL, CUT),
    ("embedding_bag", lambda x: F.embedding_bag(x, PAIR, mode="sum"), ALL, CUT),
    ("embedding_bag", lambda x: F.embedding_bag(x, PAIR, mode="max"), ALL, CUT),
    ("getitem", lambda x: PAIR[x], ALL, CUT),
    ("getitem", lambda x: PAIR[x[:, 1]], "'colour'", COLOUR),
    ("getitem", lambda x: torch.ones(2, 5)[x[:, 0], x[:, 1]], "'cut'", CUT),
    ("getitem", lambda x: torch.ones(5, 2)[x[:, 0], x[:, 1]], "'colour'", COLOUR),
    ("getitem", lambda x: torch.ones(2, 5)[x[:, 1], [0]], "'colour'", COLOUR),
    ("index_select", lambda x: PAIR.index_select(0, x[:, 0]), "'cut'", CUT),
    ("take", lambda x: PAIR[:, 0].take(x[:, 0]), "'cut'", CUT),
    ("gather", lambda x: NINE[:4, :2].gather(1, x), ALL, CUT),
    ("take_along_dim", lambda x: torch.take_along_dim(NINE[:4, :2], x, 1), ALL, CUT),
    ("one_hot", lambda x: F.one_hot(x, 2), ALL, CUT),
    (
        "getitem",
        lambda x: NINE[x - 1],
        ALL,
        ": the table has 9 rows; feature 'cut' needs rows -1 to 1",
    ),
    (
        "getitem",
        each(torch.tensor([0, 2, 5])),
        ALL,
        ": the table has 6 rows; feature 'shape' needs rows 5 to 6",
    ),
    (
        "getitem",
        each(torch.arange(4).unsqueeze(1)),
        ALL,
        ": the table has 6 rows; feature 'colour' needs rows 3 to 6",
    ),
    (
        "getitem",
        lambda x: NINE[:6][torch.where(torch.arange(3) > 1, 7, x)],
        "'cut', 'colour'",
        ": the table has 6 rows; a number needs rows 7 to 7",
    ),
    ("getitem", lambda x: INTS[x], ALL, ": the table has 2 rows, the codes need rows 0 to 3"),
    (
        "index_select",
        lambda x: INTS.index_select(0, x[:, 0]),
        "'cut'",
        ": the table has 2 rows, the codes need rows 0 to 2",
    ),
    ("getitem", lambda x: INTS[x - 1], ALL, ": the table has 2 rows, the codes need rows -1 to 2"),
    ("embedding", lambda x: F.embedding(x, NINE.long()), ALL, NO_MIXTURE),
    ("gather", lambda x: NINE[:4].long().gather(1, x), ALL, NO_MIXTURE),
    ("getitem", lambda x: NINE.long()[x[:, 0], x[:, 1]], "'colour'", NO_MIXTURE),
]


@pytest.mark.parametrize(
    ("name", "look_up", "features", "message"),
    REFUSALS,
    ids=[f"{i}-{name}" for i, (name, *_) in enumerate(REFUSALS)],
)
def test_the_message(name: str, look_up: LookUp, features: str, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        soften(Model([], look_up), SPACE)(ROWS)
    wanted = rf"soften: {name!r} in '.+' \(feature {features}\){re.escape(message)}"
    assert re.match(wanted, str(caught.value)), str(caught.value)


OTHER = SPACE.argmax(ROWS)
JOINS: dict[str, LookUp] = {
    "cat": lambda x: torch.cat([x, ROWS]),
    "cat by name": lambda x: torch.cat(tensors=[x, torch.ones(1, 3)], dim=0),
    "stack": lambda x: torch.stack([x, torch.ones(4, 3)], 1),
    "stack by name": lambda x: torch.stack(tensors=(x, torch.ones(4, 3)), dim=1),
    "where": lambda x: torch.where(OTHER > 0, x, torch.ones(4, 3)),
    "where by name": lambda x: torch.where(OTHER > 0, input=x, other=torch.ones(4, 3)),
    "masked_fill": lambda x: x.masked_fill(OTHER > 0, 0.5),
    "masked_fill by name": lambda x: x.masked_fill(mask=OTHER > 0, value=0.5),
}


@pytest.mark.parametrize("join", JOINS.values(), ids=JOINS.keys())
def test_codes_are_joined_with_integers_alone(join: LookUp) -> None:
    """Others would turn the codes to floating numbers, by which nothing is looked up."""
    with pytest.raises(TypeError, match=r"^soften: '\w+' in .* needs the value of a code"):
        soften(Model([], lambda x: torch.ones(9, 2)[join(x).long()]), SPACE)(ROWS)


# by codes at equal distances, and by others
IN_A_ROW: dict[str, LookUp] = {
    "regular": lambda x: x[:, :2] + 5,
    "offsets": lambda x: x[:, :2] + torch.tensor([5, 5]),
    "reversed": lambda x: x[:, :2].flip(1) + torch.tensor([5, 5]),
    "a number among them": lambda x: torch.where(torch.arange(3) > 1, 7, x + 5),
}


@pytest.mark.parametrize("codes", IN_A_ROW.values(), ids=IN_A_ROW.keys())
def test_a_clamp_knows_the_least_and_the_largest_code(codes: LookUp) -> None:
    table = torch.eye(9)

    def clamped(low: int, high: int) -> Tensor:
        found: Tensor = soften(Model([], lambda x: table[codes(x).clamp(low, high)]), SPACE)(ROWS)[
            0
        ]
        return found

    assert torch.equal(clamped(5, 8), table[codes(OTHER)])
    for low, high in ((6, 8), (5, 7)):
        with pytest.raises(TypeError, match="has bounds that codes can pass: here they are 5 to 8"):
            clamped(low, high)


def test_a_view_of_another_type_is_refused() -> None:
    for cast in (lambda x: x.view(torch.int32), lambda x: x.view(dtype=torch.int32)):
        with pytest.raises(TypeError, match=r"^soften: 'view' in .* needs the value of a code"):
            soften(Model([cast], lambda x: x), SPACE)(ROWS)
