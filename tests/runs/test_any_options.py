"""Rows of a run under options in any combination, against all rows, kept or left out one by one."""

import warnings
from itertools import combinations, product
from typing import Any, NamedTuple

import pandas
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import Tensor

from discrete_grad.data import read_table
from discrete_grad.rules import AtMost, Forbid, Imply, Rule
from discrete_grad.runs import FewRowsWarning, Run
from discrete_grad.sampling import seeded
from discrete_grad.training.checkpoint import RunError
from tests.rules import meaning
from tests.runs.small import small_config
from tests.runs.untrained import untrained

Row = tuple[str, str, str]
NAMES = ("cut", "shade", "size")
CATEGORIES = (("fair", "good", "ideal"), ("blue", "grey", "red", "white"), ("large", "small"))
ROWS: list[Row] = list(product(*CATEGORIES))
SHOPS = {"east": 0.2, "north": 0.7, "west": 0.4}
OF_ROWS: list[Rule] = [AtMost(1, {"cut": "ideal", "size": "large"})]
OF_CONTEXTS: list[Rule] = [
    Imply({"shop": "east"}, {"cut": ["fair", "good"]}),
    Forbid({"shop": "west", "size": "small"}),
]
KINDS: dict[str, tuple[bool, bool, list[Rule]]] = {
    "one aim": (False, False, []),
    "one aim, rules": (False, False, OF_ROWS),
    "contexts": (True, False, []),
    "contexts, rules": (True, False, OF_CONTEXTS),
    "aims": (False, True, OF_ROWS),
    "aims, contexts, rules": (True, True, OF_CONTEXTS),
}


class Known(NamedTuple):
    """A run and the rows of its table, in their order."""

    run: Run
    rows: list[Row]
    shops: list[str]
    rules: list[Rule]


@pytest.fixture(scope="module", params=KINDS)
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Known:
    context, aims, rules = KINDS[request.param]
    pick = torch.randint(len(ROWS), (26,), generator=seeded(3)).tolist()
    rows = [ROWS[i] for i in pick]
    shops = [list(SHOPS)[i % 3] for i in range(len(rows))]
    columns: dict[str, Any] = {name: [row[i] for row in rows] for i, name in enumerate(NAMES)}
    columns |= {"yield": [float(i * i % 11) for i in range(len(rows))]}
    columns |= {"cost": [float(i * i % 7) for i in range(len(rows))]} if aims else {}
    columns |= contexts_of(shops) if context else {}
    table = read_table(
        columns,
        score=["yield", "cost:min"] if aims else "yield:min",
        context=["shop", "price"] if context else [],
    )
    assert table.schema.space.categories == CATEGORIES
    folder = tmp_path_factory.mktemp("options") / "run"
    config = small_config(maximise="mean")  # of which small differences remain
    return Known(untrained(table, folder, config, rules=rules), rows, shops, rules)


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    """Options of `generate`, in words."""
    some = st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True)
    options = {
        "rows": draw(st.integers(1, 8)),
        "seed": draw(st.integers(0, 3)),
        "diversity": draw(st.sampled_from([1, 1, 2, 3])),
        "new_only": draw(st.booleans()),
        "only_seen": draw(st.sampled_from([False, False, True])),
    }
    if draw(st.booleans()):
        options["fix"] = "shade=" + "|".join(CATEGORIES[1][i] for i in sorted(draw(some)))
    if draw(st.booleans()):
        cut, size = draw(st.sampled_from(CATEGORIES[0])), draw(st.sampled_from(CATEGORIES[2]))
        options["forbid"] = [f"cut={cut} & size={size}"]
    if draw(st.booleans()):
        options["observed"] = ",".join(draw(st.sampled_from([*combinations(NAMES, 2)])))
    if draw(st.booleans()):
        options |= {"within": draw(st.integers(1, 2)), "of": draw(st.integers(1, 26))}
    return options


def obeys(row: Row, shop: str, known: Known, options: dict[str, Any]) -> bool:
    """What the rules of a fit and the options say, in words of Python."""
    named = dict(zip(NAMES, row, strict=True)) | {"shop": shop}
    fine = all(meaning.obeys(rule, known.run.table.schema.space, named) for rule in known.rules)
    if "fix" in options:
        fine &= row[1] in options["fix"].removeprefix("shade=").split("|")
    for words in options.get("forbid", []):
        fine &= words != f"cut={row[0]} & size={row[2]}"
    if "observed" in options:
        two = [NAMES.index(name) for name in options["observed"].split(",")]
        fine &= any(all(row[i] == seen[i] for i in two) for seen in known.rows)
    if "within" in options:
        fine &= differ(row, known.rows[options["of"] - 1]) <= options["within"]
    if options.get("only_seen"):
        fine &= row in known.rows
    return fine


def columns_of(lines: list[tuple[Row, str]], run: Run) -> dict[str, Any]:
    """Columns of rows and, where there are contexts, of their shops."""
    columns: dict[str, Any] = {n: [row[i] for row, _ in lines] for i, n in enumerate(NAMES)}
    return columns | (contexts_of([s for _, s in lines]) if run.table.schema.context else {})


def contexts_of(shops: list[str]) -> dict[str, Any]:
    return {"shop": shops, "price": [SHOPS[shop] for shop in shops]}


def rows_in(frame: pandas.DataFrame) -> list[Row]:
    return list(zip(*(frame[name] for name in NAMES), strict=True))


def differ(row: Row, other: Row) -> int:
    return sum(a != b for a, b in zip(row, other, strict=True))


def in_table(row: Row, shop: str, known: Known) -> bool:
    bare = not known.run.table.schema.context
    return any(
        row == r and (bare or shop == s) for r, s in zip(known.rows, known.shops, strict=True)
    )


def by_score(rows: list[Row], shop: str, run: Run) -> list[Row]:
    """Rows by the objective, the best first."""
    codes, context = encoded(rows, shop, run)
    order = run.objective(context)(codes).argsort(descending=True)
    return [rows[i] for i in order]


def first(rows: list[Row], shop: str, run: Run) -> Row:
    """Of the best 16 rows by the objective the one that it and the generator place best."""
    codes, context = encoded(rows[:16], shop, run)
    law = run.table.schema.space.log_prob(run.generator(context), codes)
    return rows[int((law.argsort(descending=True).argsort() + torch.arange(len(law))).argmin())]


def encoded(rows: list[Row], shop: str, run: Run) -> tuple[Tensor, Tensor | None]:
    schema = run.table.schema
    numbers = [[own.index(c) for own, c in zip(CATEGORIES, row, strict=True)] for row in rows]
    codes = torch.tensor(numbers, dtype=torch.long).view(-1, len(NAMES))
    if not schema.context:
        return codes, None
    return codes, schema.encode_context(contexts_of([shop]))[0]


@torch.no_grad()
def wanted(rows: list[Row], shop: str, run: Run) -> list[Row]:
    """Rows in the order of `generate`."""
    if not rows:
        return []
    ordered = by_score(rows, shop, run)
    front = first(ordered, shop, run)
    return [front, *(row for row in ordered if row != front)]


@settings(max_examples=20)
@given(options=asked(), data=st.data())
def test_rows_are_those_of_all_that_are_asked_for(
    known: Known, options: dict[str, Any], data: st.DataObject
) -> None:
    run, shops, fixed, contexts = known.run, ["north"], [None], None
    if run.table.schema.context:
        most = 3 if options["diversity"] == 1 else 1
        line = st.tuples(st.sampled_from([*SHOPS]), st.sampled_from([None, *CATEGORIES[0]]))
        lines = data.draw(st.lists(line, min_size=1, max_size=most))
        shops, fixed = ([*column] for column in zip(*lines, strict=True))
        contexts = contexts_of(shops) | {"cut": fixed}
    if run.aims is not None:
        weight = data.draw(st.sampled_from([0.0, 0.5, 1.0]))
        options["tradeoff"] = {"yield": weight, "cost": 1 - weight}
        run = run.at(options["tradeoff"])
    count = options["rows"]
    possible = [
        [row for row in ROWS if obeys(row, shop, known, options) and own in (None, row[0])]
        for shop, own in zip(shops, fixed, strict=True)
    ]
    allowed = [
        [row for row in rows if not (options["new_only"] and in_table(row, shop, known))]
        for rows, shop in zip(possible, shops, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewRowsWarning)
        if not all(possible):
            event("no row is possible")
            with pytest.raises(RunError):
                known.run.generate(contexts, **options)
            return
        found = known.run.generate(contexts, **options)
    got = rows_in(found)
    ordered = [wanted(rows, shop, run)[:count] for rows, shop in zip(allowed, shops, strict=True)]
    if options["diversity"] == 1:
        assert got == [row for rows in ordered for row in rows]
    else:  # some of the rows, on which the search decides
        event("rows apart")
        assert len(got) <= count
        assert {*got} <= {*allowed[0]}
        with torch.no_grad():
            assert got[1:] == by_score(got[1:], shops[0], run)
        assert all(differ(*two) >= options["diversity"] for two in combinations(got, 2))
        ordered = [got]
    where = [shop for shop, rows in zip(shops, ordered, strict=True) for _ in rows]
    marks = [in_table(row, shop, known) for row, shop in zip(got, where, strict=True)]
    assert found["in_table"].tolist() == marks
    if contexts is not None:
        assert found["shop"].tolist() == where
    if got:  # as any rows of one's own
        own = found[[name for name in found if name in (*NAMES, "shop", "price")]]
        scored = known.run.score(own)
        for name in found:
            if name.startswith(("estimated", "judge", "beyond")):
                assert found[name].tolist() == pytest.approx(scored[name].tolist(), rel=1e-5), name


@torch.no_grad()
def edited(row: Row, most: int, shop: str, known: Known, options: dict[str, Any]) -> list[Row]:
    """The best row within one change of a given one, within two, and so on, each of them once."""
    ruled, found = [r for r in ROWS if obeys(r, shop, known, options)], list[Row]()
    for edits in range(1 if row in ruled else most, most + 1):
        best = by_score([r for r in ruled if differ(r, row) <= edits], shop, known.run)[0]
        found += [best] if best not in (row, *found) else []
    return found or [row]


@settings(max_examples=6)  # each of them some searches
@given(options=asked(), most=st.integers(1, 3), data=st.data())
def test_edits_are_the_best_rows_within_so_many_changes(
    known: Known, options: dict[str, Any], most: int, data: st.DataObject
) -> None:
    line = st.tuples(st.sampled_from(ROWS), st.sampled_from([*SHOPS]))
    lines = data.draw(st.lists(line, min_size=1, max_size=2))
    columns = columns_of(lines, known.run)
    # two rules that bar each of two swaps but not both may keep the search from the best row
    options = {name: options[name] for name in ("seed", "fix") if name in options}
    near = [[r for r in ROWS if differ(r, row) <= most] for row, _ in lines]
    if not all(
        any(obeys(r, shop, known, options) for r in rows)
        for rows, (_, shop) in zip(near, lines, strict=True)
    ):
        event("no row is possible")
        with pytest.raises(RunError):
            known.run.edit(columns, edits=most, **options)
        return
    found = known.run.edit(columns, edits=most, **options)
    got = rows_in(found)
    expected = [edited(row, most, shop, known, options) for row, shop in lines]
    assert got == [row for rows in expected for row in rows]
    place = [i + 1 for i, rows in enumerate(expected) for _ in rows]
    assert found["given_row"].tolist() == place
    starts = [lines[i - 1][0] for i in place]
    assert found["edits"].tolist() == [differ(*two) for two in zip(got, starts, strict=True)]


@settings(max_examples=6)
@given(line=st.lists(st.tuples(st.sampled_from(ROWS), st.sampled_from([*SHOPS])), max_size=3))
def test_swaps_are_all_that_the_rules_allow(known: Known, line: list[tuple[Row, str]]) -> None:
    lines = [*line, (ROWS[0], "east")]
    found = known.run.swaps(columns_of(lines, known.run))
    before = known.run.score(columns_of(lines, known.run))
    for place, (row, shop) in enumerate(lines):
        here = found[found["row"] == place + 1]
        got = [
            tuple(new if name == changed else old for name, old in zip(NAMES, row, strict=True))
            for changed, new in zip(here["feature"], here["to"], strict=True)
        ]
        expected = [r for r in ROWS if differ(r, row) == 1 and obeys(r, shop, known, {})]
        assert sorted(got) == sorted(expected)
        assert here["from"].tolist() == [row[NAMES.index(name)] for name in here["feature"]]
        if not got:
            continue
        if known.run.aims is None:  # the best first
            assert here["estimated_effect"].is_monotonic_increasing
        after = known.run.score(columns_of([(r, shop) for r in got], known.run))
        for name in after:
            if name.startswith(("estimated", "judge")):
                gain = after[name] - before[name][place]
                effect = here[f"{name.removesuffix('_score')}_effect"]
                assert effect.tolist() == pytest.approx(gain.tolist(), rel=1e-5, abs=1e-6)


def test_rounds_come_to_every_row_that_the_rules_allow_once(known: Known) -> None:
    run, shops = known.run, ["east", "west"] if known.run.table.schema.context else ["north"]
    contexts = contexts_of(shops) if len(shops) > 1 else None
    found = run.propose(contexts, rows=2)
    assert len(found) == 2 * len(shops)
    with pytest.warns(FewRowsWarning):
        rest = run.propose(contexts, rows=len(ROWS))
    proposed = pandas.concat([found, rest])
    for shop in shops:
        here = proposed[proposed["shop"] == shop] if contexts else proposed
        got = rows_in(here)
        new = [r for r in ROWS if obeys(r, shop, known, {}) and not in_table(r, shop, known)]
        assert sorted(got) == sorted(new)
