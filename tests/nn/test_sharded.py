"""Weights sharded by FSDP2, on a mesh of one process."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ReinMax
from discrete_grad.gradient import DoubleControlVariate, Rebar
from discrete_grad.nn import SoftEmbedding
from discrete_grad.sampling import isolated_seed, seeded

fsdp = pytest.importorskip("torch.distributed.fsdp")
SPACE = CategoricalSpace.from_sizes((2, 3))


@pytest.fixture(scope="module")
def mesh() -> Iterator[DeviceMesh]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield DeviceMesh("cpu", [0])
    dist.destroy_process_group()


def test_an_embedding_samples_with_a_sharded_weight(mesh: DeviceMesh) -> None:
    whole = SoftEmbedding(SPACE, 4)
    sharded = SoftEmbedding(SPACE, 4)
    sharded.load_state_dict(whole.state_dict())
    fsdp.fully_shard(sharded, mesh=mesh)
    results = []
    for layer in (whole, sharded):
        logits = torch.linspace(-1, 1, 15).view(3, 5).requires_grad_()
        for _ in range(2):  # the weight is sharded again after each
            embedded = layer.sample(logits, ReinMax(SPACE), generator=seeded(1))
            embedded.square().sum().backward()
        results.append((embedded, logits.grad, layer.weight.grad))
    for one, other in zip(*results, strict=True):
        assert_close(getattr(other, "full_tensor", lambda o=other: o)(), one)


@pytest.mark.parametrize("name", ["rebar", "double_control_variate"])
def test_learned_numbers_are_sharded(name: str, mesh: DeviceMesh) -> None:
    def make() -> torch.nn.Module:
        if name == "rebar":
            return Rebar(SPACE, learn_tau=True)
        return DoubleControlVariate(SPACE, learn_alpha=True)

    gradients = []
    for sharded in (False, True):
        method = make()
        if sharded:
            fsdp.fully_shard(method, mesh=mesh)
            fsdp.register_fsdp_forward_method(method, "expectation")
        logits = torch.linspace(-1, 1, 5).requires_grad_()
        with isolated_seed(2):
            value = method.expectation(lambda rows: rows.square().cumsum(-1).sum(-1), logits)
        value.backward()
        gradients.append([logits.grad, *(p.grad for p in method.parameters())])
    for one, other in zip(*gradients, strict=True):
        assert_close(getattr(other, "full_tensor", lambda o=other: o)(), one)


def test_learned_numbers_saved_without_dimensions_are_loaded() -> None:
    method = Rebar(SPACE, learn_tau=True)
    method.load_state_dict({"eta": torch.tensor(0.25), "log_tau": torch.tensor(-2.0)})
    assert method.eta.tolist() == [0.25]
    assert method.log_tau.tolist() == [-2.0]
    other = DoubleControlVariate(SPACE, learn_alpha=True)
    torch.nn.ModuleList([other]).load_state_dict({"0.alpha": torch.tensor(0.5)})
    assert other.alpha.tolist() == [0.5]
