"""Any network from contexts to logits, as a generator."""

import pytest
import torch
from torch import Tensor, nn

from discrete_grad import CategoricalSpace, LeaveOneOut, ReinMax
from discrete_grad.data import ScoredRows
from discrete_grad.fitting import FrozenModels, GeneratorConfig, fit_generator
from discrete_grad.policies import OwnGenerator

SPACE = CategoricalSpace({"cut": 3, "colour": 4})
BEST = torch.tensor([[2, 1], [0, 3]])
ROWS = ScoredRows(SPACE.enumerate(), torch.zeros(12), torch.eye(2).repeat_interleave(6, 0))


def shared(row: Tensor, context: Tensor) -> Tensor:
    """Features that a row has in common with the best one of its context."""
    return (row * (context @ SPACE.one_hot(BEST))).sum(-1)


class Heads(nn.Module):
    """A head for each feature, the last feature's first."""

    def __init__(self) -> None:
        super().__init__()
        sizes = zip(SPACE.names[::-1], SPACE.sizes[::-1], strict=True)
        self.heads = nn.ModuleDict({name: nn.Linear(2, size) for name, size in sizes})

    def forward(self, context: Tensor) -> dict[str, Tensor]:
        return {name: head(context) for name, head in self.heads.items()}


@pytest.mark.parametrize("make", [lambda: nn.Linear(2, SPACE.width), Heads])
@pytest.mark.parametrize("method", [ReinMax(SPACE), LeaveOneOut(SPACE)], ids=["ReinMax", "LOO"])
def test_a_plain_network_is_trained_in_place(make, method) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make()
    config = GeneratorConfig(steps=60, batch_size=32, learning_rate=0.1)
    frozen = FrozenModels(shared, shared)
    fit_generator(network, ROWS, frozen=frozen, method=method, config=config, seed=0)
    likely = SPACE.argmax(OwnGenerator(network, SPACE).logits(torch.eye(2)))
    assert torch.equal(likely, BEST)


def test_without_contexts_it_is_called_with_nothing() -> None:
    class Logits(nn.Module):
        def forward(self) -> list[Tensor]:
            return [torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 0.0, 2.0])]

    generator = OwnGenerator(Logits(), SPACE)
    assert generator.logits().tolist() == [0, 1, 0, 0, 0, 0, 2]
    assert generator.sample(count=3).shape == (3, 2)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.zeros(2, 6), r"Says must give logits \(2, 7\) of .*, got \(2, 6\)"),
        (torch.zeros(7), r"Says must give logits \(2, 7\)"),
        ({"cut": torch.zeros(2, 3)}, "Says must give 4 logits of 'colour', got None"),
        ({"cut": torch.zeros(2, 3), "colour": torch.zeros(2, 3)}, r"4 logits .*, got \(2, 3\)"),
        ([torch.zeros(2, 3)], "Says must give logits of 2 features, got 1"),
    ],
)
def test_logits_that_do_not_fit_are_told(answer, message: str) -> None:
    class Says(nn.Module):
        def forward(self, context: Tensor):
            return answer

    with pytest.raises(ValueError, match=message):
        OwnGenerator(Says(), SPACE).logits(torch.eye(2))


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (torch.eye(2), r"Alone as a generator is called with contexts \(N, C\): too many"),
        (None, "Linear as a generator is called with nothing, as there is no context: missing"),
    ],
)
def test_a_network_of_other_arguments_is_told(context: Tensor | None, message: str) -> None:
    class Alone(nn.Module):
        def forward(self) -> Tensor:
            return torch.zeros(7)

    network = nn.Linear(2, 7) if context is None else Alone()
    with pytest.raises(TypeError, match=message):
        OwnGenerator(network, SPACE).logits(context)
