"""Pages of docs/ that speak of the source agree with it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

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


def written() -> list[Path]:
    """Pages that stand in docs/ and are not made while the site is built."""
    return sorted([*DOCS.glob("*.md"), *(DOCS / "explanation").glob("*.md")])
