"""Checks of what stands behind f: a frozen network, one that learns, one that is wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.space import CategoricalSpace
from discrete_grad.testing._calling import expectation
from discrete_grad.testing._comparing import require
from discrete_grad.testing._figures import told_apart
from discrete_grad.testing.exact import exact_value_and_gradient
from discrete_grad.testing.functions import row_function
from discrete_grad.testing.subject import Subject

__all__ = ["Net", "check_f_learns_too", "check_frozen_f", "check_wrong_f"]

CALLS = 64
BATCH = 200


class Net(nn.Module):
    """A small network with parameters and buffers, in evaluation mode."""

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__()
        with isolated_seed(0):
            self.first = nn.Linear(space.width, 8).double()
            self.norm = nn.BatchNorm1d(8).double()
            self.last = nn.Linear(8, 1).double()
        self.eval()

    def forward(self, rows: Tensor) -> Tensor:
        """Values `(...)` of flat rows `(..., D)`."""
        hidden = self.first(rows.flatten(0, -2)).tanh()
        value: Tensor = self.last(self.norm(hidden)).view(rows.shape[:-1])
        return value


def check_frozen_f(subject: Subject) -> None:
    """A frozen network stays as it is, and the gradient passes through it."""
    net = Net(subject.scene.space).requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    leaf = subject.scene.logits.repeat(30, 1).requires_grad_()
    with isolated_seed(subject.seed):
        expectation(subject.method(), net, leaf, seeded(subject.seed)).sum().backward()
    reached = leaf.grad is not None and bool((leaf.grad != 0).any())
    require(reached, "no gradient reached the logits through a frozen network")
    for name, value in net.state_dict().items():
        require(torch.equal(value, before[name]), f"the frozen network's {name!r} changed")
    require(not net.training, "the network was left in training mode")
    touched = [name for name, parameter in net.named_parameters() if parameter.grad is not None]
    require(not touched, f"frozen parameters have a gradient: {', '.join(touched)}")


def check_f_learns_too(subject: Subject) -> None:
    """A parameter of f gets the gradient of the mean of f."""
    call = _scaled(subject)
    value, slope = call(subject.seed)
    if slope is None:
        raise AssertionError("f's own parameter got no gradient; the value must carry it")
    # f = scale h at scale 1: where the value is a mean of f, it is its own slope in the scale
    if torch.isclose(value, slope, rtol=1e-8, atol=1e-8):
        return
    if subject.claims.forward not in ("hard", "chosen", "all rows"):
        expected, got = told_apart(value.item(), slope.item())
        raise AssertionError(f"f's scale must have the slope {expected} (the value), got {got}")
    _require_mean_slope(subject)


def _scaled(subject: Subject):  # type: ignore[no-untyped-def]  # a local function
    space, logits = subject.scene.space, subject.scene.logits.expand(BATCH, -1)
    h = row_function(space, "cubic")

    def call(seed: int) -> tuple[Tensor, Tensor | None]:
        scale = torch.ones((), dtype=torch.float64, requires_grad=True)
        leaf = logits.clone().requires_grad_()
        with isolated_seed(seed):
            value = expectation(subject.method(), lambda r: scale * h(r), leaf, seeded(seed)).sum()
        (slope,) = torch.autograd.grad(value, scale, allow_unused=True)
        return value.detach(), slope

    return call


def _require_mean_slope(subject: Subject) -> None:
    scene, call = subject.scene, _scaled(subject)
    h = row_function(scene.space, "cubic")
    truth, _ = exact_value_and_gradient(h, scene.logits, scene.space)
    slopes = torch.stack([call(subject.seed + i)[1] for i in range(CALLS)]) / BATCH
    error = slopes.std() / CALLS**0.5
    # 9 standard errors of 64 means of 200: a false alarm below 1e-9, by Student's law
    off = (slopes.mean() - truth).abs()
    expected, got = told_apart(truth.item(), slopes.mean().item())
    require(
        off <= 9 * error + 1e-9,
        f"f's own parameter must get the gradient of E[f], {expected}; it got {got} +- "
        f"{error:.2g} over {CALLS * BATCH:,} elements",
    )


def check_wrong_f(subject: Subject) -> None:
    """An f whose values have another shape is an error, not a broadcast."""
    logits = subject.scene.logits.expand(4, -1)
    wrong = {
        "(samples, *batch, 1)": lambda rows: rows.sum(-1, keepdim=True),
        "()": lambda rows: rows.sum(),
    }
    for shape, f in wrong.items():
        try:
            value = expectation(subject.method(), f, logits.clone().requires_grad_(), seeded(0))
        except (ValueError, TypeError):
            continue
        raise AssertionError(
            f"f gave values of shape {shape} instead of (samples, *batch): expected a ValueError, "
            f"got a value of shape {tuple(value.shape)}"
        )
