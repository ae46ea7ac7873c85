"""Features that share embeddings are a model whose embeddings are equal from feature to feature."""

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, Softmax
from discrete_grad.policies import AutoregressiveGenerator
from discrete_grad.space import ContextSpec

SPACE = CategoricalSpace.from_sizes((3, 3, 3, 3))
SPEC = ContextSpec(numeric=["weight"])


def both(backbone: str) -> tuple[AutoregressiveGenerator, AutoregressiveGenerator]:
    """A model that shares, and one with a copy of the embeddings for each feature."""
    torch.manual_seed(0)
    options = {"attributes": SPEC, "hidden": (16,), "order": (2, 0, 3, 1), "backbone": backbone}
    shared = AutoregressiveGenerator(SPACE, shared=True, **options).double()  # type: ignore[arg-type]
    for parameter in shared.parameters():
        parameter.data = 0.5 * torch.randn_like(parameter)
    apart = AutoregressiveGenerator(SPACE, **options).double()  # type: ignore[arg-type]
    state = shared.state_dict()
    for name in ("network.categories.weight", "network.head.weight", "network.head.bias"):
        assert len(state[name]) == 3
        state[name] = torch.cat([state[name]] * 4)
    apart.load_state_dict(state)
    return shared, apart


@pytest.mark.parametrize("backbone", ["gru", "transformer"])
def test_the_law_is_that_of_equal_embeddings(backbone: str) -> None:
    shared, apart = both(backbone)
    rows, attributes = SPACE.enumerate(), torch.ones(1, dtype=torch.float64)
    assert_close(shared.log_prob(rows), apart.log_prob(rows))
    assert_close(shared.log_prob(rows, None, attributes), apart.log_prob(rows, None, attributes))
    assert_close(shared.log_prob(rows).exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    drawn = [
        model.sample(count=50, generator=torch.Generator().manual_seed(1))
        for model in (shared, apart)
    ]
    assert torch.equal(*drawn)
    with torch.no_grad():
        apart.network.head.bias[3] += 1.0  # of the second feature alone
    assert not torch.allclose(shared.log_prob(rows), apart.log_prob(rows))
    changed = apart(rows) - shared(rows)
    assert changed.abs().sum(0).nonzero().flatten().tolist() == [3]


def test_soft_rows_are_read_as_mixtures_of_the_shared_embeddings() -> None:
    shared, apart = both("gru")
    rows = [
        model.relaxed(None, 5, Softmax(), generator=torch.Generator().manual_seed(1))
        for model in (shared, apart)
    ]
    assert_close(*rows)
    assert_close(shared(rows[0]), apart(rows[1]))


def test_sizes_must_be_equal() -> None:
    with pytest.raises(ValueError, match=r"must be of equal size, got \(3, 4\)"):
        AutoregressiveGenerator(CategoricalSpace.from_sizes((3, 4)), shared=True)
