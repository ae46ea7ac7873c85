"""A mixture of generators whose weights depend on the context."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from discrete_grad.gradient import Enumerate, GradientEstimator
from discrete_grad.gradient.base import Function, evaluate
from discrete_grad.nn.context import check_context
from discrete_grad.policies.generator import Generator
from discrete_grad.policies.protocol import require
from discrete_grad.sampling import categorical, uniform_like
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["MixtureGenerator"]


class MixtureGenerator(nn.Module):
    """`p(x | c) = sum_m g_m(c) p_m(x | c)`: M generators, the experts, and a gate.

    The gate is a generator as well, of a single feature: the number m of the expert. A gate or an
    expert without a context spec is the same in every context; `requires_grad_(False)` keeps one
    from being trained. The features of a row are independent given the expert, not given the
    context alone.

    Args:
        generators: the M experts, of one space.
        gate: a generator of one feature with M categories.

    Raises:
        TypeError: for an expert or a gate without `space`, `logits` or `context_spec`.
        ValueError: for no expert, experts of different spaces, a gate of another size, or models
            that read different contexts.

    Reference:
        Jacobs, Jordan, Nowlan, Hinton (1991), "Adaptive mixtures of local experts", equation 1.3.

    Example:
        >>> space = CategoricalSpace({"cut": 3, "colour": 7})
        >>> spec = ContextSpec(numeric=["price"])
        >>> experts = [Generator(space), Generator(space, spec)]
        >>> mixture = MixtureGenerator(experts, Generator(CategoricalSpace({"expert": 2}), spec))
        >>> rows = mixture.sample(torch.zeros(4, 1), 5)
        >>> rows.shape, mixture.log_prob(rows, torch.zeros(4, 1)).shape
        (torch.Size([5, 4, 2]), torch.Size([5, 4]))
    """

    def __init__(self, generators: Sequence[Generator], gate: Generator) -> None:
        super().__init__()
        _check(generators, gate)
        self.space: CategoricalSpace = generators[0].space
        self.context_spec = _common_context([*generators, gate])
        self.experts = nn.ModuleList(generators)
        self.gate = gate

    def weights(self, context: Tensor | None = None) -> Tensor:
        """Probabilities `(*batch, M)` of the experts by the gate; they sum to 1."""
        return self._read(self.gate, context).softmax(-1)

    def marginals(self, context: Tensor | None = None) -> Tensor:
        """Exact probability `(*batch, D)` of each category of each feature."""
        probabilities = self.space.softmax(self._expert_logits(context))
        return (self.weights(context).unsqueeze(-1) * probabilities).sum(-2)

    def log_prob(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-probability in float64; see `Policy.log_prob`."""
        joint = self._log_joint(codes, context)
        dead = (joint == -math.inf).all(-1)
        # the derivative of logsumexp is NaN where every term is -inf
        alive = joint.masked_fill(dead.unsqueeze(-1), 0)
        return alive.logsumexp(-1).masked_fill(dead, -math.inf)

    def responsibilities(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Probability `p(m | x, c)` `(..., *batch, M)` that expert m drew the row, in float64.

        Of a row that no expert draws, the gate's weights.
        """
        joint = self._log_joint(codes, context)
        dead = (joint == -math.inf).all(-1, keepdim=True)
        prior = self._read(self.gate, context).double()
        return torch.where(dead, prior, joint).softmax(-1)

    @torch.no_grad()
    def sample(
        self,
        context: Tensor | None = None,
        count: int = 1,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Codes `(count, *batch, F)`, an expert drawn for each; see `Policy.sample`."""
        gate, experts = self._read(self.gate, context), self._expert_logits(context)
        gate, experts = gate.expand(count, *gate.shape), experts.expand(count, *experts.shape)
        number = self.gate.space
        drawn = categorical(number, gate, uniform_like(number, gate, generator=generator))
        index = drawn.unsqueeze(-1).expand(*drawn.shape, self.space.width)
        logits = experts.gather(-2, index).squeeze(-2)
        noise = uniform_like(self.space, logits, generator=generator)
        return categorical(self.space, logits, noise)

    def expectation(
        self,
        f: Function,
        context: Tensor | None,
        gradient_estimator: GradientEstimator,
        *,
        choice: GradientEstimator | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Estimate `E[f(x)]` under the mixture; `backward()` reaches gate and experts.

        The mixture is a distribution over pairs of an expert's number and a row. One gradient
        estimator differentiates in the gate's logits, another one, within it, in the expert's.
        Both unbiased, the whole is. A relaxation as `choice` differentiates in a flat number, along
        which the experts' probabilities of each category are mixed.

        Args:
            f: maps flat rows `(samples, *batch, D)` to values `(samples, *batch)`.
            context: `(*batch, C)`, or None.
            gradient_estimator: of rows given the expert.
            choice: of the expert's number, made without a space; by default `Enumerate`, which sums
                over all experts exactly and asks f about rows of each.
            generator: source of the noise.

        Returns:
            `(*batch)`, differentiable in gate, experts and f's own parameters.
        """
        gate, experts = self._read(self.gate, context), self._expert_logits(context)
        probabilities = self.space.softmax(
            experts.to(torch.promote_types(experts.dtype, torch.float32))
        )

        def given_expert(number: Tensor) -> Tensor:
            """Values `(samples, *batch)` of flat numbers `(samples, *batch, M)`."""
            logits = _taken(probabilities, number).to(experts.dtype)
            return gradient_estimator.expectation(_with_numbers(f), logits, generator=generator)

        outer = Enumerate() if choice is None else choice
        return outer.expectation(given_expert, gate, generator=generator)

    def _log_joint(self, codes: Tensor, context: Tensor | None) -> Tensor:
        """`log g_m p_m(x)` `(..., *batch, M)` in float64."""
        log_gate = self._read(self.gate, context).double().log_softmax(-1)
        logits = self._expert_logits(context).double()
        return log_gate + self.space.log_prob(logits, codes.unsqueeze(-2))

    def _expert_logits(self, context: Tensor | None) -> Tensor:
        """`(*batch, M, D)`."""
        return torch.stack([self._read(expert, context) for expert in self.experts], -2)

    def _read(self, model: nn.Module, context: Tensor | None) -> Tensor:
        """Logits `(*batch, ...)` of one of the models."""
        check_context(context, self.context_spec)
        logits: Tensor = model(None if model.context_spec is None else context)
        return logits if context is None else logits.expand(*context.shape[:-1], -1)


def _taken(probabilities: Tensor, number: Tensor) -> Tensor:
    """Logits `(samples, *batch, D)` of the experts `(*batch, M, D)` with flat numbers `(..., M)`.

    Linear in the number before the logarithm, so that a feature's mean is: the derivative in the
    number is then the difference between experts, where that of mixed logits dies away between
    experts that are sure of themselves.
    """
    mixed = torch.einsum("...m,...md->...d", number.to(probabilities.dtype), probabilities)
    # log(0) would give a masked category an infinite derivative
    possible = mixed > 0
    return mixed.where(possible, 1).log().masked_fill(~possible, -math.inf)


def _with_numbers(f: Function) -> Function:
    """F of rows `(samples, numbers, *batch, D)`, given as `(samples * numbers, *batch, D)`."""
    return lambda rows: evaluate(f, rows.flatten(0, 1)).unflatten(0, rows.shape[:2])


def _check(generators: Sequence[Generator], gate: Generator) -> None:
    if not generators:
        raise ValueError("a mixture needs at least one generator, got none")
    names = [f"generator {m}" for m in range(len(generators))]
    for name, model in zip([*names, "the gate"], [*generators, gate], strict=True):
        require(f"a mixture, as {name},", model, "space", "logits", "context_spec")
    space = generators[0].space
    for name, model in zip(names, generators, strict=True):
        if model.space != space:
            raise ValueError(f"{name} must have the space of generator 0, {space}: {model.space}")
    if gate.space.sizes != (len(generators),):
        wanted = f"one feature of {len(generators)} categories, one a generator"
        raise ValueError(f"the gate must have {wanted}, got {gate.space}")


def _common_context(models: Sequence[Generator]) -> ContextSpec | None:
    """The context of all models that read one; the last model is the gate."""
    specs = {m: model.context_spec for m, model in enumerate(models) if model.context_spec}
    for m, spec in specs.items():
        first, other = next(iter(specs.items()))
        if spec != other:
            name = "the gate" if m == len(models) - 1 else f"generator {m}"
            raise ValueError(
                f"{name} must read the context of generator {first}, {other.names}: {spec.names}"
            )
    return next(iter(specs.values()), None)
