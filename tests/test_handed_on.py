"""Arguments that are handed on: a caller who has one of a name gives it to what takes that name.

A lost `generator=` or `rules=` raises nothing: the default of the function that is called takes its
place. So each call in the package of one of its own functions, classes or methods is read: where
the caller has a parameter, a field or an attribute of the same name as an optional parameter of
what it calls, it must give it, unless the call is listed below with the reason. To a function it
must also give what a parameter of its own has as a field. Of methods of one name every one must
take it; of noise and rules it is enough that one does.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import discrete_grad

ROOT = Path(discrete_grad.__file__).parent

MADE_ON_CPU = "weights are drawn on the CPU, so that they are the same on every device"
NOT_HANDED_ON = {
    ("cli.commands.Fit.execute", "fit"): (
        "context exclude feasible features fix forbid maximise missing observed score seed unseen",
        "the table was read with them, and the configuration has the seed and the aim",
    ),
    ("cli.commands.Demo.execute", "load_example"): ("datasets", "all of them"),
    ("cli.commands.Demo.execute", "read_table"): ("schema", "the first table has none yet"),
    ("cli.commands.Demo.execute", "fit"): ("seed", "the configuration has it"),
    ("evaluation.alignment.alignment_metrics", "as_estimator"): (
        "context",
        "a tensor here, the columns' specification there",
    ),
    ("evaluation.swaps.swap_effects", ".one_hot"): ("dtype", "only where a row is not zero counts"),
    ("fitting.aligner._mined", "as_estimator"): (
        "context",
        "a tensor here, the columns' specification there",
    ),
    ("fitting.anova._Table.__init__", "._sums"): ("values", "there are none yet"),
    ("fitting.estimator._new_networks", "EstimatorEnsemble"): ("space", "the members have it"),
    ("fitting.estimator._new_sequences", "EstimatorEnsemble"): ("space", "the members have it"),
    ("gradient.gumbel_softmax.GumbelSoftmax.pullback", "Pullback"): (
        "tau",
        "only a named form has one",
    ),
    ("gradient.reinmax.ReinMax.pullback", "Pullback"): ("tau", "only a named form has one"),
    ("models._block_linear.BlockLinearEnsemble.predictions", ".predictions"): (
        "own_rows",
        "each member is then asked about its rows alone",
    ),
    ("models.editing.edit", "on_codes"): ("context", "a tensor here, a flag there"),
    ("models.row_pool.category_keys", "seeded"): ("device", "the same keys on every device"),
    ("nn.soft_embedding.embed_sample", ".draw"): ("generator", "a seed was drawn from it"),
    ("nn.soften._lookups._one_hot", "one_hot"): ("name", "it is the name of a function"),
    ("nn.soften._products._whole", "embed"): ("starts", "the slice of the table begins there"),
    ("policies.mixture.MixtureGenerator.expectation", "Enumerate"): (
        "space",
        "the experts are enumerated, not the rows",
    ),
    ("reinforcement._distill_reverse._independent", "on_codes"): (
        "context",
        "a tensor here, a flag there",
    ),
    ("reinforcement.algorithms._weighted_regression", "advantage_weighted_loss"): (
        "temperature",
        "of equal advantages, whose weights it does not change",
    ),
    ("reporting.report._held_out", "in_parts"): ("rows", "scored rows here, a number there"),
    ("runs._aim_training.new_traded_generator", "isolated_seed"): ("device", MADE_ON_CPU),
    ("runs._choosing.Learned.rows", ".min"): ("context", "the least of a tensor"),
    ("runs._fit_input.read_input", "RuleWords"): ("rules", "they are given beside the words"),
    ("runs._labels.labelled_rows", "Observations"): ("judged", "rows there, a side of them here"),
    ("runs._method.run_method", "make_gradient_estimator"): (
        "rules",
        "steps obey them in the policy",
    ),
    ("runs._rows_to_try.rows_to_try", "generate"): (
        "rules",
        "it joins the run's own to those given",
    ),
    ("runs._stages._new_aligner", "isolated_seed"): ("device", MADE_ON_CPU),
    ("runs._stages._new_generator", "isolated_seed"): ("device", MADE_ON_CPU),
    ("runs._stages.new_policy", "isolated_seed"): ("device", MADE_ON_CPU),
    ("runs.folder_rounds.refitted", "fit_table"): (
        "judge",
        "a fit with a scorer has no rounds; the judge here is a trained one",
    ),
    ("runs.pareto_front._front_of", "spread_front"): (
        "seed",
        "the points by which rows are spread are always the same",
    ),
    ("runs.pareto_front._starts", "likely_row"): (
        "seed",
        "the draws among which it is sought are always the same",
    ),
    ("runs.run.Run.edit", "RuleWords"): ("rules", "they are given beside the words"),
    ("runs.run.Run.generate", "RuleWords"): ("rules", "they are given beside the words"),
    ("runs.scorers._columns.RowColumns.gaps", ".min"): ("context", "the least of an array"),
    ("runs.scorers._tensors.TorchForm.__init__", "soften"): (
        "columns",
        "columns of a table here, of flat rows there",
    ),
    ("testing._calling.expectation", ".expectation"): (
        "generator",
        "a method of one's own need not take one",
    ),
    ("testing.strategies.soft_rows", "logits"): ("dtype", "the probabilities are cast to it"),
}


@dataclass(frozen=True)
class Signature:
    """Parameters without `self`: those that may be given by place, and those with a default."""

    places: tuple[str, ...]
    optional: frozenset[str]

    @classmethod
    def of(cls, function: ast.FunctionDef, *, method: bool) -> Signature:
        """Of a function, or of a method of instances."""
        given = function.args
        places = [arg.arg for arg in given.posonlyargs + given.args]
        optional = set(places[len(places) - len(given.defaults) :])
        pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
        optional |= {arg.arg for arg, default in pairs if default is not None}
        return cls(tuple(places[method:]), frozenset(optional))

    def lost(self, call: ast.Call) -> frozenset[str]:
        """Optional parameters that a call does not give."""
        given = {keyword.arg for keyword in call.keywords}
        if None in given or any(isinstance(arg, ast.Starred) for arg in call.args):
            return frozenset()
        return self.optional - given - set(self.places[: len(call.args)])


def annotated(body: list[ast.stmt]) -> dict[str, ast.AnnAssign]:
    """Fields of a class by name."""
    found = [s for s in body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)]
    return {ast.unparse(statement.target): statement for statement in found}


@dataclass
class Package:
    """What the modules of a folder define and import."""

    root: Path
    trees: dict[str, ast.Module] = field(default_factory=dict)
    defined: dict[tuple[str, str], Signature] = field(default_factory=dict)
    imported: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    methods: dict[str, list[Signature]] = field(default_factory=lambda: defaultdict(list))
    fields: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in sorted(self.root.rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            self.trees[name] = tree = ast.parse(path.read_text(encoding="utf-8"))
            for statement in tree.body:
                if isinstance(statement, ast.FunctionDef):
                    self.defined[name, statement.name] = Signature.of(statement, method=False)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom):
                    for alias in node.names:
                        source = (node.module or "").removeprefix("discrete_grad").lstrip(".")
                        self.imported[name, alias.asname or alias.name] = (source, alias.name)
                if isinstance(node, ast.ClassDef):
                    self._read_class(name, node)

    def _read_class(self, module: str, node: ast.ClassDef) -> None:
        own = annotated(node.body)
        self.fields[node.name] = set(own)
        defaults = frozenset(key for key, statement in own.items() if statement.value is not None)
        self.defined[module, node.name] = Signature(tuple(own), defaults)
        for function in node.body:
            if not isinstance(function, ast.FunctionDef):
                continue
            static = any(ast.unparse(d) == "staticmethod" for d in function.decorator_list)
            signature = Signature.of(function, method=not static)
            if function.name == "__init__":
                self.defined[module, node.name] = signature
            elif not function.name.startswith("__"):
                self.methods[function.name].append(signature)

    def signatures(self, module: str, function: ast.expr) -> list[Signature]:
        """What may be called: one function or class, or every method of that name."""
        if isinstance(function, ast.Attribute):
            return self.methods.get(function.attr, [])
        place = (module, ast.unparse(function))
        while place not in self.defined and place in self.imported:
            place = self.imported[place]
        return [self.defined[place]] if place in self.defined else []

    def names(self, node: ast.ClassDef, module: str) -> set[str]:
        """Fields of a class and what its `__init__` sets; of commands their options', too."""
        found = set(self.fields[node.name])
        if module.startswith("cli."):
            for statement in annotated(node.body).values():
                for part in ast.walk(statement.annotation):
                    found |= (
                        self.fields.get(part.id, set()) if isinstance(part, ast.Name) else set()
                    )
        for function in node.body:
            if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                stored = [n for n in ast.walk(function) if isinstance(n, ast.Attribute)]
                found |= {n.attr for n in stored if isinstance(n.ctx, ast.Store)}
        return found

    def lost(self) -> dict[tuple[str, str], set[str]]:
        """Caller and what it calls -> names that it has and does not hand on."""
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        for module, tree in self.trees.items():
            for caller, call, known, parts in self._calls(module, tree, module):
                signatures = self.signatures(module, call.func)
                lost = [signature.lost(call) for signature in signatures]
                called = getattr(call.func, "attr", "") or ast.unparse(call.func)
                is_class = called.lstrip("_")[:1].isupper()
                if names := _surely(lost) & (known if is_class else known | parts):
                    dot = "." if isinstance(call.func, ast.Attribute) else ""
                    found[caller, dot + called] |= names
        return dict(found)

    def _calls(
        self,
        module: str,
        node: ast.AST,
        caller: str,
        known: frozenset[str] = frozenset(),
        parts: frozenset[str] = frozenset(),
    ) -> Iterator[tuple[str, ast.Call, frozenset[str], frozenset[str]]]:
        """Calls of a function or class of the package, and the names that their caller has.

        The last are fields of its parameters.
        """
        for child in ast.iter_child_nodes(node):
            name, names, fields = caller, known, parts
            if isinstance(child, ast.ClassDef):
                name, names = f"{caller}.{child.name}", frozenset(self.names(child, module))
            elif isinstance(child, ast.FunctionDef | ast.Lambda):
                given = child.args.posonlyargs + child.args.args + child.args.kwonlyargs
                own = {a.arg for a in given}
                name = f"{caller}.{getattr(child, 'name', 'lambda')}"
                names = known | (own - {"self", "cls"})
                kinds = [a.annotation for a in given if a.annotation]
                words = {n.id for k in kinds for n in ast.walk(k) if isinstance(n, ast.Name)}
                fields = parts.union(*(self.fields.get(word, set()) for word in words))
            elif isinstance(child, ast.Call) and not _foreign(child.func):
                yield caller, child, known, parts
            yield from self._calls(module, child, name, names, fields)


def _surely(lost: list[frozenset[str]]) -> frozenset[str]:
    """What every method of a name would take, and of noise and rules what any one would."""
    grave = frozenset({"generator", "seed", "rules", "rule_context"})
    return frozenset.intersection(*lost) | frozenset().union(*lost) & grave if lost else frozenset()


def _foreign(function: ast.expr) -> bool:
    """Whether a function is that of an imported module, such as `torch.sum`."""
    modules = {"torch", "F", "nn", "np", "math", "json", "os", "plt"}
    return isinstance(function, ast.Attribute) and ast.unparse(function.value) in modules


def test_arguments_are_handed_on_to_what_takes_their_name() -> None:
    found = Package(ROOT).lost()
    listed = {call: set(names.split()) for call, (names, _) in NOT_HANDED_ON.items()}
    assert found == listed


SOURCE = """
from discrete_grad.other import drawn as draw, Config

def called(a, b=1, *, seed=0): ...
def heated(a, beta=1.0): ...

def caller(a, seed, b):
    called(a, b{first})
    return [lambda x: draw(x{second}) for x in a]

def reader(config: Config | None):
    heated(1{fifth})
    Config()  # another one

class Other:
    def climb(self, steps): ...

class Model:
    beta: float = 0.0
    def fit(self, rules):
        self.climb(1{third})
        Config({fourth})
    def climb(self, steps, rules=None): ...
"""
OTHER = """
def drawn(x, seed=0): ...
class Config:
    beta: float = 0.0
    rest: int = 0
"""
WHOLE = (", seed=seed", ", seed", ", rules=rules", "self.beta", ", config.beta")


@pytest.mark.parametrize("lost", [None, 0, 1, 2, 3, 4])
def test_a_lost_argument_is_found(tmp_path: Path, lost: int | None) -> None:
    given = ["" if place == lost else text for place, text in enumerate(WHOLE)]
    words = dict(zip(("first", "second", "third", "fourth", "fifth"), given, strict=True))
    (tmp_path / "here.py").write_text(SOURCE.format(**words))
    (tmp_path / "other.py").write_text(OTHER)
    expected = [
        {("here.caller", "called"): {"seed"}},
        {("here.caller.lambda", "draw"): {"seed"}},
        {("here.Model.fit", ".climb"): {"rules"}},
        {("here.Model.fit", "Config"): {"beta"}},
        {("here.reader", "heated"): {"beta"}},
    ]
    assert Package(tmp_path).lost() == ({} if lost is None else expected[lost])
