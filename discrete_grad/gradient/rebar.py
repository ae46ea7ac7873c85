"""REBAR: f at the relaxation of the same draw as a control variate."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from discrete_grad.gradient._control_variate import (
    check_weight,
    differentiate,
    learned_number,
    score,
    squared_norm,
    take_scalars,
    weighted,
    with_gradient,
)
from discrete_grad.gradient._tempered import tempered
from discrete_grad.gradient.base import (
    Function,
    GradientEstimator,
    check_tau,
    current_tau,
    evaluate,
)
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.sampling import gumbel_like
from discrete_grad.space import CategoricalSpace

__all__ = [
    "Rebar",
    "couple",
    "coupled_noise",
    "relaxed_correction",
]


class _Coupled(NamedTuple):
    """A draw and its relaxations, free and given the draw.

    Fields: `hard` `(N, *batch, D)`, drawn from softmax(logits); its `scores`; `noisy`
    `(2, N, *batch, D)`, the noisy logits z, whose argmax is the draw, and z~; `slope`
    `(N, *batch, D)`, `d z~_j / d log p_j`.
    """

    hard: Tensor
    scores: Tensor
    noisy: Tensor
    slope: Tensor


def coupled_noise(logits: Tensor, samples: int, generator: torch.Generator | None) -> Tensor:
    """Gumbel noise `(2, samples, *batch, D)`: of the draw, and of z~."""
    noise = gumbel_like(logits.expand(2 * samples, *logits.shape), generator=generator)
    return noise.view(2, samples, *logits.shape)


def couple(space: CategoricalSpace, logits: Tensor, noise: Tensor) -> _Coupled:
    """Draw from logits `(*batch, D)`, given the noise `(2, N, *batch, D)`."""
    # normalised, so that the largest of z is a standard Gumbel, as z~ below takes it to be
    log_p = space.log_softmax(logits.to(noise.dtype))
    z = log_p + noise[0]
    hard = space.one_hot(space.argmax(z), dtype=z.dtype)
    conditional, slope = _conditional_gumbel(space, log_p, hard, noise[1])
    return _Coupled(hard, score(space, logits, hard), torch.stack([z, conditional]), slope)


def _conditional_gumbel(
    space: CategoricalSpace, log_p: Tensor, hard: Tensor, gumbel: Tensor
) -> tuple[Tensor, Tensor]:
    """Noisy logits `z~` given their argmax, and `d z~_j / d log p_j`, both `(..., D)`.

    If D is drawn from p, then (D, z~) has the law of (argmax z, z) with z = log p + Gumbel noise.
    With d the category drawn, `z~_d = G_d` and `z~_j = -log(exp(-G_j) / p_j + exp(-G_d))`.

    Args:
        space: the space, D wide.
        log_p: normalised log-probabilities `(..., D)`; `-inf` stays `-inf`.
        hard: the categories drawn `(..., D)`.
        gumbel: standard Gumbel noise `(..., D)`, independent of the draw.
    """
    masked = log_p == -torch.inf
    finite, top = log_p.masked_fill(masked, 0), _per_feature(space, hard * gumbel)
    others = -torch.logaddexp(-gumbel - finite, -top)
    z = torch.where(hard == 1, gumbel, others).masked_fill(masked, -torch.inf)
    # exp(-G_j) / p_j divided by the sum in z~_j; z~_d = G_d does not depend on p
    return z, (1 - hard) * torch.sigmoid(top - gumbel - finite)


def relaxed_correction(
    space: CategoricalSpace,
    logits: Tensor,
    drawn: _Coupled,
    c: Function,
    tau: float | Tensor,
    *,
    again: bool = False,
) -> Tensor:
    """`grad c(z) - grad c(z~) - c(z~) S`, averaged over the samples `(*batch, D)`, of mean 0.

    c is taken at the rows softmax(z / tau) and softmax(z~ / tau).

    Args:
        space: the space, D wide.
        logits: `(*batch, D)`.
        drawn: from `couple`.
        c: maps flat rows `(samples, *batch, D)` to values `(samples, *batch)`.
        tau: temperature, or one for each element of the batch `(*batch, 1)`.
        again: whether the result is to be differentiated in tau or in c's parameters.
    """
    rows = space.softmax(tempered(space, drawn.noisy, tau))
    # z and z~ in one call of c
    values, derivatives = differentiate(c, rows.flatten(0, 1).to(logits.dtype), again=again)
    at_conditional = values.reshape(rows.shape[:-1])[1].to(rows.dtype).unsqueeze(-1)
    derivatives = derivatives.reshape(rows.shape).to(rows.dtype)
    free, given = space.softmax_jacobian(rows, derivatives) / tau
    given = given * drawn.slope
    # log p is normalised, so z~ moves with all logits of its feature; the entries of free sum to 0
    pi = drawn.hard - drawn.scores
    given = given - pi * _per_feature(space, given)
    correction: Tensor = free - given - at_conditional * drawn.scores
    return correction.mean(0)


def _per_feature(space: CategoricalSpace, flat: Tensor) -> Tensor:
    """The sum over each feature's block, repeated along the block `(..., D)`."""
    return space.join([b.sum(-1, keepdim=True).expand_as(b) for b in space.blocks(flat)])


class Rebar(GradientEstimator):
    """REINFORCE with the control variate `eta f(softmax(z / tau))`, z the noisy logits of the draw.

    `(f(D) - eta c(z~)) S + eta grad c(z) - eta grad c(z~)`, with z~ drawn given the row D: the
    terms in eta have mean 0, and the score multiplies only what f and its relaxation differ by.
    What is learned is a parameter of the module (`eta`, `log_tau`): each `backward()` gives it the
    gradient of the variance (of the gradient in the logits), so an optimiser over `parameters()`
    lowers the variance, whatever the sign of the loss. The relaxed rows give f's own parameters no
    gradient.

    **Bias:** none, for an f that is continuous in the row. **Evaluations of f:** 3 forward, 2
    backward a sample, 2 of the 3 at soft rows. **Needs df/dx:** yes; and its derivative where tau
    is learned: f must then be twice differentiable and change no buffer.
    **Hyperparameters:** `eta` = 1, where 0 is REINFORCE without baseline; `tau` = 0.5, a float or a
    schedule module, sound down to 1e-4; `learn_eta` = True; `learn_tau` = False, from a float.

    Reference:
        Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein (2017), arXiv 1703.07370; the conditional
        noise of categoricals: Grathwohl et al. (2018), arXiv 1711.00123, appendix.

    Example:
        >>> logits = torch.zeros(5, 3, requires_grad=True)
        >>> method = Rebar()
        >>> method.expectation(lambda rows: rows[..., 0] ** 2, logits).sum().backward()
        >>> logits.grad.shape, method.eta.grad.shape
        (torch.Size([5, 3]), torch.Size([1]))
    """

    facts = Facts(
        forward="hard",
        bias="none",
        cost=lambda method, space: Cost(3 * method.samples, 2 * method.samples),
        cost_text="3 N forward, 2 N backward",
        needs_derivative=True,
        reference="Tucker et al. 2017, 1703.07370; Grathwohl et al. 2018, 1711.00123",
    )

    eta: float | Tensor
    log_tau: Tensor | None

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        eta: float = 1.0,
        tau: float | nn.Module = 0.5,
        learn_eta: bool = True,
        learn_tau: bool = False,
        samples: int = 1,
    ) -> None:
        super().__init__(space, samples=samples)
        self.eta = check_weight("eta", eta, learn=learn_eta)
        self.tau = check_tau(tau)
        self.register_parameter("log_tau", None)
        if learn_tau:
            if not isinstance(self.tau, float):
                raise ValueError(f"learn_tau needs a number tau to start from, got {tau!r}")
            self.log_tau = learned_number(math.log(self.tau))
        self.register_load_state_dict_pre_hook(take_scalars)

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; see `GradientEstimator.expectation`."""
        space, fixed = self.space_of(logits), logits.detach()
        drawn = couple(space, fixed, coupled_noise(fixed, self.samples, generator))
        values = evaluate(f, drawn.hard.to(logits.dtype))
        base = (values.detach().unsqueeze(-1) * drawn.scores).mean(0)
        if self.log_tau is None:
            tau = current_tau(self.tau)
            correction, of_tau = relaxed_correction(space, fixed, drawn, f, tau), None
        else:
            correction, of_tau = self._learn_tau(f, space, fixed, drawn, base, self.log_tau)
        gradient, of_eta = weighted(base, correction.detach(), self.eta)
        variance = of_eta if of_tau is None else of_tau + (0 if of_eta is None else of_eta)
        return with_gradient(values.mean(0), logits, gradient, variance)

    def _learn_tau(
        self,
        f: Function,
        space: CategoricalSpace,
        logits: Tensor,
        drawn: _Coupled,
        base: Tensor,
        log_tau: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The correction, and `(*batch)` whose slope in `log_tau` is that of the variance."""
        eta = self.eta.detach() if isinstance(self.eta, Tensor) else self.eta

        def variance(tau: Tensor) -> tuple[Tensor, Tensor]:
            correction = relaxed_correction(space, logits, drawn, f, tau, again=True)
            return squared_norm(base + eta * correction).sum(), correction

        # a temperature for each element of the batch: each has its own slope of the loss
        log_tau = log_tau.to(base.dtype).reshape(())
        tau = log_tau.detach().exp().expand(*base.shape[:-1], 1)
        slope, correction = torch.func.grad(variance, has_aux=True)(tau)
        # d tau / d log tau = tau; linear in log_tau, so that its derivative is this slope
        return correction, log_tau * (slope * tau).detach().squeeze(-1)
