"""Every way to fail has words of its own, and a wrongness of 0.00001 is enough."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from discrete_grad import CategoricalSpace
from discrete_grad.testing import Claims, Subject, run_checks
from discrete_grad.testing._check_rows import _require_inside
from tests.testing.bugs import LAYER, RULED, SCORE, Layer, NoChecks, Ruled, Score
from tests.testing.mutants import Gumbel, Noise
from tests.testing.watched import compare

SMALL = 1e-5
SOFT = Claims(forward="soft")
LARGE = CategoricalSpace.from_sizes((3,) * 11)
BLIND = Claims(needs_derivative=False)


class _Pull(torch.autograd.Function):
    """The logits, with a change of their gradient."""

    @staticmethod
    def forward(ctx, logits, change):
        ctx.save_for_backward(logits)
        ctx.change = change
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.change(gradient, *ctx.saved_tensors), None


def changed(
    kind: type[Any] = Layer,
    *,
    logits: Callable[[Tensor], Tensor] = lambda x: x,
    rows: Callable[[Tensor], Tensor] = lambda rows: rows,
    value: Callable[[Tensor, Tensor], Any] = lambda value, logits: value,
    gradient: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> type[Any]:
    """A method that is right but for a change of what it is given, gives to f, or returns."""

    class Changed(kind):  # type: ignore[misc]
        def expectation(self, f, x, *, generator=None):
            x = logits(x)
            pulled = x if gradient is None else _Pull.apply(x, gradient)
            found = super().expectation(lambda r: f(rows(r)), pulled, generator=generator)
            return value(found, x)

    return Changed


class Softened(Layer):
    """Gives f the softmax."""

    def combine(self, hard, surrogate):
        return surrogate


class Likeliest(Layer):
    def codes(self, logits, generator):
        return self.space.argmax(logits)


class UnlikelySize(Likeliest):
    """The most likely row but for its third feature."""

    def codes(self, logits, generator):
        return (super().codes(logits, generator) + torch.tensor([0, 0, 1, 0])) % torch.tensor(
            self.space.sizes
        )


class OneSeed(Layer):
    """A generator of its own, always in the same state."""

    def codes(self, logits, generator):
        return super().codes(logits, torch.Generator().manual_seed(0))


class OtherCopies(Layer):
    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__(space)
        self.scale = 1.0

    def surrogate(self, logits, hard):
        return self.scale * super().surrogate(logits, hard)


class DeepCopied(OtherCopies):
    def __deepcopy__(self, memo):
        copied = type(self)(self.space)
        copied.scale = self.scale + SMALL
        return copied


class Pickled(OtherCopies):
    def __getstate__(self):
        return {**self.__dict__, "scale": self.scale + SMALL}


class Unnamed(Layer):
    def forward(self, logits, *, generator=None):
        if not (logits > -torch.inf).any(-1).all() or (logits[..., -1:] == -torch.inf).any():
            raise ValueError("bad logits")
        return super().forward(logits, generator=generator)


class LeftInTraining(Layer):
    def expectation(self, f, logits, *, generator=None):
        found = super().expectation(f, logits, generator=generator)
        if isinstance(f, nn.Module):
            f.train()
        return found


class Thawed(Layer):
    def expectation(self, f, logits, *, generator=None):
        if isinstance(f, nn.Module):
            f.requires_grad_(True)
        return super().expectation(f, logits, generator=generator)


class TakesScalars(Layer):
    def expectation(self, f, logits, *, generator=None):
        rows = self(logits.unsqueeze(0), generator=generator)
        values = f(rows)
        if values.dim() and values.shape != rows.shape[:-1]:
            raise ValueError("f must give one value a row")
        return values.expand(rows.shape[:-1]).mean(0)


def with_tau(fine: Callable[[float], bool]) -> type[Any]:
    class Tempered(Layer):
        def __init__(self, space: CategoricalSpace, *, tau: float = 1.0) -> None:
            super().__init__(space)
            if not fine(tau):
                raise ValueError("tau")

    return Tempered


class CountsPaddingToo(Gumbel):
    def forward(self, logits, *, generator=None):
        widths = [float(size) for size in self.space.sizes for _ in range(size)]
        scaled = _Pull.apply(logits, lambda g, _: g / torch.tensor(widths).to(g))
        return super().forward(scaled, generator=generator)


class SoftmaxOfRuled(Ruled):
    def forward(self, logits, *, generator=None):
        return self.space.softmax(logits)


def flat(x: Tensor) -> Tensor:
    return x.detach().nan_to_num(neginf=0.0)


def only_masked(g: Tensor, x: Tensor) -> Tensor:
    return torch.where(x == -torch.inf, SMALL, g)


def nan_under_vmap(found: Tensor, x: Tensor) -> Tensor:
    return found * torch.nan if torch._C._functorch.is_functorch_wrapped_tensor(x) else found


def no_slope_under_vmap(found: Tensor, x: Tensor) -> Tensor:
    zero = x[..., 0] - x[..., 0].detach()
    return (
        found + zero.abs().sqrt() if torch._C._functorch.is_functorch_wrapped_tensor(x) else found
    )


COUNT = itertools.count(1)
FIRST = torch.eye(9, dtype=torch.float64)[0]


class OnlyDouble(NoChecks):
    """Refuses what is not in float64, and nothing else."""

    def forward(self, logits, *, generator=None):
        if logits.dtype != torch.float64:
            raise TypeError("float64 alone")
        return super().forward(logits, generator=generator)


# check, the method, what it claims, its words
WORDS: list[tuple[str, Callable[..., Any], Claims, str]] = [
    (
        "rows",
        changed(rows=lambda r: r.float()),
        LAYER,
        "f must be given rows of torch.float64 like the logits: torch.float32",
    ),
    (
        "rows",
        changed(rows=lambda r: torch.cat([r, r[..., :1]], -1)),
        LAYER,
        "rows must be (..., 9), got (1, 200, 2, 10)",
    ),
    (
        "rows",
        changed(rows=lambda r: r * (1 - FIRST.to(r))),
        LAYER,
        "feature 'colour' must have one category a row, got 0",
    ),
    (
        "rows",
        changed(rows=lambda r: torch.maximum(r, FIRST.to(r))),
        LAYER,
        "feature 'colour' must have one category a row, got 2",
    ),
    (
        "rows",
        changed(Softened, rows=lambda r: (1 + SMALL) * r),
        SOFT,
        "feature 'fixed', category '0': soft rows lie in [0, 1], got 1.00001",
    ),
    (
        "rows",
        changed(Softened, rows=lambda r: (1 - 2e-4) * r),
        SOFT,
        "feature 'colour': a soft row must sum to 1, off by 0.0002",
    ),
    (
        "law",
        UnlikelySize,
        Claims(forward="argmax"),
        "feature 'size': the row must be the most likely category",
    ),
    (
        "value",
        changed(Gumbel, value=lambda v, x: 1.2 * v),
        Claims(),
        r"the value must have mean E\[f\] = [\d.-]+, got [\d.-]+ \+- [\d.]+ over [\d,]+ samples",
    ),
    (
        "value",
        changed(value=lambda v, x: v + 1e-6),
        LAYER,
        r"the value must have mean E\[f\] = (-?[\d.]+)\d+, got \1",
    ),
    (
        "direction",
        changed(Gumbel, gradient=lambda g, x: g * torch.nan),
        Claims(),
        "the gradient is not finite",
    ),
    (
        "direction",
        changed(Gumbel, gradient=lambda g, x: 0.2 * g.roll(1, -1)),
        Claims(),
        "f = 1 where feature 'colour' is '0', else 0: the mean gradient has cosine ",
    ),
    (
        "direction",
        changed(Gumbel, gradient=lambda g, x: g * torch.nan)(LARGE),
        Claims(),
        "f = 1 where feature 'x0' is '0', else 0: the gradient is not finite",
    ),
    (
        "sums_to_zero",
        changed(gradient=lambda g, x: torch.where(FIRST > 0, torch.inf, g)),
        LAYER,
        "the gradient must be finite, got NaN or infinity",
    ),
    (
        "sums_to_zero",
        changed(gradient=lambda g, x: 0 * g),
        LAYER,
        "the gradient is 0 everywhere; f is not constant",
    ),
    (
        "sums_to_zero",
        changed(gradient=lambda g, x: g + SMALL * FIRST),
        LAYER,
        "feature 'colour': the gradient must sum to 0 over its categories, got 1e-05",
    ),
    (
        "sums_to_zero",
        changed(gradient=lambda g, x: g + 1e-12 * FIRST.roll(2)),
        LAYER,
        "feature 'fixed' has one category: its gradient must be 0",
    ),
    (
        "masks",
        changed(gradient=only_masked),
        LAYER,
        "feature 'size', category '2' is masked (logit -inf): its gradient must be exactly 0, got "
        "1e-05",
    ),
    (
        "shift",
        changed(value=lambda v, x: v + SMALL * flat(x).sum(-1)),
        LAYER,
        "logits shifted by a number per feature, the same noise: the value must stay",
    ),
    (
        "shift",
        changed(gradient=lambda g, x: g * (1 + SMALL * flat(x)[..., :1])),
        LAYER,
        "logits shifted by a number per feature, the same noise: the gradient must stay: feature",
    ),
    (
        "bias",
        changed(Score, gradient=lambda g, x: (1 + SMALL) * g),
        SCORE,
        "expected gradient, f additive, by enumeration: feature 'colour', category '0': expected",
    ),
    ("black_box", Layer, BLIND, "raised NoDerivativeError: a black box on codes has no derivative"),
    (
        "black_box",
        changed(Score, gradient=lambda g, x: 1.3 * g * (1 + 0.1 * torch.rand_like(g[..., :1]))),
        SCORE,
        r"the gradient of Changed is biased:\n  feature '\w+', category '\d': expected gradient",
    ),
    (
        "affine_in_f",
        changed(value=lambda v, x: v + SMALL * v.detach() ** 2),
        LAYER,
        "the value of 3 f - 2 h must be 3 times that of f less 2 times that of h",
    ),
    (
        "affine_in_f",
        changed(gradient=lambda g, x: g + SMALL * (g * g - (g * g).mean())),
        LAYER,
        "the gradient of 3 f - 2 h must be 3 times that of f less 2 times that of h: feature",
    ),
    (
        "padding",
        changed(gradient=only_masked),
        LAYER,
        "feature 'colour', category '2': padding (logit -inf) must have gradient 0, got 1e-05",
    ),
    (
        "padding",
        CountsPaddingToo,
        Claims(),
        "masked padding must change nothing; the difference has mean 0 if it is right. As it is, "
        "the gradient of CountsPaddingToo is biased:",
    ),
    (
        "extreme_logits",
        changed(gradient=lambda g, x: torch.where(x == 1e4, torch.nan, g)),
        LAYER,
        "feature 'colour', category '0': gradient nan at a logit of 10000 in torch.float64",
    ),
    (
        "extreme_logits",
        changed(gradient=only_masked),
        LAYER,
        "is masked (logit -inf): its gradient must be exactly 0, got 1e-05 in torch.float64",
    ),
    (
        "half_precision",
        changed(gradient=lambda g, x: g / 0 if g.dtype == torch.bfloat16 else g),
        LAYER,
        "the gradient must be finite in torch.bfloat16",
    ),
    (
        "half_precision",
        changed(gradient=lambda g, x: g / 0 if g.dtype == torch.float16 else g),
        LAYER,
        "the gradient must be finite in torch.float16",
    ),
    (
        "layout",
        changed(logits=lambda x: (x.detach().add_(SMALL), x)[1]),
        LAYER,
        "the logits were changed in place",
    ),
    (
        "layout",
        changed(value=lambda v, x: v + SMALL * (not x.is_contiguous())),
        LAYER,
        "non-contiguous logits, the same noise: the value must stay",
    ),
    (
        "generator",
        changed(value=lambda v, x: v + SMALL * next(COUNT)),
        LAYER,
        "the same generator state gave another result",
    ),
    (
        "generator",
        OneSeed,
        LAYER,
        "another generator state gave the same result: the generator is not used",
    ),
    (
        "global_noise",
        changed(value=lambda v, x: v + SMALL * next(COUNT)),
        LAYER,
        "the same torch.manual_seed gave another result",
    ),
    (
        "fresh_noise",
        lambda space: Noise(space, lambda noise: noise[:, :1, :1].expand_as(noise)),
        LAYER,
        r"all elements of the batch had the same noise in each of \d+ calls",
    ),
    ("vmap", changed(value=nan_under_vmap), LAYER, "the value under vmap must be finite"),
    (
        "vmap",
        changed(value=no_slope_under_vmap),
        LAYER,
        "the gradient under vmap must be finite",
    ),
    ("vmap", Likeliest, LAYER, "under vmap every element had the same noise"),
    (
        "frozen_f",
        changed(gradient=lambda g, x: 0 * g),
        LAYER,
        "no gradient reached the logits through a frozen network",
    ),
    ("frozen_f", LeftInTraining, LAYER, "the network was left in training mode"),
    (
        "frozen_f",
        Thawed,
        LAYER,
        "frozen parameters have a gradient: first.weight, first.bias, norm.weight, norm.bias, last",
    ),
    (
        "f_learns_too",
        changed(Softened, value=lambda v, x: v + SMALL),
        SOFT,
        r"f's scale must have the slope (-?[\d.]+)\d+ \(the value\), got \1",
    ),
    ("wrong_f", TakesScalars, LAYER, "f gave values of shape () instead of (samples, *batch)"),
    (
        "all_masked",
        Unnamed,
        LAYER,
        "the error must name the feature 'clarity' that is masked whole, got: bad logits",
    ),
    ("wrong_logits", OnlyDouble, LAYER, "a logit of nan: expected an error, got the value ["),
    (
        "all_masked",
        OnlyDouble,
        LAYER,
        "every category of feature 'clarity' is masked: expected an error, got the value [",
    ),
    (
        "wrong_logits",
        changed(logits=lambda x: x.clamp_max(5)),
        LAYER,
        "a logit of inf: expected an error, got the value [",
    ),
    (
        "wrong_logits",
        changed(logits=lambda x: x if x.is_floating_point() else x.double().requires_grad_()),
        LAYER,
        "integer logits: expected an error, got the value [",
    ),
    (
        "wrong_logits",
        changed(logits=lambda x: torch.cat([x, x[..., : 9 - x.shape[-1]]], -1)),
        LAYER,
        "8 logits for a space 9 wide: expected an error, got the value [",
    ),
    (
        "layer",
        changed(value=lambda v, x: v + SMALL),
        LAYER,
        "f(layer(logits)) must be the expectation, for the same noise",
    ),
    (
        "layer",
        changed(gradient=lambda g, x: (1 + SMALL) * g),
        LAYER,
        "the gradient of f(layer(logits)) must be that of the expectation, for the same noise",
    ),
    ("copies", DeepCopied, LAYER, "a deep copy gives another result than the original"),
    ("pickle", Pickled, LAYER, "pickle gives another result than the original"),
    (
        "bad_temperature",
        with_tau(lambda tau: tau != 0),
        LAYER,
        "tau=-1.0: expected an error, got the value [",
    ),
    (
        "bad_temperature",
        with_tau(lambda tau: not tau <= 0),
        LAYER,
        "tau=nan: expected an error, got the value [",
    ),
    (
        "rules",
        SoftmaxOfRuled,
        Claims(forward="soft", with_rules="biased"),
        "a soft row is no mean of rows that obey",
    ),
    (
        "rules_gradient",
        changed(Ruled, value=lambda v, x: v + 1),
        RULED,
        r"under rules, on additive f, the value: expected [\d.-]+, got [\d.-]+ \+- 0",
    ),
    (
        "sums_to_zero",
        changed(value=lambda v, x: v.unsqueeze(-1)),
        LAYER,
        "expectation(f, logits) of logits (200, 9) must have shape (200,), got (200, 1)",
    ),
    (
        "sums_to_zero",
        changed(value=lambda v, x: 0.5),
        LAYER,
        "expectation(f, logits) of logits (200, 9) must have shape (200,), got float",
    ),
    (
        "sums_to_zero",
        changed(value=lambda v, x: v.detach()),
        LAYER,
        "the value has no gradient: it does not depend on the logits",
    ),
    (
        "sums_to_zero",
        changed(value=lambda v, x: v.detach() + torch.zeros((), requires_grad=True)),
        LAYER,
        "the value's gradient does not reach the logits",
    ),
    (
        "rules_gradient",
        changed(Ruled, value=lambda v, x: v + 1),
        Claims(with_rules="none"),
        r"under rules, on cubic f, feature 'colour', category '0': expected [\d.-]+, got [\d.-]+",
    ),
]


@pytest.mark.parametrize(
    ("check", "method", "claims", "words"),
    WORDS,
    ids=[f"{i}-{words[0]}" for i, words in enumerate(WORDS)],
)
def test_the_words(
    check: str,
    method: Callable[..., Any],
    claims: Claims,
    words: str,
    request: pytest.FixtureRequest,
) -> None:
    name = method.__name__ if isinstance(method, type) else "Changed"
    (result,) = run_checks(Subject(method, facts=claims, name=name), only=[check])
    assert result.status == "failed"
    said = result.message.split("\n  (")[0]
    pattern = words if "\\" in words else re.escape(words)
    assert re.match(pattern, said) or (words[:3] == "is " and words in said), said
    compare(request.node.callspec.id, {"said": said})


def leaks(sign: int) -> type[Any]:
    return changed(gradient=lambda g, x: torch.where(x == -torch.inf, sign * SMALL, g))


SIGNED: dict[str, Callable[[int], type[Any]]] = {
    "masks": leaks,
    "padding": leaks,
    "extreme_logits": leaks,
    "sums_to_zero": lambda sign: changed(gradient=lambda g, x: g + sign * SMALL * FIRST),
    "scale": lambda sign: changed(gradient=lambda g, x: g * (1 + sign / 2)),
    "value": lambda sign: changed(value=lambda v, x: v + sign),
    "shift": lambda sign: changed(value=lambda v, x: v + sign * SMALL * flat(x).sum(-1)),
    "rows": lambda sign: changed(rows=lambda r: r + sign * SMALL),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("check", SIGNED)
def test_a_fault_of_either_sign_is_found(check: str, sign: int) -> None:
    (result,) = run_checks(Subject(SIGNED[check](sign), facts=LAYER), only=[check])
    assert result.status == "failed"


@pytest.mark.parametrize("row", [(-0.001, 0.501, 0.5), (1.001, 0.0, -0.001), (1.001, 0.0, 0.0)])
def test_a_soft_row_lies_between_0_and_1(row: tuple[float, ...]) -> None:
    space = CategoricalSpace.from_sizes((3,))
    _require_inside(space, torch.tensor([(0.2, 0.3, 0.5), (1.0, 0.0, 0.0)]))
    with pytest.raises(AssertionError, match=rf"soft rows lie in \[0, 1\], got {row[0]}"):
        _require_inside(space, torch.tensor([row]))
