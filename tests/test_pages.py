"""Pages of docs/ that speak of the source agree with it."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from discrete_grad import gradient

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def quoted() -> list[str]:
    """Messages of the page of errors: code at the start of an item, and what goes on after it."""
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    return re.findall(r"^- `([^`]+)`", text, re.MULTILINE)


def texts(path: Path) -> Iterator[str]:
    """Every string of a file, with an ellipsis for each value put into it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
            )


@pytest.fixture(scope="module")
def messages() -> list[str]:
    """Every string of the library."""
    return [text for path in (ROOT / "discrete_grad").rglob("*.py") for text in texts(path)]


def test_every_quoted_message_is_one_of_the_library(messages: list[str]) -> None:
    assert 40 <= len(quoted()) == len(set(quoted()))
    assert [one for one in quoted() if not any(one in text for text in messages)] == []


def test_the_page_of_papers_has_the_paper_of_every_gradient_estimator() -> None:
    text = (DOCS / "papers.md").read_text(encoding="utf-8")
    links = re.sub(r"\[arXiv (\S+?)\]\(https://arxiv\.org/abs/\1\)", r"\1", text)
    found = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", links, re.MULTILINE))
    assert found == {name: kind.facts.reference for name, kind in gradient.catalogue().items()}


def test_every_page_is_in_the_contents() -> None:
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in written()}
    contents = (DOCS / "index.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```{toctree}\n(.*?)```", contents, re.DOTALL)
    assert pages - {line for block in blocks for line in block.splitlines()} == {"index"}


def test_every_image_says_what_it_shows() -> None:
    for path in written():
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"!\[\s*\]\(", text), path.name
        assert text.count("```{image}") == len(re.findall(r"^:alt: \S", text, re.MULTILINE))


def copies() -> ModuleType:
    """The module of the Markdown copies, which belongs to Sphinx's configuration."""
    spec = importlib.util.spec_from_file_location("_copies", DOCS / "_copies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_copy_has_what_each_block_printed_after_it() -> None:
    page = "# A\n\n```python\nprint(1)\n```\n\n```console\n$ a\n```\n```python\nx = 2\n```\nEnd.\n"
    copy = copies().with_outputs(page, ["1\n2", ""])
    assert copy == page.replace("print(1)\n```\n", "print(1)\n```\n\n```text\n1\n2\n```\n")
    with pytest.raises(RuntimeError, match="2 Python blocks, 1 outputs: '# A"):
        copies().with_outputs(page, ["1"])


def test_the_outputs_of_a_page_are_those_of_its_cells() -> None:
    nodes = pytest.importorskip("docutils.nodes")
    page = nodes.container()
    for texts_of in (["a\n", "b"], []):
        source = nodes.container("", nodes.literal_block("", "code"), nb_element="cell_code_source")
        blocks = [nodes.literal_block(text, text) for text in texts_of]
        output = nodes.container("", *blocks, nb_element="cell_code_output")
        page += nodes.container("", source, output, nb_element="cell_code")
    page += nodes.literal_block("", "no cell")
    assert copies().outputs(page) == ["a\nb", ""]


def written() -> list[Path]:
    """Pages that stand in docs/ and are not made while the site is built."""
    return sorted([*DOCS.glob("*.md"), *(DOCS / "explanation").glob("*.md")])
