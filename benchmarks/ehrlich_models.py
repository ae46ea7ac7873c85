"""Models of an Ehrlich function, learned from the rows seen: which are feasible, and how good.

Both estimators are built on what is public of the family (Stanton et al., 2407.00236): a row is
infeasible because of a pair of neighbours, and its value is a product over motifs of how much of
each is there, wherever it is. Which pairs and which motifs is learned from values alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad.models import BaseEstimator
from discrete_grad.space import CategoricalSpace

SURE = 12.0  # logit of a pair that a feasible row holds
AT_ONCE = 256  # rows whose windows are held at once
LEFT_OUT = 5  # a member does not see every fifth row, each member another fifth


class Transitions(BaseEstimator):
    """Log-probability that a row is feasible: a sum over its pairs of neighbours.

    A pair that was seen in a feasible row is allowed for sure; the others have a logit each.

    Args:
        space: features of one size V.

    Example:
        >>> model = Transitions(CategoricalSpace.from_sizes((3, 3)))
        >>> model(torch.tensor([[0, 1], [2, 2]])).shape
        torch.Size([2])
    """

    known: Tensor

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__(space, None)
        self.size = space.sizes[0]
        self.logits = nn.Parameter(torch.full((self.size, self.size), 1.5))
        self.register_buffer("known", torch.zeros(self.size, self.size, dtype=torch.bool))

    def table(self) -> Tensor:
        """Log-probabilities `(V, V)` of a token and its follower."""
        return F.logsigmoid(self.logits.masked_fill(self.known, SURE))

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-probability `(..., F - 1)` of each pair."""
        table = self.table()
        if not row.is_floating_point():
            return table[row[..., :-1], row[..., 1:]]
        tokens = row.unflatten(-1, (-1, self.size))
        pairs: Tensor = ((tokens[..., :-1, :] @ table) * tokens[..., 1:, :]).sum(-1)
        return pairs

    def forward(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-probability `(...)`; see `BaseEstimator.forward`."""
        return self.to_latent(row).sum(-1)


def fit_transitions(
    model: Transitions, codes: Tensor, feasible: Tensor, *, steps: int = 60, recent: int = 3000
) -> None:
    """Learn from rows `(N, F)` and whether they are feasible, `(N,)`.

    The loss is of the infeasible rows, which hold one banned pair at least; the others are facts.
    """
    good, bad = codes[feasible], codes[~feasible][-recent:]
    model.known[good[:, :-1], good[:, 1:]] = True
    pairs = bad[:, :-1] * model.size + bad[:, 1:]
    optimizer = torch.optim.Adam([model.logits], lr=0.2)
    for _ in range(steps):
        allowed = model.table().flatten()[pairs].sum(-1).clamp_max(-1e-6)
        # most pairs are allowed: a prior, without which a row of unknown pairs bans them all
        prior = F.logsigmoid(model.logits).sum() / 2
        loss = -torch.log(-torch.expm1(allowed)).sum() - prior
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Motifs(BaseEstimator):
    """Log-score of a row by M members: convolution, maximum over places, a small MLP.

    The convolution is over one-hot tokens and an edge token beyond the end. Its gradient is that
    of the places of the maximum alone, which makes training on codes a matter of lookups.

    Args:
        space: features of one size V.
        kernel: width of a window, at least the span of a motif.
        members: M.
        channels: of each member.
        hidden: width of the MLP.

    Example:
        >>> model = Motifs(CategoricalSpace.from_sizes((3,) * 5), kernel=2)
        >>> model.predictions(torch.zeros(4, 5, dtype=torch.long)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        space: CategoricalSpace,
        *,
        kernel: int,
        members: int = 2,
        channels: int = 32,
        hidden: int = 32,
    ) -> None:
        super().__init__(space, None)
        self.size, self.kernel = space.sizes[0], kernel
        self.members, self.channels = members, channels
        # (kernel, V + 1, M channels): what a token at a place of the window adds to each channel
        self.weight = nn.Parameter(0.1 * torch.randn(kernel, self.size + 1, members * channels))
        self.bias = nn.Parameter(torch.zeros(members, 1, channels))
        self.hidden = nn.Parameter(torch.randn(members, channels, hidden) / channels**0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(members, 1, hidden))
        self.head = nn.Parameter(torch.randn(members, hidden, 1) / hidden**0.5)
        self.head_bias = nn.Parameter(torch.zeros(members, 1, 1))

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Best of each channel over the places, `(..., M channels)`."""
        rows = row.reshape(-1, row.shape[-1])
        of = self._of_flat if row.is_floating_point() else self._of_codes
        best = torch.cat([of(part) for part in rows.split(AT_ONCE)])
        latent: Tensor = best.unflatten(0, row.shape[:-1])
        return latent

    def predictions(self, row: Tensor) -> Tensor:
        """Score by every member, `(M, ...)`."""
        best = self.to_latent(row)
        own = best.reshape(-1, self.members, self.channels).movedim(1, 0) + self.bias
        hidden = F.silu(torch.baddbmm(self.hidden_bias, own, self.hidden))
        scores = torch.baddbmm(self.head_bias, hidden, self.head).squeeze(-1)
        by_member: Tensor = scores.unflatten(1, row.shape[:-1])
        return by_member

    def forward(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean score `(...)` of the members; see `BaseEstimator.forward`."""
        return self.predictions(row).mean(0)

    def _of_codes(self, codes: Tensor) -> Tensor:
        """Places of the best windows, without gradient, then their sums, with one."""
        padded = F.pad(codes, (0, self.kernel - 1), value=self.size)
        index = padded.unfold(1, self.kernel, 1) + torch.arange(self.kernel) * (self.size + 1)
        table = self.weight.flatten(0, 1)
        with torch.no_grad():
            windows = F.embedding_bag(index.reshape(-1, self.kernel), table, mode="sum")
            best: Tensor
            best, place = windows.unflatten(0, index.shape[:2]).max(1)
        if not torch.is_grad_enabled():
            return best
        rows = torch.arange(len(codes)).unsqueeze(1)
        picked = index[rows, place]  # (N, M channels, kernel)
        channel = torch.arange(table.shape[1]).unsqueeze(1)
        return table.flatten()[picked * table.shape[1] + channel].sum(-1)

    def _of_flat(self, rows: Tensor) -> Tensor:
        tokens = rows.unflatten(-1, (-1, self.size)).transpose(1, 2)
        padded = F.pad(tokens, (0, self.kernel - 1, 0, 1))
        edge = torch.zeros(padded.shape[1:])
        edge[-1, tokens.shape[-1] :] = 1
        return F.conv1d(padded + edge, self.weight.permute(2, 1, 0)).amax(-1)


def fit_motifs(
    model: Motifs,
    optimizer: torch.optim.Optimizer,
    codes: Tensor,
    scores: Tensor,
    *,
    steps: int,
    batch: int = 128,
) -> float:
    """Learn scores `(N,)` of rows `(N, F)`, half of each batch from the best tenth; mean loss."""
    count, total = len(scores), 0.0
    best = scores.argsort(descending=True)[: max(50, count // 10)]
    members = torch.arange(model.members).unsqueeze(1)
    for _ in range(steps):
        drawn = torch.randint(count, (batch // 2,))
        picked = torch.cat([drawn, best[torch.randint(len(best), (batch // 2,))]])
        seen = picked % LEFT_OUT != members
        errors = (model.predictions(codes[picked]) - scores[picked]).square()
        loss = (errors * seen).sum() / seen.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / max(1, steps)
