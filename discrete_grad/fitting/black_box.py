"""Teachers: black boxes and fitted models of other libraries, asked about rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from discrete_grad.space import CategoricalSpace

__all__ = ["Teacher", "ask", "described", "predict_teacher"]

Teacher = Callable[[Tensor, Tensor | None], Any]
"""Codes `(N, F)`, int64, and contexts `(N, C)` or None to N numbers, a tensor or an array."""

_ASKED_AT_ONCE = 2**14


def predict_teacher(
    model: Any, space: CategoricalSpace, *, encode: Literal["codes", "one-hot"] = "codes"
) -> Teacher:
    """A teacher from any fitted model with `predict(X)`: scikit-learn, XGBoost, LightGBM.

    X is a float32 array `(N, columns)` of the row, followed by the context as it is.

    Args:
        model: fitted to the same columns.
        space: the features of a row.
        encode: the row as one column of codes a feature, or as one-hot blocks.

    Raises:
        TypeError: for a model without `predict`.
        ValueError: for another encoding, and later for columns the model does not expect.

    Example:
        >>> class Linear:
        ...     def predict(self, X):
        ...         return X @ [1.0, 10.0]
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> predict_teacher(Linear(), space)(torch.tensor([[1, 2]]), None)
        array([21.])
    """
    if not callable(getattr(model, "predict", None)):
        raise TypeError(f"a teacher needs a method predict, {type(model).__name__} has none")
    if encode not in ("codes", "one-hot"):
        raise ValueError(f"encode must be 'codes' or 'one-hot', got {encode!r}")

    def teacher(codes: Tensor, context: Tensor | None) -> Any:
        row = codes.float() if encode == "codes" else space.one_hot(codes)
        shown = row if context is None else torch.cat([row, context.float()], -1)
        expected = getattr(model, "n_features_in_", shown.shape[1])
        if expected != shown.shape[1]:
            raise ValueError(
                f"{type(model).__name__} was fitted to {expected} columns, but a row as "
                f"{encode} and its context have {shown.shape[1]}"
            )
        return model.predict(shown.numpy())

    return teacher


def ask(teacher: Teacher, space: CategoricalSpace, codes: Tensor, context: Tensor | None) -> Tensor:
    """Answers `(N,)`, float64, to codes `(N, F)` in contexts `(N, C)`, asked in parts.

    Raises:
        ValueError: for a teacher that fails, or whose answers are not N finite numbers.
    """
    parts = codes.split(_ASKED_AT_ONCE)
    contexts = [None] * len(parts) if context is None else context.split(_ASKED_AT_ONCE)
    pairs = zip(parts, contexts, strict=True)
    return torch.cat([_answers(teacher, space, c, shown) for c, shown in pairs])


def _answers(
    teacher: Teacher, space: CategoricalSpace, codes: Tensor, context: Tensor | None
) -> Tensor:
    first = described(space, codes[0])
    try:
        with torch.no_grad():
            # a teacher that writes into what it is shown changes a copy
            given = teacher(codes.clone(), None if context is None else context.clone())
        answers = torch.as_tensor(given).detach().cpu().double()
    except Exception as error:
        raise ValueError(
            f"the teacher failed on {len(codes)} rows from {first} on: "
            f"{type(error).__name__}: {error}"
        ) from error
    if answers.shape != (len(codes),):
        raise ValueError(
            f"the teacher must answer {len(codes)} rows by ({len(codes)},) numbers, "
            f"got {tuple(answers.shape)}"
        )
    if not (fine := answers.float().isfinite()).all():
        worst = int((~fine).nonzero()[0])
        raise ValueError(
            f"the teacher must answer finite numbers, got {answers[worst].item():g} for the row "
            f"{described(space, codes[worst])}"
        )
    return answers


def described(space: CategoricalSpace, row: Tensor) -> str:
    """A row `(F,)` of codes by the names of its features and categories.

    Example:
        >>> described(CategoricalSpace({"cut": ["fair", "good"]}), torch.tensor([1]))
        '(cut=good)'
    """
    names = zip(space.names, space.categories, row.tolist(), strict=True)
    return "(" + ", ".join(f"{name}={labels[code]}" for name, labels, code in names) + ")"
