"""Train a part of a model: some of its modules, or a low-rank change of its weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from discrete_grad.sampling import normal, seeded

__all__ = ["LowRank", "add_low_rank", "merge_low_rank", "trainable"]


class LowRank(nn.Module):
    """`W -> W + up @ down`, a change of low rank, at first none.

    Args:
        weight: W `(out, in)`.
        rank: of the change, from 1 on; lowered to the shorter side of W where that is less.
        generator: source of the noise.

    Reference:
        Hu et al. (2021), arXiv 2106.09685, equation 3.

    Example:
        >>> weight = torch.ones(3, 4)
        >>> torch.equal(LowRank(weight, 2)(weight), weight)
        True
    """

    def __init__(
        self, weight: Tensor, rank: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        rank = min(rank, *weight.shape)
        noise = normal((rank, weight.shape[1]), generator=generator) / weight.shape[1] ** 0.5
        self.down = nn.Parameter(noise.to(weight))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight `(out, in)`."""
        return weight + self.up @ self.down


def add_low_rank(
    module: nn.Module, *, rank: int, where: Sequence[str] | None = None, seed: int = 0
) -> list[str]:
    """Freeze a model and give weights of linear and GRU layers a low-rank change to be trained.

    The model's function stays exactly what it is until an adapter is trained, its class and its
    calls remain; it can be copied, pickled and asked for its `state_dict`.

    Args:
        module: the model, changed in place.
        rank: of each change, from 1 on.
        where: names of modules, such as `"network.trunk"`; the layers in them get adapters. None
            for all layers.
        seed: of the adapters' first values.

    Returns:
        The names of the weights that have an adapter now.

    Raises:
        ValueError: for a rank below 1, an unknown name, no layer, or one that has an adapter.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> add_low_rank(model, rank=2, where=["0"])
        ['0.weight']
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        48
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    inside = _inside(module, where)
    layers = [(name, m) for name, m in module.named_modules() if m in inside and _weights(m)]
    if not layers:
        raise ValueError(
            f"there is no linear or GRU layer in {_known(module) if where is None else where}"
        )
    for name, layer in layers:
        if _adapted(layer):
            raise ValueError(f"{name or 'the module'!r} has a low-rank change; merge it first")
    module.requires_grad_(False)
    generator, added = seeded(seed), []
    for name, layer in layers:
        changes = {
            w: LowRank(getattr(layer, w), rank, generator=generator) for w in _weights(layer)
        }
        _register(layer, changes)
        added += [f"{name}.{weight}" if name else weight for weight in changes]
    return added


def merge_low_rank(module: nn.Module) -> None:
    """Add every low-rank change to its weight, in place, and let all parameters train again.

    Raises:
        ValueError: for a model without one.

    Example:
        >>> model = nn.Linear(8, 16)
        >>> _ = add_low_rank(model, rank=2)
        >>> merge_low_rank(model)
        >>> sorted(model.state_dict())
        ['bias', 'weight']
    """
    layers = [m for m in module.modules() if _adapted(m)]
    if not layers:
        raise ValueError(f"{type(module).__name__} has no low-rank change to merge")
    for layer in layers:
        for weight in _adapted(layer):
            parametrize.remove_parametrizations(layer, weight)
    module.requires_grad_(True)


@contextmanager
def trainable(module: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Train only the parameters of some modules within a block, and restore the others after it.

    A weight with a low-rank change stays frozen; its change is trained.

    Args:
        module: the model.
        names: of its modules, such as `"network.head"`.

    Raises:
        ValueError: for an unknown name, with those there are, or modules without parameters.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> with trainable(model, ["2"]):
        ...     [name for name, p in model.named_parameters() if p.requires_grad]
        ['2.weight', '2.bias']
    """
    chosen = {id(p) for m in _inside(module, names) for p in m.parameters(recurse=False)}
    chosen -= {id(p) for m in module.modules() for p in _originals(m).values()}
    before = [(p, p.requires_grad) for p in module.parameters()]
    if not chosen:
        raise ValueError(f"the modules {list(names)} have no parameters")
    try:
        for parameter, _ in before:
            parameter.requires_grad_(id(parameter) in chosen)
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)


def _inside(module: nn.Module, names: Sequence[str] | None) -> set[nn.Module]:
    """The modules of these names and those within them."""
    if names is None:
        return set(module.modules())
    if isinstance(names, str):
        raise TypeError(f"names must be a list of names, got {names!r}")
    known = dict(module.named_modules())
    for name in names:
        if name not in known:
            raise ValueError(f"no module is called {name!r}; there are {_known(module)}")
    return {inner for name in names for inner in known[name].modules()}


def _known(module: nn.Module) -> list[str]:
    names = [name for name, _ in module.named_modules()]
    return [name for name in names if name and "parametrizations" not in name]


def _weights(layer: nn.Module) -> list[str]:
    """Names of the matrices of a layer that can have an adapter."""
    if isinstance(layer, nn.Linear):
        return ["weight"]
    if isinstance(layer, nn.GRU):
        return [name for name in layer._flat_weights_names if name.startswith("weight")]
    return []


def _adapted(layer: nn.Module) -> list[str]:
    """Names of the weights of a layer that have a low-rank change."""
    if not parametrize.is_parametrized(layer):
        return []
    lists: Any = layer.parametrizations
    return [name for name, steps in lists.items() if any(isinstance(s, LowRank) for s in steps)]


def _originals(layer: Any) -> dict[str, nn.Parameter]:
    """The weights of a layer without their low-rank change, by name."""
    return {name: layer.parametrizations[name].original for name in _adapted(layer)}


def _register(layer: nn.Module, changes: dict[str, LowRank]) -> None:
    for weight, change in changes.items():
        parametrize.register_parametrization(layer, weight, change)
    # torch's own class can not be pickled, and its copies break when one of them is merged
    own: Any = type(layer)
    own.__reduce_ex__, own.__deepcopy__ = _reduced, _copied


def _reduced(layer: Any, protocol: int) -> tuple[Any, tuple[Any, ...]]:
    """For pickle: the layer without adapters, and the adapters by weight."""
    state = dict(layer.__dict__)
    changes = {weight: layer.parametrizations[weight][0] for weight in _adapted(layer)}
    state["_modules"] = {k: m for k, m in state["_modules"].items() if k != "parametrizations"}
    state["_parameters"] = state["_parameters"] | _originals(layer)
    for derived in ("_flat_weights", "_flat_weight_refs"):
        state.pop(derived, None)
    return _restored, (type(layer).__bases__[0], state, changes)


def _restored(
    base: type[nn.Module], state: dict[str, Any], changes: dict[str, LowRank]
) -> nn.Module:
    layer = base.__new__(base)
    layer.__dict__.update(state)
    if isinstance(layer, nn.GRU):
        layer._init_flat_weights()  # it holds its weights in a list, too
    _register(layer, changes)
    return layer


def _copied(layer: Any, memo: dict[int, Any]) -> nn.Module:
    rebuild, arguments = layer.__reduce_ex__(4)
    twin: nn.Module = rebuild(*copy.deepcopy(arguments, memo))
    return twin
