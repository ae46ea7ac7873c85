"""A user's own network, trained, softened and frozen, and a generator trained through it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad import CategoricalSpace, GumbelSoftmax, ReinMax, StraightThrough
from discrete_grad.gradient import Relaxation
from discrete_grad.nn import soften
from discrete_grad.sampling import isolated_seed

SPACE = CategoricalSpace({"cut": 5, "colour": 4, "shape": 6, "size": 3})
ROWS = SPACE.enumerate()  # 360


class Estimator(nn.Module):
    """Nothing of this library in it."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size, 6) for size in SPACE.sizes)
        self.layers = nn.Sequential(
            nn.Linear(6 * 4, 48),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(48, 48),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.Linear(48, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        embedded = [embedding(x[:, i]) for i, embedding in enumerate(self.embeddings)]
        return self.layers(torch.cat(embedded, 1)).squeeze(1)


def true_scores() -> Tensor:
    """`(360,)`: effects, and pairs of categories that spoil a row whatever else is in it."""
    random = torch.Generator().manual_seed(4)
    scores = torch.zeros(len(ROWS))
    for i, size in enumerate(SPACE.sizes):
        scores += torch.randn(size, generator=random)[ROWS[:, i]]
    for i, j in ((0, 1), (1, 2), (2, 3)):
        fatal = torch.rand(SPACE.sizes[i], SPACE.sizes[j], generator=random) < 0.25
        scores -= 4.0 * fatal[ROWS[:, i], ROWS[:, j]]
    return (scores - scores.mean()) / scores.std()


TRUE = true_scores()


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    """Trained for 200 steps on two rows of three."""
    with isolated_seed(0):
        model, order = Estimator(), torch.randperm(len(ROWS))
        train, held_out = order[:240], order[240:]
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(200):
            batch = train[torch.randint(240, (64,))]
            loss = F.mse_loss(model(ROWS[batch]), TRUE[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        optimizer.zero_grad()
        model.eval()
        predicted = model(ROWS[held_out]).detach()
    assert torch.corrcoef(torch.stack([predicted, TRUE[held_out]]))[0, 1] > 0.8
    return model


def expected_true_score(logits: Tensor) -> Tensor:
    """Exact, by enumeration: `(N, D)` -> `(N,)`."""
    return SPACE.log_prob(logits.unsqueeze(1), ROWS).exp() @ TRUE


LAYERS = {
    "ReinMax": ReinMax(SPACE),
    "StraightThrough": StraightThrough(SPACE),
    "GumbelSoftmax": GumbelSoftmax(SPACE),
    "GumbelSoftmax, soft": GumbelSoftmax(SPACE, hard=False),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_generator_learns_through_a_frozen_pretrained_model(
    layer: Relaxation, estimator: Estimator
) -> None:
    soft = soften(estimator, SPACE).requires_grad_(False).eval()
    before = {name: value.clone() for name, value in estimator.state_dict().items()}
    with isolated_seed(1):
        generator = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, SPACE.width), layer)
        nn.init.zeros_(generator[2].weight)
        nn.init.zeros_(generator[2].bias)
        contexts = torch.randn(64, 8)
        at_start = expected_true_score(generator[:3](contexts)).mean().item()
        optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2)
        for step in range(150):
            loss = -soft(generator(contexts)).mean()
            optimizer.zero_grad()
            loss.backward()
            if step == 1:  # at step 0 the last weights are 0, so none reaches the first
                assert all((p.grad != 0).any() for p in generator.parameters())
            optimizer.step()
        at_end = expected_true_score(generator[:3](contexts)).mean().item()

    assert at_start == pytest.approx(0.0, abs=1e-5)  # the uniform generator
    assert at_end > 0.75 * TRUE.max().item()
    assert at_end > TRUE.quantile(0.95).item()
    assert all(parameter.grad is None for parameter in estimator.parameters())
    for name, value in estimator.state_dict().items():
        assert torch.equal(value, before[name])
