"""Rows out of an automaton: random ones, the most likely one, and the next likely ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from discrete_grad.rules._automaton import Automaton, Tensors
from discrete_grad.rules._passes import shares
from discrete_grad.space import CategoricalSpace

__all__ = ["best_rows", "chosen_rows", "drawn_rows"]

Pick = Callable[[Tensor, int], Tensor]
"""Of ways `(N, B, d)` and the number of the layer, the place of one: `(N, B)`."""


def _paths(automaton: Automaton, weights: Tensor, rest: Tensor, count: int, pick: Pick) -> Tensor:
    """Classes `(F, N, B)`, by layer, of ways from the start to the end.

    Args:
        automaton: the automaton.
        weights: `(W, B)`.
        rest: `(T, B)`, what lies ahead of each state.
        count: N.
        pick: chooses among the edges of a state.
    """
    batch = torch.arange(weights.shape[1], device=weights.device).unsqueeze(-1)
    state = torch.zeros(count, weights.shape[1], dtype=torch.long, device=weights.device)
    behind = rest.split(list(automaton.states))[1:]
    found = []
    layers = automaton.tensors(weights.device).layers
    for number, (layer, ahead) in enumerate(zip(layers, behind, strict=True)):
        shape = (layer.states, layer.edges)
        kinds = layer.kinds.view(shape)[state]  # (N, B, d)
        targets = layer.targets.view(shape)[state]
        if layer.edges > 1:
            ways = weights[layer.classes][kinds, batch] + ahead[targets, batch]
            place = pick(ways, number).unsqueeze(-1)
            kinds, targets = kinds.gather(-1, place), targets.gather(-1, place)
        state = targets.squeeze(-1)
        found.append(kinds.squeeze(-1) + layer.classes.start)
    return torch.stack(found)


def drawn_rows(
    space: CategoricalSpace,
    automaton: Automaton,
    log_p: Tensor,
    weights: Tensor,
    rest: Tensor,
    noise: tuple[Tensor, Tensor],
) -> Tensor:
    """Codes `(N, B, F)` drawn from the law: a class for each layer, then a category in each class.

    Args:
        space: the space.
        automaton: the automaton.
        log_p: log-probabilities `(D, B)` of the categories.
        weights: `(W, B)` of the classes.
        rest: `(T, B)`.
        noise: two uniform numbers in [0, 1) a feature, each `(N, B, F)` in float64.
    """
    first, second = (part.movedim(-1, 0) for part in noise)

    def pick(ways: Tensor, number: int) -> Tensor:
        if ways.shape[-1] == 2:
            return (first[number] >= (ways[..., 0] - ways[..., 1]).sigmoid()).long()
        sums = ways.softmax(-1).cumsum(-1)
        target = _below(first[number].unsqueeze(-1) * sums[..., -1:], sums[..., -1:])
        # sums that are not above: the target lies below the last, and an edge of 0 adds nothing
        return (sums <= target).sum(-1).clamp_max(ways.shape[-1] - 1)

    classes = _paths(automaton, weights, rest, first.shape[1], pick)
    tensors = automaton.tensors(log_p.device)
    columns = _within(tensors, log_p, weights, classes, second[list(automaton.order)])
    return _codes(space, automaton, columns)


def _below(target: Tensor, bound: Tensor) -> Tensor:
    return torch.minimum(target, torch.nextafter(bound, torch.zeros_like(bound)))


def _within(
    tensors: Tensors, log_p: Tensor, weights: Tensor, classes: Tensor, uniform: Tensor
) -> Tensor:
    """Columns `(F, N, B)`: of each class `(F, N, B)` a category, by its share of the class."""
    share = shares(tensors, log_p.double(), weights)[tensors.columns]
    sums = torch.cat([torch.zeros_like(share[:1]), share.cumsum(0)]).movedim(0, -1).contiguous()
    start, end = (bound[classes].movedim(-1, 0).flatten(1) for bound in tensors.bounds)
    low, high = sums.gather(-1, start), sums.gather(-1, end)
    target = _below(low + uniform.movedim(-1, 0).flatten(1) * (high - low), high)
    place = torch.searchsorted(sums, torch.maximum(target, low), right=True) - 1
    place = torch.minimum(torch.maximum(place, start), (end - 1).clamp_min(0))
    columns = tensors.columns[place]  # (B, F N)
    return columns.view(-1, *classes.shape[:-1]).movedim(0, -1)


def _codes(space: CategoricalSpace, automaton: Automaton, columns: Tensor) -> Tensor:
    """Codes `(N, B, F)` of columns `(F, N, B)` by layer."""
    order = torch.tensor(automaton.order, device=columns.device)
    offsets = torch.tensor(space.offsets, device=columns.device)[order]
    codes = columns.movedim(0, -1) - offsets
    return codes[..., order.argsort()]


def chosen_rows(
    space: CategoricalSpace, automaton: Automaton, log_p: Tensor, weights: Tensor, rest: Tensor
) -> Tensor:
    """Codes `(B, F)` of the most likely row; weights and rest are those of best categories."""
    (classes,) = _paths(automaton, weights, rest, 1, lambda ways, number: ways.argmax(-1)).unbind(1)
    order = torch.tensor(automaton.order, device=log_p.device)
    mine = classes[order.argsort()]  # (F, B)
    sizes = torch.tensor(space.sizes, device=log_p.device)
    wanted = mine.repeat_interleave(sizes, 0, output_size=space.width)
    here = automaton.tensors(log_p.device).class_of.unsqueeze(-1) == wanted
    # not -inf: a class of masked categories alone would go unseen
    least = torch.finfo(log_p.dtype).min
    flat = torch.where(here, log_p.clamp_min(least / 2), least).movedim(0, -1)
    return space.argmax(flat)


def best_rows(
    space: CategoricalSpace, automaton: Automaton, log_p: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """The best `(count, B, F)` codes in order, and their weights `(count, B)`.

    The best ways from each state to the end are the best of one category and one of the best ways
    from the state that it leads to.
    """
    layers = automaton.tensors(log_p.device).layers
    parts = log_p.split(list(space.sizes))
    top = log_p.new_zeros(1, 1, log_p.shape[1])  # (S, k, B)
    choices = []
    for layer in reversed(layers):
        known = top.shape[1]
        ahead = torch.cat([top, torch.full_like(top[:1], -torch.inf)])[layer.steps[:-1]]
        ways = (parts[layer.feature].unsqueeze(1) + ahead).flatten(1, 2)  # (S, K k, B)
        top, place = ways.topk(min(count, ways.shape[1]), dim=1)
        choices.append((layer, place // known, place % known))
    rank = torch.arange(top.shape[1], device=log_p.device).unsqueeze(-1)
    rank = rank.expand(-1, log_p.shape[1])
    state, batch = torch.zeros_like(rank), torch.arange(log_p.shape[1], device=log_p.device)
    codes = [state] * space.num_features
    for layer, code, before in reversed(choices):
        chosen = code[state, rank, batch]
        codes[layer.feature] = chosen
        # a way that does not exist may lead to the dead state
        after = layer.steps[state, chosen].clamp_max(layer.after - 1)
        state, rank = after, before[state, rank, batch]
    return torch.stack(codes, -1), top[0]
