"""IndeCateR: local expectation with fresh rows for each feature."""

import torch
from torch import Tensor

from discrete_grad.gradient._evaluation import check_max_batch, evaluate_codes
from discrete_grad.gradient.base import Function, GradientEstimator, draw
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.gradient.local_expectation import conditional_mean
from discrete_grad.space import CategoricalSpace

__all__ = ["IndeCateR"]


class IndeCateR(GradientEstimator):
    """`LocalExpectation` in which every feature has rows of its own, drawn independently.

    The rows of feature i are evaluated with every category of i in turn; a masked category is never
    evaluated: the drawn row stands in its place. The value is that of `LocalExpectation`.

    **Bias:** none; no variance when f is a sum of functions of one feature each.
    **Evaluations of f:** N sum K_i forward a call. **Needs df/dx:** no.
    **Hyperparameters:** `samples` N = 10, rows a feature; `max_batch` = None, the most rows one
    call of f may hold; `deduplicate` = False, evaluate equal rows once (see `evaluate_codes`).

    Reference:
        De Smet, Sansone, Zuidberg Dos Martires (2023), arXiv 2311.12569.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> logits = torch.zeros(5, requires_grad=True)
        >>> IndeCateR(space, samples=2).expectation(lambda rows: rows[..., 0], logits).backward()
        >>> logits.grad
        tensor([ 0.2500, -0.2500,  0.0000,  0.0000,  0.0000])
    """

    facts = Facts(
        forward="hard",
        bias="none",
        cost=lambda method, space: Cost(method.samples * space.width),
        cost_text="N sum K_i forward",
        needs_derivative=False,
        reference="De Smet et al. 2023, 2311.12569",
    )

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        max_batch: int | None = None,
        deduplicate: bool = False,
        samples: int = 10,
    ) -> None:
        super().__init__(space, samples=samples)
        self.max_batch = check_max_batch(max_batch)
        self.deduplicate = deduplicate

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; see `GradientEstimator.expectation`."""
        space = self.space_of(logits)
        count = space.num_features * self.samples
        codes, _ = draw(space, logits.expand(count, *logits.shape), generator)
        rows = _with_each_category(
            space, logits, codes.unflatten(0, (space.num_features, self.samples))
        )
        values = evaluate_codes(
            space,
            f,
            rows.flatten(0, 1),
            dtype=logits.dtype,
            max_batch=self.max_batch,
            deduplicate=self.deduplicate,
        )
        values = values.unflatten(0, (space.width, self.samples)).movedim(0, -1)
        return conditional_mean(space, logits, values)


def _with_each_category(space: CategoricalSpace, logits: Tensor, codes: Tensor) -> Tensor:
    """`(F, N, *batch, F)` -> `(D, N, *batch, F)`: the rows of i with i set to each category."""
    pairs = [(i, k) for i, size in enumerate(space.sizes) for k in range(size)]
    feature, category = torch.tensor(pairs, device=codes.device).unbind(-1)
    column = feature.unsqueeze(-1) == torch.arange(space.num_features, device=codes.device)
    ones = (1,) * (codes.dim() - 2)
    allowed = (logits.detach() > -torch.inf).movedim(-1, 0).unsqueeze(1).unsqueeze(-1)
    changed = column.view(-1, *ones, space.num_features) & allowed
    # codes[feature] takes the own rows of feature i once for each of its K_i categories
    return torch.where(changed, category.view(-1, *ones, 1), codes[feature])
