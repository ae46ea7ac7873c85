"""The mean of a Gaussian process over rows: alike is what differs in few features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.models._block_linear import BlockLinearEnsemble
from discrete_grad.models.joint import JointColumns
from discrete_grad.space import CategoricalSpace, ContextSpec, is_codes

__all__ = ["KernelEnsemble", "log_correlations"]

_CHUNK = 2**23


class KernelEnsemble(BlockLinearEnsemble):
    """M posterior means of a Gaussian process, weighted sums of correlations with observed rows.

    The correlation of two rows is a product over the columns of 1 where they agree and less where
    they do not; in ordered columns it falls with the distance. The product is linear in each
    feature's block, so the value at a soft row of probabilities is the expected score of
    independent features, and the gradient at a hard row says what each single swap changes.

    Args:
        space: the features of a row.
        context: the context columns; None for a model of rows alone.
        members: M.

    Reference:
        Rasmussen and Williams (2006), "Gaussian processes for machine learning", equation 2.25.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> model = KernelEnsemble(space)
        >>> alike = torch.tensor([[0.1, 0.0, 1.0], [0.5, 0.0, 1.0]])
        >>> model.place(alike, torch.tensor([[0, 0]]), torch.tensor([[2.0]]), torch.zeros(1))
        >>> model(torch.tensor([[0, 0], [1, 0], [1, 1]]))
        tensor([2.0000, 0.2000, 0.1000])
        >>> model(torch.tensor([[0.5, 0.5, 1.0, 0.0, 0.0]]))
        tensor([1.1000])
    """

    alike: Tensor
    points: Tensor
    weights: Tensor
    offsets: Tensor

    def __init__(
        self, space: CategoricalSpace, *, context: ContextSpec | None = None, members: int = 1
    ) -> None:
        super().__init__(space, context)
        columns = len(self.joint.sizes)
        self.register_buffer("alike", torch.ones(columns, 3))
        self.register_buffer("points", torch.zeros(1, columns, dtype=torch.long))
        self.register_buffer("weights", torch.zeros(1, members))
        self.register_buffer("offsets", torch.zeros(members))
        self.layout()

    def place(self, alike: Tensor, points: Tensor, weights: Tensor, offsets: Tensor) -> None:
        """Take what was fitted.

        Args:
            alike: `(columns, 3)`: correlation in (0, 1] of two categories that differ, share in
                [0, 1] of it that falls with their distance instead, and how far apart, as a share
                of the column's range, they are when that has fallen to 1/e.
            points: joint codes `(Z, columns)` of the observed rows.
            weights: `(Z, M)` of the rows.
            offsets: `(M,)`, added to each member's score.
        """
        self.alike, self.points, self.weights, self.offsets = alike, points, weights, offsets
        self.layout()

    def layout(self) -> None:
        """Log-correlation `(D + context, Z)` of every category with every point's."""
        columns = [column.unique(return_inverse=True) for column in self.points.unbind(1)]
        blocks = log_correlations(self.joint, self.alike, [seen for seen, _ in columns])
        self.kinds = [place for _, place in columns]
        self.logs = torch.cat(
            [block[:, place] for block, place in zip(blocks, self.kinds, strict=True)]
        )
        # of the features alone: correlation (K, U) with each category that some point has
        self.factors = [block.exp() for block in blocks[: self.space.num_features]]
        starts = torch.tensor([0, *self.joint.sizes[:-1]]).cumsum(0)
        self.starts = starts.to(self.points.device)

    @property
    def num_members(self) -> int:
        """M."""
        return self.weights.shape[1]

    def looked_up(self, codes: Tensor) -> Tensor:
        """Scores `(M, ...)` of joint codes `(..., columns)`."""
        flat = codes.reshape(-1, codes.shape[-1])
        part = max(1, _CHUNK // len(self.points))
        scores = torch.cat([self._weighted(self.correlations(c)) for c in flat.split(part)], 1)
        return scores.reshape(self.num_members, *codes.shape[:-1])

    def slopes(self, codes: Tensor, gradient: Tensor) -> Tensor:
        """Gradient `(N, D)` at joint codes `(N, columns)` of members' scores weighted `(N, M)`."""
        part = max(1, _CHUNK // len(self.points))
        pairs = zip(codes.split(part), gradient.split(part), strict=True)
        return torch.cat([_slopes(self, c, g) for c, g in pairs])

    def correlations(self, codes: Tensor) -> Tensor:
        """Correlations `(N, Z)` of joint codes `(N, columns)` with the points."""
        # the product over the columns as a sum of logarithms, in one call
        logs: Tensor = F.embedding_bag(codes + self.starts, self.logs, mode="sum")
        return logs.exp_()

    def soft(self, row: Tensor, context: Tensor | None) -> Tensor:
        """Scores `(M, ...)` of any flat rows."""
        return self._weighted(self._product(row, context))

    def _product(self, row: Tensor, context: Tensor | None) -> Tensor:
        """Correlations `(..., Z)` of any flat rows with the points."""
        tables = self.logs.exp().to(row.dtype).split(list(self.joint.sizes))
        blocks = self.space.split(row)
        value: Tensor = blocks[0] @ tables[0]
        for block, table in zip(blocks[1:], tables[1 : len(blocks)], strict=True):
            value = value * (block @ table)
        known = self.joint.context_codes(context)
        if known is not None:
            for code, table in zip(known.unbind(-1), tables[len(blocks) :], strict=True):
                value = value * F.embedding(code, table)
        return value

    def _weighted(self, correlations: Tensor) -> Tensor:
        weights, offsets = (t.to(correlations.dtype) for t in (self.weights, self.offsets))
        scores: Tensor = correlations @ weights + offsets
        return scores.movedim(-1, 0)

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Correlations `(..., Z)` with the points."""
        return self._product(self.space.one_hot(row) if is_codes(row) else row, context)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any
    ) -> None:
        # as many points as there were rows: they are taken as they are saved
        names = ("points", "weights", "offsets")
        saved = {name: state_dict[prefix + name] for name in names if prefix + name in state_dict}
        if len(saved) == len(names):
            shapes = [tuple(saved[name].shape) for name in names]
            count, members = len(saved["points"]), saved["offsets"].numel()
            if shapes != [(count, len(self.joint.sizes)), (count, members), (members,)]:
                arguments[-1].append(f"{prefix}points are not of this model's columns and members")
                return
        for name, tensor in saved.items():
            setattr(self, name, torch.empty_like(tensor, device=self.alike.device))
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self.layout()


def _slopes(model: KernelEnsemble, codes: Tensor, gradient: Tensor) -> Tensor:
    # factors are looked up, and the own one is divided out
    weighted = (gradient.to(model.weights.dtype) @ model.weights.T).mul_(model.correlations(codes))
    # points of one category share its factors: they are added up first
    features = list(zip(model.factors, model.kinds, codes.unbind(-1), strict=False))
    kinds = [F.one_hot(kind, factors.shape[1]) for factors, kind, _ in features]
    sums = weighted @ torch.cat(kinds, 1).to(weighted.dtype)
    parts = sums.split([kind.shape[1] for kind in kinds], 1)
    slopes = [
        # no factor is 0: two categories that differ have a correlation above 0
        (part / factors[code]) @ factors.T
        for part, (factors, _, code) in zip(parts, features, strict=True)
    ]
    return torch.cat(slopes, -1)


def log_correlations(joint: JointColumns, alike: Tensor, codes: Sequence[Tensor]) -> list[Tensor]:
    """Log-correlation `(K, Z)` of each column's categories with some codes `(Z,)` of it.

    The second argument is that of `KernelEnsemble.place`.
    """
    blocks = []
    for size, ordered, (differ, share, reach), others in zip(
        joint.sizes, joint.ordered, alike, codes, strict=True
    ):
        categories = torch.arange(size, device=alike.device).unsqueeze(1)
        near = same = (categories == others).to(alike.dtype)
        # a single category is at distance 0 of itself: 0 / 0
        if ordered and size > 1:
            distance = (categories - others).abs().to(alike.dtype) / (size - 1)
            near = share * (-distance / reach).exp() + (1 - share) * same
        blocks.append((differ + (1 - differ) * near).log())
    return blocks
