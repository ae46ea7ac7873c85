"""A network that reads a row feature by feature: what the autoregressive models are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad.nn.context import ContextReading, check_context
from discrete_grad.space import CategoricalSpace, ContextSpec, is_codes

__all__ = ["Reading", "SequenceNetwork", "feature_order"]

Cache = tuple[tuple[Tensor, Tensor], ...]


@dataclass(frozen=True)
class Reading:
    """The state of a batch of rows that are being read: `advance` makes the next from it.

    Example:
        >>> network = SequenceNetwork(CategoricalSpace.from_sizes((2, 3)), None)
        >>> network.begin(batch=(4,), order=(0, 1)).position
        0
    """

    condition: Tensor
    """`(*batch, W)`, added to every input."""
    order: tuple[int, ...]
    position: int = 0
    cache: Any = None
    """The hidden state `(layers, N, W)` of a GRU, the keys and values of a transformer."""

    def select(self, rows: Tensor) -> Reading:
        """The reading of other rows of the flattened batch, `rows` their numbers `(*batch)`."""
        condition, cache = self.condition.flatten(0, -2)[rows], self.cache
        if isinstance(cache, Tensor):
            cache = cache[:, rows.flatten()]
        elif cache is not None:
            cache = tuple((key[rows.flatten()], value[rows.flatten()]) for key, value in cache)
        return Reading(condition, self.order, self.position, cache)


class SequenceNetwork(nn.Module):
    """One number for each category of a feature, given the features before it.

    Each input is the sum of three embeddings, of the category just read, of the feature that comes
    next and of the condition, so one network serves every order of the features.

    Args:
        space: the features of a row.
        context: the context columns; None for none.
        attributes: columns of what may or may not be known of the row; None for none.
        backbone: "gru", or "transformer", causal, heads of 16 numbers where the width allows.
        hidden: the width of each layer, all equal.
        shared: whether one category means the same in every feature, as in a text of tokens: then
            all features share the embeddings and outputs of one, and must be of equal size.

    Raises:
        ValueError: for another backbone, widths that are not positive and equal, or sizes to be
            shared that differ.

    Example:
        >>> network = SequenceNetwork(CategoricalSpace.from_sizes((2, 3)), None)
        >>> network(torch.tensor([1, 2]), order=(1, 0)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        space: CategoricalSpace,
        context: ContextSpec | None,
        *,
        attributes: ContextSpec | None = None,
        backbone: Literal["gru", "transformer"] = "gru",
        hidden: Sequence[int] = (64,),
        shared: bool = False,
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1 or len(set(hidden)) > 1:
            raise ValueError(f"hidden needs widths above 0, all equal, got {tuple(hidden)}")
        if backbone not in ("gru", "transformer"):
            raise ValueError(f"backbone must be 'gru' or 'transformer', got {backbone!r}")
        if shared and len(set(space.sizes)) > 1:
            raise ValueError(f"features that share must be of equal size, got {space.sizes}")
        width, categories = hidden[0], space.sizes[0] if shared else space.width
        self.shared = shared
        self.space, self.context_spec, self.attributes_spec = space, context, attributes
        self.start = nn.Parameter(torch.zeros(width))
        self.null = nn.Parameter(torch.zeros(width))
        self.categories = nn.Embedding(categories, width)
        self.features = nn.Embedding(space.num_features, width)
        self.context_reading = ContextReading(context)
        self.attributes_reading = ContextReading(attributes)
        self.of_context = _encoder(self.context_reading, width)
        self.of_attributes = _encoder(self.attributes_reading, width)
        self.trunk = _GRU(width, len(hidden)) if backbone == "gru" else _Causal(width, len(hidden))
        self.head = nn.Linear(width, categories)
        with torch.no_grad():
            self.head.weight.mul_(0.1)  # untrained, the categories are about equally likely

    def condition(
        self,
        context: Tensor | None,
        attributes: Tensor | None,
        known: Tensor | None,
        batch: tuple[int, ...],
    ) -> Tensor:
        """Embedding `(*batch, W)` of the context and of the attributes, where they are known."""
        check_context(context, self.context_spec)
        self._check_attributes(attributes, known)
        result = torch.zeros_like(self.null)
        if self.of_context is not None and context is not None:
            result = result + self.of_context(self.context_reading(context).to(self.null.dtype))
        if self.of_attributes is not None and attributes is not None:
            given = self.of_attributes(self.attributes_reading(attributes).to(self.null.dtype))
            given = given if known is None else given.where(known.unsqueeze(-1), self.null)
            result = result + given
        elif self.of_attributes is not None:
            result = result + self.null
        return result.expand(*batch, -1)

    def begin(
        self,
        context: Tensor | None = None,
        *,
        attributes: Tensor | None = None,
        known: Tensor | None = None,
        batch: tuple[int, ...],
        order: tuple[int, ...],
    ) -> Reading:
        """Nothing read yet, for a batch of rows."""
        return Reading(self.condition(context, attributes, known, batch), order)

    def advance(self, reading: Reading, previous: Tensor | None) -> tuple[Tensor, Reading]:
        """Numbers `(*batch, K)` for the next feature.

        Args:
            reading: what was read before.
            previous: the last feature read, codes `(*batch)` or hard or soft rows of it
                `(*batch, K)`; None at the first.
        """
        order, position = reading.order, reading.position
        token = self.start if position == 0 else self._token(order[position - 1], previous)
        inputs = token + self.features.weight[order[position]] + reading.condition
        batch = inputs.shape[:-1]
        hidden, cache = self.trunk(inputs.reshape(-1, 1, inputs.shape[-1]), reading.cache)
        outputs = self._outputs(order[position], hidden).reshape(*batch, -1)
        return outputs, Reading(reading.condition, order, position + 1, cache)

    def forward(
        self,
        row: Tensor,
        context: Tensor | None = None,
        *,
        attributes: Tensor | None = None,
        known: Tensor | None = None,
        order: tuple[int, ...],
    ) -> Tensor:
        """Numbers `(..., D)` for every feature given those before it, all at once.

        Args:
            row: codes `(..., F)` or a flat row `(..., D)`.
            context: `(..., C)`.
            attributes: `(..., A)`; None where nothing is known.
            known: booleans `(...)`; None where all attributes are.
            order: in which the features are read.
        """
        codes = is_codes(row)
        (self.space.check_codes if codes else self.space.check_flat)(row)
        batch = _batch(row.shape[:-1], context, attributes, known)
        condition = self.condition(context, attributes, known, batch)
        parts = row.unbind(-1) if codes else self.space.split(row)
        tokens = [self.start] + [self._token(i, parts[i]) for i in order[:-1]]
        inputs = [t + self.features.weight[i] for t, i in zip(tokens, order, strict=True)]
        inputs = [i.expand(*batch, -1) for i in inputs]
        stacked = torch.stack(inputs, -2) + condition.unsqueeze(-2)
        hidden, _ = self.trunk(stacked.reshape(-1, *stacked.shape[-2:]), None)
        outputs = [self._outputs(i, hidden[:, order.index(i)]) for i in range(len(order))]
        return torch.cat(outputs, -1).reshape(*batch, -1)

    def _token(self, feature: int, value: Tensor | None) -> Tensor:
        if value is None:
            raise ValueError(f"feature {self.space.names[feature]!r} was not given")
        span = self._span(feature)
        if is_codes(value):
            token: Tensor = self.categories(value.long() + span.start)
            return token
        return value.to(self.null.dtype) @ self.categories.weight[span]

    def _outputs(self, feature: int, hidden: Tensor) -> Tensor:
        span = self._span(feature)
        return F.linear(hidden, self.head.weight[span], self.head.bias[span])

    def _span(self, feature: int) -> slice:
        """The place of a feature's categories among the embeddings."""
        first = 0 if self.shared else self.space.offsets[feature]
        return slice(first, first + self.space.sizes[feature])

    def _check_attributes(self, attributes: Tensor | None, known: Tensor | None) -> None:
        spec = self.attributes_spec
        if known is not None and attributes is None:
            raise ValueError("known says which attributes are known, but none are given")
        if attributes is not None and (spec is None or attributes.shape[-1:] != (spec.width,)):
            wanted = f"attributes (..., {spec.width})" if spec else "no attributes"
            raise ValueError(f"this model takes {wanted}, got {tuple(attributes.shape)}")


class _GRU(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.cells = nn.GRU(width, width, layers, batch_first=True)

    def forward(self, inputs: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor]:
        """Hidden vectors `(N, T, W)` and the last state `(layers, N, W)`."""
        hidden, state = self.cells(inputs, cache)
        return hidden, state


class _Causal(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, inputs: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        """Hidden vectors `(N, T, W)` and each layer's keys and values."""
        hidden, kept = inputs, []
        for i, block in enumerate(self.blocks):
            hidden, pair = block(hidden, None if cache is None else cache[i])
            kept.append(pair)
        return self.norm(hidden), tuple(kept)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 16 if width % 16 == 0 else 1
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.triple, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
        )

    def forward(
        self, inputs: Tensor, cache: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """A whole sequence without a cache, or its next element `(N, 1, W)` with one."""
        split = self.triple(self.before(inputs)).unflatten(-1, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (N, heads, T, W / heads)
        if cache is not None:
            key, value = torch.cat([cache[0], key], 2), torch.cat([cache[1], value], 2)
        # a single query may see all keys of the cache; is_causal would leave it the first alone
        causal = inputs.shape[1] > 1
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        hidden = inputs + self.out(mixed.transpose(1, 2).flatten(2))
        return hidden + self.mlp(self.between(hidden)), (key, value)


def _encoder(reading: ContextReading, width: int) -> nn.Sequential | None:
    if reading.spec is None:
        return None
    return nn.Sequential(nn.Linear(reading.width, width), nn.SiLU(), nn.Linear(width, width))


def _batch(rows: torch.Size, *others: Tensor | None) -> torch.Size:
    context, attributes, known = others
    vectors = [t.shape[:-1] for t in (context, attributes) if t is not None]
    masks = [] if known is None else [known.shape]
    shape: torch.Size = torch.broadcast_shapes(rows, *vectors, *masks)
    return shape


def feature_order(space: CategoricalSpace, order: Sequence[str | int] | None) -> tuple[int, ...]:
    """Positions of the features in the given order of names or positions; None is the space's.

    Raises:
        ValueError: unless every feature occurs once.

    Example:
        >>> feature_order(CategoricalSpace({"cut": 3, "colour": 7}), ["colour", "cut"])
        (1, 0)
    """
    given = range(space.num_features) if order is None else order
    names = space.names
    found = [names.index(i) if isinstance(i, str) and i in names else i for i in given]
    if len(found) != len(names) or set(found) != set(range(len(names))):
        raise ValueError(f"order must hold each of {names} once, got {tuple(given)}")
    return tuple(int(i) for i in found)
