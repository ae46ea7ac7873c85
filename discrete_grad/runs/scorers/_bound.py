"""A scorer in the form that it takes, bound to the columns of a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from discrete_grad.fitting.black_box import described
from discrete_grad.runs.scorers._columns import RowColumns
from discrete_grad.runs.scorers._tensors import TorchForm
from discrete_grad.runs.scorers.scorer import OwnScorer, Takes
from discrete_grad.space import is_codes
from discrete_grad.training.checkpoint import RunError

__all__ = ["BoundScorer", "FrameForm", "MissingForm", "numbers_of"]

# numbers of flat rows, or rows of a frame, that a scorer is asked about at a time
_NUMBERS, _ROWS = 2**22, 2**14

Form = Callable[[Tensor, Tensor | None], Any]


class FrameForm:
    """A model with `predict`, or a function, that is called with a frame or an array.

    Args:
        scorer: the model.
        columns: of the table.
        takes: the form.
    """

    def __init__(self, scorer: OwnScorer, columns: RowColumns, takes: Takes) -> None:
        self.columns, self.takes = columns, takes
        self.ask = scorer.model.predict if scorer.predicts else scorer.model
        names = getattr(scorer.model, "feature_names_in_", None)
        self.names = None if names is None else [str(name) for name in names]

    def answer(self, row: Tensor, context: Tensor | None) -> Any:
        """Answer to codes `(N, F)`, on the CPU."""
        if self.takes in ("values", "codes", "one-hot"):
            return self.ask(self.columns.array(row, context, self.takes))
        frame = self.columns.frame(row, context, self.takes)
        return self.ask(frame if self.names is None else frame[self.names])


class MissingForm:
    """A scorer that a folder names and nobody gave: whoever asks it is told how to give it.

    Args:
        name: of the scorer, as the folder has it.
        takes: the form in which the fit asked it.
        message: of the error that it answers with.
    """

    def __init__(self, name: str, takes: Takes, message: str) -> None:
        self.__qualname__ = name  # which `OwnScorer` tells as the model's
        self.takes, self.message = takes, message

    def __call__(self, row: Tensor, context: Tensor | None) -> NoReturn:
        """Raise RunError."""
        raise RunError(self.message)


class BoundScorer:
    """Scores of codes and flat rows by a scorer, counted and checked.

    Args:
        scorer: the model.
        columns: of the table.
        form: the scorer in the form that it takes.
        device: where a torch module computes.
        role: the subject of messages.
    """

    def __init__(
        self,
        scorer: OwnScorer,
        columns: RowColumns,
        form: TorchForm | FrameForm | MissingForm,
        device: torch.device,
        role: str,
    ) -> None:
        self.scorer, self.columns, self.form, self.device = scorer, columns, form, device
        self.role = f"the {role} {scorer.name}"
        self.space = columns.schema.space
        self.calls = Counter[str]()
        self.purpose = "other"
        self.why_not = "" if isinstance(form, TorchForm) else "it is no torch module"

    @property
    def differentiable(self) -> bool:
        """Whether the score has a derivative in a flat row."""
        return not self.why_not

    def __call__(self, row: Tensor, context: Tensor | None) -> Tensor:
        """Answers `(N,)` to codes `(N, F)` or flat rows `(N, D)` in contexts `(N, C)`."""
        if isinstance(self.form, MissingForm):
            self.form(row, context)
        self.calls[self.purpose] += len(row)
        if self.differentiable:
            return self._in_parts(row, context, max(1, _NUMBERS // self.space.width))
        home = torch.device("cpu") if isinstance(self.form, FrameForm) else self.device
        codes, shown = self._as_codes(row).to(home), None if context is None else context.to(home)
        with torch.no_grad():
            return self._in_parts(codes, shown, _ROWS).to(row.device)

    def _in_parts(self, row: Tensor, context: Tensor | None, size: int) -> Tensor:
        if not len(row):  # which models from other libraries refuse
            return row.new_zeros(0, dtype=torch.float32)
        parts = row.split(size)
        contexts = [None] * len(parts) if context is None else context.split(size)
        answers = [self._ask(*part) for part in zip(parts, contexts, strict=True)]
        return torch.cat(answers) if len(answers) > 1 else answers[0]

    def _as_codes(self, row: Tensor) -> Tensor:
        if is_codes(row):
            return row.long()
        if row.requires_grad or not ((row == 0) | (row == 1)).all():
            raise ValueError(
                f"{self.role} has no derivative in the row ({self.why_not}): a gradient estimator "
                "that needs none, such as LeaveOneOut, hands it one-hot rows alone"
            )
        return self.space.argmax(row)

    def _ask(self, row: Tensor, context: Tensor | None) -> Tensor:
        assert not isinstance(self.form, MissingForm)
        try:
            given = self.form.answer(row.long() if is_codes(row) else row, context)
            answers = numbers_of(given, len(row))
        except Exception as error:
            raise RunError(
                f"{self.role} failed on {len(row):,} rows from {self._named(row, 0)} on: "
                f"{type(error).__name__}: {error}"
            ) from error
        # a value is looked at where that stops nothing, or nothing runs ahead
        if answers.device.type == "cpu" or not answers.requires_grad:
            self._check(answers.detach(), row)
        return answers

    def _check(self, answers: Tensor, row: Tensor) -> None:
        if not (fine := answers.isfinite()).all():
            place = int((~fine).nonzero()[0])
            raise RunError(
                f"{self.role} must answer finite numbers, got {answers[place].item():g} for the "
                f"row {self._named(row, place)}"
            )

    def _named(self, row: Tensor, place: int) -> str:
        one = row[place].detach()
        codes = one.long() if is_codes(one) else self.space.argmax(one)
        return described(self.space, codes.cpu())


def numbers_of(given: Any, count: int) -> Tensor:
    """Answers `(count,)`, floating, of whatever a model returned for so many rows.

    Raises:
        TypeError: for what is no numbers.
        ValueError: for another shape.
    """
    if not isinstance(given, Tensor):
        array = np.asarray(given)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"it must answer numbers, got {type(given).__name__} of {array.dtype}")
        given = torch.from_numpy(np.array(array, dtype=np.float64))
    answers: Tensor = given if given.is_floating_point() else given.double()
    if answers.shape == (count, 1):
        answers = answers.squeeze(1)
    if answers.shape != (count,):
        raise ValueError(
            f"it must answer {count:,} rows by one number each, ({count},) or ({count}, 1), got "
            f"{tuple(answers.shape)}"
        )
    return answers
