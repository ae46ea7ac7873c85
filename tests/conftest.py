"""Settings of the whole suite."""

import pytest
import torch
from hypothesis import settings

# plain functions that assert on behalf of the tests
pytest.register_assert_rewrite(
    "tests.goodness", "tests.gradient.contract", "tests.gradient.relaxed"
)

# derandomised: the same examples every time, so no run can fail by chance
settings.register_profile("suite", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("suite")

# small tensors: more threads only wait for each other
torch.set_num_threads(1)
