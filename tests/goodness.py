"""Goodness of fit: does a sample follow a law?"""

import torch
from torch import Tensor

from discrete_grad import CategoricalSpace

# chance that a correct law is rejected, by one test, over the choice of its seed; the seeds are
# fixed, so a test that passes once passes for ever
FALSE_ALARM = 1e-9


def g_test(counts: Tensor, probabilities: Tensor) -> float:
    """p-value of the likelihood-ratio test that `counts` `(n,)` come from `probabilities` `(n,)`.

    Cells expected fewer than 10 times are pooled, where the law of the statistic is not yet chi2.
    """
    counts, expected = counts.double(), probabilities.double() * counts.sum()
    if ((expected == 0) & (counts > 0)).any():
        return 0.0
    small = expected < 10
    counts = torch.cat([counts[~small], counts[small].sum().view(1)])
    expected = torch.cat([expected[~small], expected[small].sum().view(1)])
    counts, expected = counts[expected > 0], expected[expected > 0]
    statistic = 2 * torch.special.xlogy(counts, counts / expected).sum()
    freedom = torch.tensor((len(counts) - 1) / 2, dtype=torch.float64)
    return 1.0 if not freedom else torch.special.gammaincc(freedom, statistic / 2).item()


def joint_law(space: CategoricalSpace, logits: Tensor) -> Tensor:
    """Probability `(num_rows,)` of every row under logits `(D,)`, in float64."""
    return space.log_prob(logits.double(), space.enumerate()).exp()


def joint_counts(space: CategoricalSpace, codes: Tensor) -> Tensor:
    """How often each row of the space occurs in codes `(n, F)`: `(num_rows,)`."""
    index = torch.zeros(len(codes), dtype=torch.long)
    for column, size in zip(codes.unbind(-1), space.sizes, strict=True):
        index = index * size + column
    return index.bincount(minlength=space.num_rows)


def assert_law(space: CategoricalSpace, logits: Tensor, codes: Tensor) -> None:
    """Fail unless codes `(n, F)` follow `softmax(logits)`, jointly over the features."""
    p_value = g_test(joint_counts(space, codes), joint_law(space, logits))
    assert p_value > FALSE_ALARM, f"the rows do not follow softmax(logits): p = {p_value:.1e}"
