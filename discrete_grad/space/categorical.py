"""The space of rows: per-feature algebra, log-probabilities and enumeration."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad import blocks
from discrete_grad.space._features import Features
from discrete_grad.space.tensors import is_codes

__all__ = ["CategoricalSpace"]


@dataclass(frozen=True, init=False, repr=False)
class CategoricalSpace(Features):
    """Several categorical features together: their names, sizes and categories.

    Holds no tensors, so it is hashable, picklable and shared freely between models. A row is either
    *codes*, integers `(..., F)`, or *flat*, floating `(..., D)` with one block per feature. Logits
    are `(..., D)`; `-inf` marks a category that is not allowed.

    Args:
        features: feature name -> number of categories, or the categories themselves.
        ordered: names of the features whose categories stand in a meaningful order.

    Raises:
        ValueError: for no feature, an empty name, a size below 1, a repeated category, or an
            ordered feature that is none.
        TypeError: for a size or category of another type.

    Example:
        >>> space = CategoricalSpace({"cut": ["fair", "good", "ideal"], "colour": 7})
        >>> space.sizes, space.width, space.num_rows
        ((3, 7), 10, 21)
        >>> CategoricalSpace({"cut": ["fair", "good"], "colour": 7}, ordered=["cut"]).ordered
        (True, False)
    """

    def softmax(self, logits: Tensor) -> Tensor:
        """Probabilities `(..., D)` that sum to 1 in every feature; a masked category has 0."""
        return self.join([blocks.softmax(b) for b in self.blocks(logits)])

    def log_softmax(self, logits: Tensor) -> Tensor:
        """Log-probabilities `(..., D)` in nats; a masked category has `-inf`."""
        return self.join([blocks.log_softmax(b) for b in self.blocks(logits)])

    def softmax_jacobian(self, probabilities: Tensor, vector: Tensor) -> Tensor:
        """`J_p v = p * v - p (p . v)` in every feature, `(..., D)`; J is symmetric."""
        pairs = zip(self.blocks(probabilities), self.blocks(vector), strict=True)
        return self.join([blocks.jacobian(p, v) for p, v in pairs])

    def argmax(self, flat: Tensor) -> Tensor:
        """Codes `(..., F)` of the largest entry of each feature, the first among equals."""
        return self.join_columns([block.argmax(-1) for block in self.blocks(flat)])

    def one_hot(self, codes: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Flat hard row `(..., D)` of codes `(..., F)`.

        Example:
            >>> CategoricalSpace.from_sizes((2, 3)).one_hot(torch.tensor([1, 2]))
            tensor([0., 1., 0., 0., 1.])
        """
        self.check_codes(codes)
        sizes = [place.size for place in self._layout.places]
        pairs = zip(self.block_columns(codes), sizes, strict=True)
        return self.join(
            [(c.unsqueeze(-1) == torch.arange(k, device=c.device)).to(dtype) for c, k in pairs]
        )

    def log_prob(self, logits: Tensor, row: Tensor) -> Tensor:
        """Log-probability `(...)` of a row in nats; `-inf` if it holds a masked category.

        Args:
            logits: `(..., D)`.
            row: codes `(..., F)` or a flat row `(..., D)`; a soft row gives the sum over categories
                of its entry times the log-probability, where `0 * -inf` counts as 0.

        Example:
            >>> space = CategoricalSpace.from_sizes((2, 4))
            >>> space.log_prob(torch.zeros(6), torch.tensor([0, 3])).exp()
            tensor(0.1250)
        """
        if is_codes(row):
            return self.feature_log_probs(logits, row).sum(-1)
        log_p = self.log_softmax(logits)
        self.check_flat(row, what="a flat row")
        # masked before the product: a derivative of 0 * -inf would be NaN
        return (row * log_p.masked_fill((row == 0) & (log_p == -math.inf), 0)).sum(-1)

    def feature_log_probs(self, logits: Tensor, codes: Tensor) -> Tensor:
        """Log-probability `(..., F)` in nats of each feature's own category.

        Args:
            logits: `(..., D)`, broadcast against the rows.
            codes: `(..., F)`.

        Example:
            >>> space = CategoricalSpace.from_sizes((2, 4))
            >>> space.feature_log_probs(torch.zeros(6), torch.tensor([0, 3])).exp()
            tensor([0.5000, 0.2500])
        """
        log_p = self.log_softmax(logits)
        self.check_codes(codes)
        shape = torch.broadcast_shapes(log_p.shape[:-1], codes.shape[:-1])
        index = self.columns(codes).expand(*shape, self.num_features)
        return log_p.expand(*shape, self.width).gather(-1, index)

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy `(...)` of the row in nats, summed over the features, in [0, log num_rows]."""
        log_p = self.log_softmax(logits)
        # masked before the product: 0 * -inf would be NaN, in the derivative as well
        return -(log_p.exp() * log_p.masked_fill(log_p == -math.inf, 0)).sum(-1)

    def kl_divergence(self, logits_p: Tensor, logits_q: Tensor) -> Tensor:
        """`KL(p || q)` `(...)` in nats, at least 0; `inf` where q forbids what p draws.

        A category whose probability under p is 0, or rounds to 0, counts 0.

        Example:
            >>> space = CategoricalSpace.from_sizes((2,))
            >>> space.kl_divergence(torch.tensor([0.0, -torch.inf]), torch.zeros(2))
            tensor(0.6931)
        """
        log_p, log_q = self.log_softmax(logits_p), self.log_softmax(logits_q)
        p = log_p.exp()
        return (p * (log_p - log_q).masked_fill(p == 0, 0)).sum(-1)

    def swap_gains(self, flat: Tensor, codes: Tensor) -> Tensor:
        """A flat tensor `(..., D)` minus, in each feature, its entry at a row's own category.

        Of a gradient at a row `(..., F)` this is what each single swap of the row promises to
        first order.

        Example:
            >>> space = CategoricalSpace.from_sizes((2, 3))
            >>> space.swap_gains(torch.arange(5.0), torch.tensor([1, 0]))
            tensor([-1.,  0.,  0.,  1.,  2.])
        """
        own = flat.gather(-1, self.columns(codes))
        sizes = torch.tensor(self.sizes, device=flat.device)
        # told the size of the result, a GPU is not waited for
        return flat - own.repeat_interleave(sizes, -1, output_size=self.width)

    def enumerate(self, *, max_rows: int = 1_000_000, device: torch.device | None = None) -> Tensor:
        """Codes `(num_rows, F)` of every row, the last feature fastest.

        Raises:
            ValueError: if there are more than `max_rows` rows.

        Example:
            >>> CategoricalSpace.from_sizes((2, 2)).enumerate().tolist()
            [[0, 0], [0, 1], [1, 0], [1, 1]]
        """
        if self.num_rows > max_rows:
            # by logarithms: a number of rows with thousands of digits does not convert to a float
            digits = sum(map(math.log10, self.sizes))
            rows = f"{self.num_rows:,}" if digits < 15 else f"about 10^{digits:.0f}"
            raise ValueError(
                f"the space has {rows} rows, more than max_rows={max_rows:,}; "
                "raise max_rows or use a method that samples"
            )
        index = torch.arange(self.num_rows, device=device).unsqueeze(-1)
        sizes = torch.tensor(self.sizes, device=device)
        return index // torch.tensor(self._strides, device=device) % sizes

    def row_number(self, codes: Tensor) -> Tensor:
        """Place `(...)` of codes `(..., F)` in `enumerate()`, for tables of all rows.

        Raises:
            ValueError: for a space of 2^63 rows or more.

        Example:
            >>> CategoricalSpace.from_sizes((2, 3)).row_number(torch.tensor([[0, 0], [1, 2]]))
            tensor([0, 5])
        """
        if self.num_rows >= 2**63:
            raise ValueError(f"the space has {self.num_rows:.1e} rows, too many to be numbered")
        self.check_codes(codes)
        return (codes.long() * torch.tensor(self._strides, device=codes.device)).sum(-1)

    @property
    def _strides(self) -> list[int]:
        return [math.prod(self.sizes[i + 1 :]) for i in range(self.num_features)]

    def hamming(self, a: Tensor, b: Tensor) -> Tensor:
        """Number `(...)` of features in which two hard rows differ; each is codes or flat."""
        a, b = (row if is_codes(row) else self.argmax(row) for row in (a, b))
        self.check_codes(a)
        self.check_codes(b)
        return (a != b).sum(-1)

    def swaps(self, codes: Tensor) -> Tensor:
        """All rows that differ from `codes` `(..., F)` in one feature: `(..., D - F, F)`.

        Ordered by feature, then by category.

        Example:
            >>> CategoricalSpace.from_sizes((2, 3)).swaps(torch.tensor([0, 1])).tolist()
            [[1, 1], [0, 0], [0, 2]]
        """
        return self.swapped(codes, self.swap_columns(codes))

    def swap_columns(self, codes: Tensor) -> Tensor:
        """Column `(..., D - F)` of a flat row that each of `swaps(codes)` writes.

        Example:
            >>> CategoricalSpace.from_sizes((2, 3)).swap_columns(torch.tensor([0, 1])).tolist()
            [1, 2, 4]
        """
        self.check_codes(codes)
        sizes = torch.tensor(self.sizes, device=codes.device)
        count = self.width - self.num_features
        each = torch.arange(self.num_features, device=codes.device)
        feature = each.repeat_interleave(sizes - 1, output_size=count)
        # each feature has one swap fewer than categories
        column = torch.arange(count, device=codes.device) + feature
        # columns from the row's own on move up by one, which leaves the own one out
        return column + (column >= self.columns(codes)[..., feature])

    def swapped(self, codes: Tensor, columns: Tensor) -> Tensor:
        """Rows `(..., M, F)`, each with the category of one column of a flat row `(..., M)`.

        Example:
            >>> space = CategoricalSpace.from_sizes((2, 3))
            >>> space.swapped(torch.tensor([0, 1]), torch.tensor([1, 2])).tolist()
            [[1, 1], [0, 0]]
        """
        offsets = torch.tensor(self.offsets, device=codes.device)
        feature = torch.searchsorted(offsets, columns.contiguous(), right=True) - 1
        code = (columns - offsets[feature]).to(codes.dtype)
        rows = codes.unsqueeze(-2).expand(*columns.shape, self.num_features)
        return rows.scatter(-1, feature.unsqueeze(-1), code.unsqueeze(-1))
