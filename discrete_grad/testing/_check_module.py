"""Checks of a gradient estimator as a module: as a layer, copied, pickled, misused."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.testing._calling import Method, estimate, expectation, takes_generator
from discrete_grad.testing._comparing import require, require_close
from discrete_grad.testing.functions import row_function
from discrete_grad.testing.subject import SkipCheck, Subject

__all__ = [
    "check_all_masked",
    "check_bad_temperature",
    "check_copies",
    "check_layer",
    "check_pickle",
    "check_wrong_logits",
]


def check_layer(subject: Subject) -> None:
    """`f(layer(logits))` is the expectation, for the same noise."""
    subject.require_layer()
    scene, f, layer = subject.scene, row_function(subject.scene.space, "cubic"), subject.method()
    assert isinstance(layer, nn.Module)  # what require_layer has made sure of
    logits, samples = scene.logits.expand(5, -1), getattr(layer, "samples", 1)
    value, gradient = estimate(subject.method(), f, logits, seed=subject.seed)
    leaf = logits.clone().requires_grad_()
    takes = takes_generator(layer.forward) and takes_generator(subject.method().expectation)
    options = {"generator": seeded(subject.seed)} if takes else {}
    # a layer that ignores its generator follows the global state instead
    with isolated_seed(subject.seed + takes):
        rows = layer(leaf.expand(samples, *logits.shape), **options)
    mine = f(rows).mean(0)
    same = torch.allclose(mine, value, rtol=1e-9, atol=1e-9)
    require(same, "f(layer(logits)) must be the expectation, for the same noise")
    what = "the gradient of f(layer(logits)) must be that of the expectation, for the same noise"
    require_close(scene.space, what, gradient, torch.autograd.grad(mine.sum(), leaf)[0])


def check_copies(subject: Subject) -> None:
    """A deep copy, and another instance with the same state_dict, behave alike."""
    method = subject.method()
    twin = subject.method()
    if isinstance(method, nn.Module) and isinstance(twin, nn.Module):
        twin.load_state_dict(method.state_dict())
    for other, what in ((copy.deepcopy(method), "a deep copy"), (twin, "state_dict")):
        _require_alike(subject, method, other, what)


def check_pickle(subject: Subject) -> None:
    """A pickled gradient estimator behaves like the original."""
    if subject.is_function:
        raise SkipCheck("is a plain function, which has no state to be kept")
    method = subject.method()
    _require_alike(subject, method, pickle.loads(pickle.dumps(method)), "pickle")


def _require_alike(subject: Subject, method: object, other: object, what: str) -> None:
    scene, f = subject.scene, row_function(subject.scene.space, "cubic")
    results = [
        estimate(copy.deepcopy(m), f, scene.logits.expand(5, -1), seed=subject.seed)  # type: ignore[arg-type]
        for m in (method, other)
    ]
    same = all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    require(same, f"{what} gives another result than the original, for the same noise")


def check_all_masked(subject: Subject) -> None:
    """A feature with every category masked is an error that names it, never NaN."""
    space = subject.scene.space
    feature = space.num_features - 1
    logits = torch.zeros(3, space.width, dtype=torch.float64)
    logits[1, space.offsets[feature] :] = -torch.inf
    name = space.names[feature]
    message = _refusal(subject, logits, f"every category of feature {name!r} is masked")
    require(
        subject.is_instance or subject.is_function or name in message,
        f"the error must name the feature {name!r} that is masked whole, got: {message}",
    )


def check_wrong_logits(subject: Subject) -> None:
    """NaN, +inf, a wrong last dimension and integers are errors."""
    width = subject.scene.space.width
    fine = torch.zeros(3, width, dtype=torch.float64)
    for value in (torch.nan, torch.inf):
        _refusal(subject, fine.index_fill(-1, torch.tensor([0]), value), f"a logit of {value}")
    _refusal(subject, fine.long(), "integer logits", leaf=False)
    if not subject.is_instance or getattr(subject.given, "space", None) is not None:
        _refusal(subject, fine[:, 1:], f"{width - 1} logits for a space {width} wide")


def _refusal(subject: Subject, logits: Tensor, what: str, *, leaf: bool = True) -> str:
    logits = logits.clone().requires_grad_(leaf)
    try:
        value = _some_value(subject, subject.method(), logits)
    except (ValueError, TypeError, RuntimeError) as error:
        return str(error)
    raise AssertionError(f"{what}: expected an error, got the value {value[:3].tolist()}")


def _some_value(subject: Subject, method: Method, logits: Tensor) -> Tensor:
    f = row_function(subject.scene.space, "additive")
    with isolated_seed(subject.seed):
        return expectation(method, f, logits, seeded(subject.seed)).detach()


def check_bad_temperature(subject: Subject) -> None:
    """A temperature of 0, below 0 or NaN is an error, when it is given or when it is used."""
    if not _takes_tau(subject.given):
        raise SkipCheck("its constructor takes no tau")
    given: Callable[..., Any] = subject.given
    logits = subject.scene.logits.expand(3, -1)
    for tau in (0.0, -1.0, float("nan")):
        try:
            method = subject.made_by(functools.partial(given, tau=tau))
            value = _some_value(subject, method, logits)
        except (ValueError, TypeError, RuntimeError):
            continue
        raise AssertionError(f"tau={tau}: expected an error, got the value {value.tolist()}")


def _takes_tau(method: object) -> bool:
    if not isinstance(method, (type, functools.partial)) and not inspect.isfunction(method):
        return False
    parameters: Mapping[str, inspect.Parameter] = inspect.signature(method).parameters
    return "tau" in parameters
