"""Checks of the noise, and of what must leave it alone: vmap, compile, export."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from discrete_grad.gradient.base import Function
from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.testing._calling import Method, Recorder, expectation, takes_generator
from discrete_grad.testing._comparing import require, require_close
from discrete_grad.testing.functions import row_function
from discrete_grad.testing.subject import Scene, SkipCheck, Subject

__all__ = [
    "check_compile",
    "check_export",
    "check_fresh_noise",
    "check_generator",
    "check_global_noise",
    "check_vmap",
]

DRAWN = ("hard", "mixed")  # rows that noise decides
BATCH = (4, 4)  # noise may be shared along either dimension


def _setting(subject: Subject) -> tuple[Function, Tensor]:
    scene = subject.scene
    return row_function(scene.space, "cubic"), scene.logits.expand(30, -1)


def _result(
    method: Method, f: Function, logits: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Value and gradient of each element, side by side."""
    leaf = logits.detach().clone().requires_grad_()
    value = expectation(method, f, leaf, generator)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return torch.cat([value.detach().unsqueeze(-1), gradient], -1)


def _constant(result: Tensor) -> bool:
    """Whether every element has the same, as with IndeCateR on one feature: nothing is drawn."""
    return torch.allclose(result, result[:1].expand_as(result))


def check_generator(subject: Subject) -> None:
    """The generator's state decides the result bitwise; the global random state stays."""
    f, logits = _setting(subject)
    takes = takes_generator(subject.method().expectation)
    require(takes, "expectation(f, logits, *, generator=None) must take a generator")
    results = []
    with isolated_seed(subject.seed):
        for seed in (1, 1, 2):
            start = torch.get_rng_state()
            results.append(_result(subject.method(), f, logits, seeded(seed)))
            kept = torch.equal(start, torch.get_rng_state())
            require(kept, "the global random state changed although a generator was given")
            torch.rand(1)  # an ignored generator shows as a result that follows the global state
    require(torch.equal(results[0], results[1]), "the same generator state gave another result")
    if subject.claims.forward in DRAWN:
        fresh = not torch.equal(results[0], results[2]) or _constant(results[0])
        require(fresh, "another generator state gave the same result: the generator is not used")


def check_global_noise(subject: Subject) -> None:
    """Without a generator the global random state decides."""
    f, logits = _setting(subject)
    results = []
    for seed in (1, 1, 2):
        with isolated_seed(seed):
            results.append(_result(subject.method(), f, logits, None))
    require(torch.equal(results[0], results[1]), "the same torch.manual_seed gave another result")
    if subject.claims.forward in DRAWN:
        fresh = not torch.equal(results[0], results[2]) or _constant(results[0])
        require(fresh, "another torch.manual_seed gave the same result: the noise is frozen")


def check_fresh_noise(subject: Subject) -> None:
    """Every sample of every element of a batch has noise of its own, and so has every call."""
    if subject.claims.forward not in DRAWN:
        raise SkipCheck("claims no random rows")
    scene, method = subject.mild, subject.method(subject.mild)
    f, logits = row_function(scene.space, "cubic"), scene.logits.expand(*BATCH, -1)
    generator = seeded(subject.seed) if takes_generator(method.expectation) else None
    with isolated_seed(subject.seed):
        calls = [_drawn(method, f, logits, generator) for _ in range(_calls_needed(scene))]
    drawn = torch.stack(calls)  # (calls, samples, elements, numbers)
    if len(calls[0]) > getattr(method, "samples", len(calls[0])):
        # not each row is a draw of its own: those of an element together
        drawn = drawn.transpose(1, 2).flatten(2).unsqueeze(1)
    if (drawn == drawn[:1, :, :1]).all():
        raise SkipCheck(
            "f is given the same rows whatever is drawn; the check of the law says more"
        )
    require((drawn != drawn[:1]).any(), "every call repeats the noise of the first")
    _require_different(drawn)


def _calls_needed(scene: Scene) -> int:
    """Calls after which two independent draws are alike throughout with a chance below 1e-14."""
    parts = scene.space.split(scene.space.softmax(scene.logits))
    alike = math.prod(part.square().sum().item() for part in parts)
    if alike > 0.99:
        raise SkipCheck("its rows are all but certain")
    return max(2, math.ceil(math.log(1e-14) / math.log(alike)))


def _drawn(
    method: Method, f: Function, logits: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Rows `(samples, elements, D)` given to f, or results where these cannot be told apart."""
    recorder = Recorder(f)
    result = _result(method, recorder, logits, generator)
    rows = recorder.calls[0] if recorder.calls else result
    if rows.shape[1:-1] != logits.shape[:-1]:
        rows = result.unsqueeze(0)
    return rows.flatten(1, -2)


def _require_different(drawn: Tensor) -> None:
    """Fail if two draws of `(calls, samples, elements, D)` were alike in every call."""
    calls, _, elements, _ = drawn.shape
    each = drawn.permute(1, 2, 0, 3).flatten(0, 1).flatten(1)
    _, group, count = each.unique(dim=0, return_inverse=True, return_counts=True)
    if (count == 1).all():
        return
    first = (count[group] > 1).nonzero()[0]
    same = (group == group[first]).nonzero().squeeze(-1).tolist()
    (sample, element), (other_sample, other) = (divmod(place, elements) for place in same[:2])
    if element == other:
        who = f"samples {sample} and {other_sample} of an element"
    elif len(same) >= elements:
        who = "all elements of the batch"
    else:
        places = " and ".join(str(divmod(place, BATCH[1])) for place in (element, other))
        who = f"elements {places} of a batch {BATCH}"
    raise AssertionError(f"{who} had the same noise in each of {calls} calls")


def check_vmap(subject: Subject) -> None:
    """`torch.func.vmap` runs it, with noise for each element."""
    subject.require_layer()
    require_vmap(subject)


def require_vmap(subject: Subject) -> None:
    """Fail unless vmap over value and over gradient runs, with fresh noise where there is any."""
    f, logits = _setting(subject)
    method = subject.method()

    def one(leaf: Tensor) -> Tensor:
        return method.expectation(f, leaf)

    with isolated_seed(subject.seed):
        values = torch.func.vmap(one, randomness="different")(logits)
        gradients = torch.func.vmap(torch.func.grad(one), randomness="different")(logits)
    require(values.isfinite().all(), "the value under vmap must be finite")
    require(gradients.isfinite().all(), "the gradient under vmap must be finite")
    if subject.claims.forward in DRAWN:
        require(len(values.unique()) > 1, "under vmap every element had the same noise")


def check_compile(subject: Subject) -> None:
    """`torch.compile(fullgraph=True)` gives the numbers of eager mode for the same noise."""
    subject.require_layer()
    require_compile(subject)


def require_compile(subject: Subject) -> None:
    """Fail unless value and gradient are those of eager mode; needs no C++ compiler."""
    f, logits = _setting(subject)
    torch.compiler.reset()
    # a method may have a state that moves: one each
    eager, twin = subject.method().expectation, subject.method().expectation
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    results = []
    for call in (eager, compiled):
        leaf = logits.clone().requires_grad_()
        with isolated_seed(subject.seed):
            value = call(f, leaf)
        results.append((value.detach(), *torch.autograd.grad(value.sum(), leaf)))
    (value, gradient), (other, other_gradient) = results
    same = torch.allclose(value, other, rtol=1e-9, atol=1e-9)
    require(same, "torch.compile changed the value, with the same noise")
    what = "torch.compile changed the gradient, with the same noise"
    require_close(subject.scene.space, what, gradient, other_gradient)


def check_export(subject: Subject) -> None:
    """`torch.export` gives a program of any batch size, with the same rows for the same noise."""
    subject.require_layer()
    layer, logits = subject.method(), subject.scene.logits.float()
    assert isinstance(layer, nn.Module)  # what require_layer has made sure of
    given, any_size = logits.expand(5, -1).clone(), ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(layer, (given,), dynamic_shapes=any_size)
    program: Callable[[Tensor], Tensor] = exported.module()
    for batch in (5, 3):
        rows = []
        for call in (layer, program):
            with isolated_seed(subject.seed):
                rows.append(call(logits.expand(batch, -1)))
        same = torch.allclose(rows[0], rows[1])  # up to rounding
        require(same, "the exported program gives other rows for the same noise")
