"""Ragged reductions, against a loop over the groups."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from discrete_grad.weighting.segments import (
    segment_logsumexp,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
)

REDUCTIONS = {
    segment_sum: lambda part: part.sum(0),
    segment_mean: lambda part: part.mean(0),
    segment_max: lambda part: part.amax(0),
    segment_logsumexp: lambda part: part.logsumexp(0),
}


@st.composite
def ragged(draw, *, masked=True, empty=False):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    groups = draw(st.integers(1, 5))
    rows = draw(st.integers(groups, 12))
    index = torch.randint(groups, (rows,), generator=generator)
    index[:groups] = torch.arange(groups)
    index = index[torch.randperm(rows, generator=generator)]
    shape = (rows, *draw(st.sampled_from([(), (1,), (2, 3)])))
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    values = values * draw(st.sampled_from([1.0, 1e4]))
    if masked:
        values[torch.rand(shape, generator=generator) < 0.2] = -torch.inf
    return values, index, groups


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=lambda f: f.__name__)
@given(case=ragged())
def test_they_equal_a_loop(reduction, case):
    values, index, groups = case
    loop = torch.stack([REDUCTIONS[reduction](values[index == g]) for g in range(groups)])
    assert_close(reduction(values, index, groups), loop)


@given(case=ragged(masked=False))
def test_the_softmax_is_that_of_each_group(case):
    values, index, groups = case
    weights = segment_softmax(values, index, groups)
    for g in range(groups):
        assert_close(weights[index == g], values[index == g].softmax(0))
    assert_close(
        segment_sum(weights, index, groups), torch.ones(groups, *values.shape[1:]).double()
    )


def test_their_derivatives_are_those_of_a_loop_and_finite_beside_infinity():
    index = torch.tensor([1, 0, 1, 2, 1])
    values = torch.tensor([0.3, 1.0, -torch.inf, -torch.inf, 0.7], dtype=torch.float64)
    values.requires_grad_()
    segment_logsumexp(values, index, 3)[:2].sum().backward()
    assert_close(values.grad[[0, 2, 4]], values.detach()[[0, 2, 4]].softmax(0))
    assert values.grad.isfinite().all()
    smooth = torch.randn(5, dtype=torch.float64, requires_grad=True)
    for function in (segment_sum, segment_mean, segment_logsumexp, segment_softmax):
        assert torch.autograd.gradcheck(lambda v, f=function: f(v, index, 3), smooth)


def test_faults_name_the_group_and_the_row():
    values, index = torch.zeros(2), torch.tensor([0, 2])
    assert segment_sum(values, index, 3).tolist() == [0, 0, 0]
    for function in (segment_mean, segment_max, segment_logsumexp, segment_softmax):
        with pytest.raises(ValueError, match="group 1 is empty"):
            function(values, index, 3)
    with pytest.raises(ValueError, match="group 1 is -inf"):
        segment_softmax(torch.tensor([0.0, *[-torch.inf] * 2]), torch.tensor([0, 1, 2]), 3)
    with pytest.raises(ValueError, match="row 1 has group 2"):
        segment_sum(torch.zeros(3), torch.tensor([0, 2, 3]), 2)
    with pytest.raises(TypeError, match="integers"):
        segment_sum(values, values, 2)
    with pytest.raises(ValueError, match="groups"):
        segment_sum(values, index[:1], 3)
    with pytest.raises(ValueError, match="backend"):
        segment_sum(values, index, 3, backend="numpy")


@pytest.mark.skipif(
    importlib.util.find_spec("torch_scatter") is not None, reason="torch-scatter is installed"
)
def test_a_missing_backend_names_its_extra():
    for function in (segment_sum, segment_max):
        with pytest.raises(ImportError, match=r"discrete_grad\[scatter\]"):
            function(torch.zeros(1), torch.tensor([0]), 1, backend="torch_scatter")


@pytest.mark.parametrize("function", [*REDUCTIONS, segment_softmax], ids=lambda f: f.__name__)
@given(case=ragged(masked=False))
def test_the_backends_agree(function, case):
    pytest.importorskip("torch_scatter")
    assert_close(function(*case, backend="torch_scatter"), function(*case))


def test_the_other_backend_is_told_how_many_groups_there_are(monkeypatch):
    """With the last groups empty, which it cannot know from the rows; it need not be installed."""

    def scatter_sum(values, groups, dim, dim_size=None):
        count = int(groups.max()) + 1 if dim_size is None else dim_size
        return values.new_zeros(count, *values.shape[1:]).index_add(dim, groups, values)

    monkeypatch.setitem(sys.modules, "torch_scatter", SimpleNamespace(scatter_sum=scatter_sum))
    values, groups = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([1, 0, 1])
    found = segment_sum(values, groups, 4, backend="torch_scatter")
    assert found.tolist() == [[2], [5], [0], [0]]


def test_the_other_backend_finds_the_largest(monkeypatch):
    def scatter_max(values, groups, *, dim, dim_size):
        assert (dim, dim_size) == (0, 2)
        return segment_max(values, groups, dim_size), "where"

    monkeypatch.setitem(sys.modules, "torch_scatter", SimpleNamespace(scatter_max=scatter_max))
    values, groups = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([1, 0, 1])
    found = segment_max(values, groups, 2, backend="torch_scatter")
    assert found.tolist() == [[2], [4]]
