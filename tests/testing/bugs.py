"""Gradient estimators as third parties write them: one that is right, and one wrong for each check.

Everything derives from two right ones, a layer (straight-through) and a score function.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from discrete_grad import CategoricalSpace
from discrete_grad.rules import Rules
from discrete_grad.sampling import categorical, gumbel_like, uniform_like
from discrete_grad.testing import Claims

LAYER = Claims(forward="hard", bias="exact on multilinear")
RULED = Claims(forward="hard", bias="exact on multilinear", with_rules="exact on additive")
SCORE = Claims(forward="hard", bias="none", needs_derivative=False)


class Layer(nn.Module):
    """Straight-through, without a word on facts and without the library's base class."""

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__()
        self.space = space

    def codes(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = uniform_like(self.space, logits, generator=generator)
        return categorical(self.space, logits, noise)

    def surrogate(self, logits: Tensor, hard: Tensor) -> Tensor:
        return self.space.softmax(logits)

    def combine(self, hard: Tensor, surrogate: Tensor) -> Tensor:
        return hard + (surrogate - surrogate.detach())

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        self.space.check_logits(logits)
        codes = self.codes(logits.detach(), generator)
        hard = self.space.one_hot(codes, dtype=logits.dtype)
        return self.combine(hard, self.surrogate(logits, hard))

    def expectation(self, f, logits: Tensor, *, generator=None) -> Tensor:
        rows = self(logits.unsqueeze(0), generator=generator)
        values = f(rows)
        if values.shape != rows.shape[:-1]:
            raise ValueError("f must give one value a row")
        return values.mean(0)


class Score(nn.Module):
    """Leave-one-out with two samples."""

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__()
        self.space = space

    def advantages(self, values: Tensor) -> Tensor:
        return 2 * (values - values.mean(0)).detach()

    def value(self, values: Tensor) -> Tensor:
        return values

    def expectation(self, f, logits: Tensor, *, generator=None) -> Tensor:
        self.space.check_logits(logits)
        logits = logits.expand(2, *logits.shape)
        noise = uniform_like(self.space, logits, generator=generator)
        codes = categorical(self.space, logits, noise)
        rows = self.space.one_hot(codes, dtype=logits.dtype)
        values = f(rows)
        if values.shape != rows.shape[:-1]:
            raise ValueError("f must give one value a row")
        log_p = self.space.log_prob(logits, codes)
        score = self.advantages(values) * (log_p - log_p.detach())
        return (self.value(values) + score).mean(0)


# --- rows -------------------------------------------------------------------------------------


class SoftForward(Layer):
    def combine(self, hard, surrogate):
        return surrogate


class WrongOrder(Layer):
    """`hard - s.detach() + s`: rounds away from one-hot once s leaves [0, 1]."""

    def surrogate(self, logits, hard):
        q = (self.space.softmax(logits.detach()) + hard) / 2
        return 2 * self.space.softmax_jacobian(q, logits.nan_to_num(neginf=0.0))

    def combine(self, hard, surrogate):
        return hard - surrogate.detach() + surrogate


class Flattened(Layer):
    def codes(self, logits, generator):
        return super().codes(logits / 2, generator)


class SameNoise(Layer):
    def codes(self, logits, generator):
        noise = uniform_like(self.space, logits, generator=generator)
        return categorical(self.space, logits, noise[..., :1].expand_as(noise).contiguous())


class HalfGumbel(Layer):
    """Noise in the dtype of the logits: half precision cannot tell large Gumbels apart."""

    def codes(self, logits, generator):
        u = torch.empty_like(logits).uniform_(generator=generator)
        u = u.clamp(torch.finfo(u.dtype).tiny, 1 - torch.finfo(u.dtype).eps)
        return self.space.argmax(logits - torch.log(-torch.log(u)))


class DrawsMasked(Layer):
    def codes(self, logits, generator):
        return super().codes(logits.nan_to_num(neginf=-2.0), generator)


class SumOfSamples(Score):
    def value(self, values):
        return 2 * values


# --- gradient ---------------------------------------------------------------------------------


class NoOuterProduct(Layer):
    def surrogate(self, logits, hard):
        pi = self.space.softmax(logits)
        return pi.detach() * logits.nan_to_num(neginf=0.0)


class InfinityTimesZero(Layer):
    def surrogate(self, logits, hard):
        return self.space.softmax_jacobian(self.space.softmax(logits.detach()), logits)


class DependsOnTheShift(Layer):
    def surrogate(self, logits, hard):
        return self.space.softmax(logits) * (1 + logits.detach().amax(-1, keepdim=True) ** 2)


class NForNMinusOne(Score):
    def advantages(self, values):
        return (values - values.mean(0)).detach()


class WrongSign(Layer):
    def combine(self, hard, surrogate):
        return hard - (surrogate - surrogate.detach())


class FirstCategoryLeftOut(Layer):
    def surrogate(self, logits, hard):
        pi = self.space.softmax(logits)
        return torch.cat([pi[..., :1].detach(), pi[..., 1:]], -1)


class LastFeatureTwice(Layer):
    def surrogate(self, logits, hard):
        pi = self.space.softmax(logits)
        last = self.space.sizes[-1]
        return torch.cat([pi[..., :-last], 2 * pi[..., -last:]], -1)


class CountsPadding(Layer):
    def surrogate(self, logits, hard):
        widths = [part / part.shape[-1] for part in self.space.split(self.space.softmax(logits))]
        return torch.cat(widths, -1)


class AcrossFeatures(Layer):
    def surrogate(self, logits, hard):
        return logits.softmax(-1)


class BatchBaseline(Score):
    def advantages(self, values):
        return (values - values.mean()).detach()


class SignOfF(Layer):
    def expectation(self, f, logits, *, generator=None):
        return super().expectation(
            lambda r: f(r) / f(r).abs().detach(), logits, generator=generator
        )


# --- noise ------------------------------------------------------------------------------------


class GeneratorIgnored(Layer):
    def codes(self, logits, generator):
        return super().codes(logits, None)


class LayerIgnoresGenerator(Layer):
    def forward(self, logits, *, generator=None):
        return super().forward(logits)

    def expectation(self, f, logits, *, generator=None):
        return f(super().forward(logits.unsqueeze(0), generator=generator)).mean(0)


class NoGenerator(Layer):
    def expectation(self, f, logits):
        return super().expectation(f, logits)


class FrozenNoise(Layer):
    def codes(self, logits, generator):
        return super().codes(logits, generator or torch.Generator().manual_seed(0))


class SharedNoise(Layer):
    def codes(self, logits, generator):
        gumbel = gumbel_like(logits[0, :1], generator=generator)
        return self.space.argmax(logits + gumbel)


class MemoryOrder(Layer):
    """`rand_like` keeps the strides of the logits: which number goes where depends on them."""

    def codes(self, logits, generator):
        u = torch.empty_like(logits).uniform_(generator=generator)
        return self.space.argmax(logits - torch.log(-torch.log(u)))


class LooksAtValues(Layer):
    """`if tensor > 0`: neither vmap nor a full graph."""

    def surrogate(self, logits, hard):
        pi = self.space.softmax(logits)
        return pi if pi.sum() > 0 else 2 * pi


# --- numerics ---------------------------------------------------------------------------------


class ExpOverflows(Layer):
    def surrogate(self, logits, hard):
        parts = [part.exp() for part in self.space.split(logits)]
        return torch.cat([part / part.sum(-1, keepdim=True) for part in parts], -1)


class RoundedInHalf(Layer):
    def surrogate(self, logits, hard):
        return super().surrogate(logits, hard) * (0.5 if logits.dtype.itemsize == 2 else 1)


class LargestOfTheBatch(Layer):
    def surrogate(self, logits, hard):
        return super().surrogate(logits, hard) + 0 * logits.detach().max()


class NeedsContiguous(Layer):
    def surrogate(self, logits, hard):
        return self.space.softmax(logits[0].view(-1, logits.shape[-1])).view(logits.shape)


# --- f and the module -------------------------------------------------------------------------


class TrainingMode(Layer):
    def expectation(self, f, logits, *, generator=None):
        if isinstance(f, nn.Module):
            f.train()
        return super().expectation(f, logits, generator=generator)


class DeadValue(Score):
    def value(self, values):
        return values.detach()


class LiveAdvantage(Score):
    def expectation(self, f, logits, *, generator=None):
        logits = logits.expand(2, *logits.shape)
        noise = uniform_like(self.space, logits, generator=generator)
        codes = categorical(self.space, logits, noise)
        values = f(self.space.one_hot(codes, dtype=logits.dtype))
        product = (values - values.mean(0)) * 2 * self.space.log_prob(logits, codes)
        return (values + product - product.detach()).mean(0)


class Broadcasts(Layer):
    def expectation(self, f, logits, *, generator=None):
        return f(self(logits.unsqueeze(0), generator=generator)).mean(0)


class NoChecks(Layer):
    def forward(self, logits, *, generator=None):
        u = torch.rand(logits.shape, generator=generator, dtype=logits.dtype)
        codes = self.space.argmax(logits - torch.log(-torch.log(u)))
        hard = self.space.one_hot(codes, dtype=logits.dtype)
        return self.combine(hard, self.space.softmax(logits))


class AnotherRow(Layer):
    def expectation(self, f, logits, *, generator=None):
        return super().expectation(lambda r: f(r.flip(-1)), logits, generator=generator)


class CountsInstances(Layer):
    count = itertools.count(1)

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__(space)
        self.scale = next(self.count)

    def surrogate(self, logits, hard):
        return self.scale * super().surrogate(logits, hard)


class HoldsALambda(Layer):
    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__(space)
        self.softmax = lambda logits: space.softmax(logits)


class AnyTemperature(Layer):
    def __init__(self, space: CategoricalSpace, *, tau: float = 1.0) -> None:
        super().__init__(space)
        self.tau = tau


# --- rules ------------------------------------------------------------------------------------


class Ruled(Layer):
    """Right under rules, too."""

    def __init__(self, space: CategoricalSpace, *, rules: Rules | None = None) -> None:
        super().__init__(space)
        self.rules = rules

    def forward(self, logits, *, generator=None):
        if self.rules is None:
            return super().forward(logits, generator=generator)
        hard = self.space.one_hot(self.obeying(logits, generator), dtype=logits.dtype)
        return self.combine(hard, self.means(logits))

    def obeying(self, logits, generator):
        return self.rules.condition(logits).sample(1, generator=generator)[0]

    def means(self, logits):
        return self.rules.condition(logits).marginals()


class IgnoresRules(Ruled):
    def obeying(self, logits, generator):
        return self.codes(logits.detach(), generator)


class AnyRowThatObeys(Ruled):
    def obeying(self, logits, generator):
        flat = torch.where(logits > -torch.inf, 0, logits)
        return super().obeying(flat, generator)


class SoftmaxUnderRules(Ruled):
    def means(self, logits):
        return self.space.softmax(logits)


# check -> (the bug it must find, what the class claims, words of the message)
BUGS: list[tuple[str, type[nn.Module], Claims, str]] = [
    ("rows", SoftForward, LAYER, r"bitwise: feature 'colour', category '0' is 0\.\d+"),
    ("rows", DrawsMasked, LAYER, r"feature 'clarity', category '1' is masked .* but was drawn"),
    ("rows_at_large_logits", WrongOrder, LAYER, r"bitwise: feature '\w+', category '\d' is"),
    ("law", Flattened, LAYER, r"feature 'colour' does not follow softmax.*drawn [\d,]+ times"),
    (
        "law",
        SameNoise,
        LAYER,
        "^each feature follows softmax.logits., but jointly they do not: p = .*same noise?",
    ),
    ("law_of_many_categories", HalfGumbel, LAYER, r"'x' does not follow .* bfloat16"),
    ("value", SumOfSamples, SCORE, r"mean E\[f\] = -?\d.*, got"),
    (
        "sums_to_zero",
        NoOuterProduct,
        LAYER,
        "^feature 'colour': the gradient must sum to 0 over its categories, got",
    ),
    (
        "masks",
        InfinityTimesZero,
        LAYER,
        r"^feature '\w+', category '\d': NaN where some logits are -inf",
    ),
    (
        "shift",
        DependsOnTheShift,
        LAYER,
        "^logits shifted by a number per feature, the same noise: the gradient must stay: feature",
    ),
    ("bias", NForNMinusOne, SCORE, r"feature '\w+', category '\d': expected .*, got"),
    ("bias", WrongSign, LAYER, "^expected gradient, f additive, by enumeration: feature"),
    ("black_box", Layer, SCORE, "raised NoDerivativeError: a black box on codes has no derivative"),
    (
        "black_box",
        NForNMinusOne,
        SCORE,
        "^expected gradient, f a black box on codes, by enumeration: feature",
    ),
    (
        "permuted_categories",
        FirstCategoryLeftOut,
        LAYER,
        "^renaming the categories must permute the gradient: feature",
    ),
    (
        "permuted_features",
        LastFeatureTwice,
        LAYER,
        "^another order of the features must permute the gradient: feature",
    ),
    (
        "padding",
        CountsPadding,
        LAYER,
        "^masked padding must change nothing: feature 'colour', category '0': expected",
    ),
    (
        "independent_features",
        AcrossFeatures,
        LAYER,
        "^an f of one feature alone must give the gradient of that feature on its own: feature",
    ),
    (
        "batch",
        BatchBaseline,
        SCORE,
        "^other elements of the batch changed, the same noise: an element's gradient must stay",
    ),
    (
        "affine_in_f",
        SignOfF,
        LAYER,
        "^the gradient of 3 f - 2 h must be 3 times that of f less 2 times that of h: feature",
    ),
    (
        "generator",
        GeneratorIgnored,
        LAYER,
        "^the global random state changed although a generator was given",
    ),
    (
        "generator",
        NoGenerator,
        LAYER,
        r"^expectation\(f, logits, \*, generator=None\) must take a generator",
    ),
    (
        "global_noise",
        FrozenNoise,
        LAYER,
        "^another torch.manual_seed gave the same result: the noise is frozen",
    ),
    (
        "fresh_noise",
        SharedNoise,
        LAYER,
        r"elements \(0, 0\) and \(1, 0\) of a batch \(4, 4\) had the same noise in each",
    ),
    ("vmap", LooksAtValues, LAYER, "raised RuntimeError"),
    ("compile", LooksAtValues, LAYER, "raised "),
    ("export", LooksAtValues, LAYER, "raised "),
    ("extreme_logits", ExpOverflows, LAYER, r"the value is nan at logits \[10000.*float64"),
    (
        "half_precision",
        RoundedInHalf,
        LAYER,
        "^the expected gradient in torch.bfloat16 must be that in float64 up to rounding: feature",
    ),
    ("empty_batch", LargestOfTheBatch, LAYER, "raised RuntimeError"),
    ("layout", NeedsContiguous, LAYER, "raised RuntimeError: view size"),
    (
        "layout",
        MemoryOrder,
        LAYER,
        "^non-contiguous logits, the same noise: the gradient must stay: feature",
    ),
    ("frozen_f", TrainingMode, LAYER, "^the frozen network's 'norm.running_mean' changed"),
    (
        "f_learns_too",
        DeadValue,
        SCORE,
        "^f's own parameter got no gradient; the value must carry it",
    ),
    ("f_learns_too", LiveAdvantage, SCORE, r"must get the gradient of E\[f\]"),
    ("wrong_f", Broadcasts, LAYER, r"shape \(samples, \*batch, 1\).* expected a ValueError"),
    ("all_masked", NoChecks, LAYER, "every category of feature 'clarity' is masked: expected an"),
    ("wrong_logits", NoChecks, LAYER, "a logit of nan: expected an error"),
    (
        "layer",
        AnotherRow,
        LAYER,
        r"^f\(layer\(logits\)\) must be the expectation, for the same noise",
    ),
    (
        "layer",
        LayerIgnoresGenerator,
        LAYER,
        r"^f\(layer\(logits\)\) must be the expectation, for the same noise",
    ),
    (
        "copies",
        CountsInstances,
        LAYER,
        "^state_dict gives another result than the original, for the same noise",
    ),
    ("pickle", HoldsALambda, LAYER, "raised .*pickle"),
    ("bad_temperature", AnyTemperature, LAYER, r"tau=0\.0: expected an error, got"),
    ("rules", IgnoresRules, RULED, "a row that breaks a rule: (exactly 1|never)"),
    (
        "rules_law",
        AnyRowThatObeys,
        RULED,
        "^hard rows do not follow the law of rows that obey, p = ",
    ),
    ("rules_gradient", SoftmaxUnderRules, RULED, r"on additive f, feature '\w+', category"),
]
