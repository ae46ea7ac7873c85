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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--whole-notebooks",
        action="store_true",
        help="run the notebooks with all their seeds and steps",
    )
