"""An estimator of rows whose features are the places of one sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad.models.estimator import BaseEstimator
from discrete_grad.nn.context import ContextReading, mlp
from discrete_grad.nn.soft_embedding import embed
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["SequenceEstimator", "is_biological", "letters_of"]

_LEAST_PLACES, _MOST_PLACES = 8, 256
_SHARE = 4
_REACH = 5  # places that a convolution sees at once
_NUCLEOTIDES, _AMINO_ACIDS = frozenset("ACGTU"), frozenset("ACDEFGHIKLMNPQRSTVWY")
# gaps, stops, unknown letters of either, and what a table calls a missing cell
_ANY = frozenset([*"-*.?NX", "(MISSING)"])
_LEAST_NUCLEOTIDES, _LEAST_AMINO_ACIDS = 4, 12  # different ones
_PLACES_AT_ONCE = 2**12  # of a part of the rows, whose convolutions a cache holds


def letters_of(space: CategoricalSpace) -> tuple[int, ...] | None:
    """The letter of every column of a flat row, if the features are the places of one sequence.

    They are if there are 8 to 256, none of them is ordered, their categories are given by name,
    and a category is on average one of at least a quarter of the features: DNA, peptides, or a
    questionnaire of equal answers.

    Returns:
        D numbers, equal where the categories are; None for other features.

    Example:
        >>> letters_of(CategoricalSpace({f"p{i}": ["A", "C", "G", "T"] for i in range(8)}))[:6]
        (0, 1, 2, 3, 0, 1)
        >>> letters_of(CategoricalSpace.from_sizes((4,) * 8)) is None
        True
    """
    if not _LEAST_PLACES <= space.num_features <= _MOST_PLACES:
        return None
    if any(space.ordered) or None in space.vocabularies:
        return None
    numbers: dict[str, int] = {}
    letters = [numbers.setdefault(c, len(numbers)) for own in space.categories for c in own]
    if len(letters) * _SHARE < len(numbers) * space.num_features:
        return None
    return tuple(letters)


def is_biological(space: CategoricalSpace) -> bool:
    """Whether the features are the places of a DNA, RNA or protein sequence, by their letters.

    The categories are then letters of nucleotides, or at least 12 of those of amino acids, in upper
    or lower case; gaps, unknown letters and missing cells may be among them.

    Example:
        >>> is_biological(CategoricalSpace({f"p{i}": ["a", "c", "g", "t"] for i in range(8)}))
        True
        >>> is_biological(CategoricalSpace({f"answer{i}": ["A", "B", "C", "D"] for i in range(8)}))
        False
    """
    if letters_of(space) is None:
        return False
    found = {category.upper() for own in space.categories for category in own} - _ANY
    nucleotides = found <= _NUCLEOTIDES and len(found) >= _LEAST_NUCLEOTIDES
    return nucleotides or (found <= _AMINO_ACIDS and len(found) >= _LEAST_AMINO_ACIDS)


class SequenceEstimator(BaseEstimator):
    """Embedded letters -> two convolutions over the places -> their largest and mean -> score.

    What is learnt of some letters beside one another holds wherever in the row they stand.

    Args:
        space: the features of a row, for which `letters_of` is not None.
        context: the context columns; None for an estimator of rows alone.
        dim: length of a letter's embedding.
        channels: of each convolution.
        dropout: probability in [0, 1) after the hidden layer.

    Raises:
        ValueError: for a space whose features are no places of a sequence.

    Reference:
        Alipanahi, Delong, Weirauch, Frey (2015), "Predicting the sequence specificities of DNA-
        and RNA-binding proteins by deep learning".

    Example:
        >>> space = CategoricalSpace({f"p{i}": ["A", "C", "G", "T"] for i in range(8)})
        >>> estimator = SequenceEstimator(space)
        >>> codes = torch.zeros(2, 8, dtype=torch.long)
        >>> estimator(codes).shape, estimator.to_latent(space.one_hot(codes)).shape
        (torch.Size([2]), torch.Size([2, 32]))
    """

    def __init__(
        self,
        space: CategoricalSpace,
        *,
        context: ContextSpec | None = None,
        dim: int = 16,
        channels: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(space, context)
        letters = letters_of(space)
        if letters is None:
            raise ValueError(f"the features of {space} are not the places of one sequence")
        self.letters = letters
        self.embedding = nn.Parameter(torch.randn(max(letters) + 1, dim))
        self.first = nn.Conv1d(dim, channels, _REACH, padding=_REACH // 2)
        self.second = nn.Conv1d(channels, channels, _REACH, padding=_REACH // 2)
        self.reading = ContextReading(context)
        self.trunk = mlp(2 * channels + self.reading.width, (channels,), dropout)
        self.head = nn.Linear(channels, 1)
        with torch.no_grad():
            self.head.weight.mul_(0.1)  # as in `Estimator`

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Output `(..., channels)` of the hidden layer."""
        batch, rows = row.shape[:-1], row.reshape(-1, row.shape[-1])
        weight = self.embedding[torch.tensor(self.letters, device=self.embedding.device)]
        most = max(1, _PLACES_AT_ONCE // self.space.num_features)
        pooled = torch.cat([self._pooled(part, weight) for part in rows.split(most)])
        pooled = pooled.reshape(*batch, pooled.shape[-1])
        latent: Tensor = self.trunk(self.reading.beside(pooled, context))
        return latent

    def _pooled(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Largest and mean output `(n, 2 channels)` of the convolutions over the places."""
        places = embed(self.space, rows, weight).transpose(-1, -2)
        places = F.silu(self.second(F.silu(self.first(places))))
        return torch.cat([places.amax(-1), places.mean(-1)], -1)

    def forward(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Score `(...)`; see `BaseEstimator.forward`."""
        score: Tensor = self.head(self.to_latent(row, context)).squeeze(-1)
        return score
