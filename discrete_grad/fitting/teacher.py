"""A black box, or a fitted model of another library, becomes a differentiable estimator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.evaluation import spearman
from discrete_grad.fitting._drawn_rows import draw_rows, rows_near
from discrete_grad.fitting.black_box import Teacher, ask
from discrete_grad.fitting.config import EstimatorConfig
from discrete_grad.fitting.estimator import fit_estimator, new_ensemble
from discrete_grad.grouping import row_groups
from discrete_grad.models import BaseEnsemble, StackedEnsemble
from discrete_grad.nn.context import check_context
from discrete_grad.sampling import random_codes, random_indices, seeded
from discrete_grad.space import CategoricalSpace, ContextSpec
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.config import require_config
from discrete_grad.training.devices import AskedFromCpu
from discrete_grad.training.logs import Log, no_log
from discrete_grad.training.loop import Callback, derive_seed, no_callback

__all__ = ["Agreement", "Fidelity", "learn_teacher"]

TEACHER_CONFIG = EstimatorConfig(
    members=1, hidden=(128, 128), weight_decay=0.0, held_out=0.03, patience=40
)
"""Answers without noise need no weight decay, and no second member to average it out."""

_JUDGED = 4096
_LEAST_JUDGED = 100


@dataclass(frozen=True)
class Agreement:
    """Agreement of a student's answers with its teacher's.

    Args:
        r2: 1 less the mean squared error over the variance of the teacher's answers; NaN where
            these are all equal.
        spearman: rank correlation; NaN likewise.
        rows: how many were compared.
        unseen: whether the student had seen none of them.

    Example:
        >>> str(Agreement(0.987, 0.991, 4096, True))
        'R^2 0.987, rank correlation 0.991 (4,096 rows not learnt from)'
    """

    r2: float
    spearman: float
    rows: int
    unseen: bool

    def __str__(self) -> str:
        """One line."""
        kind = "rows not learnt from" if self.unseen else "of the rows learnt from"
        return f"R^2 {self.r2:.3f}, rank correlation {self.spearman:.3f} ({self.rows:,} {kind})"


@dataclass(frozen=True)
class Fidelity:
    """Fidelity of a student to its teacher.

    Args:
        asked: rows that the teacher was asked about to learn from.
        uniform: agreement on uniform rows, a `discrete_grad.fitting.teacher.Agreement`.
        near: agreement on rows of the table with 1 to 4 features drawn anew; None without a table.

    Example:
        >>> agreement = Agreement(0.987, 0.991, 4096, True)
        >>> print(Fidelity(100_000, agreement, None))
        100,000 rows asked
        uniform rows: R^2 0.987, rank correlation 0.991 (4,096 rows not learnt from)
    """

    asked: int
    uniform: Agreement
    near: Agreement | None

    def __str__(self) -> str:
        """One line for each number of rows."""
        near = [] if self.near is None else [f"rows near the table: {self.near}"]
        return "\n".join([f"{self.asked:,} rows asked", *near, f"uniform rows: {self.uniform}"])


def learn_teacher(
    space: CategoricalSpace,
    teacher: Teacher,
    rows: ScoredRows | None = None,
    *,
    context: ContextSpec | None = None,
    count: int = 100_000,
    config: EstimatorConfig = TEACHER_CONFIG,
    seed: int = 0,
    log: Log = no_log,
    checkpoint: Checkpoint | None = None,
    callback: Callback = no_callback,
) -> tuple[StackedEnsemble, Fidelity]:
    """Train an estimator on a teacher's answers to drawn rows; see `draw_rows`.

    Boosted trees need none of this: `exact_trees` takes them over as they are.

    Args:
        space: the features of a row.
        teacher: asked about at most 16,384 rows at once, without gradients; see
            `predict_teacher` for fitted models.
        rows: the table's, near which the student matters most; their scores are not used. None
            without a table. The student is fitted where they are, or on the CPU without; the
            teacher is asked on the CPU.
        context: the columns of the rows' contexts.
        count: rows asked about to learn from, at most; up to 8,192 more judge the student.
        config: training; what `config.for_rows` gives is used.
        seed: decides every random number.
        log: called as `log(metrics, step)`; see `train`.
        checkpoint: where the state is saved and resumed from; see `train`.
        callback: called as `callback(model, step)`; see `train`.

    Returns:
        The student, frozen and in evaluation mode, its answers in the teacher's unit (that of
        `fit_generator` is one standard deviation of the scores), and its fidelity on rows it has
        not learnt from. Where fewer than 100 of the rows drawn are new to it, as in a small space,
        it is that on all rows drawn.

    Raises:
        ValueError: for a count below 1, a context spec without a table's contexts, a teacher that
            fails, whose answers are not finite numbers, one a row, or are all equal.

    Reference:
        Bucila, Caruana, Niculescu-Mizil (2006), "Model compression".

    Example:
        >>> space = CategoricalSpace({"cut": ["fair", "good", "ideal"], "colour": 7})
        >>> def price(codes, context):  # any black box
        ...     return 100 * codes[:, 0] - 5 * (codes[:, 1] - 4) ** 2
        >>> student, fidelity = learn_teacher(space, price)
        >>> fidelity.uniform.r2 > 0.99
        True
        >>> from discrete_grad import ReinMax
        >>> logits = torch.zeros(space.width, requires_grad=True)
        >>> optimiser = torch.optim.Adam([logits], lr=0.1)
        >>> for _ in range(100):
        ...     optimiser.zero_grad()
        ...     (-student(ReinMax(space)(logits.expand(16, -1))).mean()).backward()
        ...     optimiser.step()
        >>> space.argmax(logits)
        tensor([2, 4])
    """
    require_config("config of learn_teacher", config, EstimatorConfig)
    device = torch.device("cpu") if rows is None else rows.codes.device
    rows = None if rows is None else rows.to(torch.device("cpu"))
    _check_rows(space, rows, context)
    codes, shown = draw_rows(space, rows, count, seed=derive_seed(seed, "teacher", "rows"))
    answers = ask(teacher, space, codes, shown)
    mean, spread = answers.mean(), answers.std(correction=0)
    # below it the student's float32 cannot tell the answers apart
    if spread <= torch.finfo(torch.float32).eps * answers.abs().amax():
        raise ValueError(
            f"the teacher answers {mean.item():g} for every one of {len(codes)} rows, up to "
            f"{spread.item():g}: there is nothing to learn"
        )
    asked = ScoredRows(codes, ((answers - mean) / spread).float(), shown)
    made = new_ensemble(
        space, context, config, seed=derive_seed(seed, "teacher", "model"), rows=len(asked)
    )
    made = made.to(device)
    fit_estimator(
        made,
        asked.to(device),
        config=config,
        seed=seed,
        stage="teacher",
        log=log,
        checkpoint=checkpoint,
        callback=callback,
    )
    student = _in_unit(made, mean, spread)
    return student, _fidelity(student, teacher, asked, rows, seed)


def _check_rows(
    space: CategoricalSpace, rows: ScoredRows | None, context: ContextSpec | None
) -> None:
    shown = None if rows is None else rows.context
    if rows is not None:
        space.check_codes(rows.codes)
    if context is not None and shown is None:
        raise ValueError(f"contexts of {context.names} are drawn from a table's rows: give some")
    if context is None and shown is not None:
        raise ValueError(f"rows have a context of {shown.shape[-1]} numbers, but no context spec")
    check_context(shown, context)


def _in_unit(fitted: BaseEnsemble, mean: Tensor, spread: Tensor) -> StackedEnsemble:
    """The fitted ensemble times the spread, plus the mean."""
    student = fitted
    if not isinstance(student, StackedEnsemble):
        student = StackedEnsemble({"networks": fitted}).eval()
    student.weights = (student.weights * spread).float()
    student.constant = (student.constant * spread + mean).float()
    return student


def _fidelity(
    student: StackedEnsemble,
    teacher: Teacher,
    asked: ScoredRows,
    rows: ScoredRows | None,
    seed: int,
) -> Fidelity:
    space, generator = student.space, seeded(derive_seed(seed, "teacher", "uniform"))
    spread = random_codes(space, _JUDGED, generator=generator)
    shown = None
    if rows is not None and rows.context is not None:
        shown = rows.context[random_indices(len(rows), (_JUDGED,), generator=generator)]
    uniform, near = _agreement(student, teacher, asked, spread, shown), None
    if rows is not None:
        drawn = rows_near(space, rows, _JUDGED, seed=derive_seed(seed, "teacher", "near"))
        near = _agreement(student, teacher, asked, *drawn)
    return Fidelity(len(asked), uniform, near)


def _agreement(
    student: StackedEnsemble,
    teacher: Teacher,
    asked: ScoredRows,
    codes: Tensor,
    context: Tensor | None,
) -> Agreement:
    new = _unseen(asked, codes, context)
    unseen = int(new.sum()) >= _LEAST_JUDGED
    if unseen:
        codes, context = codes[new], None if context is None else context[new]
    truth = ask(teacher, student.space, codes, context)
    asked_there = AskedFromCpu(student, student.weights.device)
    with torch.no_grad():
        answers = asked_there(codes, context).double()
    variance, error = truth.var(correction=0), (answers - truth).square().mean()
    r2 = float(1 - error / variance) if variance > 0 else math.nan
    return Agreement(r2, spearman(answers, truth), len(codes), unseen)


def _unseen(asked: ScoredRows, codes: Tensor, context: Tensor | None) -> Tensor:
    """Whether each row `(N,)`, in its context, is none of those asked about."""
    tables = [torch.cat([asked.codes, codes])]
    if asked.context is not None and context is not None:
        tables.append(torch.cat([asked.context, context]))
    group = row_groups(*tables)
    return ~torch.isin(group[len(asked) :], group[: len(asked)])
