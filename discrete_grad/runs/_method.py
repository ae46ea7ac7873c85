"""Training of a generator of either policy, with rules and without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from discrete_grad.fitting.config import GeneratorConfig
from discrete_grad.fitting.generator import fit_generator, make_gradient_estimator
from discrete_grad.gradient import GradientEstimator, LeaveOneOut, Relaxation, catalogue
from discrete_grad.models import BaseEstimator
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.rules import Rules
from discrete_grad.runs._guides import under
from discrete_grad.runs._table_rules import ruled_config
from discrete_grad.runs.scorers._model import ScorerModel
from discrete_grad.space import CategoricalSpace

__all__ = ["fit_under", "fitting_method", "run_method"]


def fitting_method(config: GeneratorConfig, estimator: BaseEstimator) -> GeneratorConfig:
    """The settings, with a gradient estimator that the estimator allows.

    A scorer without derivative takes LeaveOneOut, unless the one that is set needs none either.
    """
    needs = catalogue()[config.gradient_estimator].facts.needs_derivative
    if not needs or not isinstance(estimator, ScorerModel) or estimator.bound.differentiable:
        return config
    return replace(
        config, gradient_estimator="LeaveOneOut", tau=None, samples=max(2, config.samples)
    )


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
