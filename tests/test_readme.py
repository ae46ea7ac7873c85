"""The examples of the README and of docs/ run, and the README's commands exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GENERATED = ("_build", "benchmarks", "notebooks", "reference")  # by `make docs`, in docs/
PAGES = [
    ROOT / "README.md",
    *sorted(
        path
        for path in (ROOT / "docs").rglob("*.md")
        if path.relative_to(ROOT / "docs").parts[0] not in GENERATED
    ),
]
EXAMPLES = {
    "README.md": 4,
    "aims.md": 1,
    "bias_and_variance.md": 1,
    "gradient_estimators.md": 2,
    "index.md": 0,
    "over_optimisation.md": 1,
    "own_model.md": 3,
    "problem.md": 2,
    "reward_weighted.md": 1,
    "rewards.md": 1,
    "rules.md": 3,
    "rules_as_automata.md": 1,
    "soft_rows.md": 1,
    "soften.md": 1,
    "start.md": 3,
    "table.md": 0,
}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_python_examples_run_one_after_the_other(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == EXAMPLES[path.name]


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target
