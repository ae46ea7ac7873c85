"""Some modules, or a low-rank change: what is trained, and what stays."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from discrete_grad import CategoricalSpace
from discrete_grad.fitting import add_low_rank, merge_low_rank, trainable
from discrete_grad.fitting.low_rank import LowRank
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.reinforcement import DistillConfig, distill
from discrete_grad.sampling import isolated_seed, normal, seeded
from discrete_grad.space import ContextSpec
from discrete_grad.weighting import RewardWeighted

SPACE = CategoricalSpace.from_sizes((2, 3, 2))
SPEC = ContextSpec(numeric=["a", "b"])
CONTEXT = torch.tensor([[0.0, 1.0], [1.0, 0.5]])
ROWS = SPACE.enumerate().unsqueeze(1).expand(-1, 2, -1)


def gru() -> nn.Module:
    return AutoregressiveGenerator(SPACE, SPEC, hidden=(16, 16))


def transformer() -> nn.Module:
    return AutoregressiveGenerator(SPACE, SPEC, hidden=(16,), backbone="transformer")


def factorised() -> nn.Module:
    return Generator(SPACE, SPEC, hidden=(16,))


MAKERS = [gru, transformer, factorised]


def made(make) -> nn.Module:
    with isolated_seed(0):
        return make()


def outputs(model: nn.Module) -> torch.Tensor:
    return model(CONTEXT) if isinstance(model, Generator) else model(ROWS, CONTEXT)


def moved(model: nn.Module, seed: int = 3) -> nn.Module:
    """Adapters that change something."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, LowRank):
            noise = torch.randn(module.up.shape, generator=generator)
            module.up.data = 0.3 * noise
    return model


@pytest.mark.parametrize("make", MAKERS)
def test_starts_at_the_function_it_was(make):
    model = made(make)
    before, state = outputs(model), torch.get_rng_state()
    names = add_low_rank(model, rank=2)
    assert torch.equal(outputs(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(names) == len(set(names)) >= 2
    assert not torch.allclose(outputs(moved(model)), before, atol=1e-3)


@pytest.mark.parametrize("make", MAKERS)
def test_only_adapters_are_trained(make):
    model = made(make)
    add_low_rank(model, rank=2)
    outputs(moved(model)).square().sum().backward()
    for name, parameter in model.named_parameters():
        adapter = name.endswith((".up", ".down"))
        assert parameter.requires_grad == adapter, name
        assert adapter or parameter.grad is None, name
    # an adapter counts as soon as its `up` has moved: everyone has a part in the outputs
    unused = [n for n, p in model.named_parameters() if p.requires_grad and not p.grad.any()]
    assert not unused


def test_every_matrix_of_a_gru_has_its_part():
    """What a GRU holds in its list of weights follows each adapter."""
    layer, inputs = nn.GRU(3, 4, 2, batch_first=True), torch.ones(1, 5, 3)
    names = add_low_rank(layer, rank=1)
    assert names == ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"]
    before = layer(inputs)[0]
    for name in names:
        change = layer.parametrizations[name][0]
        change.up.data += 0.5
        after = layer(inputs)[0]
        assert not torch.allclose(after, before)
        before = after


@pytest.mark.parametrize("make", MAKERS)
def test_merging_keeps_the_function_and_gives_a_plain_model(make):
    plain, model = made(make), made(make)
    add_low_rank(model, rank=2)
    before = outputs(moved(model))
    merge_low_rank(model)
    torch.testing.assert_close(outputs(model), before, rtol=0, atol=1e-6)
    assert set(model.state_dict()) == set(plain.state_dict())
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    assert all(p.requires_grad for p in model.parameters())
    plain.load_state_dict(model.state_dict())
    assert torch.equal(outputs(plain), outputs(model))
    assert torch.equal(outputs(pickle.loads(pickle.dumps(model))), outputs(model))
    assert torch.equal(outputs(copy.deepcopy(model)), outputs(model))


def test_a_merged_weight_is_base_plus_product():
    layer = nn.Linear(4, 3)
    base = layer.weight.detach().clone()
    add_low_rank(layer, rank=2)
    change = moved(layer).parametrizations.weight[0]
    expected = base + change.up @ change.down
    merge_low_rank(layer)
    torch.testing.assert_close(layer.weight, expected)


def saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), saved])
@pytest.mark.parametrize("make", MAKERS)
def test_copies_are_whole_and_their_own(make, twin_of):
    model = made(make)
    add_low_rank(model, rank=2)
    outputs(moved(model))  # a GRU's own list now holds what is no parameter
    twin = twin_of(model)
    before = outputs(model)
    assert torch.equal(outputs(twin), before)
    wanted = {n: p.requires_grad for n, p in model.named_parameters()}
    assert {n: p.requires_grad for n, p in twin.named_parameters()} == wanted
    moved(twin, seed=4)
    assert torch.equal(outputs(model), before)
    after = outputs(twin)
    assert not torch.allclose(after, before)
    merge_low_rank(twin)
    assert torch.equal(outputs(model), before)  # and the other still has its adapters
    torch.testing.assert_close(outputs(twin), after, rtol=0, atol=1e-6)
    merge_low_rank(model)
    torch.testing.assert_close(outputs(model), before, rtol=0, atol=1e-6)


def test_a_copy_shares_what_its_original_shares():
    model = nn.ModuleDict({"a": nn.Linear(4, 3), "b": nn.Linear(4, 3)})
    model["b"].bias = model["a"].bias
    add_low_rank(model, rank=2, where=["a"])
    twin = copy.deepcopy(model)
    assert twin["b"].bias is twin["a"].bias
    assert twin["b"].bias is not model["b"].bias


@pytest.mark.parametrize("make", MAKERS)
def test_state_dict_round_trip(make):
    model, other = made(make), make()
    add_low_rank(model, rank=2)
    add_low_rank(other, rank=2, seed=1)
    moved(model)
    other.load_state_dict(model.state_dict())
    assert torch.equal(outputs(other), outputs(model))


def test_where_chooses_layers_by_name():
    model = made(gru)
    names = add_low_rank(model, rank=2, where=["network.trunk"])
    assert names == [
        f"network.trunk.cells.weight_{kind}_l{layer}" for layer in (0, 1) for kind in ("ih", "hh")
    ]
    with pytest.raises(ValueError, match=r"'network.trunk.cells' has a low-rank change; merge"):
        add_low_rank(model, rank=2)
    assert add_low_rank(model, rank=2, where=["network.head"]) == ["network.head.weight"]
    merge_low_rank(model)
    with pytest.raises(ValueError, match="no low-rank change"):
        merge_low_rank(model)


def test_the_rank_is_at_most_that_of_the_weight_and_the_seed_decides():
    layers = [nn.Linear(3, 5) for _ in range(3)]
    for layer, seed in zip(layers, (0, 0, 1), strict=True):
        add_low_rank(layer, rank=9, seed=seed)
    downs = [layer.parametrizations.weight[0].down for layer in layers]
    assert downs[0].shape == (3, 3)
    assert torch.equal(downs[0], downs[1])
    assert not torch.equal(downs[0], downs[2])
    noise = normal((3, 3), generator=seeded(1))
    assert torch.equal(downs[2], (noise / 3**0.5).float())
    half = nn.Linear(3, 5, dtype=torch.float16)
    add_low_rank(half, rank=2)
    assert half.weight.dtype == torch.float16


def test_faults_are_named():
    model = made(factorised)
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        add_low_rank(model, rank=0)
    with pytest.raises(
        ValueError, match=r"no module is called 'head'; there are \['reading', 'trunk'"
    ):
        add_low_rank(model, rank=1, where=["head"])
    with pytest.raises(ValueError, match="no linear or GRU layer"):
        add_low_rank(nn.ReLU(), rank=1)
    assert all(p.requires_grad for p in model.parameters())  # a fault leaves all as it was


def test_trainable_restores_what_was():
    model = made(factorised)
    next(model.trunk.parameters()).requires_grad_(False)
    before = {n: p.requires_grad for n, p in model.named_parameters()}
    with trainable(model, ["heads"]):
        now = {n for n, p in model.named_parameters() if p.requires_grad}
    assert now == {"heads.linear.weight", "heads.linear.bias"}
    assert {n: p.requires_grad for n, p in model.named_parameters()} == before
    with pytest.raises(RuntimeError, match="inside"), trainable(model, ["heads"]):
        raise RuntimeError("inside")
    assert {n: p.requires_grad for n, p in model.named_parameters()} == before


def test_trainable_names_its_faults():
    model = made(factorised)
    with (
        pytest.raises(ValueError, match=r"'header'; there are \['reading', 'trunk'.*'heads'"),
        trainable(model, ["heads", "header"]),
    ):
        pass
    with pytest.raises(TypeError, match="list of names"), trainable(model, "heads"):
        pass
    with pytest.raises(ValueError, match="no parameters"), trainable(model, ["trunk.1"]):
        pass
    assert all(p.requires_grad for p in model.parameters())


def test_trainable_leaves_the_base_of_an_adapter_frozen():
    model = made(factorised)
    add_low_rank(model, rank=2)
    with trainable(model, ["heads"]):
        now = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all("original" not in name for name in now)
    assert "heads.linear.bias" in now
    assert any(name.endswith(".up") for name in now)


def reward(rows: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    return rows.sum(-1).double()


@pytest.mark.parametrize("make", MAKERS)
def test_a_policy_learns_by_its_adapters_alone(make):
    model = made(make)
    target = RewardWeighted(made(make), reward, 1.0)
    frozen = {n: p.clone() for n, p in model.named_parameters()}
    add_low_rank(model, rank=4)
    config = DistillConfig(steps=100, learning_rate=1e-2)
    losses = distill(model, target, CONTEXT, method="exact", config=config).losses
    assert losses[-1] < losses[0] / 10
    for name, parameter in model.named_parameters():
        if not name.endswith((".up", ".down")):
            plain = name.replace("parametrizations.", "").replace(".original", "")
            assert torch.equal(parameter, frozen[plain])


def test_heads_alone_are_fine_tuned():
    model = made(gru)
    before = {n: p.clone() for n, p in model.named_parameters()}
    target = RewardWeighted(made(gru), reward, 1.0)
    with trainable(model, ["network.head"]):
        distill(model, target, CONTEXT, method="exact", config=DistillConfig(steps=20))
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"network.head.weight", "network.head.bias"}
