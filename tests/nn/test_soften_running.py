"""A softened model runs as the model does: its modes, noise, attributes, dtypes and state."""

import pickle
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from discrete_grad import CategoricalSpace
from discrete_grad.nn import soften
from tests.nn.zoo import SPACE, linear
from tests.nn.zoo.columns import Columns
from tests.nn.zoo.lookups import MaxNorm
from tests.nn.zoo.one_table import BufferOffsets

CODES = SPACE.enumerate()
ROWS = SPACE.one_hot(CODES)


# --- at each call anew ----------------------------------------------------------------------------


class Noisy(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + torch.randn(len(codes))


def test_noise_is_drawn_at_every_call() -> None:
    model = Noisy(linear())
    soft = soften(model, SPACE)
    assert not torch.equal(soft(ROWS), soft(ROWS))
    torch.manual_seed(2)
    expected = model(CODES)
    torch.manual_seed(2)
    assert_close(soft(ROWS), expected)


class NoisyInTraining(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        score = F.dropout(super().forward(codes), 0.5, self.training)
        return score + torch.randn_like(score) if self.training else score


def test_modes_are_asked_at_every_call() -> None:
    model = NoisyInTraining(linear()).eval()
    soft = soften(model, SPACE)
    assert_close(soft(ROWS), model(CODES))
    soft.train()
    assert not torch.equal(soft(ROWS), soft(ROWS))


class Tuned(Columns):
    scale = 1.0

    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) * self.scale


def test_attributes_set_later_are_seen() -> None:
    model = Tuned(linear())
    soft = soften(model, SPACE)
    before = soft(ROWS)
    model.scale = 3.0
    assert_close(soft(ROWS), 3 * before)
    model.tables[0] = nn.Embedding(3, 3)
    model.register_parameter("late", nn.Parameter(torch.zeros(())))
    assert_close(soft(ROWS), model(CODES))
    assert "late" in dict(soft.named_parameters())


def test_hooks_run() -> None:
    model = Columns(linear())
    soft, seen = soften(model, SPACE), []
    for module in (model, model.tables[2], model.body):
        module.register_forward_hook(lambda module, inputs, output: seen.append(module))
    model.tables[1].register_forward_hook(lambda module, inputs, output: output * 2)
    assert_close(soft(ROWS), model(CODES))
    assert seen == [model.tables[2], model.body, model] * 2


# --- modes ----------------------------------------------------------------------------------------


class WithoutGradient(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        with torch.no_grad():
            first = self.tables[0](codes[:, 0])
        second, third = self.tables[1](codes[:, 1]), self.tables[2](codes[:, 2])
        return self.score([first, second, third])


def test_no_grad_within_the_model() -> None:
    soft = soften(WithoutGradient(linear()), SPACE)
    row = ROWS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(soft(row).sum(), row)
    assert not gradient[:, :3].any()
    assert (gradient[:, 3:] != 0).all()


class AsksForGradients(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + float(torch.is_grad_enabled())


def test_modes_around_the_model() -> None:
    model = AsksForGradients(linear())
    soft = soften(model, SPACE)
    with torch.no_grad():
        assert_close(soft(ROWS), model(CODES))
        assert not soft(ROWS.clone().requires_grad_()).requires_grad
    assert_close(soft(ROWS), model(CODES))
    with torch.inference_mode():
        assert soft(ROWS).is_inference()


def test_autocast_around_and_within() -> None:
    class Cast(Columns):
        def forward(self, codes: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                embedded = self.tables[0](codes[:, 0])
                assert embedded.dtype == torch.float32  # as that of codes is
                self.seen = self.body(torch.cat([embedded] * 3, -1)).dtype
            return super().forward(codes)

    model = Cast(linear())
    soft = soften(model, SPACE)
    assert_close(soft(ROWS), model(CODES))
    assert model.seen == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        value, expected = soft(ROWS), model(CODES)
    assert value.dtype == expected.dtype == torch.bfloat16
    assert torch.equal(value, expected)


def test_activation_checkpoints() -> None:
    class Checkpointed(Columns):
        def forward(self, codes: Tensor) -> Tensor:
            return checkpoint(super().forward, codes, use_reentrant=False)

    model = Checkpointed(linear())
    row = ROWS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(soften(model, SPACE)(row).sum(), row)
    (expected,) = torch.autograd.grad(model.hand(row).sum(), row)
    assert_close(gradient, expected)


# --- dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", [Columns, BufferOffsets])
def test_a_look_up_has_the_dtype_of_the_table(kind: type[nn.Module], dtype: torch.dtype) -> None:
    model = kind(linear()).to(dtype)
    row = ROWS.clone().requires_grad_()
    value = soften(model, SPACE)(row)
    assert value.dtype == dtype
    assert torch.equal(value, model(CODES))
    (gradient,) = torch.autograd.grad(value.sum(), row)
    assert gradient.dtype == torch.float32
    assert gradient.isfinite().all()


# --- what is left behind --------------------------------------------------------------------------


class Remembers(Columns):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.register_buffer("last", torch.zeros(1, 3, dtype=torch.int64))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, codes: Tensor) -> Tensor:
        self.last = codes
        self.column = codes[:, 1] + 3
        self.counts = F.one_hot(codes[:, 1], 4)
        self.calls += 1
        return super().forward(codes)


def test_codes_that_a_model_keeps_become_plain_integers() -> None:
    model = Remembers(linear())
    soft = soften(model, SPACE)
    soft(SPACE.softmax(3 * ROWS).requires_grad_())
    assert torch.equal(model.last, CODES)
    assert torch.equal(model.column, CODES[:, 1] + 3)
    assert torch.equal(model.counts, F.one_hot(CODES[:, 1], 4))
    assert model.calls == 1
    assert torch.equal(model.state_dict()["last"], CODES)
    pickle.dumps(model)


class RemembersAndFails(Remembers):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) * (codes[:, 0] == 1)


def test_codes_that_a_refused_model_keeps() -> None:
    model = RemembersAndFails(linear())
    with pytest.raises(TypeError, match="'eq'"):
        soften(model, SPACE)(ROWS)
    assert torch.equal(model.last, CODES)
    assert all(type(value) is Tensor for value in model.state_dict().values())
    pickle.dumps(model)


def test_weights_are_not_renormalised_in_place() -> None:
    model = MaxNorm(linear())
    with torch.no_grad():
        model.tables[1].weight.mul_(10)
    before = model.tables[1].weight.clone()
    value = soften(model, SPACE)(ROWS)
    assert torch.equal(model.tables[1].weight, before)
    assert_close(value, model(CODES))  # which changes them
    assert not torch.equal(model.tables[1].weight, before)


# --- a shared table -------------------------------------------------------------------------------


class Language(nn.Module):
    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__()
        self.table = nn.Embedding(max(space.sizes), 8)

    def forward(self, codes: Tensor) -> Tensor:
        return self.table(codes).sum((1, 2))


def test_a_table_for_all_positions_is_not_copied() -> None:
    space = CategoricalSpace.from_sizes((50,) * 16)
    model = Language(space)
    row = torch.rand(4, space.width)
    with torch.profiler.profile(profile_memory=True, record_shapes=True) as profile:
        soften(model, space)(row)
    largest = max(event.cpu_memory_usage for event in profile.key_averages())
    assert largest <= 4 * 16 * 8 * 4  # the embedded row; the table is 50 x 8
    products = [e for e in profile.events() if e.name == "aten::mm"]
    assert len(products) == 1


# --- messages -------------------------------------------------------------------------------------


def test_a_message_names_operation_line_features_and_ways_out() -> None:
    class Compares(Columns):
        def forward(self, codes: Tensor) -> Tensor:
            return super().forward(codes) * (codes[:, 1:] == 1).any(-1)

    with pytest.raises(TypeError) as caught:
        soften(Compares(linear()), SPACE)(ROWS)
    message = str(caught.value)
    assert "'eq' in 'return super().forward(codes) * (codes[:, 1:] == 1).any(-1)'" in message
    assert "(feature 'colour', 'shape')" in message
    assert "on_codes(space, model)" in message
    assert "SoftEmbedding" in message
    assert "inputs_embeds" in message


def test_codes_can_be_printed() -> None:
    shown = []

    class Prints(Columns):
        def forward(self, codes: Tensor) -> Tensor:
            shown.append(f"{codes!r} {codes[:, 1]}")
            return super().forward(codes)

    with warnings.catch_warnings():
        soften(Prints(linear()), SPACE)(ROWS[:2])
    whole = "codes (2, 3) of a soft row (cut, colour, shape)"
    assert shown == [f"{whole} codes (2,) of a soft row (colour)"]
