"""Learned weights of given samples, as a context wants them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from discrete_grad.nn.context import ContextReading, mlp
from discrete_grad.space import ContextSpec

__all__ = ["SampleGate"]


class SampleGate(nn.Module):
    """Logits of the weights of samples: one network reads each of them beside its context.

    Every sample is read alone, so permuted samples have permuted logits, and their number is free.
    Softmax makes them weights: over the sample dimension, or `segment_softmax` over ragged groups.
    As logits of a categorical, a gradient estimator takes them too. Untrained, all are 0.

    Args:
        inputs: S, how many numbers describe a sample: scores, a flat row, latents.
        context: the context columns; None for none.
        hidden: widths of the hidden layers.

    Raises:
        ValueError: for fewer than one input.

    Reference:
        Zaheer et al. (2017), "Deep sets", arXiv 1703.06114, on permutation equivariance.

    Example:
        >>> import torch
        >>> from discrete_grad.weighting.segments import segment_softmax
        >>> gate = SampleGate(2, ContextSpec(numeric=["price"]))
        >>> gate(torch.zeros(4, 3, 2), torch.zeros(3, 1)).softmax(0)[:, 0]
        tensor([0.2500, 0.2500, 0.2500, 0.2500], grad_fn=<SelectBackward0>)
        >>> groups, context = torch.tensor([0, 1, 1]), torch.zeros(2, 1)
        >>> segment_softmax(gate(torch.zeros(3, 2), context[groups]), groups, 2)
        tensor([1.0000, 0.5000, 0.5000], grad_fn=<DivBackward0>)
    """

    def __init__(
        self, inputs: int, context: ContextSpec | None = None, *, hidden: Sequence[int] = (32,)
    ) -> None:
        super().__init__()
        if inputs < 1:
            raise ValueError(f"a sample must be described by at least 1 number, got {inputs}")
        self.inputs, self.context_spec = inputs, context
        self.reading = ContextReading(context)
        self.trunk = mlp(inputs + self.reading.width, hidden)
        self.head = nn.Linear(hidden[-1], 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, samples: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits `(N, *batch)`.

        Args:
            samples: `(N, *batch, S)`, floating; ragged ones lie one after another, `(N, S)`.
            context: `(*batch, C)`; for ragged samples `(N, C)`; None without a context spec.
        """
        if samples.shape[-1:] != (self.inputs,):
            raise ValueError(f"samples must be (..., {self.inputs}), got {tuple(samples.shape)}")
        read = self.reading.beside(samples, context)
        logits: Tensor = self.head(self.trunk(read)).squeeze(-1)
        return logits
