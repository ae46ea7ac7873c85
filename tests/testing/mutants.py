"""Wrong gradients and wrong noise under the least claim there is: hard rows, biased.

Each is planted in a layer (straight-through, or the straight-through Gumbel-softmax) or in a score
function that are right but for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from discrete_grad import CategoricalSpace
from discrete_grad.sampling import gumbel_like, uniform_like
from discrete_grad.testing import Claims
from tests.testing.bugs import Layer, Score

LEAST = Claims(forward="hard", bias="biased")
BLIND = Claims(forward="hard", bias="biased", needs_derivative=False)

Change = Callable[[CategoricalSpace, Tensor], Tensor]


class _Changed(torch.autograd.Function):
    """The identity, with another gradient; so written that vmap knows it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits, space, change):
        return logits.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.space, ctx.change = inputs

    @staticmethod
    def backward(ctx, gradient):
        return ctx.change(ctx.space, gradient), None, None


class ChangedLayer(Layer):
    def __init__(self, space: CategoricalSpace, change: Change) -> None:
        super().__init__(space)
        self.change = change

    def forward(self, logits, *, generator=None):
        changed = _Changed.apply(logits, self.space, self.change)
        return super().forward(changed, generator=generator)


class ChangedScore(Score):
    def __init__(self, space: CategoricalSpace, change: Change) -> None:
        super().__init__(space)
        self.change = change

    def expectation(self, f, logits, *, generator=None):
        changed = _Changed.apply(logits, self.space, self.change)
        return super().expectation(f, changed, generator=generator)


def blockwise(change: Callable[[list[Tensor]], list[Tensor]]) -> Change:
    """A change of the gradient, feature by feature."""
    return lambda space, gradient: torch.cat(change(list(space.split(gradient))), -1)


def scaled(factor: float) -> Change:
    return lambda space, gradient: factor * gradient


# the first feature and the last have as many categories
permuted = blockwise(lambda parts: parts[::-1])
to_the_neighbour = blockwise(lambda g: [0 * g[0], *g[1:-1], g[-1] + g[0]])
sign_of_one_feature = blockwise(lambda g: [g[0], -g[1], *g[2:]])
second_feature_detached = blockwise(lambda g: [g[0], 0 * g[1], *g[2:]])


@blockwise
def one_category_zero(parts: list[Tensor]) -> list[Tensor]:
    return [part * (torch.arange(part.shape[-1]) != 0) for part in parts]


@blockwise
def one_category_zero_centred(parts: list[Tensor]) -> list[Tensor]:
    parts = [part * (torch.arange(part.shape[-1]) != 1) for part in parts]
    return [part - part.mean(-1, keepdim=True) for part in parts]


class CategoryDetached(Layer):
    """The second category of every feature has no df/dx."""

    def surrogate(self, logits, hard):
        pi = self.space.softmax(logits)
        second = torch.cat([torch.arange(size) == 1 for size in self.space.sizes])
        return torch.where(second, pi.detach(), pi)


class Gumbel(Layer):
    """Straight-through Gumbel-softmax at tau = 0.5, its gradient times a factor."""

    def __init__(self, space: CategoricalSpace, factor: float = 1.0) -> None:
        super().__init__(space)
        self.factor = factor

    def forward(self, logits, *, generator=None):
        self.space.check_logits(logits)
        perturbed = logits + gumbel_like(logits, generator=generator)
        hard = self.space.one_hot(self.space.argmax(perturbed), dtype=logits.dtype)
        return self.combine(hard, self.factor * self.space.softmax(perturbed / 0.5))


class Samples(Layer):
    """Straight-through with some samples."""

    def __init__(self, space: CategoricalSpace, samples: int = 4) -> None:
        super().__init__(space)
        self.samples = samples

    def rows(self, logits, generator):
        return self.forward(logits.expand(self.samples, *logits.shape), generator=generator)

    def expectation(self, f, logits, *, generator=None):
        rows = self.rows(logits, generator)
        values = f(rows)
        if values.shape != rows.shape[:-1]:
            raise ValueError("f must give one value a row")
        return values.mean(0)


class FirstSampleAlone(Samples):
    def rows(self, logits, generator):
        rows = super().rows(logits, generator)
        return torch.cat([rows[:1], rows[1:].detach()])


class SameNoiseForEverySample(Samples):
    def rows(self, logits, generator):
        row = self.forward(logits.unsqueeze(0), generator=generator)
        return row.expand(self.samples, *row.shape[1:])


class LastSampleIsTheFirst(Samples):
    def rows(self, logits, generator):
        rows = super().rows(logits, generator)
        return torch.cat([rows[:-1], rows[:1]])


class Noise(Layer):
    """The noise of a batch made from less than it takes."""

    def __init__(self, space: CategoricalSpace, shared: Callable[[Tensor], Tensor]) -> None:
        super().__init__(space)
        self.shared = shared

    def codes(self, logits, generator):
        noise = uniform_like(self.space, logits, generator=generator)
        if noise.dim() > 2 and min(noise.shape[1:]) > 0:
            noise = self.shared(noise)
        parts = zip(self.space.split(logits), noise.unbind(-1), strict=True)
        codes = [(part.softmax(-1).cumsum(-1) < u.unsqueeze(-1)).sum(-1) for part, u in parts]
        return torch.stack(codes, -1).clamp_max(torch.tensor(self.space.sizes) - 1)


def halves(noise: Tensor) -> Tensor:
    half = noise[:, : (noise.shape[1] + 1) // 2]
    return torch.cat([half, half], 1)[:, : noise.shape[1]]


def pairs(noise: Tensor) -> Tensor:
    return noise[:, ::2].repeat_interleave(2, 1)[:, : noise.shape[1]]


def one_for_half(noise: Tensor) -> Tensor:
    """Half of the batch shares one draw."""
    half = noise.shape[1] // 2
    return torch.cat([noise[:, :1].expand(-1, half, *noise.shape[2:]), noise[:, half:]], 1)


def second_dimension(noise: Tensor) -> Tensor:
    return noise[..., :1, :].expand_as(noise)


class OneDraw(Noise):
    """The noise of the first call again and again."""

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__(space, self.first)
        self.kept: dict[torch.Size, Tensor] = {}

    def first(self, noise: Tensor) -> Tensor:
        return self.kept.setdefault(noise.shape, noise)


@dataclass(frozen=True)
class Mutant:
    """A wrong method and the check that finds it."""

    name: str
    check: str
    make: Callable[[CategoricalSpace], nn.Module]
    words: str
    claims: Claims = LEAST


def both(name: str, check: str, change: Change, words: str) -> tuple[Mutant, Mutant]:
    """A changed gradient in the layer and in the score function."""
    return (
        Mutant(f"{name} in a layer", check, lambda s: ChangedLayer(s, change), words),
        Mutant(
            f"{name} in a score function", check, lambda s: ChangedScore(s, change), words, BLIND
        ),
    )


COLOUR, SIZE = r"f = 1 where feature 'colour' is '0'", r"feature 'size' is '\d'"
MUTANTS = (
    *both("negated", "direction", scaled(-1), f"{COLOUR}.*cosine -1"),
    *both("ten times", "scale", scaled(10), f"{COLOUR}.*has 10 times .* expected 0.625 to 1.6"),
    *both("a tenth", "scale", scaled(0.1), f"{COLOUR}.*has 0.1 times"),
    *both("permuted features", "direction", permuted, f"{COLOUR}.*cosine "),
    *both("gradient to the neighbour", "direction", to_the_neighbour, f"{COLOUR}.*cosine "),
    *both("sign of one feature", "direction", sign_of_one_feature, f"{SIZE}.*cosine -1"),
    *both("second feature detached", "direction", second_feature_detached, f"{SIZE}.*cosine 0"),
    *both("one category zero", "sums_to_zero", one_category_zero, "must sum to 0"),
    *both("one category zero, centred", "scale", one_category_zero_centred, "has 0.* times"),
    Mutant("df/dx of a category detached", "direction", CategoryDetached, f"{SIZE}.*cosine 0"),
    Mutant("1 / tau missing", "scale", lambda s: Gumbel(s, 0.5), r"has 0\.4\d* times"),
    Mutant("1 / tau twice", "scale", lambda s: Gumbel(s, 2), r"has 1\.[78]\d* times"),
    Mutant("first of four samples", "scale", FirstSampleAlone, r"has 0\.2\d* times"),
    Mutant("first of two samples", "scale", lambda s: FirstSampleAlone(s, 2), "has 0.5 times"),
    Mutant("same noise for every sample", "fresh_noise", SameNoiseForEverySample, "samples 0 and"),
    Mutant("last sample is the first", "fresh_noise", LastSampleIsTheFirst, "samples 0 and 3"),
    Mutant("noise of half the batch", "fresh_noise", lambda s: Noise(s, halves), r"\(2, 0\)"),
    Mutant("noise of pairs", "fresh_noise", lambda s: Noise(s, pairs), r"\(0, 0\) and \(1, 0\)"),
    Mutant("one draw for half", "fresh_noise", lambda s: Noise(s, one_for_half), r"and \(1, 0\)"),
    Mutant("noise of the first call", "fresh_noise", OneDraw, "every call repeats the noise"),
    Mutant("shared second dimension", "fresh_noise", lambda s: Noise(s, second_dimension), "0, 1"),
)
RIGHT = (
    Mutant("layer", "", lambda s: ChangedLayer(s, scaled(1)), ""),
    Mutant("score function", "", lambda s: ChangedScore(s, scaled(1)), "", BLIND),
    Mutant("gumbel", "", Gumbel, ""),
    Mutant("samples", "", Samples, ""),
    Mutant("noise", "", lambda s: Noise(s, lambda noise: noise), ""),
)
