"""Policies small enough that every row of them can be looked at, and the exact gradients there."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.policies import (
    AutoregressiveGenerator,
    Generator,
    Policy,
    chosen_log_probs,
    conditional_logits,
    to_steps,
)
from discrete_grad.sampling import isolated_seed, normal, seeded

SPACE = CategoricalSpace.from_sizes((2, 3))
CONTEXTS = torch.tensor([[1.0, -1.0], [0.5, 2.0]], dtype=torch.float64)
KINDS = ("factorised", "autoregressive")


def policy_of(kind: str, seed: int = 0, *, order: tuple[int, ...] = (1, 0)) -> Policy:
    """In float64, and far from uniform."""
    spec = ContextSpec(numeric=["a", "b"])
    with isolated_seed(seed):
        policy: Policy = (
            Generator(spec, SPACE, hidden=(4,))
            if kind == "factorised"
            else AutoregressiveGenerator(SPACE, spec, order=order, hidden=(4,))
        )
    policy.double()
    noise = seeded(seed)
    with torch.no_grad():
        for p in policy.parameters():
            p.copy_(0.7 * normal(tuple(p.shape), generator=noise))
    return policy


def rows() -> Tensor:
    """All rows once for each of the two contexts, `(R, 2, F)`."""
    return SPACE.enumerate().unsqueeze(1).expand(-1, 2, -1)


def reward_table(seed: int = 5) -> Tensor:
    """`(R, 2)`."""
    return 2 * normal((SPACE.num_rows, 2), generator=seeded(seed)) + 3


def steps_of(policy: Policy, codes: Tensor) -> Tensor:
    """Log-probabilities `(G, 2, T)`."""
    logits = conditional_logits(policy, codes, CONTEXTS)
    return to_steps(policy, chosen_log_probs(SPACE, logits, codes))


def gradient(value: Tensor, module: nn.Module) -> Tensor:
    """Of a number in all parameters, one after another."""
    parameters = list(module.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def exact_objective(
    policy: Policy, rewards: Tensor, *, beta: float = 0.0, reference: Policy | None = None
) -> Tensor:
    """Mean over contexts of `E[r] - beta KL(policy || reference)`, by enumeration."""
    log_p = steps_of(policy, rows()).sum(-1)
    log_q = torch.zeros_like(log_p) - torch.tensor(float(SPACE.num_rows)).log().double()
    if reference is not None:
        log_q = steps_of(reference, rows()).sum(-1).detach()
    return (log_p.exp() * (rewards - beta * (log_p - log_q))).sum(0).mean()


def expected_gradient(policy: Policy, loss: Callable[[Tensor], Tensor], group: int) -> Tensor:
    """Mean gradient of a loss over all groups of rows, each as likely as the policy draws it.

    Args:
        policy: what draws the rows.
        loss: numbers of rows `(G, 2)`, in the order of enumeration -> a number, whatever the order
            of the rows in their group.
        group: G, at most 2.
    """
    with torch.no_grad():
        log_p = steps_of(policy, rows()).sum(-1)
    total = torch.zeros(())
    groups = list(itertools.combinations_with_replacement(range(SPACE.num_rows), group))
    for first, second in itertools.product(groups, repeat=2):
        index = torch.tensor([first, second]).T
        orders = len(set(first)) * len(set(second))
        weight = orders * log_p.gather(0, index).sum().exp()
        total = total + weight * loss(index)
    return gradient(total, policy)
