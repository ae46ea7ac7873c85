"""The choice of a device, on machines with and without CUDA devices."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from discrete_grad.models import Estimator
from discrete_grad.runs import fit, load_run
from discrete_grad.space import CategoricalSpace
from discrete_grad.training import Checkpoint, JsonLinesLog, RunError
from discrete_grad.training import distributed as group
from discrete_grad.training.config import LoopConfig
from discrete_grad.training.devices import AskedFromCpu, choose_device
from discrete_grad.training.loop import Objective, Step, train
from tests.pretended_card import CARD, pretended_card
from tests.runs.small import small_config, small_table

CPU = torch.device("cpu")


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch):
    def have(count: int, *, local_rank: int = 0, processes: int = 1) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setenv("LOCAL_RANK", str(local_rank))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))

    return have


@pytest.mark.parametrize(
    ("count", "word", "expected"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (1, "auto", "cuda:0"),
        (1, "cpu", "cpu"),
        (2, "cuda", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
        (12, "cuda:11", "cuda:11"),
    ],
)
def test_a_word_names_a_device(cards, count: int, word: str, expected: str) -> None:
    cards(count)
    assert choose_device(word) == choose_device(torch.device(expected)) == torch.device(expected)


def test_every_process_takes_a_card_of_its_own_or_all_the_cpu(cards) -> None:
    cards(4, local_rank=3, processes=4)
    assert choose_device("cuda") == choose_device("auto") == torch.device("cuda", 3)
    assert choose_device(choose_device("cuda")) == torch.device("cuda", 3)
    cards(2, local_rank=1, processes=3)
    assert choose_device("auto") == choose_device("cpu") == CPU


def test_without_torchrun_a_process_is_alone(cards, monkeypatch: pytest.MonkeyPatch) -> None:
    cards(0)
    assert choose_device() == CPU
    cards(2)
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name)
    assert choose_device() == choose_device("cuda") == torch.device("cuda", 0)
    assert choose_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("count", "processes", "word", "message"),
    [
        (0, 1, "gpu", "must be auto, cpu, cuda or cuda:1 .*, got 'gpu'; torch sees no CUDA device"),
        (0, 1, "cuda", "device cuda is asked for, and torch sees no CUDA device here: use cpu"),
        (0, 1, "cuda:1", "device cuda:1 is asked for, and torch sees no CUDA device"),
        (2, 1, "cuda:2", "device cuda:2 is asked for, and torch sees cuda:0, cuda:1 here"),
        (1, 1, "cuda:", "got 'cuda:'; torch sees cuda:0 here"),
        (1, 1, "cuda:-1", "got 'cuda:-1'; torch sees cuda:0 here$"),
        (1, 1, "", "got ''; torch sees cuda:0 here$"),
        (1, 1, "mps", "mps has no float64"),
        (4, 2, "cuda:1", "each of 2 processes .* must be cuda, got cuda:1"),
    ],
)
def test_an_error_says_what_was_asked_and_what_there_is(
    cards, count: int, processes: int, word: str, message: str
) -> None:
    cards(count, processes=processes)
    with pytest.raises(RunError, match=message):
        choose_device(word)


def test_a_process_without_a_card_is_told(cards) -> None:
    cards(2, local_rank=2, processes=3)
    with pytest.raises(RunError, match="cuda:2 is asked for, and torch sees cuda:0, cuda:1"):
        choose_device("cuda")


def test_a_fit_for_a_device_that_is_not_there_leaves_no_folder(cards, tmp_path: Path) -> None:
    cards(0)
    with pytest.raises(RunError, match="no CUDA device"):
        fit(small_table(), tmp_path / "run", small_config(), device="cuda")
    with pytest.raises(RunError, match="no CUDA device"):
        load_run(tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("device", "backend", "current"),
    [(None, "gloo", []), (CPU, "gloo", []), (torch.device("cuda", 1), "nccl", [("cuda", 1)])],
)
def test_processes_talk_by_what_connects_their_devices(
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device | None,
    backend: str,
    current: list[tuple[str, int]],
) -> None:
    joined, set_to = [], []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(
        group.dist, "init_process_group", lambda name, **given: joined.append((name, given))
    )
    monkeypatch.setattr(torch.cuda, "set_device", lambda to: set_to.append((to.type, to.index)))
    for name in ("barrier", "destroy_process_group"):
        monkeypatch.setattr(group.dist, name, lambda: None)
    with group.processes(device):
        pass
    ((name, given),) = joined
    assert (name, set_to) == (backend, current)
    assert given.get("device_id") == (device if backend == "nccl" else None)


class _Line(Objective):
    """Whose forward pass sees where the card's own source of noise begins."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1)
        nn.init.ones_(self.model.weight)
        nn.init.ones_(self.model.bias)
        self.model.to(CARD)
        self.seen: list[tuple[int, int]] = []

    def forward(self, step: Step) -> Tensor:
        self.seen.append((torch.cuda.default_generators[0].initial_seed(), step.noise_seed))
        return self.validate()

    def validate(self) -> Tensor:
        return self.model(torch.ones(1, 1, device=CARD)).square().sum()


class _Pair(nn.Module):
    def forward(self, first: Tensor, second: Tensor | None) -> Tensor:
        assert first.device == CARD
        return first if second is None else first + second

    def std(self, first: Tensor, second: Tensor | None) -> Tensor:
        return 3 * self(first, second)


def test_a_model_there_answers_here() -> None:
    with pretended_card():
        asked, one = AskedFromCpu(_Pair(), CARD), torch.ones(2)
        for answer, wanted in (
            (asked(one, None), 1),
            (asked(one, one), 2),
            (asked.std(one, one), 6),
        ):
            assert answer.device == CPU
            assert answer.tolist() == [wanted] * 2
        assert not asked.takes_codes


def test_a_model_asked_from_here_takes_codes_where_it_does() -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    for model, codes in ((Estimator(space), True), (torch.sum, False)):
        assert AskedFromCpu(model, CPU).takes_codes is codes


def test_a_stage_there_goes_on_from_a_file_here(tmp_path: Path) -> None:
    state = Checkpoint(tmp_path / "x.safetensors", JsonLinesLog(tmp_path / "x.jsonl"))
    config = LoopConfig(steps=3, batch_size=1, validate_every=1, checkpoint_every=2)
    with pretended_card():
        whole = train(_Line(), config, seed=0, stage="line", checkpoint=state)
        objective = _Line()
        rest = train(objective, config, seed=0, stage="line", checkpoint=state)
        assert rest.losses == whole.losses[2:]
        assert objective.model.weight.device == CARD


def test_what_a_step_draws_there_follows_from_the_step_alone() -> None:
    with pretended_card():
        objective, source = _Line(), torch.cuda.default_generators[0]
        before = source.get_state()
        train(objective, LoopConfig(steps=3, batch_size=1), seed=0, stage="line")
        assert torch.equal(source.get_state(), before)
    assert len(objective.seen) == 3
    assert all(seed == wanted for seed, wanted in objective.seen)


def test_the_pretended_card_refuses_what_a_card_refuses() -> None:
    with pretended_card():
        there, here = torch.ones(3, device=CARD), torch.ones(3)
        for wrong in (
            lambda: there + here,
            lambda: there.gather(0, torch.tensor([0])),
            lambda: here[torch.tensor([0], device=CARD)],
            lambda: nn.Linear(3, 1)(there),
            lambda: here.uniform_(generator=torch.Generator(CARD)),
            lambda: torch.rand(3, device=CARD, generator=torch.Generator()),
        ):
            with pytest.raises(RuntimeError):
                wrong()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert there[torch.tensor([0])].device == (2 * there.double()).device == CARD
        assert (here + there.cpu()).device == CPU
