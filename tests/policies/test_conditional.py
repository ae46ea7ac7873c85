"""What every policy can say of a row, and the values before its steps."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.policies import (
    AutoregressiveGenerator,
    Generator,
    conditional_logits,
    log_prob_by_steps,
)
from discrete_grad.policies.sequential import STEP_PARTS
from discrete_grad.reinforcement import ContextValue, StepValue
from discrete_grad.reinforcement._rollout import Steps

SPACE = CategoricalSpace.from_sizes((2, 3, 4))
SPEC = ContextSpec(numeric=["a", "b"])
ORDER = (2, 0, 1)


def test_steps_add_up_to_the_rows_log_probability() -> None:
    codes = SPACE.enumerate().unsqueeze(1).expand(-1, 5, -1)
    context = torch.arange(10.0).reshape(5, 2)
    for policy, steps in (
        (Generator(SPACE, SPEC), 1),
        (AutoregressiveGenerator(SPACE, SPEC, order=ORDER), 3),
    ):
        per_step = Steps.of(policy).read(policy, codes, context).steps
        assert per_step.shape == (24, 5, steps)
        if steps == 1:
            assert_close(per_step[..., 0], SPACE.log_prob(policy(context), codes))
            continue
        assert_close(per_step.sum(-1), log_prob_by_steps(policy, codes, context))
        first = policy.conditional(codes[..., :0], context)
        assert_close(per_step[..., 0], first.gather(-1, codes[..., 2:]).squeeze(-1))
    with pytest.raises(
        TypeError, match=r"conditional_logits needs a policy with .*; Linear has neither"
    ):
        conditional_logits(nn.Linear(2, 2), codes)  # type: ignore[arg-type]


def test_conditionals_read_by_steps_stand_in_the_order_of_the_space() -> None:
    policy = AutoregressiveGenerator(SPACE, SPEC, order=ORDER)
    bare = SimpleNamespace(**{name: getattr(policy, name) for name in ("space", *STEP_PARTS)})
    codes, context = SPACE.enumerate(), torch.ones(24, 2)
    expected = SPACE.log_softmax(conditional_logits(policy, codes, context))
    assert_close(conditional_logits(bare, codes, context), expected)


def test_values_see_what_was_drawn_and_nothing_else() -> None:
    value = StepValue(SPACE, SPEC, order=ORDER)
    context, row = torch.zeros(2), torch.tensor([0, 1, 2])
    before = value(row, context)
    assert before.shape == (3,)
    for position, feature in enumerate(ORDER):
        other = row.clone()
        other[feature] = (row[feature] + 1) % SPACE.sizes[feature]
        moved = (value(other, context) - before).abs() > 1e-6
        assert moved.tolist() == [place > position for place in range(3)]
    assert ((value(row, context + 1) - before).abs() > 1e-6).all()
    assert value(row.expand(4, 5, 3), torch.zeros(5, 2)).shape == (4, 5, 3)


def test_values_of_contexts() -> None:
    value, codes = ContextValue(SPEC), torch.zeros(4, 5, 3).long()
    assert value(codes, torch.arange(10.0).reshape(5, 2)).shape == (5, 1)
    assert ContextValue(None)(codes).shape == (1,)
    for model in (value, StepValue(SPACE, SPEC)):
        with pytest.raises(ValueError, match="takes a context"):
            model(codes)
