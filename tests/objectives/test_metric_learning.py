"""The adapter to pytorch-metric-learning."""

import sys

import pytest
import torch
from torch.testing import assert_close

from discrete_grad.objectives import metric_learning_loss, sup_con
from discrete_grad.objectives.metric_learning import score_bins, score_pairs

losses = pytest.importorskip("pytorch_metric_learning.losses")
miners = pytest.importorskip("pytorch_metric_learning.miners")

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def rows() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)


def test_sup_con_of_both_is_one() -> None:
    ours = sup_con(rows(), LABELS, temperature=0.2)
    assert_close(metric_learning_loss("SupConLoss", rows(), labels=LABELS, temperature=0.2), ours)


def test_mined_triplets_by_hand() -> None:
    projections = rows()
    triplets = (torch.tensor([0, 1]), torch.tensor([2, 4]), torch.tensor([3, 5]))
    loss = metric_learning_loss(
        losses.TripletMarginLoss(margin=0.3, triplets_per_anchor="all"), projections, pairs=triplets
    )
    unit = torch.nn.functional.normalize(projections, dim=-1)
    a, p, n = (unit[side] for side in triplets)
    terms = ((a - p).norm(dim=-1) - (a - n).norm(dim=-1) + 0.3).clamp_min(0)
    assert (terms > 0).any()
    assert_close(loss, terms[terms > 0].mean(), atol=1e-6, rtol=1e-6)
    loss.backward()
    assert projections.grad.isfinite().all()
    assert projections.grad.any()


def test_pairs_of_scores() -> None:
    scores = torch.tensor([0.0, 0.1, 3.0, 3.1, 9.0, 9.05])
    pairs = score_pairs(scores, small=0.2, large=1.0)
    by_labels = metric_learning_loss("ContrastiveLoss", rows(), labels=LABELS)
    assert_close(metric_learning_loss("ContrastiveLoss", rows(), pairs=pairs), by_labels)


def test_pairs_of_several_scores_by_loops() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randint(4, (7, 2), generator=generator).double()
    a, p, b, n = score_pairs(scores, small=1.0, large=2.0)
    every = [(i, j) for i in range(7) for j in range(7)]
    distance = {(i, j): float((scores[i] - scores[j]).norm()) for i, j in every}
    near = [pair for pair in every if pair[0] != pair[1] and distance[pair] <= 1]
    assert list(zip(a.tolist(), p.tolist(), strict=True)) == near
    far = [pair for pair in every if distance[pair] >= 2]
    assert list(zip(b.tolist(), n.tolist(), strict=True)) == far


def test_a_miner_chooses() -> None:
    chosen = metric_learning_loss(
        "TripletMarginLoss", rows(), labels=LABELS, miner="BatchHardMiner", margin=0.3
    )
    found = miners.BatchHardMiner()(rows(), LABELS)
    assert_close(chosen, losses.TripletMarginLoss(margin=0.3)(rows(), LABELS, found))
    every = metric_learning_loss("TripletMarginLoss", rows(), labels=LABELS, margin=0.3)
    assert not torch.isclose(chosen, every)


def test_bins() -> None:
    scores = torch.tensor([5.0, 1.0, 1.0, 2.0, 8.0, 9.0])
    assert score_bins(scores, 3).tolist() == [1, 0, 0, 1, 2, 2]
    assert score_bins(torch.ones(4), 3).tolist() == [0] * 4
    assert score_bins(scores, 1).tolist() == [0] * 6
    assert score_bins(torch.zeros(0), 3).tolist() == []


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"no 'NoLoss' in its losses"):
        metric_learning_loss("NoLoss", rows(), labels=LABELS)
    with pytest.raises(ValueError, match=r"labels must be \(6,\), got \(5,\)"):
        metric_learning_loss("SupConLoss", rows(), labels=LABELS[:5])
    with pytest.raises(ValueError, match="expected labels, or pairs"):
        metric_learning_loss("SupConLoss", rows())
    pairs = (LABELS, LABELS, LABELS)
    with pytest.raises(ValueError, match="either pairs or a miner"):
        metric_learning_loss("SupConLoss", rows(), labels=LABELS, pairs=pairs, miner="HDCMiner")
    with pytest.raises(ValueError, match=r"takes no options, got \['margin'\]"):
        metric_learning_loss(losses.SupConLoss(), rows(), labels=LABELS, margin=1)
    with pytest.raises(ValueError, match="small < large"):
        score_pairs(torch.zeros(3), small=1.0, large=1.0)
    with pytest.raises(ValueError, match="and a bin"):
        score_bins(torch.zeros(3), 0)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(ImportError, match=r"pip install 'discrete_grad\[metric\]'"):
        metric_learning_loss("SupConLoss", rows(), labels=LABELS)
