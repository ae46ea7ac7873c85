"""Every notebook runs from top to bottom.

The long ones run with fewer seeds and steps, which takes the same lines of them in a quarter of the
time; with `--whole-notebooks` they run as they stand.
"""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

# line of a notebook: its shorter form
SHORTER = {
    "01_quickstart": {
        "    estimator=replace(config.estimator, members=4, steps=500),": (
            "    estimator=replace(config.estimator, members=2, steps=100),"
        ),
        "    judge=replace(config.judge, steps=500),": (
            "    judge=replace(config.judge, steps=100),"
        ),
    },
    "04_one_swap_kills": {
        'SEEDS = {"machines": range(6), "NASBench201": range(5)}': (
            'SEEDS = {"machines": range(2), "NASBench201": range(2)}'
        ),
        "    config = EstimatorConfig(members=4, steps=600, weight_decay=0.1)": (
            "    config = EstimatorConfig(members=2, steps=100, weight_decay=0.1)"
        ),
        "STEPS = 100": "STEPS = 20",
        "        resamples=200,": "        resamples=20,",
    },
    "05_reward_weighted": {
        "        for gamma in (1.0, 2.0, 4.0, 8.0):": "        for gamma in (4.0,):",
        "TOKENS, MOLECULES, STEPS, BATCH = 32, 4000, 500, 128": (
            "TOKENS, MOLECULES, STEPS, BATCH = 32, 1000, 50, 128"
        ),
    },
    "06_reinforcement": {
        "ROWS, GROUP, SEEDS = 7_680, 256, (0, 1)": "ROWS, GROUP, SEEDS = 768, 256, (0,)",
        'config = EstimatorConfig(families=("networks",), members=8, steps=2000)': (
            "config = EstimatorConfig(families=('networks',), members=2, steps=200)"
        ),
    },
}


def shortened(notebook: nbformat.NotebookNode, lines: dict[str, str]) -> None:
    for line, shorter in lines.items():
        cells = [cell for cell in notebook.cells if line in cell.source.splitlines()]
        assert len(cells) == 1, f"the notebook has no longer one line {line!r}"
        cells[0].source = cells[0].source.replace(line, shorter)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path: Path, pytestconfig: pytest.Config) -> None:
    notebook = nbformat.read(path, as_version=4)
    if not pytestconfig.getoption("whole_notebooks"):
        shortened(notebook, SHORTER.get(path.stem, {}))
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
