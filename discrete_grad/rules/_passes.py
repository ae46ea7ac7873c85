"""Sums over all allowed rows by passes through the layers, and their derivatives.

Weights are `(W, B)`, the logarithm of the summed probability of each class; B is the batch. `rest`
is `(T, B)`, for each state of each layer the logarithm of the summed weights of all ways from there
to the end. It is taken in logarithms, for the weights may be tiny; what runs forward are true
probabilities, for which sums and products will do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from discrete_grad.rules._automaton import Automaton, Layer, Tensors

__all__ = ["best_rest", "class_marginals", "class_weights", "log_partition", "rest_of", "shares"]


def class_weights(tensors: Tensors, log_p: Tensor, *, largest: bool = False) -> Tensor:
    """Weights `(W, B)` of log-probabilities `(D, B)`; with `largest` those of the best category."""
    # the column after the last, for places without a category
    wide = torch.cat([log_p, torch.full_like(log_p[:1], -torch.inf)])
    blocks = [wide[group] for group in tensors.groups]  # (n, z, B)
    parts = [block.amax(1) if largest else _log_sum_exp(block) for block in blocks]
    return torch.cat(parts)[tensors.places]


def _log_sum_exp(block: Tensor) -> Tensor:
    """Over the second dimension; its derivative is 0 where all is `-inf`, and never NaN."""
    if block.shape[1] == 1:
        return block.squeeze(1)
    if not torch.is_grad_enabled():
        return _reduced(block)
    dead = (block == -torch.inf).all(1, keepdim=True)
    return block.masked_fill(dead, 0).logsumexp(1).masked_fill(dead.squeeze(1), -torch.inf)


def _reduced(block: Tensor) -> Tensor:
    # two are the most common number, and one call
    return torch.logaddexp(*block.unbind(1)) if block.shape[1] == 2 else block.logsumexp(1)


def shares(tensors: Tensors, log_p: Tensor, weights: Tensor) -> Tensor:
    """Probability `(D, B)` of each category within its class."""
    own = weights[tensors.class_of]
    dead = own == -torch.inf  # -inf - (-inf) would be NaN
    return (log_p - own.masked_fill(dead, 0)).masked_fill(dead, -torch.inf).exp()


def rest_of(automaton: Automaton, weights: Tensor) -> Tensor:
    """`rest` `(T, B)`, differentiable in the weights."""
    return _backward(automaton, weights, largest=False)


def best_rest(automaton: Automaton, weights: Tensor) -> Tensor:
    """`(T, B)`, the weight of the best way from each state to the end."""
    return _backward(automaton, weights, largest=True)


def _backward(automaton: Automaton, weights: Tensor, *, largest: bool) -> Tensor:
    behind = torch.zeros_like(weights[:1])
    found = [behind]
    for layer in reversed(automaton.tensors(weights.device).layers):
        ways = _ways(layer, weights[layer.classes], behind)
        behind = ways.amax(1) if largest else _log_sum_exp(ways)
        found.append(behind)
    return torch.cat(found[::-1])


def _ways(layer: Layer, weights: Tensor, behind: Tensor) -> Tensor:
    """`(S, d, B)`: of each edge, its class's number `(C, B)` plus its target's `(S', B)`."""
    both = weights[layer.kinds] + behind[layer.targets]
    return both.view(layer.states, layer.edges, *both.shape[1:])


def _walk(automaton: Automaton, per_state: Tensor) -> Iterator[tuple[Layer, Tensor, Tensor]]:
    """Each layer with the part of a `(T, B)` before it and behind it."""
    parts = per_state.split(list(automaton.states))
    layers = automaton.tensors(per_state.device).layers
    yield from zip(layers, parts, parts[1:], strict=False)


def _chances(layer: Layer, weights: Tensor, here: Tensor, behind: Tensor) -> Tensor:
    """`(S, d, B)`, the probability of each edge given its state."""
    ways = _ways(layer, weights[layer.classes], behind)
    # a state from which there is no way has no edge either, not an edge of probability NaN
    least = torch.finfo(here.dtype).min
    return (ways - here.clamp_min(least).unsqueeze(1)).exp()


def _gathered(layer: Layer, per_edge: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of `(S, d, B)` over the edges of each class `(C, B)`, and into each state `(S', B)`."""
    flat = per_edge.flatten(0, 1)
    count = layer.classes.stop - layer.classes.start
    return (
        flat.new_zeros(count, *flat.shape[1:]).index_add(0, layer.kinds, flat),
        flat.new_zeros(layer.after, *flat.shape[1:]).index_add(0, layer.targets, flat),
    )


def _forward(automaton: Automaton, weights: Tensor, rest: Tensor) -> Tensor:
    """Probability `(W, B)` of each class, differentiable in the weights and the rest."""
    reached = torch.ones_like(rest[:1])
    found = []
    for layer, here, behind in _walk(automaton, rest):
        passed = reached.unsqueeze(1) * _chances(layer, weights, here, behind)
        of_class, reached = _gathered(layer, passed)
        found.append(of_class)
    return torch.cat([*found, torch.zeros_like(rest[:1])])  # of the class without categories


def _curved(automaton: Automaton, weights: Tensor, rest: Tensor, along: Tensor) -> Tensor:
    """Second derivative of the log-partition function, times a vector `(W, B)`.

    With the sum v of the vector over a row's classes it is `E[1(class) (v - E[v])]`: the expected
    sum from each state on runs backward, the sum so far, times the probability, forward.
    """
    coming = _coming(automaton, weights, rest, along)
    mean = coming[:1]
    reached, so_far = torch.ones_like(mean), torch.zeros_like(mean)
    parts = coming.split(list(automaton.states))
    found = []
    for (layer, here, behind), after in zip(_walk(automaton, rest), parts[1:], strict=True):
        chances = _chances(layer, weights, here, behind)
        passed = reached.unsqueeze(1) * chances
        own = along[layer.classes][layer.kinds].view_as(passed)
        summed = so_far.unsqueeze(1) * chances + passed * own
        ahead = after[layer.targets].view_as(passed) - mean
        of_class, _ = _gathered(layer, summed + passed * ahead)
        _, so_far = _gathered(layer, summed)
        _, reached = _gathered(layer, passed)
        found.append(of_class)
    return torch.cat([*found, torch.zeros_like(mean)])


def _coming(automaton: Automaton, weights: Tensor, rest: Tensor, along: Tensor) -> Tensor:
    """`(T, B)`: the expected sum of a vector `(W, B)` over the classes from each state on."""
    behind = torch.zeros_like(rest[:1])
    found = [behind]
    for layer, here, after in reversed(list(_walk(automaton, rest))):
        chances = _chances(layer, weights, here, after)
        behind = (chances * _ways(layer, along[layer.classes], behind)).sum(1)
        found.append(behind)
    return torch.cat(found[::-1])


class _LogPartition(torch.autograd.Function):
    """The first entry of `rest`, with the classes' probabilities as its derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weights: Tensor, rest: Tensor, automaton: Automaton) -> Tensor:
        return rest[0].clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        weights, rest, ctx.automaton = inputs
        ctx.save_for_backward(weights, rest)

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor, None, None]:
        weights, rest = ctx.saved_tensors
        return incoming[0] * class_marginals(ctx.automaton, weights, rest), None, None


class _ClassMarginals(torch.autograd.Function):
    """Probability of each class; the derivative is a second one of the log-partition function."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weights: Tensor, rest: Tensor, automaton: Automaton) -> Tensor:
        return _forward(automaton, weights, rest)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        weights, rest, ctx.automaton = inputs
        ctx.save_for_backward(weights, rest)

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor, None, None]:
        weights, rest = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a third derivative, rest is to follow the weights
            rest = rest_of(ctx.automaton, weights)
        return _curved(ctx.automaton, weights, rest, incoming[0]), None, None


def log_partition(automaton: Automaton, weights: Tensor, rest: Tensor) -> Tensor:
    """`(B,)`, differentiable in the weights as often as asked; `rest` is a constant of theirs."""
    value: Tensor = _LogPartition.apply(weights, rest, automaton)
    return value


def class_marginals(automaton: Automaton, weights: Tensor, rest: Tensor) -> Tensor:
    """Probability `(W, B)` of each class, differentiable in the weights as often as asked."""
    value: Tensor = _ClassMarginals.apply(weights, rest, automaton)
    return value
