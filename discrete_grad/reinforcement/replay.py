"""The best rows met so far, context by context."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from discrete_grad.space import CategoricalSpace

__all__ = ["RowMemory", "memory_weights"]


class RowMemory(nn.Module):
    """The `size` different rows of the highest reward, for each of some contexts, in buffers.

    Args:
        space: the features of a row.
        size: rows kept for each context, at least 1.
        contexts: how many there are.

    Example:
        >>> memory = RowMemory(CategoricalSpace.from_sizes((2, 3)), 2)
        >>> rows = torch.tensor([[[0, 1]], [[1, 2]], [[1, 2]], [[0, 0]]])
        >>> memory.keep(torch.tensor([0]), rows, torch.tensor([[1.0], [3.0], [3.0], [0.5]]))
        >>> codes, rewards = memory.recall(torch.tensor([0]))
        >>> codes[:, 0].tolist(), rewards[:, 0].tolist()
        ([[1, 2], [0, 1]], [3.0, 1.0])
    """

    codes: Tensor
    rewards: Tensor

    def __init__(self, space: CategoricalSpace, size: int, contexts: int = 1) -> None:
        super().__init__()
        if size < 1 or contexts < 1:
            raise ValueError(f"size and contexts must be at least 1, got {size} and {contexts}")
        rows = torch.zeros(size, contexts, space.num_features, dtype=torch.long)
        self.register_buffer("codes", rows)
        worth = torch.full((size, contexts), -torch.inf, dtype=torch.float64)
        self.register_buffer("rewards", worth)

    def recall(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Codes `(M, B, F)` and rewards `(M, B)` of contexts `(B,)`, best first.

        Where fewer rows are known, the reward is `-inf`.
        """
        return self.codes[:, index], self.rewards[:, index]

    def keep(self, index: Tensor, codes: Tensor, rewards: Tensor) -> None:
        """Take in rows `(G, B, F)` of contexts `(B,)` with their finite rewards `(G, B)`."""
        known, worth = self.recall(index)
        rows = torch.cat([known, codes])
        worth = torch.cat([worth, rewards.detach().to(worth.dtype)])
        same = (rows.unsqueeze(0) == rows.unsqueeze(1)).all(-1)  # (M + G, M + G, B)
        # of equal rows the first stays that is known at all
        alive = (worth > -torch.inf).unsqueeze(0)
        earlier = torch.ones(same.shape[:2], device=rows.device).tril(-1).bool().unsqueeze(-1)
        worth = worth.masked_fill((same & earlier & alive).any(1), -torch.inf)
        best = worth.topk(len(known), dim=0)
        places = best.indices.unsqueeze(-1).expand(-1, -1, rows.shape[-1])
        self.codes[:, index], self.rewards[:, index] = rows.gather(0, places), best.values


def memory_weights(codes: Tensor, known: Tensor, log_probs: Tensor, alive: Tensor) -> Tensor:
    """Weights `(G + M, *batch)` that make the mean over drawn and known rows unbiased.

    `E[f] = sum over known rows of pi(x) f(x) + E[f(x); x not known]`: a drawn row that is known
    counts 0, any other `(G + M) / G`, and a known row `(G + M) pi(x)`.

    Args:
        codes: `(G, *batch, F)`, drawn from the policy.
        known: `(M, *batch, F)`, different rows.
        log_probs: `(M, *batch)` of the known rows under the policy.
        alive: booleans `(M, *batch)`: which of them are rows at all.

    Reference:
        Liang, Norouzi, Berant, Le, Lao (2018), arXiv 1807.02322, equation 4.

    Example:
        >>> drawn, known = torch.tensor([[0], [1]]), torch.tensor([[1]])
        >>> memory_weights(drawn, known, torch.tensor([0.25]).log(), torch.tensor([True]))
        tensor([1.5000, 0.0000, 0.7500])
    """
    total = len(codes) + len(known)
    same = (codes.unsqueeze(1) == known).all(-1) & alive  # (G, M, *batch)
    fresh = (1 - same.any(1).to(log_probs.dtype)) * (total / len(codes))
    return torch.cat([fresh, (log_probs.exp() * total).masked_fill(~alive, 0)])
