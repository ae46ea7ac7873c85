"""NT-Xent, SupCon and the loss of mined rows against their definitions."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad.objectives import acc_con, mined_contrast, nt_xent, rank_n_contrast, sup_con

temperatures = st.sampled_from([0.1, 0.5, 2.0])
seeds = st.integers(0, 2**31)


def points(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)).double()


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


@given(st.integers(2, 5), seeds, temperatures)
def test_nt_xent_by_loops(count: int, seed: int, temperature: float) -> None:
    rows, total = points(2 * count, seed), 0.0
    for i in range(2 * count):
        weight = [math.exp(cosine(rows[i], row) / temperature) for row in rows]
        partner = i + count if i < count else i - count
        total -= math.log(weight[partner] / (sum(weight) - weight[i]))
    value = nt_xent(rows[:count], rows[count:], temperature=temperature).item()
    assert value == pytest.approx(total / (2 * count), abs=1e-9)


@given(st.integers(2, 7), seeds, temperatures, st.booleans())
def test_sup_con_by_loops(count: int, seed: int, temperature: float, as_mask: bool) -> None:
    rows, terms = points(count, seed), []
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=source)
    alike_rows = labels.unsqueeze(0) == labels.unsqueeze(1)
    if as_mask:  # of either direction alone
        alike_rows = torch.rand(count, count, generator=source) < 0.5
    for i in range(count):
        others = [k for k in range(count) if k != i]
        weight = {k: math.exp(cosine(rows[i], rows[k]) / temperature) for k in others}
        alike = [k for k in others if alike_rows[i, k]]
        own = [-math.log(weight[p] / sum(weight.values())) for p in alike]
        terms += [sum(own) / len(own)] if own else []
    expected = sum(terms) / len(terms) if terms else 0.0
    positives = alike_rows if as_mask else labels
    assert sup_con(rows, positives, temperature=temperature).item() == pytest.approx(
        expected, abs=1e-9
    )


def test_sup_con_takes_a_relation_that_is_no_partition() -> None:
    rows = points(3, 0)
    chain = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]]).bool()
    assert not torch.isclose(sup_con(rows, chain), sup_con(rows, torch.tensor([0, 0, 0])))
    one = torch.zeros(3, 3, dtype=torch.bool)
    one[0, 1] = True  # a single row counts, with a single positive
    weight = [math.exp(cosine(rows[0], rows[i]) / 0.5) for i in (1, 2)]
    expected = -math.log(weight[0] / sum(weight))
    assert sup_con(rows, one, temperature=0.5).item() == pytest.approx(expected)


@given(st.integers(1, 4), st.integers(0, 3), seeds, temperatures)
def test_mined_contrast_by_loops(count: int, many: int, seed: int, temperature: float) -> None:
    rows = points(count * (2 + many), seed)
    anchors, positives, rest = rows[:count], rows[count : 2 * count], rows[2 * count :]
    negatives = rest.view(count, many, 3)
    known = torch.rand(count, many, generator=torch.Generator().manual_seed(seed)) < 0.5
    total = 0.0
    for i in range(count):
        near = math.exp(cosine(anchors[i], positives[i]) / temperature)
        kept = negatives[i][known[i]]
        far = sum(math.exp(cosine(anchors[i], row) / temperature) for row in kept)
        total -= math.log(near / (near + far))
    value = mined_contrast(anchors, positives, negatives, known=known, temperature=temperature)
    assert value.item() == pytest.approx(total / count, abs=1e-9)


LOSSES = {
    "nt_xent": lambda p, t: nt_xent(p[:3], p[3:], temperature=t),
    "sup_con": lambda p, t: sup_con(p, torch.tensor([0, 0, 1, 1, 1, 2]), temperature=t),
    "mined_contrast": lambda p, t: mined_contrast(
        p[:2], p[2:4], p[:4].view(2, 2, -1), temperature=t
    ),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradient(loss: Callable[[Tensor, float], Tensor]) -> None:
    rows = points(6, 0).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p, 0.5), rows)
    assert_close(loss(7 * rows, 0.5), loss(rows, 0.5))  # lengths do not count
    for same in (torch.ones(6, 3), torch.zeros(6, 3), 1e4 * torch.ones(6, 3)):
        same.requires_grad_()
        value = loss(same, 0.01)
        value.backward()
        assert value.isfinite()
        assert same.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperature(loss: Callable[[Tensor, float], Tensor], temperature: float) -> None:
    with pytest.raises(ValueError, match="a temperature above 0"):
        loss(torch.ones(6, 3), temperature)


def test_sup_con_without_positives_is_nothing() -> None:
    rows = torch.eye(3, requires_grad=True)
    loss = sup_con(rows, torch.arange(3))
    loss.backward()
    assert loss.item() == 0
    assert not rows.grad.any()


def test_shapes() -> None:
    rows = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="expected one shape"):
        nt_xent(rows, rows[:2])
    with pytest.raises(ValueError, match=r"positives must be \(3,\), or bool \(3, 3\)"):
        sup_con(rows, torch.zeros(3, 3))
    with pytest.raises(ValueError, match="needs 2 rows"):
        sup_con(rows[:1], torch.zeros(1))
    with pytest.raises(ValueError, match=r"\(N, P\) and \(N, K, P\)"):
        mined_contrast(rows, rows, rows)
    with pytest.raises(ValueError, match=r"known must be bool \(3, 4\)"):
        mined_contrast(rows, rows, torch.zeros(3, 4, 2), known=torch.ones(3, 4))


def test_in_half_precision_the_losses_are_nearly_the_same() -> None:
    rows, classes = points(6, 0).half(), torch.tensor([0, 0, 1, 1, 2, 2])

    def losses(rows: Tensor) -> list[Tensor]:
        negatives = rows[[4, 5, 0, 3]].view(2, 2, 3)
        return [
            nt_xent(rows[:3], rows[3:], temperature=0.5),
            sup_con(rows, classes, temperature=0.5),
            mined_contrast(rows[:2], rows[2:4], negatives, temperature=0.5),
            acc_con(rows, classes.double(), temperature=0.5),
        ]

    for half, wide in zip(losses(rows), losses(rows.double()), strict=True):
        assert_close(half.double(), wide, atol=0.01, rtol=0)


@pytest.mark.parametrize("size", [0.0, 1e-7, 1e-5, 1e-3, 1.0, 1e4])
def test_in_half_precision_rows_of_any_length_have_a_loss_and_a_gradient(size: float) -> None:
    rows = (points(6, 0) * size).half().requires_grad_()
    classes = torch.tensor([0, 0, 1, 1, 2, 2])
    for loss in (
        nt_xent(rows[:3], rows[3:]),
        sup_con(rows, classes),
        mined_contrast(rows[:2], rows[2:4], rows[4:].unsqueeze(1)),
        acc_con(rows, classes.double()),
        rank_n_contrast(rows, classes.double()),
    ):
        (gradient,) = torch.autograd.grad(loss, rows)
        assert loss.dtype == rows.dtype
        assert loss.isfinite()
        assert gradient.isfinite().all()
