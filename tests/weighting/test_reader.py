"""States that move with the particles: they change how often a model is asked, and nothing else."""

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.policies import AutoregressiveGenerator
from discrete_grad.sampling import isolated_seed, normal, random_codes, random_indices, seeded
from discrete_grad.weighting import (
    AttributeSet,
    Guidance,
    Guided,
    PrefixValue,
    RewardWeighted,
    TablePolicy,
    TablePotential,
    ValueGuided,
    twisted_smc,
)
from discrete_grad.weighting.smc import smc_log_z
from tests.weighting.worlds import ORDER, SPACE

KINDS = ("gru", "transformer", "guided", "value")


class Afresh:
    """A policy that remembers nothing but the features, and reads them again at each step."""

    def __init__(self, policy):
        self.space, self.order, self.policy = policy.space, policy.order, policy

    def log_prob(self, codes, context=None):
        return self.policy.log_prob(codes, context)

    def sample(self, context=None, count=1, *, generator=None):
        return self.policy.sample(context, count, generator=generator)

    def begin(self, context=None, *, batch):
        given = None if context is None else context.expand(*batch, -1)
        return torch.zeros(*batch, 0, dtype=torch.long), given

    def advance(self, state, previous):
        codes, given = state
        if previous is not None:
            codes = torch.cat([codes, previous.unsqueeze(-1)], -1)
        return self.policy.conditional(codes, given), (codes, given)

    def select(self, state, rows):
        return tuple(part if part is None else part.flatten(0, -2)[rows] for part in state)


def sequential(kind):
    """A policy with random weights, of a space of five features and contexts of one column."""
    space, spec = CategoricalSpace.from_sizes((3, 2, 4, 3, 2)), ContextSpec(numeric=["a"])
    backbone = "gru" if kind == "gru" else "transformer"
    marks = None if kind in ("gru", "transformer") else ContextSpec(numeric=["b"])
    with isolated_seed(0):
        policy = AutoregressiveGenerator(
            space, spec, attributes=marks, order=(3, 1, 4, 0, 2), backbone=backbone, hidden=(16, 16)
        ).double()
        policy.network.head.weight.data.mul_(20)
    if kind == "guided":
        vectors = AttributeSet(torch.tensor([[-1.0], [1.0], [2.0]]), torch.ones(3) / 3)
        how = Guidance(rule="posterior")  # which remembers what each vector made of the prefix
        return Guided(policy, vectors, torch.tensor([0.0, 1.0, 3.0]), guidance=how)
    return ValueGuided(policy, value_of(policy)) if kind == "value" else policy


def value_of(policy):
    with isolated_seed(1):
        value = PrefixValue(policy.space, policy.context_spec, order=policy.order).double()
        value.network.head.weight.data.mul_(20)
    return value


@pytest.mark.parametrize("proposal", ["reference", "twisted"])
@pytest.mark.parametrize("kind", KINDS)
def test_states_that_move_with_the_particles_change_no_draw(kind, proposal):
    """With contexts, resampling at each feature in some runs, and a row that survives."""
    policy = sequential(kind)
    twist = value_of(policy.policy if kind in ("guided", "value") else policy)
    batch = torch.tensor([[0.0], [1.0], [-1.0]]).double()

    def forgetful(prefix, given):
        return twist.following(prefix[..., :-1], given).gather(-1, prefix[..., -1:]).squeeze(-1)

    def reward(codes, given):
        return (codes.double() @ torch.tensor([1.0, -2.0, 0.5, 1.0, 2.0]).double()).sin() * 3

    runs = []
    for reference, steered in ((policy, twist), (Afresh(policy), forgetful)):
        target = RewardWeighted(reference, reward, 0.5)
        how = {"twist": steered, "proposal": proposal, "threshold": 1.0}
        samples = twisted_smc(target, batch, 16, generator=seeded(2), **how)
        row = samples.codes[0]
        upper = smc_log_z(target, batch, 16, exact_rows=row, generator=seeded(3), **how)
        runs.append((samples, upper))
    (kept, upper), (afresh, other) = runs
    assert (kept.diagnostics["resampled"] > 1).all()
    assert torch.equal(kept.codes, afresh.codes)
    assert_close(kept.log_z, afresh.log_z)
    assert_close(upper, other)


def test_a_table_s_states_move_with_the_particles():
    log_prob = normal((SPACE.num_rows,), generator=seeded(0))
    marks = torch.arange(SPACE.num_rows).unsqueeze(-1)
    policy = TablePolicy.from_rows(SPACE, log_prob, marks, order=ORDER)

    def reward(codes, _):
        return 3 * codes.sum(-1).double().sin()

    runs = [
        twisted_smc(
            RewardWeighted(reference, reward, 0.5),
            None,
            64,
            twist=lambda p, _: 2.0 * p.sum(-1).cos().double(),
            proposal="reference",
            threshold=1.0,
            generator=seeded(1),
        )
        for reference in (policy, Afresh(policy))
    ]
    assert runs[0].diagnostics["resampled"] == 2
    assert torch.equal(runs[0].codes, runs[1].codes)
    assert_close(runs[0].log_z, runs[1].log_z)


def test_each_feature_is_read_once(monkeypatch):
    policy, asked = sequential("gru"), []
    original = AutoregressiveGenerator.advance

    def counted(self, state, previous):
        asked.append(state.position)
        return original(self, state, previous)

    monkeypatch.setattr(AutoregressiveGenerator, "advance", counted)
    target = RewardWeighted(policy, lambda codes, _: codes.sum(-1).double(), 1.0)
    twisted_smc(target, torch.zeros(2, 1).double(), 8)
    assert asked == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("read", [0, 1, 3])
@pytest.mark.parametrize("kind", [*KINDS, "prefix value"])
def test_the_state_of_other_rows_is_what_reading_them_would_leave(kind, read):
    """Rows of any shape, some twice, contexts and all."""
    policy = sequential("gru" if kind == "prefix value" else kind)
    model = value_of(policy) if kind == "prefix value" else policy
    codes = random_codes(policy.space, 12, generator=seeded(1)).view(4, 3, -1)
    codes = codes[..., list(policy.order)]
    given = normal((4, 3, 1), generator=seeded(2))
    rows = random_indices(12, (5, 2), generator=seeded(3))
    state = model.begin(given, batch=(4, 3))
    for t in range(read):
        _, state = model.advance(state, codes[..., t - 1] if t else None)
    codes, given = (x.flatten(0, 1)[rows] for x in (codes, given))
    got, state = model.advance(model.select(state, rows), codes[..., read - 1] if read else None)
    again = model.begin(given, batch=(5, 2))
    for t in range(read + 1):
        wanted, again = model.advance(again, codes[..., t - 1] if t else None)
    assert_close(got, wanted)
    further = [model.advance(s, codes[..., read])[0] for s in (state, again)]
    assert_close(*further)


def test_a_table_s_state_of_other_rows():
    """Prefixes, attribute vectors and contexts."""
    log_prob = normal((SPACE.num_rows, 2), generator=seeded(0))
    marks = torch.arange(SPACE.num_rows).unsqueeze(-1) % 3
    policy = TablePolicy.from_rows(SPACE, log_prob[:, 0], marks)
    potential = TablePotential(SPACE, log_prob, log_prob.flip(0))
    first, rows = torch.tensor([[0, 1], [1, 0], [1, 1]]), torch.tensor([[2, 1], [2, 5]])
    asked = torch.tensor([[0, 1], [2, 0], [1, 2]]).unsqueeze(-1)
    state = policy.advance(policy.begin(attributes=asked, batch=(3, 2)), None)[1]
    got, _ = policy.advance(policy.select(state, rows), first.flatten()[rows])
    prefix = first.flatten()[rows].unsqueeze(-1)
    assert_close(got, policy.conditional(prefix, None, asked.flatten(0, 1)[rows]))
    state = potential.advance(potential.begin(torch.zeros(2, 1), batch=(3, 2)), None)[1]
    own = torch.tensor([[4, 1], [0, 5]])  # each context keeps its column
    got, _ = potential.advance(potential.select(state, own), first.flatten()[own])
    assert_close(got, potential.following(first.flatten()[own].unsqueeze(-1), torch.zeros(2, 1)))
