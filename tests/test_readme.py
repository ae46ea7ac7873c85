"""The README's examples run, and its commands exist."""

import re
from pathlib import Path

from discrete_grad import gradient

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_examples_run_one_after_the_other() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 6


def test_every_gradient_estimator_in_the_table_exists() -> None:
    named = set(re.findall(r"^\| `(\w+)`", README, re.MULTILINE))
    assert len(named) > 20
    others = {"exact", "OneHotCategoricalStraightThrough"}  # of the benchmarks
    assert named <= others.union(gradient.catalogue())


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
