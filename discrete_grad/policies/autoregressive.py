"""A generator whose features depend on one another: each is drawn given those before it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from discrete_grad.policies.sequence import Reading, SequenceNetwork, feature_order
from discrete_grad.policies.sequential import SequentialPolicy
from discrete_grad.sampling import exponential_like
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["AutoregressiveGenerator", "known_mask"]


class AutoregressiveGenerator(nn.Module, SequentialPolicy[Reading]):
    """Context -> a distribution of rows, every feature given the features before it.

    With `attributes` one network is both p(row | attributes) and, where they are not given, p(row):
    train it with a `known_mask` that hides some of them. One network also serves every order of the
    features: train it through `in_order` with orders drawn at random.

    `torch.compile` makes one graph of `sample`; with a GRU, which it does not read by itself, only
    where `torch._dynamo.config.allow_rnn = True`, else a graph between the steps.

    Args:
        space: the features of a row.
        context: the context columns; None for none.
        attributes: columns of the attributes; None for none.
        order: names or positions of the features, in the order of drawing; None for the space's.
        backbone: "gru" or "transformer".
        hidden: the width of each layer, all equal.
        shared: whether the features, of equal size, share the embeddings of their categories: for
            rows that are texts of tokens.

    Raises:
        ValueError: for an order that is not a permutation, or a network that cannot be made.

    Example:
        >>> space = CategoricalSpace({"cut": 3, "colour": 7})
        >>> model = AutoregressiveGenerator(space, attributes=ContextSpec(numeric=["price"]))
        >>> rows = model.sample(count=4, attributes=torch.zeros(2, 1))
        >>> rows.shape, model.log_prob(rows).shape
        (torch.Size([4, 2, 2]), torch.Size([4, 2]))
    """

    def __init__(
        self,
        space: CategoricalSpace,
        context: ContextSpec | None = None,
        *,
        attributes: ContextSpec | None = None,
        order: Sequence[str | int] | None = None,
        backbone: Literal["gru", "transformer"] = "gru",
        hidden: Sequence[int] = (64,),
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.space, self.context_spec, self.attributes_spec = space, context, attributes
        self.order = feature_order(space, order)
        self.network = SequenceNetwork(
            space,
            context,
            attributes=attributes,
            backbone=backbone,
            hidden=hidden,
            shared=shared,
        )

    def in_order(self, order: Sequence[str | int]) -> AutoregressiveGenerator:
        """The same network, its parameters shared, with another order of the features."""
        other = copy.copy(self)
        other.order = feature_order(self.space, order)
        return other

    def begin(
        self,
        context: Tensor | None = None,
        *,
        attributes: Tensor | None = None,
        known: Tensor | None = None,
        batch: tuple[int, ...],
    ) -> Reading:
        """See `SequentialPolicy.begin`."""
        return self.network.begin(
            context, attributes=attributes, known=known, batch=batch, order=self.order
        )

    def advance(self, state: Reading, previous: Tensor | None) -> tuple[Tensor, Reading]:
        """See `SequentialPolicy.advance`."""
        outputs, state = self.network.advance(state, previous)
        return outputs.log_softmax(-1), state

    def select(self, state: Reading, rows: Tensor) -> Reading:
        """See `SequentialPolicy.select`."""
        return state.select(rows)

    def forward(
        self,
        row: Tensor,
        context: Tensor | None = None,
        attributes: Tensor | None = None,
        *,
        known: Tensor | None = None,
    ) -> Tensor:
        """Logits `(..., D)` of every feature given those before it in a row, in one pass.

        Args:
            row: codes `(..., F)` or a flat row `(..., D)`.
            context: `(..., C)`.
            attributes: `(..., A)`; None where nothing is known.
            known: booleans `(...)`, from `known_mask`; None where all attributes are.
        """
        logits: Tensor = self.network(
            row, context, attributes=attributes, known=known, order=self.order
        )
        return logits

    def conditional_logits(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits, as `forward` makes them of rows whose attributes are not known."""
        logits: Tensor = self(codes, context)
        return logits

    def log_prob(
        self,
        codes: Tensor,
        context: Tensor | None = None,
        attributes: Tensor | None = None,
        *,
        known: Tensor | None = None,
    ) -> Tensor:
        """Log-probability `(...)` in nats of codes `(..., F)`; arguments as for `forward`."""
        logits = self(codes, context, attributes, known=known)
        return self.space.log_prob(logits, codes.expand(*logits.shape[:-1], -1))


def known_mask(
    shape: tuple[int, ...], drop: float, *, generator: torch.Generator | None = None
) -> Tensor:
    """Booleans of a shape, False with probability `drop`; False hides attributes in a step.

    Reference:
        Ho and Salimans (2022), arXiv 2207.12598, Algorithm 1.

    Example:
        >>> known_mask((2, 3), 0.0).all()
        tensor(True)
    """
    if not 0 <= drop <= 1:
        raise ValueError(f"drop is a probability in [0, 1], got {drop}")
    bar = -math.log(drop) if drop else math.inf  # which exponential noise passes so often
    return exponential_like(torch.zeros(shape), generator=generator) <= bar
