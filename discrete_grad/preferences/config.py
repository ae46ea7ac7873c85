"""Settings of the fit of a preference model."""

from __future__ import annotations

from dataclasses import dataclass

from discrete_grad.fitting.config import EstimatorConfig, Family

__all__ = ["PreferenceConfig"]


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig(EstimatorConfig):
    """The model of preferences between rows, where a fit is given some.

    Example:
        >>> PreferenceConfig().reliability
        0.9
    """

    reliability: float = 0.9
    """Prior share of right answers of every annotator, in (0, 1)."""
    reliability_answers: float = 20.0
    """Number of answers that the prior share counts for."""
    members: int = 8
    families: tuple[Family, ...] = ("networks",)
    scaling: bool = False
    steps: int = 1000
    weight_decay: float = 1.0
