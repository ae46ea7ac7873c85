"""Markdown copies of the pages, with what their Python blocks printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docutils.nodes import document
    from sphinx.application import Sphinx

_BLOCK = re.compile(r"^```python\n.*?^```\n", re.DOTALL | re.MULTILINE)


def write_outputs(app: Sphinx, exception: Exception | None) -> None:
    """Put outputs into the copies that `llms.txt` names, before `llms-full.txt` is made of them."""
    if exception is None and app.builder.name == "html":
        for name in app.env.found_docs:
            page, printed = Path(app.env.doc2path(name)), outputs(app.env.get_doctree(name))
            if printed and page.suffix == ".md":
                copy = Path(app.outdir) / "_sources" / f"{name}.md.txt"
                text = with_outputs(page.read_text(encoding="utf-8"), printed)
                copy.write_text(text, encoding="utf-8")


def outputs(page: document) -> list[str]:
    """The text that each code cell of a page printed, empty for a cell that printed nothing."""
    from docutils import nodes

    return [
        "\n".join(
            block.astext().rstrip()
            for output in cell.children
            if isinstance(output, nodes.container) and output["nb_element"] == "cell_code_output"
            for block in output.findall(nodes.literal_block)
        )
        for cell in page.findall(nodes.container)
        if cell.get("nb_element") == "cell_code"
    ]


def with_outputs(text: str, printed: list[str]) -> str:
    """A page's Markdown, each Python block followed by what it printed.

    Raises:
        RuntimeError: if the page has not as many blocks as outputs.
    """
    blocks = list(_BLOCK.finditer(text))
    if len(blocks) != len(printed):
        raise RuntimeError(f"{len(blocks)} Python blocks, {len(printed)} outputs: {text[:80]!r}")
    ends = [0, *(block.end() for block in blocks)]
    parts = [text[start:end] for start, end in zip(ends, [*ends[1:], None], strict=True)]
    shown = [f"\n```text\n{output}\n```\n" if output else "" for output in printed]
    return "".join(part + more for part, more in zip(parts, [*shown, ""], strict=True))
