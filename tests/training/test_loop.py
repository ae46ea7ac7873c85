"""The loop: early stopping, seeds, divergence, schedules of the learning rate."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from discrete_grad.preferences import DPOConfig
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.training import distributed
from discrete_grad.training.checkpoint import Checkpoint, RunError, load_tensors, write_atomically
from discrete_grad.training.config import LoopConfig
from discrete_grad.training.history import History
from discrete_grad.training.logs import JsonLinesLog, TensorBoardLog, no_log, progress_bar
from discrete_grad.training.loop import Objective, Step, train
from discrete_grad.training.optimiser import PLAIN, WARM
from discrete_grad.training.step_loss import StepLoss


class Overfit(Objective):
    """The held-out loss falls, then rises: at step 30 it is best."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)
        self.seen: list[float] = []

    def forward(self, step: Step) -> Tensor:
        return -self.model.weight.sum()

    def validate(self) -> Tensor:
        weight = self.model.weight.detach().sum()
        self.seen.append(weight.item())
        return (weight - 0.5).square()


def test_the_best_weights_are_kept_and_patience_ends_the_stage() -> None:
    objective = Overfit()
    config = LoopConfig(steps=1000, learning_rate=0.05, validate_every=1, patience=5)
    history = train(objective, config, seed=0, stage="x", log=no_log)
    best = min(objective.seen, key=lambda weight: (weight - 0.5) ** 2)
    assert objective.model.weight.item() == best
    # before the first step it is looked at, too
    assert history.kept_step == objective.seen.index(best) == len(objective.seen) - 1 - 5
    assert min(history.held_out_losses) == history.held_out_losses[history.kept_step - 1]
    assert len(objective.seen) < 40


def resumed(task: type[Overfit], config: LoopConfig, folder: Path, *, stopped_at: int) -> History:
    """What a training that is stopped after a step does when it is called again."""
    state = Checkpoint(folder / "x.safetensors", JsonLinesLog(folder / "x.jsonl"))

    def stop(model: nn.Module, step: int) -> None:
        if step == stopped_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(task(), config, seed=0, stage="x", checkpoint=state, callback=stop)
    return train(task(), config, seed=0, stage="x", checkpoint=state)


def test_the_step_kept_may_lie_before_the_checkpoint(tmp_path: Path) -> None:
    config = LoopConfig(
        steps=60, learning_rate=0.05, validate_every=1, patience=40, checkpoint_every=25
    )
    whole = train(Overfit(), config, seed=0, stage="x")
    assert whole.kept_step < 25
    rest = resumed(Overfit, config, tmp_path, stopped_at=30)
    assert rest.steps == whole.steps[25:]
    assert rest.kept_step == whole.kept_step


def test_a_checkpoint_without_the_step_kept_counts_its_own(tmp_path: Path) -> None:
    """As older versions wrote them."""
    config = LoopConfig(
        steps=60, learning_rate=0.05, validate_every=1, patience=40, checkpoint_every=25
    )
    state = Checkpoint(tmp_path / "x.safetensors", JsonLinesLog(tmp_path / "x.jsonl"))
    assert train(Overfit(), config, seed=0, stage="x", checkpoint=state).kept_step < 25
    saved = state.load()
    assert saved
    tensors, counters = saved
    del counters["best_step"]
    state.save(tensors, counters)
    assert train(Overfit(), config, seed=0, stage="x", checkpoint=state).kept_step == 50


def test_a_bar_begins_where_the_stage_does() -> None:
    pytest.importorskip("tqdm")
    bar = progress_bar("x", 10, 4)
    bar.update()
    assert (bar.total, bar.n + bar.disable) == (10, 5)  # what is not shown is not counted
    bar.close()


def test_each_process_needs_a_row_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 4)
    with pytest.raises(ValueError, match="batch_size 3 leaves some of 4 processes without a row"):
        train(Overfit(), LoopConfig(batch_size=3), seed=0, stage="x")


class Worsening(Overfit):
    """The held-out loss is best at the first look after a step."""

    def validate(self) -> Tensor:
        return self.model.weight.detach().sum()

    def forward(self, step: Step) -> Tensor:
        return -self.model.weight.sum()


def test_looks_without_improvement_are_counted_on_after_a_resume(tmp_path: Path) -> None:
    config = LoopConfig(steps=60, validate_every=1, patience=10, checkpoint_every=4)
    whole = train(Worsening(), config, seed=0, stage="x")
    assert whole.steps == tuple(range(1, 12))
    rest = resumed(Worsening, config, tmp_path, stopped_at=9)
    assert rest.steps == (9, 10, 11)
    assert rest.kept_step == whole.kept_step == 1


def test_weights_decay_and_biases_do_not() -> None:
    class Still(Overfit):
        """A loss whose gradient is 0: whatever moves has decayed."""

        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(2, 2)
            nn.init.ones_(self.model.weight)
            nn.init.ones_(self.model.bias)

        def forward(self, step: Step) -> Tensor:
            return 0 * (self.model.weight.sum() + self.model.bias.sum())

    config = LoopConfig(steps=10, learning_rate=0.1, weight_decay=0.5, patience=0)
    for optimiser in (WARM, PLAIN):
        objective = Still()
        objective.optimiser = optimiser  # type: ignore[misc]
        train(objective, config, seed=0, stage="x")
        assert (objective.model.weight < 0.97).all()
        assert (objective.model.bias == 1).all()


def test_what_decays_is_decided_by_the_name_and_not_by_the_shape() -> None:
    """The biases of stacked members are a matrix, and a weight may be a vector."""
    model = nn.ParameterDict({"weight": torch.ones(3), "bias": torch.ones(2, 3)})
    optimiser = WARM.new(model, LoopConfig(weight_decay=0.5))
    decays = {
        len(p.shape): group["weight_decay"]
        for group in optimiser.param_groups
        for p in group["params"]
    }
    assert decays == {1: 0.5, 2: 0.0}


class Plateau(Overfit):
    """The held-out loss is the same at every look."""

    def validate(self) -> Tensor:
        return torch.ones(())


def test_an_equal_held_out_loss_is_no_improvement() -> None:
    objective = Plateau()
    history = train(objective, LoopConfig(validate_every=1, patience=3), seed=0, stage="x")
    assert (history.steps, history.kept_step) == ((1, 2, 3, 4), 1)
    once = Plateau()
    train(once, LoopConfig(validate_every=1, patience=1), seed=0, stage="x")
    assert torch.equal(objective.model.weight, once.model.weight)


def test_without_patience_the_last_weights_are_kept() -> None:
    objective = Overfit()
    config = LoopConfig(steps=40, learning_rate=0.05, validate_every=1, patience=0)
    history = train(objective, config, seed=0, stage="x", log=no_log)
    assert objective.model.weight.item() == objective.seen[-1] == max(objective.seen)
    assert history.kept_step == history.steps[-1] == 40


def _step_loss(factor: Tensor) -> StepLoss:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    return StepLoss(model, lambda step: (factor * model.weight - step.index).square().sum())


def test_a_loss_of_the_step_alone_is_adam_with_a_rate_that_falls() -> None:
    """Without any rise, against torch's own optimiser and schedule."""
    factor = nn.Parameter(torch.tensor(3.0))
    objective, config = _step_loss(factor), LoopConfig(steps=30, validate_every=7, patience=0)
    history = train(objective, config, seed=0, stage="x")
    wanted = _step_loss(factor)
    optimiser = torch.optim.Adam(wanted.model.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    losses = []
    for index in range(config.steps):
        loss = wanted(Step(0, "x", index))
        optimiser.zero_grad()
        loss.backward(inputs=list(wanted.model.parameters()))
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    assert torch.equal(objective.model.weight, wanted.model.weight)
    assert history.steps == (7, 14, 21, 28, 30)
    assert history.losses == tuple(losses[step - 1] for step in history.steps)
    assert history.held_out_losses == ()
    assert factor.grad is None  # what is not trained is left alone


class Watched(Overfit):
    """That notes what it sees of the training around it."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.modes: list[tuple[str, bool]] = []

    def forward(self, step: Step) -> Tensor:
        self.modes.append(("loss", self.training))
        return super().forward(step)

    def validate(self) -> Tensor:
        assert not torch.is_grad_enabled()
        self.modes.append(("look", self.training))
        return super().validate()

    def finish_gradients(self) -> None:
        assert self.model.weight.grad is not None
        self.model.weight.grad.mul_(0.5)


def test_a_stage_is_told_step_by_step(tmp_path: Path) -> None:
    objective, told, called = Watched(), [], []
    state = Checkpoint(tmp_path / "x.safetensors", JsonLinesLog(tmp_path / "x.jsonl"))
    saved: list[int] = []

    class Saving(Checkpoint):
        def save(self, tensors: dict[str, Tensor], metadata: dict[str, object]) -> None:
            saved.append(metadata["step"])  # type: ignore[arg-type]
            super().save(tensors, metadata)

    state = Saving(tmp_path / "x.safetensors", state.metrics)
    history = train(
        objective,
        LoopConfig(steps=7, learning_rate=0.5, validate_every=3, checkpoint_every=2, patience=9),
        seed=0,
        stage="judge",
        log=lambda metrics, step: told.append((step, metrics)),
        checkpoint=state,
        callback=lambda model, step: called.append((step, model.weight.item())),
    )
    assert history.steps == (3, 6, 7)
    pairs = zip(history.losses, history.held_out_losses, strict=True)
    assert told == [
        (step, {"judge/loss": a, "judge/held_out_loss": b})
        for step, (a, b) in zip((3, 6, 7), pairs, strict=True)
    ]
    # the loss is that before the step, the look comes after it; Adam ignores the gradient's size
    weights = [weight for _, weight in called]
    assert [step for step, _ in called] == list(range(8))
    assert history.losses == tuple(-weights[i] for i in (2, 5, 6))
    assert history.held_out_losses == tuple(
        (torch.tensor(weights[i]) - 0.5).square().item() for i in (3, 6, 7)
    )
    moved = [b - a for a, b in itertools.pairwise(weights)]
    assert moved == pytest.approx([0.5 * WARM.share(i, 7) for i in range(7)], rel=1e-4)
    assert saved == [2, 4, 6]
    assert objective.modes == (
        [("look", False)] + (3 * [("loss", True)] + [("look", False)]) * 2
    ) + [("loss", True), ("look", False)]
    assert objective.model.weight.grad is None
    whole = train(Watched(), LoopConfig(steps=7, learning_rate=0.5, patience=0), seed=0, stage="j")
    assert (whole.steps, whole.kept_step) == ((7,), 7)


def test_what_is_resumed_is_not_begun_again(tmp_path: Path) -> None:
    state = Checkpoint(tmp_path / "x.safetensors", JsonLinesLog(tmp_path / "x.jsonl"))
    config, called = LoopConfig(steps=6, checkpoint_every=4, patience=0), list[int]()
    train(Overfit(), config, seed=0, stage="x", checkpoint=state)
    train(
        Overfit(),
        config,
        seed=0,
        stage="x",
        checkpoint=state,
        callback=lambda model, step: called.append(step),
    )
    assert called == [5, 6]
    state.path.write_bytes(state.path.read_bytes().replace(b"best/weight", b"best/waight"))
    with pytest.raises(RunError, match=r"x\.safetensors is damaged, or of another version: "):
        train(Overfit(), replace(config, patience=3), seed=0, stage="x", checkpoint=state)


def test_each_process_takes_its_own_steps_and_one_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, int]] = []

    class Seen(Overfit):
        def forward(self, step: Step) -> Tensor:
            seen.append((step.index, step.rank, step.world))
            return super().forward(step)

    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    state = Checkpoint(tmp_path / "x.safetensors", JsonLinesLog(tmp_path / "x.jsonl"))
    config = LoopConfig(steps=2, checkpoint_every=1, batch_size=2, patience=0)
    train(Seen(), config, seed=0, stage="x", checkpoint=state)
    assert seen == [(0, 1, 2), (1, 1, 2)]
    assert not state.path.exists()


def test_a_parameter_that_a_step_does_not_use_stays() -> None:
    """Neither the momentum of earlier steps nor the decay moves it."""

    class Once(Overfit):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(1, 1)

        def forward(self, step: Step) -> Tensor:
            weight, bias = self.model.weight.sum(), self.model.bias.sum()
            return weight if step.index else weight + bias

    biases: list[float] = []
    train(
        Once(),
        LoopConfig(steps=4, patience=0),
        seed=0,
        stage="x",
        callback=lambda model, step: biases.append(model.bias.item()),
    )
    assert biases[1] < biases[0]
    assert biases[1:] == [biases[1]] * 4


def test_what_is_frozen_cannot_be_trained() -> None:
    objective = Overfit()
    objective.model.requires_grad_(False)
    with pytest.raises(ValueError, match="requires a gradient") as error:
        train(objective, LoopConfig(), seed=0, stage="x")
    assert str(error.value) == (
        "no parameter of Linear requires a gradient: it is frozen, as the models that fits return "
        "are; requires_grad_() lets it learn on"
    )


def test_the_loss_of_members_is_told_for_one() -> None:
    """Members are trained by the sum of their losses, and looked at by the mean."""
    objective, config = Members(), LoopConfig(steps=2, learning_rate=0.5, patience=5)
    history = train(objective, config, seed=0, stage="x")
    first = 0.5 * WARM.share(0, 2)
    assert history.losses == pytest.approx([-6 * first / 2], rel=1e-4)
    second = first + 0.5 * WARM.share(1, 2)
    assert history.held_out_losses == pytest.approx(
        [(abs(second - 0.2) + abs(second - 0.6)) / 2], rel=1e-4
    )


def test_patience_needs_held_out_rows_and_a_loss_a_number() -> None:
    objective = _step_loss(torch.ones(()))
    with pytest.raises(
        ValueError, match=r"^x holds nothing out to stop by: patience must be 0, got 3$"
    ):
        train(objective, LoopConfig(patience=3), seed=0, stage="x")
    broken = _step_loss(torch.tensor(float("nan")))
    with pytest.raises(ValueError, match="the loss of step 0 is nan; it must be finite"):
        train(broken, LoopConfig(patience=0), seed=0, stage="x")
    assert broken.model.weight.item() == 1


class Members(Objective):
    """Two stacked members whose best steps differ."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ParameterDict({"w": nn.Parameter(torch.zeros(2, 3))})

    def forward(self, step: Step) -> Tensor:
        return -self.model["w"].sum()

    def validate(self) -> Tensor:
        return (self.model["w"].detach().mean(-1) - torch.tensor([0.2, 0.6])).abs()


def test_each_member_keeps_its_own_best() -> None:
    objective = Members()
    config = LoopConfig(steps=40, learning_rate=0.05, validate_every=1, patience=100)
    train(objective, config, seed=0, stage="x", log=no_log)
    kept = objective.model["w"].detach()
    assert (kept.mean(-1) - torch.tensor([0.2, 0.6])).abs().max() < 0.03


def test_training_goes_on_while_any_member_improves() -> None:
    config = LoopConfig(steps=40, learning_rate=0.05, validate_every=1, patience=3)
    history = train(Members(), config, seed=0, stage="x")
    # the first is at its best long before the second, which gets better to the end
    assert history.steps[-1] == history.kept_step == 40


class SumOfTwo(Members):
    """Two members, with losses of 1 and of 5, which are trained by their sum."""

    def forward(self, step: Step) -> Tensor:
        return 0 * self.model["w"].sum() + 6

    def validate(self) -> Tensor:
        return torch.tensor([1.0, 5.0])


def test_both_losses_are_those_of_one_member() -> None:
    history = train(SumOfTwo(), LoopConfig(steps=20), seed=0, stage="x")
    assert (history.losses, history.held_out_losses) == ((3.0,), (3.0,))


class Diverging(Overfit):
    def forward(self, step: Step) -> Tensor:
        return self.model.weight.sum() * (float("nan") if step.index > 3 else 1.0)


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    message = r"^the judge diverged: losses \(nan, nan\) at step 5; lower its learning rate$"
    with pytest.raises(ValueError, match=message):
        train(Diverging(), LoopConfig(steps=50, validate_every=5), seed=0, stage="judge")


def test_the_batches_of_all_processes_together_are_the_batch_of_one() -> None:
    whole = Step(3, "x", 7).batch(1000, 10)
    parts = [Step(3, "x", 7, rank, 4).batch(1000, 10) for rank in range(4)]
    assert sorted(torch.cat(parts).tolist()) == sorted(whole.tolist())
    assert Step(3, "x", 7, 0, 4).noise_seed != Step(3, "x", 7, 1, 4).noise_seed
    assert not torch.equal(Step(3, "x", 8).batch(1000, 10), whole)
    assert not torch.equal(Step(3, "y", 7).batch(1000, 10), whole)
    assert not torch.equal(Step(4, "x", 7).batch(1000, 10), whole)


def test_settings_out_of_range() -> None:
    with pytest.raises(ValueError, match="judge_share"):
        FitConfig(judge_share=1.0).check()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_checkpoint_takes_the_metrics_back_with_it(tmp_path: Path) -> None:
    log = JsonLinesLog(tmp_path / "metrics.jsonl")
    checkpoint = Checkpoint(tmp_path / "state.safetensors", log)
    log({"loss": 1.0}, 1)
    checkpoint.save({"x": torch.ones(2)}, {"step": 1})
    log({"loss": 2.0}, 2)
    tensors, metadata = checkpoint.load()
    assert tensors["x"].tolist() == [1, 1]
    assert metadata["step"] == 1
    assert log.path.read_text().count("\n") == 1
    checkpoint.path.write_bytes(b"broken")
    with pytest.raises(RunError, match="damaged"):
        load_tensors(checkpoint.path)


def test_tensorboard_events_are_written(tmp_path: Path) -> None:
    TensorBoardLog(tmp_path)({"judge/loss": 1.0}, 3)
    assert any(path.stat().st_size for path in tmp_path.glob("events*"))


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("estimator", {"members": 0}),
        ("estimator", {"hidden": ()}),
        ("judge", {"hidden": (8, 0)}),
        ("judge", {"dropout": 1.0}),
        ("judge", {"held_out": 0.0}),
        ("generator", {"entropy": -0.1}),
        ("generator", {"samples": 0}),
        ("aligner", {"temperature": float("inf")}),
    ],
)
def test_settings_of_a_part_out_of_range(part: str, wrong: dict[str, object]) -> None:
    config = FitConfig()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(config, **{part: replace(getattr(config, part), **wrong)}).check()


def test_a_real_number_may_be_given_as_an_integer() -> None:
    DPOConfig(flip=0, beta=1).check()
    with pytest.raises(ValueError, match="learning_rate must be finite and above 0"):
        DPOConfig(learning_rate=0).check()
