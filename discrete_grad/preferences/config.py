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
    """Share of right answers that every annotator is believed to give at first, in (0, 1)."""
    reliability_answers: float = 20.0
    """Answers that this belief weighs as much as."""
    members: int = 8
    families: tuple[Family, ...] = ("networks",)
    scaling: bool = False
    steps: int = 1000
    weight_decay: float = 1.0
