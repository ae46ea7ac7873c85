"""Settings of the whole suite."""

import gc
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, settings

from discrete_grad.reporting import page

# plain functions that assert on behalf of the tests
pytest.register_assert_rewrite(
    "tests.goodness", "tests.gradient.contract", "tests.gradient.relaxed"
)

# models are listed as their modules are imported, and collecting them would do so twice
collect_ignore_glob = ["nn/zoo/*"]

# derandomised: the same examples every time, so no run can fail by chance
settings.register_profile("suite", derandomize=True, deadline=None, max_examples=60)
# of a mutant it matters that a test fails, not which example is the smallest
settings.register_profile(
    "mutants", settings.get_profile("suite"), phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("suite")

# small tensors: more threads only wait for each other
torch.set_num_threads(1)


PICTURES = (
    "agreement_plot",
    "curves_plot",
    "distribution_plot",
    "exploitation_plot",
    "scores_plot",
)
DRAWN = (
    "evaluation/test_exploitation.py",
    "reporting",
    "runs/test_report.py",
    "test_notebooks.py",
    "test_pages.py",
    "test_readme.py",
)


@pytest.fixture(scope="module", autouse=True)
def _pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Draw pictures, which take most of a report's time, only in the tests of reports."""
    here = request.path.relative_to(Path(__file__).parent)
    with pytest.MonkeyPatch.context() as patch:
        if not any(here.is_relative_to(place) for place in DRAWN):
            for name in PICTURES:
                patch.setattr(page, name, lambda report: "<svg></svg>")
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without the garbage collector, and leave what was collected out of its rounds.

    Thousands of tests are no garbage; looking through them was a quarter of collecting them. And
    while they run, a round comes with 10,000 new objects and not with 700: it was a tenth of
    compiling.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 10, 10)
        gc.enable()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # what is never collected, extension modules report as leaked
