"""Pages of the site that come from elsewhere: the reference, the results and the notebooks."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = ROOT / "benchmarks" / "results"
ROOMS = {
    "gradient": "Gradient estimators, one class each.",
    "nn": "Layers for your own network.",
    "space": "Features, categories and contexts.",
    "rules": "Rules that every row obeys.",
    "models": "Models from a row to numbers: estimators of a score, the aligner, preferences.",
    "policies": "Distributions of rows given a context.",
    "objectives": "Losses: pure functions of tensors.",
    "weighting": "The reward-weighted distribution, its samplers, and guidance.",
    "data": "Tables, vocabularies and example tables.",
    "fitting": "Training of estimators, aligners and generators.",
    "reinforcement": "Reinforcement learning and distillation.",
    "preferences": "Learning from answers to pairs of rows.",
    "training": "Optimiser, checkpoints, devices and logs.",
    "evaluation": "Measures of gradients, rows and models.",
    "reporting": "Tables, plots and the page of a report.",
    "runs": "The command line's job, from Python.",
    "testing": "Hypothesis strategies, and checks for gradient estimators.",
}
CELLS = """---
file_format: mystnb
kernelspec:
  name: python3
---
"""


def write_pages(app: Sphinx) -> None:
    """Write the generated pages into folders that git ignores."""
    for room, summary in ROOMS.items():
        _write(HERE / "reference" / f"{room}.rst", room_page(f"discrete_grad.{room}", summary))
    _write(HERE / "reference" / "index.md", index_page())
    _write(HERE / "reference" / "command_line.md", command_page())
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        _write(HERE / "notebooks" / path.name, path.read_bytes())
    for path in RESULTS.iterdir():
        if path.suffix in {".md", ".png", ".svg"}:
            name = path.name.replace("README", "index")
            _write(HERE / "benchmarks" / name, path.read_bytes())


def room_page(module: str, summary: str) -> str:
    """Page of all public names of a room."""
    title = f"``{module}``"
    return (
        f"{title}\n{'=' * len(title)}\n\n{summary}\n\n"
        f".. automodule:: {module}\n   :members:\n   :imported-members:\n"
        f"   :inherited-members: {', '.join(shown_elsewhere(module))}\n\n"
        + "".join(f".. autodata:: {origin}\n   :no-value:\n\n" for origin in values(module))
    )


def values(module: str) -> list[str]:
    """Public names of a room that are neither class nor function, where they are defined."""
    room = importlib.import_module(module)
    tree = ast.parse(inspect.getsource(room))
    return [
        f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in room.__all__ and not is_class_or_function(getattr(room, alias.name))
    ]


def is_class_or_function(value: object) -> bool:
    """Whether autodoc documents it as a member of the room that imports it."""
    return inspect.isclass(value) or inspect.isfunction(value)


def shown_elsewhere(module: str) -> list[str]:
    """Bases of a room's classes that are public themselves or of another library."""
    room = importlib.import_module(module)
    bases = (base for name in room.__all__ for base in parents(getattr(room, name)))
    return sorted({base.__name__ for base in bases if not is_hidden(base)})


def parents(value: object) -> tuple[type, ...]:
    """Classes that a class derives from."""
    return value.__mro__[1:] if inspect.isclass(value) else ()


def is_hidden(base: type) -> bool:
    """Whether a base of a public class stands on no page of its own."""
    return base.__module__.startswith("discrete_grad") and base not in public_classes()


@functools.cache
def public_classes() -> frozenset[type]:
    """Classes of all rooms."""
    rooms = [importlib.import_module(f"discrete_grad.{room}") for room in ROOMS]
    return frozenset(
        getattr(room, name)
        for room in rooms
        for name in room.__all__
        if inspect.isclass(getattr(room, name))
    )


def methods(name: str, value: object) -> list[str]:
    """A class's public methods and properties, and those of bases that are shown with it."""
    if not inspect.isclass(value):
        return []
    kinds = (property, functools.cached_property, classmethod, staticmethod)
    return [
        f"{name}.{member}"
        for owner in (value, *filter(is_hidden, parents(value)))
        for member, content in vars(owner).items()
        if member[0] != "_" and (inspect.isfunction(content) or isinstance(content, kinds))
    ]


def index_page() -> str:
    """Page that lists the rooms."""
    lines = [f"- {{doc}}`discrete_grad.{room} <{room}>`: {text}" for room, text in ROOMS.items()]
    tree = "\n".join(ROOMS)
    return (
        "# Reference\n\n"
        "`discrete_grad` itself holds `CategoricalSpace`, `ContextSpec` and every gradient\n"
        "estimator; all else is imported from its room.\n\n"
        + "\n".join(lines)
        + f"\n\n```{{toctree}}\n:hidden:\n\ncommand_line\n{tree}\n```\n"
    )


def command_page() -> str:
    """Page of the command line's help texts, as the commands print them."""
    text = help_of()
    named = re.search(r"^usage: .*{([a-z,-]+)}", text)
    if named is None:
        raise RuntimeError(f"the help names no commands: {text[:200]}")
    names = named[1].split(",")
    parts = ["# Command line\n", f"```text\n{text}\n```\n"]
    parts += [f"## discrete-grad {name}\n\n```text\n{help_of(name)}\n```\n" for name in names]
    return "\n".join(parts)


def help_of(*command: str) -> str:
    """What `--help` prints, without colours, 100 columns wide."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    words = [sys.executable, "-m", "discrete_grad", *command, "--help"]
    return subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout


def as_site_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Turn a page's Python blocks into cells, and its links out of docs/ into links within."""
    if str(app.env.doc2path(name, base=False)).endswith(".md"):
        text = re.sub(r"\]\(((?:\.\./)+)benchmarks/results/", within_docs, source[0])
        text = re.sub(r"\]\(((?:\.\./)+)notebooks/", within_docs, text)
        text = text.replace("benchmarks/README.md", "benchmarks/index.md")
        if "```python\n" in text and not name.startswith("benchmarks"):
            text = CELLS + text.replace("```python\n", "```{code-cell} python3\n")
        source[0] = text


def within_docs(link: re.Match[str]) -> str:
    """Start of a link to a folder that is copied into docs/, for a page in docs/ or deeper."""
    folder = "benchmarks" if "benchmarks" in link[0] else "notebooks"
    return "](" + link[1].removeprefix("../") + folder + "/"


def as_plain_text(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Begin an attribute's text with an empty comment, or napoleon takes "a: b" for type a."""
    if what in ("attribute", "property", "data"):
        lines[:0] = ["..", ""]


def check_reference(app: Sphinx, exception: Exception | None) -> None:
    """Fail on a public name, or a method of one, that the reference lacks."""
    if exception is None and app.builder.name == "html":
        objects = (entry[0].split(".") for entry in app.env.get_domain("py").get_objects())
        known = {".".join(parts[-count:]) for parts in objects for count in (1, 2)}
        rooms = {room: importlib.import_module(f"discrete_grad.{room}") for room in ROOMS}
        missing = [
            f"{room}.{one}"
            for room, module in rooms.items()
            for name in module.__all__
            for one in (name, *methods(name, getattr(module, name)))
            if one not in known
        ]
        if missing:
            raise RuntimeError(f"the reference lacks {', '.join(missing)}")


def check_images(app: Sphinx, exception: Exception | None) -> None:
    """Fail on a picture that does not say what it shows; a notebook's is named in its cell."""
    if exception is None and app.builder.name == "html":
        bare = [
            f"{path.relative_to(app.outdir)}: {tag[:100]}"
            for path in Path(app.outdir).rglob("*.html")
            for tag in re.findall(r"<img\b[^>]*>", path.read_text(encoding="utf-8"))
            if not re.search(r'\balt="(?!\S*[.](?:png|svg)")[^"]*[^"\s]', tag)
        ]
        if bare:
            raise RuntimeError(f"pictures without a text: {'; '.join(bare[:5])}")


def _write(path: Path, content: str | bytes) -> None:
    """Write a page if it changed, so that an unchanged one is not built again."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_bytes() != data:
        path.write_bytes(data)
