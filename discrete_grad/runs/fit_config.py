"""Settings of a whole fit, and the same as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, get_type_hints

from discrete_grad.fitting.config import (
    AlignerConfig,
    EstimatorConfig,
    GeneratorConfig,
    ReproductionConfig,
)
from discrete_grad.preferences.config import PreferenceConfig
from discrete_grad.training.config import require_config

__all__ = ["FitConfig", "Maximise"]

Maximise = Literal["rank", "mean", "median", "raw"]


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """The whole job: judge, estimators, aligner, data policy, naive baseline, generator.

    Example:
        >>> config = FitConfig(seed=3, estimator=EstimatorConfig(members=3))
        >>> config.check()
        >>> config.estimator.members
        3
    """

    seed: int = 0
    """Seed of every random number."""
    maximise: Maximise = "rank"
    """Statistic of a row's scores that is maximised; a row may have several scores. `rank`: the
    mean of their quantiles in the context, so that a huge score counts no more than any other best
    score. `mean`: their mean, which a few huge scores may dominate. `median`: their median, learnt
    by networks alone. `raw`: the mean, learnt from unscaled scores, which must lie within 10 of
    0."""
    judge_share: float = 0.2
    """Share of the rows that train the judge alone, in (0, 1). It is increased if the judge would
    miss a category."""
    merge_repeats: bool = True
    """Merge equal rows to one row with their mean score and their count. Of a row observed at least
    4 times the judge gets some observations. Without merging, each observation is learnt by itself,
    and equal rows train either the judge or the estimators."""
    calibration_share: float = 0.1
    """Share of the other rows that is set aside for calibration if `generator.coverage` is above 0;
    in (0, 1)."""
    polish: bool = False
    """Climb from the most likely row by the best swaps, under the score that the generator was
    trained by: the report shows the row that is reached, and `generate` begins with it."""
    judge_scorer: str = ""
    """Model of one's own that judges generated rows of a fit with a scorer of one's own, as
    `package.module:name`; empty for a judge trained on the table's scores, if it has any."""
    tensorboard: bool = False
    """Also log for TensorBoard, in the folder's subfolder tensorboard."""
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    """Ensemble of estimators that the generator is trained through."""
    judge: EstimatorConfig = field(default_factory=lambda: EstimatorConfig(members=2))
    """Judge: an ensemble of estimators that scores generated rows. Nothing else is trained on its
    rows."""
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    """Model of preferences between rows, if the fit is given any."""
    aligner: AlignerConfig = field(default_factory=AlignerConfig)
    """Aligner, which says whether two rows behave alike; trained if `generator.alignment` is above
    0."""
    reproduction: ReproductionConfig = field(default_factory=ReproductionConfig)
    """Data policy and naive baseline, which reproduce rows of the table."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """Generator, trained through the frozen estimators."""

    def check(self) -> None:
        """Raise ValueError for a number out of range, TypeError for a part that is no config."""
        for name, kind in _KINDS.items():
            require_config(f"{name} of a FitConfig", part := getattr(self, name), kind)
            try:
                part.check()
                if name == "aligner":
                    self.aligner.check_losses()
            except ValueError as error:
                raise ValueError(f"{name}.{error}") from error
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must lie in [0, 2**63), got {self.seed}")
        if self.maximise not in _SCALES:
            raise ValueError(f"maximise must be one of {list(_SCALES)}, got {self.maximise!r}")
        for name in ("estimator", "judge"):
            families = getattr(self, name).families
            if self.maximise == "median" and "networks" not in families:
                raise ValueError(
                    f"maximise median is learnt by networks alone, {name}.families are {families}"
                )
        for name in ("judge_share", "calibration_share"):
            if not 0 < (share := getattr(self, name)) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {share}")

    @property
    def score_scale(self) -> str:
        """The kind of `ScoreScale` that the models are trained on."""
        return _SCALES[self.maximise]

    def scorer(self, name: Literal["estimator", "judge"]) -> EstimatorConfig:
        """Settings of the estimator or the judge, with families that can learn `maximise`.

        Example:
            >>> FitConfig(maximise="median").scorer("judge").families
            ('networks',)
        """
        part: EstimatorConfig = getattr(self, name)
        return replace(part, families=("networks",)) if self.maximise == "median" else part

    def to_json(self) -> str:
        """All settings as JSON."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> FitConfig:
        """Inverse of `to_json`.

        Example:
            >>> FitConfig.from_json(FitConfig(seed=3).to_json()) == FitConfig(seed=3)
            True
        """
        values = json.loads(text)
        if "score_scale" in values:  # a run made before `maximise`
            scale = values.pop("score_scale")
            values["maximise"] = "mean" if scale == "standard" else scale
        config: FitConfig = _build(cls, values)
        return config


_KINDS: dict[str, type] = {
    "estimator": EstimatorConfig,
    "judge": EstimatorConfig,
    "preference": PreferenceConfig,
    "aligner": AlignerConfig,
    "reproduction": ReproductionConfig,
    "generator": GeneratorConfig,
}

# what is maximised -> what the models are trained on
_SCALES = {"rank": "rank", "mean": "standard", "median": "rank", "raw": "raw"}

# settings of runs made before these could be set
_BEFORE: dict[str, Any] = {"families": ("networks",), "scaling": False, "merge_repeats": False}
_BEFORE |= {"policy": "independent", "tensorboard": False, "judge_scorer": ""}


def _build(cls: Any, values: dict[str, Any]) -> Any:
    hints = get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for item in fields(cls):
        if item.name == "preference" and item.name not in values:
            continue  # a run made before there were any
        value = values[item.name] if item.name in values else _BEFORE[item.name]
        if is_dataclass(hints[item.name]):
            value = _build(hints[item.name], value)
        arguments[item.name] = tuple(value) if isinstance(value, list) else value
    return cls(**arguments)
