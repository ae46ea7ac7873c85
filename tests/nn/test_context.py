"""A context as a network reads it: numbers worked out by hand, and refusals in full."""

import re

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad.nn.context import ContextReading, check_context, mlp, with_context
from discrete_grad.space import ContextSpec

PLAIN = ContextSpec({"shop": 2}, ["price"])
EMBEDDED = ContextSpec({"shop": 2, "day": 3}, ["price"], embedded=True)
# shop, day, price
CONTEXT = torch.tensor([[1.0, 2.0, 0.5], [0.0, 1.0, -3.0]])


def by_hand(weight: Tensor, context: Tensor) -> Tensor:
    """The rows of the table that the codes name, side by side, and the price: `(N, 33)`."""
    return torch.stack(
        [torch.cat([weight[int(row[0])], weight[2 + int(row[1])], row[2:]]) for row in context]
    )


def test_hidden_layers() -> None:
    layers = list(mlp(5, (4, 3)))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.SiLU, nn.Linear, nn.SiLU]
    assert [(layer.in_features, layer.out_features) for layer in layers[::2]] == [(5, 4), (4, 3)]
    dropping = list(mlp(5, (4, 3), 0.25))
    assert [type(layer) for layer in dropping[2::3]] == [nn.Dropout, nn.Dropout]
    assert [layer.p for layer in dropping[2::3]] == [0.25, 0.25]
    assert mlp(5, (1,))(torch.zeros(2, 5)).shape == (2, 1)
    for hidden in ((), (4, 0)):
        found = re.escape(f"hidden needs at least one width above 0, got {hidden}")
        with pytest.raises(ValueError, match=f"^{found}$"):
            mlp(5, hidden)


def test_a_context_that_is_read_as_it_is() -> None:
    reading = ContextReading(PLAIN)
    assert (reading.width, reading.weight, list(reading.parameters())) == (3, None, [])
    context = torch.tensor([[0.0, 1.0, 4.0]], dtype=torch.float64)
    assert reading(context) is context
    vector = torch.ones(1, 2)
    assert_close(reading.beside(vector, context), torch.tensor([[1.0, 1.0, 0.0, 1.0, 4.0]]))
    none = ContextReading(None)
    assert none.width == 0
    assert none.beside(vector, None) is vector


def test_embedded_columns_by_hand() -> None:
    torch.manual_seed(0)
    reading = ContextReading(EMBEDDED)
    assert reading.width == 2 * 16 + 1
    assert reading.weight is not None
    assert reading.weight.shape == (5, 16)
    assert reading.weight.requires_grad
    assert 0.05 < reading.weight.std() < 0.2
    assert_close(reading(CONTEXT), by_hand(reading.weight, CONTEXT))
    reading.double()
    assert reading(CONTEXT).dtype == torch.float64


@pytest.mark.parametrize("lead", [(), (3,), (4, 3)])
def test_a_vector_and_a_context_are_broadcast(lead: tuple[int, ...]) -> None:
    reading = ContextReading(EMBEDDED)
    vector = torch.randn(*lead, 2, 7)
    wide = torch.cat([vector, by_hand(reading.weight, CONTEXT).expand(*lead, -1, -1)], -1)
    assert_close(reading.beside(vector, CONTEXT), wide)
    one = torch.randn(7)  # the same vector for each context
    alike = torch.cat([one.expand(*lead, 2, -1), wide[..., 7:]], -1)
    assert_close(reading.beside(one, CONTEXT.expand(*lead, -1, -1)), alike)


@pytest.mark.parametrize("samples", [(), (4,)])
def test_stacked_models_read_each_its_own_table(samples: tuple[int, ...]) -> None:
    tables, vector = torch.randn(3, 5, 16), torch.randn(3, *samples, 2, 7)
    found = with_context(vector, CONTEXT, EMBEDDED, tables)
    for model in range(3):
        own = with_context(vector[model], CONTEXT, EMBEDDED, tables[model])
        assert_close(own[..., 7:], by_hand(tables[model], CONTEXT).expand(*samples, -1, -1))
        assert_close(found[model], own)


@pytest.mark.parametrize(
    ("spec", "context", "message"),
    [
        (PLAIN, None, "this model takes a context (..., 3), got none"),
        (None, CONTEXT, "this model takes no context, got (2, 3)"),
        (PLAIN, CONTEXT[:, :2], f"context must be (..., 3) for {PLAIN.names}, got (2, 2)"),
        (PLAIN, torch.tensor(1.0), f"context must be (..., 3) for {PLAIN.names}, got ()"),
    ],
)
def test_a_context_that_does_not_fit(
    spec: ContextSpec | None, context: Tensor | None, message: str
) -> None:
    calls = [lambda: check_context(context, spec), lambda: with_context(CONTEXT, context, spec)]
    for call in [*calls, lambda: ContextReading(spec)(context)]:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


def test_what_is_no_context() -> None:
    with pytest.raises(TypeError, match=r"^context must be a tensor or None, got list$"):
        check_context([1.0], PLAIN)
    with pytest.raises(TypeError, match=r"^the context must be a ContextSpec or None, .*got int$"):
        ContextReading(3)
    with pytest.raises(ValueError, match=r"\('shop', 'day'\) need a ContextReading's weight"):
        with_context(torch.zeros(2, 7), CONTEXT, EMBEDDED)
    with pytest.raises(ValueError, match="feature 'day' has code 3"):
        ContextReading(EMBEDDED)(torch.tensor([[0.0, 3.0, 1.0]]))
