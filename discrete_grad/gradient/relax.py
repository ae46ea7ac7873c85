"""RELAX: a network on relaxed rows as a control variate."""

import torch
from torch import Tensor, nn

from discrete_grad.gradient._control_variate import squared_norm, with_gradient
from discrete_grad.gradient.base import (
    Function,
    GradientEstimator,
    check_tau,
    current_tau,
    evaluate,
)
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.gradient.rebar import couple, coupled_noise, relaxed_correction
from discrete_grad.space import CategoricalSpace

__all__ = ["Relax"]


class Relax(GradientEstimator):
    """REINFORCE with a learned control variate c, so that f may be a black box.

    `(f(D) - c(z~)) S + grad c(z) - grad c(z~)`, with z the noisy logits of the draw D, z~ drawn
    given D, and c a module on soft rows, taken at softmax(z / tau). Each `backward()` gives the
    parameters of c the gradient of the variance (of the gradient in the logits), so an optimiser
    over `parameters()` lowers the variance, whatever the sign of the loss::

        method = Relax(space)
        optimiser = Adam([*generator.parameters(), *method.parameters()])
        loss = -method.expectation(f, generator(context)).mean()
        loss.backward(); optimiser.step()

    Parameters of c that require no gradient stay as they are and cost nothing.

    **Bias:** none, for a c that is continuous in the row. **Evaluations of f:** 1 forward a sample;
    2 forward and backward passes of c. **Needs df/dx:** no, but c's.
    **Hyperparameters:** `control_variate`, a module that maps flat rows `(samples, *batch, D)` to
    values `(samples, *batch)`, None for a network of one hidden layer of 32, at first 0, which is
    REINFORCE without baseline; `tau` = 0.5, a float or a schedule module, sound down to 1e-4.

    Raises:
        ValueError: for neither a space nor a control variate.

    Reference:
        Grathwohl, Choi, Wu, Roeder, Duvenaud (2018), arXiv 1711.00123.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> method, logits = Relax(space), torch.zeros(4, 5, requires_grad=True)
        >>> method.expectation(lambda rows: rows[..., 0], logits).sum().backward()
        >>> all(weight.grad is not None for weight in method.parameters())
        True
    """

    facts = Facts(
        forward="hard",
        bias="none",
        cost=lambda method, space: Cost(method.samples),
        cost_text="N forward",
        needs_derivative=False,
        reference="Grathwohl et al. 2018, 1711.00123",
    )

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        control_variate: nn.Module | None = None,
        tau: float | nn.Module = 0.5,
        samples: int = 1,
    ) -> None:
        super().__init__(space, samples=samples)
        if control_variate is None and space is None:
            raise ValueError("Relax needs a space, or a control_variate that fits the logits")
        if control_variate is not None and not isinstance(control_variate, nn.Module):
            raise TypeError(f"control_variate must be a module or None, got {control_variate!r}")
        self.control_variate = _network(space.width) if control_variate is None else control_variate  # type: ignore[union-attr]
        self.tau = check_tau(tau)

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; see `GradientEstimator.expectation`."""
        space, fixed = self.space_of(logits), logits.detach()
        drawn = couple(space, fixed, coupled_noise(fixed, self.samples, generator))
        values = evaluate(f, drawn.hard.to(logits.dtype))
        base = (values.detach().unsqueeze(-1) * drawn.scores).mean(0)
        learns = any(weight.requires_grad for weight in self.control_variate.parameters())
        gradient = base + relaxed_correction(
            space, fixed, drawn, self._control, current_tau(self.tau), again=learns
        )
        return with_gradient(
            values.mean(0), logits, gradient, squared_norm(gradient) if learns else None
        )

    def _control(self, rows: Tensor) -> Tensor:
        """The control variate, in the precision of its own parameters."""
        weight = next(self.control_variate.parameters(), rows)
        values: Tensor = self.control_variate(rows.to(weight.dtype))
        return values


class _Last(nn.Linear):
    """To one value a row, at first 0."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden).squeeze(-1)


def _network(width: int, hidden: int = 32) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), _Last(hidden))
