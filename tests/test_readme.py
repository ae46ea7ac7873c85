"""The examples of the README and of docs/ run, and their commands can be read."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from discrete_grad.cli import main
from discrete_grad.cli.commands import COMMANDS

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


# the site runs the other pages, too, while it is built
WITH_EXAMPLES = [PAGES[0], *(pytest.param(path, marks=pytest.mark.slow) for path in PAGES[1:])]


# torch's exporter to ONNX warns of what it uses itself
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.name)
def test_the_python_examples_run_one_after_the_other(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = path.read_text(encoding="utf-8")
    if "torch.onnx" in text:
        pytest.importorskip("onnxscript")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == text.count("```python")


def blocks_of(path: Path) -> list[tuple[str, str]]:
    """Language and text of every block of code of a page."""
    return re.findall(
        r"^ *```([^\n`]*)\n(.*?)^ *```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def not_run(path: Path) -> list[str]:
    """Blocks of Python that neither the site nor these tests run."""
    others = [text for language, text in blocks_of(path) if language not in ("python", "py")]
    code = re.compile(r"^\s*(>>> |import |from \w+ import )", re.MULTILINE)
    return [text for text in others if code.search(text)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_block_of_python_is_run(path: Path) -> None:
    assert not not_run(path)
    scripts = [text for language, text in blocks_of(path) if language == "py"]
    assert len(scripts) == (path.name == "processes.md")  # which the next test runs


def test_a_block_that_is_not_run_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nimport math\n```\n\n```\nimport torch\nnonsense(\n```\n")
    assert not_run(page) == ["import torch\nnonsense(\n"]


@pytest.mark.slow
def test_the_script_for_several_processes_runs_in_one(tmp_path: Path) -> None:
    ((_, script),) = (b for b in blocks_of(ROOT / "docs" / "processes.md") if b[0] == "py")
    (tmp_path / "train.py").write_text(script, encoding="utf-8")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "train.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_commands_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in COMMANDS.values():
        monkeypatch.setattr(command, "execute", lambda self: None)
    for line in re.findall(r"^(?:\$ )?discrete-grad (.*)$", path.read_text("utf-8"), re.M):
        assert main(shlex.split(line, comments=True)) == 0, line


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
