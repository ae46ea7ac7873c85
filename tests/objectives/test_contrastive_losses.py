"""The table of contrastive losses against the functions it names."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad.objectives import (
    acc_con,
    metric_learning_loss,
    mined_contrast,
    nt_xent,
    rank_n_contrast,
    sup_con,
)
from discrete_grad.objectives.contrastive_losses import (
    CONTRASTIVE_LOSSES,
    PairLoss,
    RowLoss,
    contrastive_loss,
)

SCORES = torch.tensor([[0.0], [0.1], [5.0], [5.2], [10.0], [9.9]])
CLASSES = torch.tensor([0, 0, 1, 1, 2, 2])


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def of_rows(name: str) -> Tensor:
    loss = contrastive_loss(name)
    assert isinstance(loss, RowLoss)
    return loss.function(drawn(6, 4), SCORES, temperature=0.3, near=0.05)


def test_losses_of_rows() -> None:
    rows = drawn(6, 4)
    assert_close(of_rows("rank_n_contrast"), rank_n_contrast(rows, SCORES, temperature=0.3))
    assert_close(of_rows("acc_con"), acc_con(rows, SCORES, temperature=0.3, near=0.05))
    assert_close(of_rows("sup_con"), sup_con(rows, CLASSES, temperature=0.3))


def test_losses_of_pairs() -> None:
    anchors, positives, negatives = drawn(5, 4), drawn(10, 4)[5:], drawn(5, 3, 4)
    for name, expected in (
        ("nt_xent", nt_xent(anchors, positives, temperature=0.3)),
        ("mined", mined_contrast(anchors, positives, negatives, temperature=0.3)),
    ):
        loss = contrastive_loss(name)
        assert isinstance(loss, PairLoss)
        assert_close(loss.function(anchors, positives, negatives, temperature=0.3), expected)


@pytest.mark.parametrize("name", ["ContrastiveLoss", "TripletMarginLoss", "MultiSimilarityLoss"])
def test_a_class_of_pytorch_metric_learning_sees_rows_near_in_score_as_positives(name: str) -> None:
    pytest.importorskip("pytorch_metric_learning")
    assert name not in CONTRASTIVE_LOSSES
    assert not contrastive_loss(name).validates
    assert_close(of_rows(name), metric_learning_loss(name, drawn(6, 4), labels=CLASSES))


def test_rows_of_one_score_have_no_negatives() -> None:
    pytest.importorskip("pytorch_metric_learning")
    loss = contrastive_loss("TripletMarginLoss").function
    value = loss(drawn(6, 4), torch.zeros(6, 1), temperature=1.0, near=0.1)
    assert value == 0
