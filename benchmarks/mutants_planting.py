"""Which small bugs mutmut would plant in a file, and how one is planted in a running process.

Nothing is written: the function gets the code and the defaults that it has in the changed text.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import libcst

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Mutant:
    """A bug: the function that it is in, the lines that it changes, before and after."""

    file: str
    function: str
    """`name` or `Class.name`."""
    lines: range
    """Numbers of the lines before, from 1."""
    was: str
    now: str
    text: str
    """The whole file after."""


@dataclass(frozen=True)
class Candidate:
    """A mutant that is not made yet: making one takes a tenth of a second."""

    file: str
    function: str
    before: str
    module: libcst.Module
    mutation: Any

    def made(self) -> Mutant:
        """The mutant."""
        from mutmut.mutation.file_mutation import deep_replace

        after: Any = deep_replace(
            self.module, self.mutation.original_node, self.mutation.mutated_node
        )
        return _mutant(self.file, self.function, self.before, after.code)


def candidates_of(file: str) -> list[Candidate]:
    """Every mutant of a file, in mutmut's order.

    Args:
        file: Its path, relative to the root of the checkout.
    """
    from mutmut.mutation.file_mutation import create_mutations

    before = (ROOT / file).read_text()
    with contextlib.chdir(ROOT):  # where mutmut's settings are
        module, mutations, *_ = create_mutations(file, before)
    names = _functions(module)
    inside = [(m, m.contained_by_top_level_function) for m in mutations]
    return [Candidate(file, names[f], before, module, m) for m, f in inside if f in names]


def _functions(module: libcst.Module) -> dict[libcst.CSTNode | None, str]:
    """Functions and methods -> `name` or `Class.name`."""
    import libcst

    found: dict[libcst.CSTNode | None, str] = {}
    for node in module.body:
        if isinstance(node, libcst.FunctionDef):
            found[node] = node.name.value
        elif isinstance(node, libcst.ClassDef):
            methods = [m for m in node.body.body if isinstance(m, libcst.FunctionDef)]
            found |= {m: f"{node.name.value}.{m.name.value}" for m in methods}
    return found


def _mutant(file: str, function: str, before: str, after: str) -> Mutant:
    old, new = before.splitlines(), after.splitlines()
    start = _alike(old, new)
    stop = _alike(old[start:][::-1], new[start:][::-1])
    was, now = old[start : len(old) - stop], new[start : len(new) - stop]
    lines = range(start + 1, start + 1 + max(len(was), 1))
    return Mutant(file, function, lines, _plain(was), _plain(now), after)


def _alike(first: list[str], second: list[str]) -> int:
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _plain(lines: list[str]) -> str:
    return "\n".join(line.strip() for line in lines)


def statement(mutant: Mutant) -> range:
    """Numbers of the lines of the smallest statement around a mutant; of a header, its whole body.

    Of a compound statement (`if`, `for`, `with`) only the lines before its body.
    """
    tree = ast.parse((ROOT / mutant.file).read_text())
    around = [
        node for node in ast.walk(tree) if isinstance(node, ast.stmt) and _holds(node, mutant)
    ]
    inner = min(around, key=lambda node: (node.end_lineno or 0) - node.lineno)
    body = getattr(inner, "body", None)
    if not body:
        return range(inner.lineno, (inner.end_lineno or 0) + 1)
    if isinstance(inner, ast.FunctionDef | ast.ClassDef):
        return range(body[0].lineno, (inner.end_lineno or 0) + 1)
    return range(inner.lineno, max(body[0].lineno, inner.lineno + 1))


def _holds(node: ast.stmt, mutant: Mutant) -> bool:
    return node.lineno <= mutant.lines[0] and mutant.lines[-1] <= (node.end_lineno or 0)


def plant(mutant: Mutant) -> None:
    """Give the function in this process the code and the defaults of the mutant."""
    path = Path(mutant.file).with_suffix("")
    parts = path.parts[:-1] if path.name == "__init__" else path.parts
    module = importlib.import_module(".".join(parts))
    *owners, name = mutant.function.split(".")
    owner: Any = getattr(module, owners[0]) if owners else module
    function = _plain_function(vars(owner)[name])
    code = _code(compile(mutant.text, str(ROOT / mutant.file), "exec"), mutant.function)
    given = _defaults(mutant, vars(module) | vars(owner))
    if code.co_freevars == function.__code__.co_freevars:
        function.__code__ = code
    else:  # the mutant does not call `super` any more
        function = types.FunctionType(code, vars(module), name)
        setattr(owner, name, function)
    function.__defaults__, function.__kwdefaults__ = given.__defaults__, given.__kwdefaults__


def _plain_function(found: Any) -> types.FunctionType:
    function = inspect.unwrap(getattr(found, "__func__", found))
    assert isinstance(function, types.FunctionType)
    return function


def _code(code: types.CodeType, name: str) -> types.CodeType:
    """The last code of a qualified name: the earlier ones are its overloads."""
    inside = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    inside += [c for outer in inside for c in outer.co_consts if isinstance(c, types.CodeType)]
    return [c for c in inside if c.co_qualname == name][-1]


def _defaults(mutant: Mutant, scope: dict[str, Any]) -> types.FunctionType:
    """A function without a body that has the arguments of the mutant."""
    name = mutant.function.split(".")[-1]
    code = _code(compile(mutant.text, mutant.file, "exec"), mutant.function)
    nodes = [n for n in ast.walk(ast.parse(mutant.text)) if isinstance(n, ast.FunctionDef)]
    (node,) = (n for n in nodes if n.name == name and _first_line(n) == code.co_firstlineno)
    node.decorator_list, node.returns, node.body = [], None, [ast.Pass()]
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    only = ast.fix_missing_locations(ast.Module([node], []))
    exec(compile(only, mutant.file, "exec"), scope)
    made = scope[name]
    assert isinstance(made, types.FunctionType)
    return made


def _first_line(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
