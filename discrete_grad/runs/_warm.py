"""A fit that goes on from the generator of an earlier one, on more rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.training.checkpoint import load_tensors

__all__ = ["go_on", "shorter"]

_SHARE = 1 / 3  # of the steps that a generator is trained for from the beginning


def go_on(model: nn.Module, path: Path) -> None:
    """Load the weights of a generator, where they are of the same shapes.

    Estimators begin anew: the weights of earlier ones have learned from rows that their members
    would now hold out, so that what they are held to be worth would be too much.

    Args:
        model: of a stage, untrained.
        path: weights of the same stage of an earlier fit.
    """
    if not isinstance(model, Generator | AutoregressiveGenerator) or not path.is_file():
        return
    kept, own = load_tensors(path)[0], model.state_dict()
    if {n: t.shape for n, t in kept.items()} == {n: t.shape for n, t in own.items()}:
        model.load_state_dict(kept)


def shorter(config: FitConfig) -> FitConfig:
    """Settings under which a generator that goes on from earlier weights is trained.

    Example:
        >>> shorter(FitConfig()).generator.steps
        100
    """
    steps = max(1, round(_SHARE * config.generator.steps))
    return replace(config, generator=replace(config.generator, steps=steps))
