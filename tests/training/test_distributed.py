"""Two processes train one policy."""

from pathlib import Path

import pytest
import torch

from discrete_grad.weighting import exact_log_probs
from tests.training.policies_in_processes import SPACE, fitted, policy, train_everything
from tests.two_processes import in_two_processes


@pytest.mark.slow
def test_two_processes_train_a_policy_with_parts_that_are_not_used(tmp_path: Path) -> None:
    told = in_two_processes(tmp_path, train_everything)
    assert "find_unused_parameters" not in told
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    alone, fresh = fitted(policy()).state_dict(), policy()
    for name, tensor in alone.items():
        # a mean over halves of each batch is that over the whole
        torch.testing.assert_close(first["fitted"][name], tensor, rtol=0, atol=1e-4)
    for kind, state in first.items():
        assert all(torch.equal(tensor, second[kind][name]) for name, tensor in state.items())
        if kind == "factorised":
            continue
        unused = "network.of_attributes.0.weight"
        assert torch.equal(state[unused], fresh.state_dict()[unused])
    worth = SPACE.enumerate().sum(-1)
    before = (exact_log_probs(fresh).exp() * worth).sum()
    for kind in ("ppo", "leave_one_out", "distilled"):
        fresh.load_state_dict(first[kind])
        assert (exact_log_probs(fresh).exp() * worth).sum() > before + 0.3
