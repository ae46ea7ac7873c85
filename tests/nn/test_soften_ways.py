"""The quick ways of a look-up are taken where they can be; the slow ones are right all the same."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from discrete_grad.nn import soften
from discrete_grad.nn.soften import _found, _products
from discrete_grad.nn.soften._codes import Row
from tests.nn.test_soften_moves import LOOKUPS, ROWS, SPACES, TABLE, Model, Move

CODES = torch.tensor([[0, 1, 2, 1], [2, 0, 1, 0], [1, 1, 0, 1]])
OFFSETS = torch.tensor([0, 3, 6, 9])
EACH_ROW = 10 * torch.arange(ROWS).unsqueeze(1)


def forbid(monkeypatch: pytest.MonkeyPatch, *ways: str) -> None:
    def forbidden(*given: Any) -> None:
        raise AssertionError("a slower way was taken")

    for way in ways:
        module = _found if hasattr(_found, way) else _products
        monkeypatch.setattr(module, way, forbidden)


def check(move: Move, look_up: Move) -> None:
    for space in SPACES:
        codes = CODES % torch.tensor(space.sizes)
        model = Model([move], look_up)
        row = space.one_hot(codes, dtype=torch.float64)
        assert_close(soften(model, space)(row)[0], model(codes)[0])


COLUMNS: dict[str, Move] = {
    "column": lambda x: x[:, 1],
    "last column": lambda x: x[:, -1],
    "number added": lambda x: x[:, 2] + 3,
    "selected": lambda x: x.select(1, 3),
    "unbound": lambda x: x.unbind(1)[2],
}
REGULAR: dict[str, Move] = {
    **COLUMNS,
    "all": lambda x: x,
    "offsets": lambda x: x + OFFSETS,
    "the same offset": lambda x: x + 5,
    "some columns": lambda x: x[:, 1:3] + OFFSETS[1:3],
    "every second": lambda x: x[:, ::2],
    "some rows": lambda x: x[1:],
    "one row": lambda x: x[1],
    "one code": lambda x: x[1, 2],
    "every second row": lambda x: x[::2],
    "the same for each row": lambda x: x + OFFSETS.expand(ROWS, 4),
    "transposed": lambda x: (x + OFFSETS).t(),
    "deep": lambda x: x.unsqueeze(1).unsqueeze(-1),
    "wide": lambda x: x.unsqueeze(1).expand(-1, 2, -1),
    "wide and last": lambda x: x.unsqueeze(-1).expand(-1, -1, 2),
    "in one line": lambda x: x.reshape(-1),
    "in twos": lambda x: (x + OFFSETS).view(ROWS, 2, 2),
    "of rows in one line": lambda x: x[:, 1:2].reshape(-1),
}
BY_ROWS: dict[str, Move] = {
    "reversed": lambda x: (x + OFFSETS).flip(1),
    "listed": lambda x: x[:, [2, 0, 0]],
    "stacked": lambda x: torch.stack([x, x.flip(1)], 1),
    "numbers": lambda x: torch.where(torch.arange(4) > 2, 7, x + OFFSETS),
}
OTHERS: dict[str, Move] = {
    "each row": lambda x: x + EACH_ROW,
    "rows reversed": lambda x: x.flip(0),
    "none": lambda x: x[:, torch.arange(0)],
}
every_look_up = pytest.mark.parametrize("look_up", LOOKUPS.values(), ids=LOOKUPS.keys())


@every_look_up
@pytest.mark.parametrize("move", COLUMNS.values(), ids=COLUMNS.keys())
def test_columns(move: Move, look_up: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, "_regular", "product")
    check(move, look_up)


@every_look_up
@pytest.mark.parametrize("move", REGULAR.values(), ids=REGULAR.keys())
def test_regular_positions(move: Move, look_up: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, "_row_by_row", "_one_by_one", "_unknown")
    check(move, look_up)


@every_look_up
@pytest.mark.parametrize("move", BY_ROWS.values(), ids=BY_ROWS.keys())
def test_the_same_in_each_row(move: Move, look_up: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, "_one_by_one", "_unknown")
    check(move, look_up)


@every_look_up
@pytest.mark.parametrize("move", OTHERS.values(), ids=OTHERS.keys())
def test_any_others(move: Move, look_up: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, "_unknown")
    check(move, look_up)


@pytest.mark.parametrize("move", [OTHERS["none"], OTHERS["each row"]], ids=["none", "each row"])
def test_what_is_found_has_the_dtype_of_the_table(move: Move) -> None:
    row = SPACES[0].one_hot(CODES % torch.tensor(SPACES[0].sizes), dtype=torch.float32)
    found = soften(Model([move], lambda x: F.embedding(x, TABLE)), SPACES[0])(row)[0]
    assert found.dtype == TABLE.dtype


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize(
    "move",
    [lambda x: x, lambda x: x + OFFSETS, lambda x: x[1:, 1:3] + 4, lambda x: x[:, ::2] + 1],
    ids=["all", "offsets", "some", "every second"],
)
def test_sums_of_rows(move: Move, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, "_by_form")
    check(move, lambda x: F.embedding_bag(x, TABLE, mode=mode))


def learning() -> torch.nn.Parameter:
    return torch.nn.Parameter(TABLE.clone())


OPTIONS: dict[str, Move] = {
    "embedding": lambda x: F.embedding(x, learning()),
    "bag": lambda x: F.embedding_bag(x, learning()),
    "embedding of a norm": lambda x: F.embedding(x, TABLE.clone(), max_norm=1.0),
    "embedding of another norm": lambda x: F.embedding(
        x, TABLE.clone(), max_norm=1.0, norm_type=1.0
    ),
    "bag of a norm": lambda x: F.embedding_bag(x, TABLE.clone(), max_norm=1.0),
    "bag of a padding": lambda x: F.embedding_bag(x, learning(), mode="sum", padding_idx=1),
    "frozen bag of a padding": lambda x: F.embedding_bag(x, TABLE, mode="sum", padding_idx=0),
    "weighted bag": lambda x: F.embedding_bag(
        x, learning(), mode="sum", per_sample_weights=torch.arange(12.0).view(3, 4).double()
    ),
    "bag of a line": lambda x: F.embedding_bag(x.flatten(), TABLE, torch.tensor([0, 2, 7])),
    "bag of a line with its end": lambda x: F.embedding_bag(
        x.flatten(), TABLE, torch.tensor([0, 2, 7, 12]), include_last_offset=True
    ),
}


@pytest.mark.parametrize("look_up", OPTIONS.values(), ids=OPTIONS.keys())
def test_options_given_and_left_out(look_up: Move) -> None:
    check(lambda x: x + OFFSETS, look_up)


@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}], ids=["none", "a norm"])
@pytest.mark.parametrize("look_up", [F.embedding, F.embedding_bag])
def test_options_that_a_compiler_leaves_out(look_up: Any, options: dict[str, Any]) -> None:
    """Outside torch.compile torch itself fills in those that the model does not give."""
    space, tables = SPACES[1], [learning(), learning()]
    codes = Row(space.one_hot(CODES, dtype=torch.float64), space).codes()
    frozen = [table.detach().clone() if options else table for table in tables]
    found = codes.operate(look_up.__name__, look_up, (codes, frozen[0]), options)
    expected = look_up(CODES, frozen[1], **options)
    assert_close(found, expected)
    if not options:
        (found * expected.detach()).sum().backward()
        (expected * expected.detach()).sum().backward()
        assert_close(tables[0].grad, tables[1].grad)


def test_the_table_first_is_refused() -> None:
    """`torch.embedding` and `torch.embedding_bag` take the arguments the other way round."""
    table, line = learning(), torch.tensor([0])
    for look_up in (
        lambda x: torch.embedding(table, x),
        lambda x: torch.embedding(weight=table, indices=x),
        lambda x: torch.embedding_bag(table, x.flatten(), line),
        lambda x: torch.embedding_bag(weight=table, indices=x.flatten(), offsets=line),
    ):
        with pytest.raises(TypeError, match=r"soften: 'embedding.* needs the value of a code"):
            soften(Model([], look_up), SPACES[1])(SPACES[1].one_hot(CODES))


def test_the_slope_of_a_padding_is_nothing() -> None:
    weight = learning()
    for look_up in (
        lambda x: F.embedding(x, weight, padding_idx=1),
        lambda x: F.embedding_bag(x, weight, mode="sum", padding_idx=1),
    ):
        row = SPACES[1].one_hot(CODES, dtype=torch.float64)
        total = soften(Model([], look_up), SPACES[1])(row)[0].sum()
        (slope,) = torch.autograd.grad(total, weight)
        assert (slope != 0).any(-1).nonzero().flatten().tolist() == [0, 2]
