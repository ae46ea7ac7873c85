"""DisARM: a row of binary features and its opposite."""

import torch
from torch import Tensor

from discrete_grad.gradient._antithetic import check_binary, with_advantages
from discrete_grad.gradient.base import Function, GradientEstimator, evaluate
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.sampling import categorical, uniform_like
from discrete_grad.space import CategoricalSpace

__all__ = ["Disarm"]


class Disarm(GradientEstimator):
    """Difference of f between two antithetic rows, for binary features.

    The gradient is `(f(b) - f(b')) / 2 * (-1)^b' 1[b != b'] sigmoid(|phi|)` for the log-odds phi of
    a feature. b is drawn from the uniform numbers u, b' from 1 - u.

    **Bias:** none. **Evaluations of f:** 2 forward a sample. **Needs df/dx:** no.
    **Hyperparameters:** `samples` = 1, the number of pairs. Features of at most two categories
    only.

    Reference:
        Dong, Mnih, Tucker (2020), arXiv 2006.10680.

    Example:
        >>> logits = torch.zeros(5, 2, requires_grad=True)
        >>> Disarm().expectation(lambda rows: rows[..., 0], logits).detach()
        tensor([0.5000, 0.5000, 0.5000, 0.5000, 0.5000])
    """

    facts = Facts(
        forward="hard",
        bias="none",
        cost=lambda method, space: Cost(2 * method.samples),
        cost_text="2 N forward",
        needs_derivative=False,
        reference="Dong et al. 2020, 2006.10680",
        binary_only=True,
    )

    def __init__(self, space: CategoricalSpace | None = None, *, samples: int = 1) -> None:
        super().__init__(space, samples=samples)
        if space is not None:
            check_binary(space, "Disarm")

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; f is given all rows b, then all b' in the same order."""
        space = self.space_of(logits)
        check_binary(space, "Disarm")
        codes = draw_opposites(space, logits, self.samples, generator)
        values = evaluate(f, space.one_hot(codes, dtype=logits.dtype))
        advantages = _advantages(space, logits, codes, values.detach().double())
        return with_advantages(space, values, logits, codes, advantages)


def draw_opposites(
    space: CategoricalSpace, logits: Tensor, samples: int, generator: torch.Generator | None
) -> Tensor:
    """Codes `(2 * samples, *batch, F)`: those of the numbers u, then those of 1 - u."""
    logits = logits.detach()
    repeated = logits.expand(samples, *logits.shape)
    uniform = uniform_like(space, repeated, generator=generator)
    # 1 - 0 = 1 is harmless: `categorical` keeps below the total whatever the number
    numbers = torch.cat([uniform, 1 - uniform])
    return categorical(space, logits.expand(len(numbers), *logits.shape), numbers)


def _advantages(space: CategoricalSpace, logits: Tensor, codes: Tensor, values: Tensor) -> Tensor:
    """Factors `(2 * samples, *batch, F)` of the one-hot code of each row and feature."""
    samples = len(codes) // 2
    # sigmoid(|phi|) is the probability of the likelier category
    pi = space.softmax(logits.detach().double())
    likelier = space.join_columns([block.amax(-1) for block in space.blocks(pi)])
    differ = codes[:samples] != codes[samples:]
    change = (values[:samples] - values[samples:]).unsqueeze(-1) / (2 * samples)
    half = differ * change * likelier
    # plus at b's logit and minus at that of b': the derivative in phi, shared by both logits
    return torch.cat([half, -half])
