"""A fit that goes on from the weights of an earlier one, on more rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from discrete_grad.fitting.estimator import networks_of
from discrete_grad.models import BaseEnsemble
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.training.checkpoint import load_tensors

__all__ = ["go_on", "shorter"]

_SHARE = 0.3  # of the steps that networks are trained for from the beginning


def go_on(model: nn.Module, path: Path) -> None:
    """Load the weights of the networks of a stage, where they are of the same shapes.

    Args:
        model: of the stage, untrained; what it has beside networks is fitted anew.
        path: weights of the same stage of an earlier fit.
    """
    networks = networks_of(model) if isinstance(model, BaseEnsemble) else model
    if networks is None or not path.is_file():
        return
    names = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
    kept, _ = load_tensors(path)
    own = networks.state_dict(keep_vars=True)
    known = {name: kept.get(names[id(tensor)]) for name, tensor in own.items()}
    if all(t is not None and t.shape == own[name].shape for name, t in known.items()):
        networks.load_state_dict(known)


def shorter(config: FitConfig) -> FitConfig:
    """Settings under which estimators that go on from earlier weights are trained.

    Example:
        >>> shorter(FitConfig()).estimator.steps
        300
    """
    judge, estimator = (
        replace(part, steps=max(1, round(_SHARE * part.steps)))
        for part in (config.judge, config.estimator)
    )
    return replace(config, judge=judge, estimator=estimator)
