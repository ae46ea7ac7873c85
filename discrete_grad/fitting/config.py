"""Settings of the fits; the command line is made from these classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from discrete_grad.objectives.contrastive_losses import contrastive_loss
from discrete_grad.training.config import LoopConfig

__all__ = ["AlignerConfig", "EstimatorConfig", "GeneratorConfig", "ReproductionConfig"]

_USUAL_ROWS = 1500


_MOST_BATCH = 1024


_MANY_ROWS, _VERY_MANY_ROWS = 15_000, 50_000


_PASSES = 32


Architecture = Literal["mlp", "shallow", "multilinear"]


Family = Literal["networks", "sequences", "kernel", "pairs", "anova", "trees"]


@dataclass(frozen=True, kw_only=True)
class EstimatorConfig(LoopConfig):
    """The estimators: an ensemble whose members hold out different rows.

    Example:
        >>> EstimatorConfig(members=3).members
        3
    """

    members: int = 4
    """Number of estimators in the ensemble."""
    families: tuple[Family, ...] = ("networks", "sequences", "kernel", "pairs", "anova", "trees")
    """Kinds of models; each estimator is a weighted sum of them, with weights fitted on the rows
    that its members hold out. `networks`: networks of the `architectures`; `sequences`:
    convolutions, where the features are the places of one sequence; `kernel`: a Gaussian process;
    `pairs`: effects of columns and pairs of equal variance (both for up to 3,000 rows); `anova`:
    tables of effects of one, two and three columns, each with a variance of its own; `trees`:
    boosted trees of depth 3 (for more than 3,000 rows, with the extra `trees`)."""
    dim: int = 16
    """Length of a feature's embedding."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers, in units."""
    dropout: float = 0.0
    """Dropout probability after each hidden layer, in [0, 1)."""
    held_out: float = 0.125
    """Share of the rows that each member holds out for early stopping, in (0, 1)."""
    architectures: tuple[Architecture, ...] = ("mlp",)
    """Architectures of the networks, used in turn: `mlp` has the hidden layers, `shallow` one
    layer of their total width, `multilinear` products of features instead."""
    conservative: float = 0.0
    """Weight of a loss that lowers predictions on rows two promising swaps away from observed rows,
    and raises them on observed rows; in units of the scaled score, for what is trained by
    gradients alone: networks and `sequences`."""
    scaling: bool = True
    """Adapt the settings to tables of more than 1,500 rows: larger batches and less weight decay
    and, with many rows, more steps, wider networks and fewer members; see
    `EstimatorConfig.for_rows`. Without it all settings are used as they are given."""
    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-2
    weight_decay: float = 0.3
    validate_every: int = 50
    patience: int = 20

    def check(self) -> None:
        """Raise ValueError for a number or a family that does not fit; a fit calls it first."""
        super().check()
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must lie between 0 and 1, got {self.held_out}")
        if self.dropout >= 1:
            raise ValueError(f"dropout must be below 1, got {self.dropout}")
        if self.members < len(self.architectures):
            wanted = f"at least 1 for each of {self.architectures}"
            raise ValueError(f"members must be {wanted}, got {self.members}")
        self._check_families()

    def _check_families(self) -> None:
        known = get_args(Family)
        if unknown := [family for family in self.families if family not in known]:
            raise ValueError(f"families has {unknown[0]!r}; there are {', '.join(known)}")
        if len(set(self.families)) < len(self.families):
            raise ValueError(f"families has one twice: {self.families}")
        if self.conservative and not {"networks", "sequences"} & set(self.families):
            raise ValueError(
                "conservative changes networks and sequences alone, and families has neither: "
                f"{self.families}"
            )

    def for_rows(self, count: int) -> EstimatorConfig:
        """The settings adapted to the number of rows to learn from.

        The batch grows with the rows up to 1,024, and the weight decay falls as 1 / rows: a
        network's prior then weighs as much against all rows as it does against 1,500. There are
        steps for 32 passes over the rows, at most 5 times as many as given; from 15,000 rows the
        layers are twice as wide, and from 50,000 there are half the members, at least 2.

        Example:
            >>> large = EstimatorConfig().for_rows(150_000)
            >>> large.batch_size, large.steps, large.hidden, large.members
            (1024, 4688, (128, 128), 2)
        """
        ratio = count / _USUAL_ROWS
        if not self.scaling or ratio <= 1:
            return self
        most = max(self.batch_size, _MOST_BATCH)
        passes = _PASSES * max(_USUAL_ROWS / self.batch_size, count / most)
        wide = 2 if count >= _MANY_ROWS else 1
        few = 2 if count >= _VERY_MANY_ROWS and self.members > 2 else 1
        return replace(
            self,
            scaling=False,
            batch_size=min(round(self.batch_size * ratio), most),
            weight_decay=self.weight_decay / ratio,
            steps=min(max(self.steps, math.ceil(passes)), 5 * self.steps),
            hidden=tuple(wide * width for width in self.hidden),
            members=max(len(self.architectures), math.ceil(self.members / few)),
        )


@dataclass(frozen=True, kw_only=True)
class AlignerConfig(LoopConfig):
    """The aligner: a projection of the estimator's latents, by a contrastive loss.

    Example:
        >>> AlignerConfig(loss="acc_con", temperature=0.3, mined_share=0.3).projection_dim
        32
    """

    steps: int = 600
    projection_dim: int = 32
    """Length of the aligner's vector for a row."""
    loss: str = "rank_n_contrast"
    """Contrastive loss: rank_n_contrast, acc_con, sup_con, nt_xent or mined; or a class of
    pytorch_metric_learning.losses, such as MultiSimilarityLoss. nt_xent and mined use mined rows
    only."""
    temperature: float = 0.1
    """Temperature of the contrastive loss, above 0. A class of pytorch_metric_learning does not use
    it."""
    near: float = 0.1
    """Largest difference in score at which two rows count as alike, as a share of the largest
    difference in the batch, in [0, 1). rank_n_contrast, nt_xent and mined do not use it."""
    mined_share: float = 0.0
    """Share of mined rows in a batch, in [0, 1]: a third of them are anchors, a third their hard
    positives, and a third their hard negatives."""
    pseudo_labels: float = 0.0
    """Number of swapped rows per observed row, scored by the estimator, that may also be hard
    positives and negatives; at least 0."""

    def check_losses(self) -> None:
        """Raise ValueError for an unknown loss, a share out of range, or a batch without a pair."""
        contrastive_loss(self.loss)
        shares = 0 <= self.near < 1 and 0 <= self.mined_share <= 1
        if not self.temperature > 0 or not shares or self.batch_size < 2:
            raise ValueError(
                "temperature must be above 0, near in [0, 1), mined_share in [0, 1] and batch_size "
                f"at least 2, got {self.temperature}, {self.near}, {self.mined_share} and "
                f"{self.batch_size}"
            )


@dataclass(frozen=True, kw_only=True)
class ReproductionConfig(LoopConfig):
    """Policies that reproduce rows: those of a fit are the data policy and the naive baseline.

    Example:
        >>> ReproductionConfig().steps
        300
    """

    steps: int = 300


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(LoopConfig):
    """The generator, trained through the frozen estimators.

    Example:
        >>> GeneratorConfig(gradient_estimator="LeaveOneOut", samples=8).samples
        8
    """

    policy: Literal["independent", "autoregressive"] = "independent"
    """Distribution of a row given its context. `independent`: the features are independent of each
    other; `autoregressive`: each feature is drawn given those before it, which can express that a
    column depends on another, and takes longer."""
    gradient_estimator: str = "ReinMax"
    """Name of the gradient estimator, a class of discrete_grad.gradient."""
    tau: float | None = None
    """Temperature of the gradient estimator, above 0, if it has one; by default that of its
    class."""
    samples: int = 4
    """Number of rows drawn for each context of a batch."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers between context and logits, in units."""
    combine: Literal["mean", "median", "min"] = "mean"
    """Statistic of the ensemble members' scores that is maximised."""
    pessimism: float = 0.0
    """Number of standard deviations of the members' scores that are subtracted from the score, at
    least 0."""
    coverage: float = 0.0
    """Share of unseen rows whose true score lies above the pessimistic score, in [0, 1). Above 0 it
    determines the pessimism, by conformal calibration on rows set aside."""
    entropy: float = 0.02
    """Weight of the generator's entropy, in units of the scaled score per nat; at 0 all rows of a
    context become the same. A fit of several aims gives it 2.5 times this weight."""
    diversity: float = 0.0
    """Weight of the expected Hamming distance between two rows of a context, in units of the scaled
    score per feature."""
    reference_kl: float = 0.0
    """Weight of the KL divergence from the data policy, in units of the scaled score per nat."""
    trust: float = 0.0
    """Weight of a penalty on rows that differ from every observed row in more than `trust_radius`
    features, in units of the scaled score per further feature. Above 0 no such row is written."""
    trust_radius: float = 2.0
    """Number of features in which a row may differ from the nearest observed row without
    penalty."""
    alignment: float = 0.0
    """Weight of the reward for behaving like a good row of the same context, by the aligner; at
    least 0."""
    preference: float = 1.0
    """Weight of the reward learnt from preferences, if there are any. The reward has variance 1,
    like the scaled score."""
    steps: int = 300
    # a slower one stops before the generator has decided
    learning_rate: float = 1e-2
    batch_size: int = 64
    # had the judge chosen the weights, it could not say what they are worth
    patience: int = 0

    def check(self) -> None:
        """Raise ValueError for a number out of range; a fit calls it first."""
        super().check()
        if self.policy == "autoregressive" and (self.diversity or self.trust):
            raise ValueError(
                "policy autoregressive does not know the probability of each category, of which "
                f"diversity and trust are: they must be 0, got {self.diversity} and {self.trust}"
            )
        if self.policy == "autoregressive" and len(set(self.hidden)) > 1:
            raise ValueError(f"policy autoregressive has layers of one width, got {self.hidden}")
        if self.coverage >= 1 or (self.coverage and self.combine != "mean"):
            raise ValueError(
                "coverage must be below 1 and, above 0, calibrates the mean, got "
                f"{self.coverage} and combine {self.combine!r}"
            )
