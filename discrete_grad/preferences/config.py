"""Settings of the fit of a preference model."""

from __future__ import annotations

from dataclasses import dataclass

from discrete_grad.fitting.config import EstimatorConfig, Family

__all__ = ["PreferenceConfig"]


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig(EstimatorConfig):
    """The model of preferences between rows, if a fit is given any.

    Example:
        >>> PreferenceConfig().reliability
        0.9
    """

    reliability: float = 0.9
    """Prior share of right answers, the same for every annotator, in (0, 1)."""
    reliability_answers: float = 20.0
    """Weight of the prior share, in number of answers."""
    members: int = 8
    families: tuple[Family, ...] = ("networks",)
    scaling: bool = False
    steps: int = 1000
    weight_decay: float = 1.0

    def check(self) -> None:
        """Raise ValueError for a number or a family that does not fit; a fit calls it first."""
        super().check()
        if not 0 < self.reliability < 1:
            raise ValueError(f"reliability must lie between 0 and 1, got {self.reliability}")
        if self.families != ("networks",):
            raise ValueError(
                "families must be ('networks',), the only ones that learn from preferences, got "
                f"{self.families}"
            )
        if self.conservative:
            raise ValueError("conservative must be 0: preferences have no score")
