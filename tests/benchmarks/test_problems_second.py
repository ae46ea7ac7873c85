"""The second family of functions: exact against enumeration, and the models that they claim."""

import pytest
import torch
from sklearn.ensemble import GradientBoostingRegressor
from torch.testing import assert_close

from benchmarks import problems_second as second
from discrete_grad import CategoricalSpace
from discrete_grad.sampling import normal, seeded

SIZES = (3, 3, 3, 3)
SPACE = CategoricalSpace.from_sizes(SIZES)
ROWS = SPACE.one_hot(SPACE.enumerate(), dtype=torch.float64)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(second.SECOND_SIZES, "small", SIZES)
    monkeypatch.setattr(second, "ROWS", 200)
    monkeypatch.setattr(second, "TREES", 8)


@pytest.mark.parametrize("kind", second.SECOND_KINDS)
def test_the_exact_gradient_is_that_of_enumeration_with_both_extensions(kind: str) -> None:
    own, other = (second.make_second("small", kind, e, 1, steps=3) for e in ("own", "other"))
    logits = own.logits("peaked", 2)
    for problem in (own, other):
        off = problem.disagreement(logits[0])
        assert off is not None
        assert off < 1e-10
        values = problem.f(ROWS)
        assert values.mean().abs() < 1e-9
        assert (values.std(correction=0) - 1).abs() < 1e-9
    assert_close(own.f(ROWS), other.f(ROWS), rtol=0, atol=1e-9)
    soft = SPACE.softmax(normal((5, SPACE.width), generator=seeded(0)))
    assert not torch.allclose(own.f(soft), other.f(soft), atol=1e-3)
    multilinear = own if kind == "interactions" else other
    assert_close(multilinear.f(soft), torch.stack([own.mean(pi) for pi in soft]))


def test_soft_trees_are_those_of_scikit_learn_at_one_hot_rows() -> None:
    codes, scores = second._noisy_table(SPACE, 0)
    ours = second._trees(SPACE, codes, scores, 0)(ROWS)
    model = GradientBoostingRegressor(n_estimators=second.TREES, max_depth=3, random_state=0)
    theirs = model.fit(codes.numpy(), scores.numpy()).predict(SPACE.enumerate().numpy())
    gap = ours - torch.from_numpy(theirs)
    assert ours.std() > 0.1
    assert_close(gap, gap.mean().expand_as(gap), rtol=0, atol=1e-6)


def test_the_gaussian_process_is_the_one_of_its_kernel() -> None:
    codes, scores = second._noisy_table(SPACE, 0)
    kernel = second._kernel(SPACE, codes, scores, 0)
    apart = (SPACE.enumerate()[:, None] != codes).sum(-1)
    similar = torch.exp(-second.DECAY * apart.double())
    assert_close(kernel.similar(ROWS), similar)
    gram = torch.exp(-second.DECAY * (codes[:, None] != codes).sum(-1).double())
    gram += second.NUGGET * torch.eye(len(codes)).double()
    assert_close(kernel(ROWS), similar @ torch.linalg.solve(gram, scores.double()))


def test_attention_looks_at_other_features_and_convolution_at_neighbours() -> None:
    for kind in ("attention", "convolution"):
        f = second.make_second("small", kind, "own", 0, steps=20).f
        rows = ROWS.clone().requires_grad_()
        slope = torch.autograd.grad(f(rows).sum(), rows)[0].view(-1, 4, 3)
        changed = SPACE.one_hot(
            SPACE.enumerate() * torch.tensor([1, 0, 1, 1]), dtype=torch.float64
        ).requires_grad_()
        other = torch.autograd.grad(f(changed).sum(), changed)[0].view(-1, 4, 3)
        assert (slope - other)[:, 0].abs().max() > 1e-3, kind
