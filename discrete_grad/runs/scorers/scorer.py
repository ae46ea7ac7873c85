"""A model of one's own that scores rows, and the form in which it takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

__all__ = ["FRAMES", "TENSORS", "OwnScorer", "Takes", "as_scorer"]

Takes = Literal[
    "codes",
    "one-hot",
    "channels",
    "dict",
    "arguments",
    "frame",
    "numbers",
    "categories",
    "text-categories",
    "values",
]

TENSORS: dict[Takes, str] = {
    "codes": "int64 codes (N, F)",
    "one-hot": "flat one-hot rows (N, D)",
    "channels": "one-hot rows (N, K, F) of features of one size, as nn.Conv1d takes them",
    "dict": "one dict of columns (N,)",
    "arguments": "columns (N,) as arguments of their names",
}
"""Forms in which a torch module may take rows."""

FRAMES: dict[Takes, str] = {
    "frame": "a pandas frame of the table's values",
    "numbers": "the same with text that is a number as numbers, as pandas reads CSV",
    "categories": "a pandas frame of categoricals",
    "text-categories": "a pandas frame of numbers, and of text as categoricals",
    "values": "an array of the table's values, of text as codes",
    "codes": "an array of codes of all categories",
    "one-hot": "an array of one-hot blocks",
}
"""Forms in which anything else may take them."""


@dataclass(frozen=True)
class OwnScorer:
    """Your own model that scores rows; higher is better.

    A fit takes the model itself where its form is found by calling it with three rows of the table;
    where several forms work, `takes` says which is meant.

    Args:
        model: a torch module; a fitted model with `predict`, as those of scikit-learn, XGBoost and
            LightGBM; or any function of a frame.
        takes: how it takes the rows. A torch module: `codes` (N, F), `one-hot` (N, D), `channels`
            (N, K, F), each with the encoded context (N, C) as a second argument if it has one;
            `dict`, one argument that maps names to columns (N,), and `arguments`, columns by the
            names of its arguments: features as codes, categorical contexts as codes, numeric ones
            as they are in the table. Anything else: `frame`, the table's values under their names;
            `numbers`, the same where text that is a number in every category is one, as pandas
            reads CSV; `categories`, as pandas categoricals; `text-categories`, text alone as such;
            `values` (text as codes), `codes` and `one-hot`, an array with the columns in the
            table's order. None for the form that works.

    Raises:
        ValueError: for a form that there is not, or not for such a model.
        TypeError: for a model that cannot be called.

    Example:
        >>> OwnScorer(nn.Linear(5, 1), takes="one-hot").takes
        'one-hot'
        >>> OwnScorer(nn.Linear(5, 1), takes="frame")
        Traceback (most recent call last):
        ValueError: Linear takes one of codes, one-hot, channels, dict, arguments, got 'frame'
    """

    model: Any
    takes: Takes | None = None

    def __post_init__(self) -> None:
        """Raise for a form that there is not."""
        if not callable(self.model) and not self.predicts:
            raise TypeError(
                f"a scorer is a torch module, a model with predict or a function of a frame, "
                f"got {self.name}"
            )
        if self.takes is not None and self.takes not in self.forms:
            raise ValueError(
                f"{self.name} takes one of {', '.join(self.forms)}, got {self.takes!r}"
            )

    @property
    def name(self) -> str:
        """Name of the model's class, or of the function."""
        return str(getattr(self.model, "__qualname__", type(self.model).__name__))

    @property
    def predicts(self) -> bool:
        """Whether the model is called by its method `predict`."""
        return not isinstance(self.model, nn.Module) and callable(
            getattr(self.model, "predict", None)
        )

    @property
    def forms(self) -> dict[Takes, str]:
        """Forms that such a model may take."""
        return TENSORS if isinstance(self.model, nn.Module) else FRAMES


def as_scorer(given: Any) -> OwnScorer:
    """The scorer as it is, or of a model.

    Example:
        >>> as_scorer(nn.Linear(5, 1)).name
        'Linear'
    """
    return given if isinstance(given, OwnScorer) else OwnScorer(given)
