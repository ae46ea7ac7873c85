"""Estimates of the divergence, and what each does to a gradient, by enumeration in float64."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad.objectives.policy_kl import conditional_kl, kl_k1, kl_k2, kl_k3
from discrete_grad.policies import conditional_logits
from discrete_grad.sampling import normal, seeded
from tests.objectives.worlds import CONTEXTS, KINDS, SPACE, gradient, policy_of, rows, steps_of

every_kind = pytest.mark.parametrize("kind", KINDS)
Estimate = Callable[[Tensor], Tensor]


def laws(kind: str) -> tuple[Tensor, Tensor]:
    """Log-probabilities `(R, 2)` of a policy and of a reference of another law."""
    with torch.no_grad():
        return steps_of(policy_of(kind), rows()).sum(-1), steps_of(policy_of(kind, 1), rows()).sum(
            -1
        )


@every_kind
@pytest.mark.parametrize(("estimate", "unbiased"), [(kl_k1, True), (kl_k2, False), (kl_k3, True)])
def test_means(kind: str, estimate: Estimate, unbiased: bool) -> None:
    log_p, log_q = laws(kind)
    exact = (log_p.exp() * (log_p - log_q)).sum(0)
    found = (log_p.exp() * estimate(log_p - log_q)).sum(0)
    assert exact.min() > 0.1
    assert ((found - exact).abs().max() < 1e-12) == unbiased


@every_kind
def test_the_conditional_estimate_is_unbiased_and_of_lower_variance(kind: str) -> None:
    log_p, log_q = laws(kind)
    exact = (log_p.exp() * (log_p - log_q)).sum(0)
    policies = [policy_of(kind, seed) for seed in (0, 1)]
    logits, reference = (conditional_logits(p, rows(), CONTEXTS) for p in policies)
    found = conditional_kl(SPACE, logits, reference).sum(-1).expand(len(log_p), -1)
    assert found.min() >= 0
    assert_close((log_p.exp() * found).sum(0), exact)
    spread = (log_p.exp() * (found - exact).square()).sum(0)
    assert (spread < (log_p.exp() * (log_p - log_q - exact).square()).sum(0)).all()


@every_kind
def test_gradients(kind: str) -> None:
    """Of each estimate as a reward and in the loss; the table of the module's docstring."""
    policy, (_, log_q) = policy_of(kind), laws(kind)
    row = steps_of(policy, rows()).sum(-1)
    law = row.detach().exp()

    def as_reward(estimate: Estimate) -> Tensor:
        return gradient_of((law * estimate(row - log_q).detach() * row).sum(0).mean())

    def in_loss(estimate: Estimate) -> Tensor:
        return gradient_of((law * estimate(row - log_q)).sum(0).mean())

    def gradient_of(value: Tensor) -> Tensor:
        parameters = list(policy.parameters())
        found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
        pairs = zip(found, parameters, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])

    divergence = gradient_of((row.exp() * (row - log_q)).sum(0).mean())
    reverse = gradient_of((log_q.exp() * (log_q - row)).sum(0).mean())
    assert divergence.norm() > 0.01
    assert (divergence - reverse).norm() > 0.01
    assert_close(as_reward(kl_k1), divergence)
    assert_close(in_loss(kl_k1), torch.zeros_like(divergence))
    assert (as_reward(kl_k2) - divergence).norm() > 0.01
    assert_close(in_loss(kl_k2), divergence)
    assert_close(as_reward(kl_k3), divergence - reverse)
    assert_close(in_loss(kl_k3), reverse)


@every_kind
def test_the_two_parts_of_the_conditional_gradient(kind: str) -> None:
    policy, reference = policy_of(kind), policy_of(kind, 1)
    _, log_q = laws(kind)
    row = steps_of(policy, rows()).sum(-1)
    divergence = gradient((row.exp() * (row - log_q)).sum(0).mean(), policy)
    row = steps_of(policy, rows()).sum(-1)
    law = row.detach().exp()
    logits = conditional_logits(policy, rows(), CONTEXTS)
    with torch.no_grad():
        other = conditional_logits(reference, rows(), CONTEXTS)
    kl = conditional_kl(SPACE, logits, other).sum(-1).expand(len(row), -1)
    in_loss = (law * kl).sum(0).mean()
    through_prefixes = (law * kl.detach() * row).sum(0).mean()
    assert_close(gradient(in_loss + through_prefixes, policy), divergence)
    if kind == "autoregressive":
        logits = conditional_logits(policy, rows(), CONTEXTS)
        kl = conditional_kl(SPACE, logits, other).sum(-1).expand(len(row), -1)
        assert (gradient((law * kl).sum(0).mean(), policy) - divergence).norm() > 0.01


@given(st.floats(-20, 20))
def test_signs(log_ratio: float) -> None:
    d = torch.tensor(log_ratio, dtype=torch.float64)
    assert kl_k1(d) == d
    assert kl_k2(d) >= 0
    assert kl_k3(d) >= 0
    assert kl_k3(d).item() == pytest.approx(torch.exp(-d).item() - 1 + log_ratio, abs=1e-9)


def test_small_ratios_keep_their_digits() -> None:
    assert kl_k3(torch.tensor(1e-4)).item() == pytest.approx(5e-9, rel=0.1)


def test_features_and_masks() -> None:
    space = SPACE
    p, q = (normal((4, space.width), generator=seeded(i)) for i in (0, 1))
    found = conditional_kl(space, p, q)
    for feature, (a, b) in enumerate(zip(space.split(p), space.split(q), strict=True)):
        a, b = a.log_softmax(-1), b.log_softmax(-1)
        assert_close(found[:, feature], (a.exp() * (a - b)).sum(-1))
    masked = q.clone()
    masked[:, 0] = -torch.inf
    assert (conditional_kl(space, p, masked)[:, 0] == torch.inf).all()
    assert conditional_kl(space, masked, q)[:, 0].isfinite().all()
    assert not conditional_kl(space, masked, masked).any()
