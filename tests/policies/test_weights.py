"""Weights of the policies: names, shapes and first values, which runs of all versions hold."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.sampling import isolated_seed

SPACE = CategoricalSpace({"cut": 3, "colour": 4})
CONTEXT, ATTRIBUTES = ContextSpec(numeric=["price", "size"]), ContextSpec(numeric=["weight"])


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def linear(name: str, out: int, inner: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, inner), f"{name}.bias": (out,)}


def sequence(
    width: int, layers: int, backbone: Literal["gru", "transformer"], shared: bool = False
) -> AutoregressiveGenerator:
    return AutoregressiveGenerator(
        CategoricalSpace.from_sizes((4, 4)) if shared else SPACE,
        CONTEXT,
        attributes=ATTRIBUTES,
        backbone=backbone,
        hidden=(width,) * layers,
        shared=shared,
    )


def around(width: int, categories: int = 7) -> dict[str, tuple[int, ...]]:
    """What stands around the trunk of a network that reads feature by feature."""
    found = {"start": (width,), "null": (width,), "features.weight": (2, width)}
    found |= {"categories.weight": (categories, width)} | linear("head", categories, width)
    for name, given in (("of_context", 2), ("of_attributes", 1)):
        found |= linear(f"{name}.0", width, given) | linear(f"{name}.2", width, width)
    return {f"network.{name}": shape for name, shape in found.items()}


def test_a_generator_is_a_trunk_and_heads() -> None:
    assert shapes(Generator(SPACE)) == {"free_logits": (7,)}
    trunk = linear("trunk.0", 64, 2) | linear("trunk.2", 64, 64)
    assert shapes(Generator(SPACE, CONTEXT)) == trunk | linear("heads.linear", 7, 64)
    narrow = Generator(SPACE, CONTEXT, hidden=(5, 3))
    trunk = linear("trunk.0", 5, 2) | linear("trunk.2", 3, 5)
    assert shapes(narrow) == trunk | linear("heads.linear", 7, 3)


def test_free_logits_move_ten_times_as_fast_as_their_parameter() -> None:
    model = Generator(SPACE)
    assert model.free_logits.tolist() == [0] * 7
    with torch.no_grad():
        model.free_logits[2] = 0.25
    assert model().tolist() == [0, 0, 2.5, 0, 0, 0, 0]


@pytest.mark.parametrize("shared", [False, True])
def test_a_recurrent_policy_has_these_weights(shared: bool) -> None:
    cells = {}
    for layer in range(2):
        for kind in ("ih", "hh"):
            cells[f"network.trunk.cells.weight_{kind}_l{layer}"] = (24, 8)
            cells[f"network.trunk.cells.bias_{kind}_l{layer}"] = (24,)
    wanted = cells | around(8, 4 if shared else 7)
    assert shapes(sequence(8, 2, "gru", shared)) == wanted


@pytest.mark.parametrize(("width", "heads"), [(32, 2), (16, 1), (24, 1)])
def test_a_transformer_has_these_weights(width: int, heads: int) -> None:
    model = sequence(width, 2, "transformer")
    trunk = {"norm.weight": (width,), "norm.bias": (width,)}
    for layer in range(2):
        block = {f"{name}.{part}": (width,) for name in ("before", "between") for part in PARTS}
        block |= linear("triple", 3 * width, width) | linear("out", width, width)
        block |= linear("mlp.0", 4 * width, width) | linear("mlp.2", width, 4 * width)
        trunk |= {f"blocks.{layer}.{name}": shape for name, shape in block.items()}
    assert shapes(model) == around(width) | {f"network.trunk.{n}": s for n, s in trunk.items()}
    assert [block.heads for block in model.network.trunk.blocks] == [heads, heads]


PARTS = ("weight", "bias")


def test_untrained_outputs_are_a_tenth_of_a_layers() -> None:
    with isolated_seed(0):
        network = sequence(64, 1, "gru").network
    largest = network.head.weight.abs().max()
    assert 0.09 / math.sqrt(64) < largest <= 0.1 / math.sqrt(64)
    for name in ("start", "null"):
        assert not getattr(network, name).any()


def test_attributes_that_are_not_known_are_one_vector() -> None:
    """For all of a batch, or where `known` says so; a known one adds what its layers make."""
    with isolated_seed(0):
        network = sequence(8, 1, "gru").network
        torch.nn.init.normal_(network.null)
    context, attributes = torch.ones(3, 2), torch.full((3, 1), 2.0)
    of_context = network.of_context(context)
    known = torch.tensor([True, False, True])
    hidden = network.condition(context, None, None, (3,))
    assert_close(hidden, of_context + network.null)
    some = network.condition(context, attributes, known, (5, 3))
    assert some.shape == (5, 3, 8)
    told = of_context + network.of_attributes(attributes)
    assert_close(some[4], torch.where(known[:, None], told, hidden))
    assert_close(network.condition(context, attributes, None, (3,)), told)


def test_a_reading_is_of_the_rows_that_are_selected() -> None:
    for backbone in ("gru", "transformer"):
        with isolated_seed(0):
            model = sequence(16, 2, backbone)  # type: ignore[arg-type]
        context, rows = torch.randn(3, 2), torch.tensor([[2, 2], [0, 1]])
        codes = torch.tensor([0, 1, 2])
        log_probs, state = model.advance(model.begin(context, batch=(3,)), None)
        log_probs, _ = model.advance(state, codes)
        chosen = state.select(rows)
        assert (chosen.position, chosen.condition.shape) == (1, (2, 2, 16))
        again, _ = model.advance(chosen, codes[rows])
        assert_close(again, log_probs[rows])
