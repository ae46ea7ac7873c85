"""Contexts that are shown, their names, and how those of the training rows spread."""

import re

import pytest
import torch

from discrete_grad import ContextSpec
from discrete_grad.data import NumericColumn, Schema, Vocabulary
from discrete_grad.evaluation import TrainingContexts, context_labels, distinct_contexts


def test_distinct_contexts_are_ordered_by_their_rows() -> None:
    one_hot = torch.eye(3)[torch.tensor([2, 0, 2, 1, 2, 0])]
    shown, index = distinct_contexts(one_hot, 6)
    assert shown is not None
    assert shown.argmax(-1).tolist() == [2, 0, 1]
    assert torch.equal(shown[index], one_hot)
    everything, place = distinct_contexts(torch.tensor([[3.0], [1.0], [2.0]]), 3, embedded=True)
    assert everything is not None
    assert everything.flatten().tolist() == [1, 2, 3]
    assert place.tolist() == [2, 0, 1]


def test_distinct_contexts_beyond_the_limit_are_spread_evenly() -> None:
    context = torch.cat([torch.arange(100.0), torch.full((5,), 50.0)]).unsqueeze(-1)
    shown, index = distinct_contexts(context, 105, limit=4)
    assert shown is not None
    assert shown[0].item() == 50
    spread = sorted(shown[1:].squeeze(-1).tolist())
    assert spread[0] == 0
    assert spread[-1] == 99
    assert 40 < spread[1] < 60
    assert (index >= 0).sum() == 9
    assert torch.equal(shown[index[index >= 0]], context[index >= 0])


def test_context_labels_name_mixed_columns() -> None:
    columns = (NumericColumn("price", 10.0, 2.0), Vocabulary("shop", ("east", "west")))
    schema = Schema((Vocabulary("cut", (1, 2)),), columns, "score")
    contexts = schema.encode_context({"shop": ["west", "east"], "price": [14, 7.5]})
    assert context_labels(schema, contexts) == ["shop=west, price=14", "shop=east, price=7.5"]
    alone = Schema(schema.features, columns[:1], "score")
    assert context_labels(alone, torch.tensor([[2.0]])) == ["14"]


def test_as_many_contexts_as_there_may_be_are_all_shown() -> None:
    context = torch.arange(200.0).unsqueeze(-1)
    assert (distinct_contexts(context, 200)[1] >= 0).all()
    one_more = distinct_contexts(torch.arange(201.0).unsqueeze(-1), 201)[1]
    assert (one_more < 0).sum() == 1


def test_the_spread_of_training_contexts() -> None:
    spec = ContextSpec({"shop": 2}, ["price", "weight"])
    values = torch.tensor([[1.0, 0, 1, 5], [0, 1, 3, 5], [0, 1, 5, 5]])
    spread = TrainingContexts(spec, values)
    assert spread.deviation == pytest.approx(((8 / 3) ** 0.5, 0))
    assert spread.low == (1, 5)
    assert spread.high == (5, 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(0, 1), "training contexts must be (N, 1) with N >= 1, got (0, 1)"),
        (torch.zeros(2, 2), "training contexts must be (N, 1) with N >= 1, got (2, 2)"),
        (torch.zeros(2), "training contexts must be (N, 1) with N >= 1, got (2,)"),
        (
            torch.tensor([[1.0], [torch.nan], [torch.inf]]),
            "training contexts must be finite, got nan in row 1",
        ),
    ],
)
def test_training_contexts_that_make_no_sense(values: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TrainingContexts(ContextSpec(numeric=["price"]), values)
