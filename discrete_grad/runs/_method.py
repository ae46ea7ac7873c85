"""Training of a generator of either policy, with rules and without."""

from __future__ import annotations

from typing import Any

from discrete_grad.fitting.config import GeneratorConfig
from discrete_grad.fitting.generator import fit_generator, make_gradient_estimator
from discrete_grad.gradient import GradientEstimator, LeaveOneOut, Relaxation
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.rules import Rules
from discrete_grad.runs._guides import under
from discrete_grad.runs._table_rules import ruled_config
from discrete_grad.space import CategoricalSpace

__all__ = ["fit_under", "run_method"]


def run_method(
    space: CategoricalSpace, config: GeneratorConfig, rules: Rules | None
) -> GradientEstimator:
    """The gradient estimator by which a generator is trained, under rules if there are any."""
    if config.policy == "autoregressive":
        method = make_gradient_estimator(None, config)
        if not isinstance(method, Relaxation | LeaveOneOut):
            name = config.gradient_estimator
            raise ValueError(f"policy autoregressive takes LeaveOneOut or a relaxation, got {name}")
        return method
    return make_gradient_estimator(space, ruled_config(config, rules), rules)


def fit_under(
    model: Generator | AutoregressiveGenerator, *, rules: Rules | None, **arguments: Any
) -> object:
    """Train a generator, conditioned where there are rules."""
    return fit_generator(under(model, rules), **arguments)
