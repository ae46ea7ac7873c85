"""How a method is called that somebody else wrote: with a generator where it takes one, seeded."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from discrete_grad import CategoricalSpace
from discrete_grad.sampling import isolated_seed
from discrete_grad.testing import _calling as calling
from discrete_grad.testing import _check_calling_f as calling_f
from discrete_grad.testing import _check_module as check_module
from discrete_grad.testing import _check_rules as check_rules
from discrete_grad.testing import _layers as layers
from discrete_grad.testing.subject import SCENES
from tests.testing.bugs import Layer, Ruled

SPACE = CategoricalSpace({"cut": 2, "colour": 3})


def seeded_call(f: Any, logits: Any, *, generator: Any = None) -> Any:
    return f, logits, generator


def any_options(f: Any, logits: Any, **options: Any) -> Any:
    return f, logits, options.get("generator")


def plain_call(f: Any, logits: Any, *others: Any) -> Any:
    return f, logits, others


def test_a_generator_is_given_where_it_is_taken() -> None:
    noise = torch.Generator()
    for call, taken in ((seeded_call, True), (any_options, True), (plain_call, False)):
        assert calling.takes_generator(call) is taken
        method: Any = SimpleNamespace(expectation=call)
        given = calling.expectation(method, max, torch.ones(1), noise)
        assert given == (max, torch.ones(1), noise if taken else ())
        if taken:
            assert calling.expectation(method, max, torch.ones(1), None)[2] is None
    assert not calling.takes_generator(max)  # of which Python knows no arguments


def test_the_space_is_that_given_or_the_methods_own_or_one_feature() -> None:
    logits, own = torch.zeros(2, 7), CategoricalSpace({"cut": 7})
    method: Any = SimpleNamespace(space=own)
    assert calling.space_of(method, logits, SPACE) is SPACE
    assert calling.space_of(method, logits, None) is own
    for without in (SimpleNamespace(), SimpleNamespace(space=None)):
        assert calling.space_of(without, logits, None) == CategoricalSpace({"x": 7})  # type: ignore[arg-type]


def test_rows_of_every_call_are_kept_if_all_are_of_the_batch() -> None:
    recorder = calling.Recorder(lambda rows: rows.sum(-1))
    assert recorder.rows((3,)) is None
    rows = torch.rand(2, 3, 5, requires_grad=True)
    assert torch.equal(recorder(rows), rows.sum(-1))
    recorder(rows[:1] + 1)
    kept = recorder.rows((3,))
    assert kept is not None
    assert torch.equal(kept, torch.cat([rows, rows[:1] + 1]))
    assert not kept.requires_grad
    assert recorder.rows((2,)) is None
    recorder(rows[0])
    assert recorder.rows((3,)) is None


def test_a_layer_of_plain_functions_calls_each_feature_with_the_same_generator() -> None:
    given: list[Any] = []

    def row(logits: Tensor, *, generator: Any = None) -> Tensor:
        given.append((logits, generator))
        return logits + 1

    noise, logits = torch.Generator(), torch.arange(10.0).view(2, 5)
    layer: Any = layers.of_each_feature(row, SPACE)
    assert layer.space is SPACE
    assert torch.equal(layer(logits, generator=noise), logits + 1)
    assert [part.shape[-1] for part, _ in given] == [2, 3]
    assert all(generator is noise for _, generator in given)
    value = layer.expectation(lambda rows: rows.sum(-1), logits, generator=noise)
    assert torch.equal(value, (logits + 1).sum(-1))
    assert given[2][0].shape == (1, 2, 2)
    assert given[2][1] is noise
    without: Any = layers.of_each_feature(lambda part: part * 2, SPACE)
    assert torch.equal(without(logits), 2 * logits)
    assert torch.equal(without.expectation(lambda rows: rows.sum(-1), logits), 2 * logits.sum(-1))


def test_what_turns_logits_into_a_row() -> None:
    state = torch.get_rng_state()
    assert layers.is_row_function(lambda logits: torch.rand_like(logits))
    assert torch.equal(state, torch.get_rng_state())
    assert not layers.is_row_function(lambda space: "a layer")
    assert not layers.is_row_function(lambda space: space.sizes)


# --- what the checks call -------------------------------------------------------------------------


def test_the_network_behind_f_is_always_the_same() -> None:
    net = calling_f.Net(SPACE)
    with isolated_seed(0):
        first, last = nn.Linear(5, 8).double(), nn.Linear(8, 1).double()
    assert torch.equal(net.first.weight, first.weight)
    assert torch.equal(net.last.weight, last.weight)
    assert not net.training
    rows = torch.rand(4, 3, 5, dtype=torch.float64)
    expected = last(net.norm(first(rows.view(12, 5)).tanh())).view(4, 3)
    torch.testing.assert_close(net(rows), expected)


@pytest.mark.parametrize(
    ("errors", "fine"), [(-8.9, True), (8.9, True), (9.1, False), (-9.1, False)]
)
def test_the_mean_slope_may_be_nine_standard_errors_off(
    errors: float, fine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject: Any = SimpleNamespace(scene=SCENES[1], seed=5)
    f = calling_f.row_function(SCENES[1].space, "cubic")
    truth, _ = calling_f.exact_value_and_gradient(f, SCENES[1].logits, SCENES[1].space)
    spread = torch.tensor([1.0, -1.0]).repeat(32).double()
    off = errors * spread.std() / 8
    seeds = []

    def call(seed: int) -> tuple[Tensor, Tensor]:
        seeds.append(seed)
        return truth, 200 * (truth + off + spread[len(seeds) - 1])

    monkeypatch.setattr(calling_f, "_scaled", lambda subject: call)
    if fine:
        calling_f._require_mean_slope(subject)
    else:
        told = r"f's own parameter must get the gradient of E\[f\], .*; it got .* \+- 0.13 over 12,"
        with pytest.raises(AssertionError, match=told):
            calling_f._require_mean_slope(subject)
    assert seeds == list(range(5, 69))


def test_what_takes_a_temperature_and_what_takes_rules() -> None:
    class Tempered(Layer):
        def __init__(self, space: CategoricalSpace, *, tau: float = 1.0) -> None:
            super().__init__(space)

    def make(space: CategoricalSpace, tau: float = 1.0) -> Layer:
        return Layer(space)

    for fine in (Tempered, make, functools.partial(Tempered), lambda space, tau: None):
        assert check_module._takes_tau(fine)
    for other in (Layer, Tempered(SPACE), functools.partial(Layer), max):
        assert not check_module._takes_tau(other)
    for fine in (Ruled, functools.partial(Ruled), functools.partial(functools.partial(Ruled))):
        assert check_rules._takes_rules(fine)
    for other in (Layer, functools.partial(Layer), 3):
        assert not check_rules._takes_rules(other)
