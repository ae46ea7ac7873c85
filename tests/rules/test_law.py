"""The law of rows that obey: derivatives, draws, dtypes, transforms, and bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.rules import (
    AtMost,
    Avoids,
    Budget,
    Exactly,
    Fix,
    Forbid,
    Imply,
    Law,
    Observed,
    OneOf,
    Rule,
    Rules,
    When,
    Within,
)
from discrete_grad.rules import law as law_module
from discrete_grad.testing._goodness import g_test
from tests.goodness import FALSE_ALARM
from tests.strategies import non_contiguous, random_logits

SPACE = CategoricalSpace.from_sizes((3, 2, 4, 3))
RULES: dict[str, list[Rule]] = {
    "none": [],
    "pair": [Forbid({"x0": 0, "x2": [1, 2]}), Imply({"x1": 1}, {"x3": [0, 2]})],
    "count": [Exactly(2, {"x0": 0, "x1": 1, "x2": [0, 3], "x3": 2})],
    "near": [Within([0, 0, 0, 0], edits=2)],
    "price": [Budget({"x0": {1: 0.1, 2: 0.7}, "x2": {0: 0.3, 3: 0.2}, "x3": {1: 0.4}}, 0.5)],
    "seen": [Observed(["x0", "x2", "x3"], [[0, 0, 1], [1, 3, 2], [2, 1, 0], [0, 3, 1], [2, 2, 2]])],
    "motif": [Avoids([[0, 1], [1]]), AtMost(2, {"x0": 1, "x1": 1, "x3": 1})],
    "few": [Fix("x1", 1), OneOf("x2", [1, 3])],
}
every_rule = pytest.mark.parametrize("name", RULES)


def made(name: str) -> Rules:
    return Rules(SPACE, RULES[name])


def drawn_logits(batch: tuple[int, ...] = (2,), seed: int = 0, **settings: object) -> Tensor:
    return random_logits(SPACE, batch, generator=seed, **settings)  # type: ignore[arg-type]


def law_by_hand(rules: Rules, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Rows allowed `(R, F)` and their log-probabilities `(B, R)`, differentiable."""
    rows = rules.enumerate()
    joint = SPACE.log_prob(logits.unsqueeze(-2), rows)
    return rows, joint.log_softmax(-1)


# --- derivatives ----------------------------------------------------------------------------------


@every_rule
def test_derivatives_are_those_of_the_numbers(name: str) -> None:
    rules, leaf = made(name), drawn_logits().requires_grad_()
    other = drawn_logits(seed=1)
    codes = rules.enumerate()[:3]

    def everything(logits: Tensor) -> tuple[Tensor, ...]:
        law, second = rules.condition(logits), rules.condition(other)
        return (
            law.log_z(),
            law.entropy(),
            law.kl(second),
            second.kl(law),
            law.marginals(),
            law.log_prob(codes.unsqueeze(1)),
        )

    assert torch.autograd.gradcheck(everything, leaf)
    assert torch.autograd.gradgradcheck(everything, leaf, fast_mode=True)


@every_rule
def test_marginals_are_the_derivative_of_the_log_partition_function(name: str) -> None:
    rules, leaf = made(name), drawn_logits().requires_grad_()
    law = rules.condition(leaf)
    (slope,) = torch.autograd.grad(law.log_z().sum(), leaf)
    # log Z is that of normalised features: their own derivative comes off
    assert_close(law.marginals() - SPACE.softmax(leaf), slope)


@every_rule
def test_masked_logits_have_no_derivative_and_features_none_in_sum(name: str) -> None:
    rules, leaf = made(name), drawn_logits()
    leaf[:, 3] = -torch.inf
    leaf[1, 0] = -torch.inf
    leaf = leaf.requires_grad_()
    law = rules.condition(leaf)
    weights = drawn_logits(seed=2)
    total = law.log_z().sum() + law.entropy().sum() + (law.marginals() * weights).sum()
    total = total + law.log_prob(law.sample(2, generator=torch.Generator().manual_seed(0))).sum()
    (slope,) = torch.autograd.grad(total, leaf)
    assert (slope[leaf == -torch.inf] == 0).all()
    for part in SPACE.split(slope):
        assert part.sum(-1).abs().max() < 1e-12


# --- entropy, divergence --------------------------------------------------------------------------


@every_rule
def test_divergence_is_that_of_the_rows(name: str) -> None:
    rules = made(name)
    p, q = rules.condition(drawn_logits()), rules.condition(drawn_logits(seed=1))
    log_p, log_q = (law_by_hand(rules, law._logits)[1] for law in (p, q))
    assert_close(p.kl(q), (log_p.exp() * (log_p - log_q)).sum(-1))
    assert_close(p.kl(p), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    free = Rules(SPACE).condition(drawn_logits())
    # conditioning on what has probability Z costs -log Z
    assert_close(p.kl(free), -p.log_z())


def test_divergence_from_what_forbids_a_row_is_infinite() -> None:
    logits = drawn_logits((3,))
    near, nearer = (Rules(SPACE, [Within([0] * 4, n)]) for n in (2, 1))
    assert near.condition(logits).kl(nearer.condition(logits)).tolist() == [math.inf] * 3
    assert nearer.condition(logits).kl(near.condition(logits)).isfinite().all()
    # where masks leave the wider law no such row, it is finite
    masked = logits.clone()
    masked[1, [1, 2, 4, 6, 7, 8]] = -torch.inf
    value = near.condition(masked).kl(nearer.condition(logits))
    assert value.isinf().tolist() == [True, False, True]
    with_mask = logits.clone()
    with_mask[:, 0] = -torch.inf
    assert near.condition(logits).kl(near.condition(with_mask)).tolist() == [math.inf] * 3


def test_divergence_compares_like_with_like() -> None:
    law = made("near").condition(drawn_logits())
    other = Rules(CategoricalSpace.from_sizes((2,) * 6)).condition(torch.zeros(2, 12))
    with pytest.raises(ValueError, match="of one space"):
        law.kl(other)
    with pytest.raises(ValueError, match="equal batches"):
        law.kl(made("near").condition(drawn_logits((3,))))


def test_divergence_compares_laws_of_equal_contexts() -> None:
    country = CategoricalSpace({"country": 2})
    rules = Rules(SPACE, [When({"country": 1}, [Fix("x0", 1)])], context=country)
    logits, codes = drawn_logits(), torch.tensor([[0], [1]])
    law = rules.condition(logits, context=codes)
    assert_close(
        law.kl(rules.condition(logits, context=codes.clone())),
        torch.zeros_like(codes[:, 0]).double(),
    )
    for other in (codes.flip(0), codes[:1]):
        with pytest.raises(ValueError, match="of one space, in equal contexts"):
            law.kl(rules.condition(logits[: len(other)], context=other))
    # in a context beside the row, what is drawn is compared with the rules of that context
    free = Rules(SPACE, context=country).condition(logits, context=codes)
    assert free.kl(law).isinf().tolist() == [False, True]
    assert_close(law.kl(free), -law.log_z())


# --- rows -----------------------------------------------------------------------------------------


@every_rule
def test_samples_follow_the_law(name: str) -> None:
    rules, logits = made(name), drawn_logits(scale=2.0, masked=name in ("none", "near"))
    rows, log_p = law_by_hand(rules, logits)
    codes = rules.condition(logits).sample(20_000, generator=torch.Generator().manual_seed(3))
    numbers = SPACE.row_number(codes)
    for element in range(2):
        counts = numbers[:, element].bincount(minlength=SPACE.num_rows)
        law = torch.zeros(SPACE.num_rows, dtype=torch.float64)
        law[SPACE.row_number(rows)] = log_p[element].exp()
        assert g_test(counts, law) > FALSE_ALARM


@pytest.mark.parametrize("noise", [0.0, 1 - 2**-53])
@every_rule
def test_the_least_and_the_greatest_noise_draw_rows_that_obey(
    name: str, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A category of probability 0 begins where a likely one ends."""

    def uniform_like(space: CategoricalSpace, flat: Tensor, **_: object) -> Tensor:
        shape = (*flat.shape[:-1], space.num_features)
        return torch.full(shape, noise, dtype=torch.float64)

    monkeypatch.setattr(law_module, "uniform_like", uniform_like)
    for logits in (drawn_logits(), drawn_logits(masked=name in ("none", "near"))):
        law = made(name).condition(logits)
        assert law.log_prob(law.sample(1)[0]).isfinite().all()


def test_a_sample_has_at_least_one_row() -> None:
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        made("count").condition(drawn_logits()).sample(0)


def test_samples_come_from_the_generator_alone() -> None:
    law, state = made("count").condition(drawn_logits()), torch.get_rng_state()
    a, b = (law.sample(5, generator=torch.Generator().manual_seed(7)) for _ in "ab")
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(a, law.sample(5, generator=torch.Generator().manual_seed(8)))


def test_best_rows_are_those_of_sorting() -> None:
    for name in RULES:
        rules = made(name)
        logits = drawn_logits((3,), scale=3.0)
        rows, log_p = law_by_hand(rules, logits)
        codes, scores = rules.condition(logits).best(rules.num_rows)
        assert_close(scores.T, log_p.sort(-1, descending=True).values)
        for element in range(3):
            assert torch.equal(codes[:, element].unique(dim=0), rows)
    with pytest.raises(ValueError, match=rf"count must lie in \[1, {rules.num_rows}\]"):
        rules.condition(logits).best(rules.num_rows + 1)


def test_fewer_rows_than_asked_for_are_marked() -> None:
    logits = drawn_logits(())
    logits[[1, 2]] = -torch.inf
    codes, scores = made("near").condition(logits).best(30)
    left = int((SPACE.log_prob(logits, made("near").enumerate()) > -torch.inf).sum())
    assert (scores > -torch.inf).sum() == left < 30
    assert (codes[:left, 0] == 0).all()


# --- shapes, dtypes, transforms -------------------------------------------------------------------


def numbers(law: Law) -> tuple[Tensor, ...]:
    return law.log_z(), law.entropy(), law.marginals(), law.log_prob(law.mode())


@pytest.mark.parametrize("batch", [(), (0,), (1,), (2, 3)])
def test_batches_of_every_shape(batch: tuple[int, ...]) -> None:
    rules, logits = made("price"), drawn_logits(batch)
    law = rules.condition(logits)
    assert law.log_z().shape == law.entropy().shape == law.kl(law).shape == batch
    assert law.marginals().shape == (*batch, SPACE.width)
    assert law.sample(4).shape == (4, *batch, 4)
    assert law.mode().shape == (*batch, 4)
    assert law.best(2)[0].shape == (2, *batch, 4)
    assert law.log_prob(law.sample(4)).shape == (4, *batch)
    for got, expected in zip(
        numbers(law), numbers(rules.condition(non_contiguous(logits))), strict=True
    ):
        assert_close(got, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@every_rule
def test_narrow_logits_give_narrow_numbers(name: str, dtype: torch.dtype) -> None:
    logits = drawn_logits(scale=4.0).to(dtype)
    law, exact = (made(name).condition(some) for some in (logits, logits.double()))
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    for got, expected in zip(numbers(law), numbers(exact), strict=True):
        assert got.dtype == dtype
        assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)


def test_a_likely_category_that_is_forbidden_rounds_nothing_away() -> None:
    rules, logits = Rules(SPACE, [OneOf("x0", [1, 2])]), drawn_logits().float()
    expected = rules.condition(logits.double()).marginals()
    logits[:, 0] = 1e4
    law = rules.condition(logits)
    assert_close(law.marginals().double(), expected, rtol=1e-6, atol=1e-6)
    assert_close(law.log_z(), logits[:, 1:3].logsumexp(-1) - 1e4)


def test_long_rows_are_as_precise_as_short_ones() -> None:
    space = CategoricalSpace.from_sizes((4,) * 400)
    rules = Rules(space, [Within([0] * 400, edits=20)])
    logits = random_logits(space, (2,), scale=3.0).float()
    law, exact = rules.condition(logits), rules.condition(logits.double())
    assert_close(law.marginals().double(), exact.marginals(), rtol=2e-6, atol=1e-7)
    codes = exact.sample(3, generator=torch.Generator().manual_seed(0))
    assert_close(law.log_prob(codes).double(), exact.log_prob(codes), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("scale", [90.0, 1e4])
@every_rule
def test_large_logits_stay_finite(name: str, scale: float) -> None:
    logits = drawn_logits((50,), scale=scale).float().requires_grad_()
    law = made(name).condition(logits)
    for number in numbers(law):
        assert number.isfinite().all()
        (slope,) = torch.autograd.grad(number.sum(), logits, retain_graph=True)
        assert slope.isfinite().all()
    rows, log_p = law_by_hand(made(name), logits.double())
    expected = log_p.exp() @ SPACE.one_hot(rows, dtype=torch.float64)
    # a logit of 1e4 is known to 1e-3 in float32
    tolerance = {90.0: 1e-5, 1e4: 1e-3}[scale]
    assert_close(law.marginals().double(), expected, rtol=tolerance, atol=tolerance)
    assert made(name).allows(law.sample(20)).all()


@every_rule
def test_vmap_gives_what_a_batch_gives(name: str) -> None:
    rules, logits = made(name), drawn_logits((3,))
    together = numbers(rules.condition(logits))
    apart = torch.vmap(lambda row: numbers(rules.condition(row)))(logits)
    for got, expected in zip(apart, together, strict=True):
        assert_close(got, expected)
    slopes = torch.vmap(torch.func.grad(lambda row: rules.condition(row).entropy()))(logits)
    leaf = logits.requires_grad_()
    (expected,) = torch.autograd.grad(rules.condition(leaf).entropy().sum(), leaf)
    assert_close(slopes, expected)
    hessian = torch.func.jacrev(torch.func.grad(lambda row: rules.condition(row).log_z()))(
        logits[0].detach()
    )
    jacobian = torch.func.jacrev(lambda row: rules.condition(row).marginals())(logits[0].detach())
    soft = torch.func.jacrev(SPACE.softmax)(logits[0].detach())
    assert_close(hessian, jacobian - soft)
    codes = torch.vmap(lambda row: rules.condition(row).sample(4), randomness="different")(logits)
    assert rules.allows(codes).all()


@pytest.mark.slow
def test_it_compiles_whole() -> None:
    space = CategoricalSpace.from_sizes((3, 2))
    rules = Rules(space, [Forbid({"x0": 1, "x1": 0})])
    leaf = random_logits(space, (2,)).requires_grad_()

    def everything(logits: Tensor) -> tuple[Tensor, ...]:
        law = rules.condition(logits)
        return *numbers(law), law.best(2)[1], law.sample(3)

    found = torch.compile(everything, fullgraph=True, backend="aot_eager")(leaf)
    expected = everything(leaf)
    for got, number in zip(found[:-1], expected[:-1], strict=True):
        assert_close(got, number)
    assert rules.allows(found[-1]).all()
    slopes = [torch.autograd.grad(n[1].sum() + n[2][:, 0].sum(), leaf) for n in (found, expected)]
    assert_close(slopes[0], slopes[1])


# --- bad input ------------------------------------------------------------------------------------


def test_masks_that_leave_no_row_are_refused_by_name() -> None:
    rules = Rules(SPACE, [OneOf("x2", [1, 2, 3]), Forbid({"x0": 0, "x3": 1}), Fix("x1", 0)])
    logits = drawn_logits((2, 3))
    logits[1, 2, [1, 2]] = -torch.inf
    logits[1, 2, [9, 11]] = -torch.inf
    with pytest.raises(ValueError, match=r"element 1, 2 of the batch leave no row") as error:
        rules.condition(logits)
    assert str(error.value).endswith("that obeys Forbid({'x0': 0, 'x3': 1})")
    with pytest.raises(ValueError, match=r"the masks \(-inf\) of the logits leave no row"):
        rules.condition(logits[1, 2])


def test_logits_and_codes_are_checked() -> None:
    rules = made("near")
    with pytest.raises(ValueError, match=r"logits must be \(..., 12\), got \(11,\)"):
        rules.condition(torch.zeros(11))
    with pytest.raises(ValueError, match="feature 'x1' has a logit of nan"):
        rules.condition(torch.zeros(12).index_fill(0, torch.tensor(4), math.nan))
    law = rules.condition(torch.zeros(12))
    with pytest.raises(ValueError, match="feature 'x3' has code 3"):
        law.log_prob(torch.tensor([0, 0, 0, 3]))
    with pytest.raises(ValueError, match=r"codes must be \(..., 4\)"):
        rules.allows(torch.tensor([0, 0, 0]))


def test_without_a_look_an_impossible_law_is_no_nan() -> None:
    rules, logits = Rules(SPACE, [Fix("x0", 0)]), torch.zeros(2, 12)
    logits[1, 0] = -torch.inf

    def seen(row: Tensor) -> tuple[Tensor, ...]:
        law = rules.condition(row)
        return law.log_z(), law.marginals(), law.sample(2), law.mode()

    log_z, marginals, codes, mode = torch.vmap(seen, randomness="different")(logits)
    assert log_z[1] == -torch.inf
    assert not marginals.isnan().any()
    SPACE.check_codes(codes)
    SPACE.check_codes(mode)
    assert rules.allows(codes[0]).all()
