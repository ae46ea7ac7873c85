"""Rules in TOML and in words: they come back as they were written, and faults are told."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings

from discrete_grad.data import Schema, Table, Vocabulary, read_table
from discrete_grad.rules import (
    AtMost,
    Budget,
    Contains,
    Fix,
    Length,
    Observed,
    OneOf,
    Rule,
    Rules,
    Within,
)
from discrete_grad.runs import read_rules, rules_text
from discrete_grad.runs.rule_words import RuleWords, worded_rules
from discrete_grad.runs.rules_file import parsed_rules
from discrete_grad.testing import rule_lists
from discrete_grad.training import RunError

SCHEMA = Schema(
    (
        Vocabulary("a b", ("x", "y ü", 'q"\\\n\x7f')),
        Vocabulary("c", (1, 2)),
        Vocabulary("d", ("x", "y ü", "q|r", "")),
    ),
    (),
    "score",
)
ODD = Table(SCHEMA, torch.tensor([[0, 0, 0], [1, 1, 3], [2, 0, 2]]), torch.zeros(3), None)


def table(context: bool = False) -> Table:
    """Bases, solvents, temperatures and, maybe, a shop and a weight."""
    columns: dict[str, list[object]] = {
        "base": ["NaH", "KOH", "A|B"] * 20,
        "solvent": ["water", "THF"] * 30,
        "temperature": [i * 1.7 for i in range(60)],
        "score": [float((7 * i) % 60) for i in range(60)],
    }
    if not context:
        return read_table(columns, score="score")
    columns |= {"shop": ["east", "west"] * 30, "weight": [i / 7 for i in range(60)]}
    return read_table(columns, score="score", context=["shop", "weight"])


@settings(max_examples=150)
@given(rule_lists(SCHEMA.space))
def test_rules_come_back_as_they_were_written(rules: list[Rule]) -> None:
    text = rules_text(rules, ODD)
    back = parsed_rules(text, ODD, "rules.toml")
    assert rules_text(back, ODD) == text
    assert len(back) == len(rules)
    try:
        allowed = Rules(SCHEMA.space, rules).enumerate()
    except ValueError:  # they contradict each other
        return
    assert torch.equal(allowed, Rules(SCHEMA.space, back).enumerate())


def test_a_file_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        """
        [[Fix]]
        feature = "temperature"
        category = 41

        [[AtMost]]
        count = 1
        cells = { base = ["NaH", "KOH"], temperature = "0..43" }

        [[Budget]]
        limit = 0.3
        prices.base = { NaH = 0.1, KOH = "1/3" }
        prices.solvent = { water = 0.2 }

        [[Within]]
        edits = 1
        row = { base = "NaH", solvent = "THF" }
        prices = { base = 0.5 }

        [[Observed]]
        features = ["base", "solvent"]

        [[Length]]
        pad = { code = 0 }

        [[When]]
        condition = { shop = "east" }
        [[When.rules.OneOf]]
        feature = "base"
        categories = ["NaH", "A|B"]
        """
    )
    rules = read_rules(path, table(context=True))
    bins = ["[0, 14]", "(14, 30]", "(30, 43]"]
    assert rules[0] == Fix("temperature", "(30, 43]")
    assert rules[1] == AtMost(1, {"base": ["NaH", "KOH"], "temperature": bins})
    prices = {"base": {"NaH": 0.1, "KOH": Budget({"x": {0: 1}}, 1).limit / 3}}
    assert rules[2] == Budget(prices | {"solvent": {"water": 0.2}}, 0.3)
    assert rules[3] == Within({"base": "NaH", "solvent": "THF"}, 1, prices={"base": 0.5})
    assert isinstance(rules[4], Observed)
    assert len(rules[4].rows) == 6
    assert rules[5] == Length(0)
    assert rules[6].rules == (OneOf("base", ["NaH", "A|B"]),)  # type: ignore[attr-defined]
    text = rules_text(rules, table(context=True))
    assert set(parsed_rules(text, table(context=True), "x")) == set(rules)
    # rows that are the table's are not written out
    assert "rows" not in rules_text(rules, table(context=True))


def test_what_a_run_keeps_is_small(tmp_path: Path) -> None:
    seen = Observed(["base", "solvent"], table().codes[:, :2])
    assert "rows" not in rules_text([seen], table())
    fewer = Observed(["base", "solvent"], table().codes[:3, :2])
    assert parsed_rules(rules_text([fewer], table()), table(), "x")[0].rows == (
        ("A|B", "water"), ("KOH", "THF"), ("NaH", "water"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[Forbd]]\ntogether = {}", "rules.toml: no kind of rule 'Forbd'; did you mean 'Forbid'?"),
        ("Fix = 3", "rules.toml: a rule is a table headed [[Fix]], got 3"),
        (
            "[Fix]\nfeature = 'base'",
            "rules.toml: a rule is a table headed [[Fix]], got {'feature': 'base'}",
        ),
        (
            "[[Fix]\n",
            "rules.toml is not TOML: ...",
        ),
        (
            "[[Fix]]\nfeature = 'base'\ncategry = 'NaH'",
            "rules.toml, Fix 1: Fix has no 'categry'; did you mean 'category'?",
        ),
        ("[[Fix]]\nfeature = 'base'", "rules.toml, Fix 1: 'category' is missing"),
        (
            "[[Fix]]\nfeature = ['base']\ncategory = 'NaH'",
            "rules.toml, Fix 1: expected the name of a feature, got ['base']",
        ),
        (
            "[[Fix]]\nfeature = 'bse'\ncategory = 'NaH'",
            "rules.toml, Fix 1: no feature 'bse'; did you mean 'base'?",
        ),
        (
            "[[Forbid]]\ntogether = {base = 'NaH'}\n[[Forbid]]\ntogether = {base = 'NAH'}",
            (
                "rules.toml, Forbid 2: feature 'base': no category is 'NAH'; "
                "there are 'A|B', 'KOH', 'NaH'; did you mean 'NaH'?"
            ),
        ),
        (
            "[[Fix]]\nfeature = 'weight'\ncategory = 3",
            "rules.toml, Fix 1: 'weight' is a context of numbers: rules speak of categories",
        ),
        (
            "[[Fix]]\nfeature = 'temperature'\ncategory = '0..43'",
            (
                "rules.toml, Fix 1: expected one category of 'temperature', "
                "got 3: ['[0, 14]', '(14, 30]', '(30, 43]']"
            ),
        ),
        (
            "[[Forbid]]\ntogether = {}",
            "rules.toml, Forbid 1: Forbid: a rule speaks of at least one feature, got none",
        ),
        (
            "[[Forbid]]\ntogether = 'base'",
            "rules.toml, Forbid 1: together must be a table of features, got 'base'",
        ),
        (
            "[[Forbid]]\ntogether = {base = []}",
            "rules.toml, Forbid 1: feature 'base': expected at least one category, got none",
        ),
        (
            "[[Forbid]]\ntogether = {base = [['NaH']]}",
            "rules.toml, Forbid 1: feature 'base': expected a category, got ['NaH']",
        ),
        (
            "[[AtMost]]\ncount = 1.5\ncells = {base = 'NaH'}",
            "rules.toml, AtMost 1: expected a whole number, got Decimal('1.5')",
        ),
        (
            "[[AtMost]]\ncount = -1\ncells = {base = 'NaH'}",
            "rules.toml, AtMost 1: AtMost: expected a number of features from 0 on, got -1",
        ),
        (
            "[[Budget]]\nlimit = nan\nprices.base = {NaH = 1}",
            "rules.toml, Budget 1: expected a finite number, got Decimal('NaN')",
        ),
        (
            "[[Budget]]\nlimit = true\nprices.base = {NaH = 1}",
            "rules.toml, Budget 1: expected a finite number, got True",
        ),
        (
            "[[Budget]]\nlimit = 'x'\nprices.base = {NaH = 1}",
            "rules.toml, Budget 1: expected a finite number, got 'x'",
        ),
        (
            "[[Budget]]\nlimit = 1\nprices = {base = 1}",
            "rules.toml, Budget 1: prices of 'base' must be a table of features, got 1",
        ),
        ("[[Observed]]\nfeatures = 'base'", "rules.toml, Observed 1: expected a list, got 'base'"),
        (
            "[[Observed]]\nfeatures = ['base', 'base']",
            (
                "rules.toml, Observed 1: Observed: expected different names of "
                "features, got ['base', 'base']"
            ),
        ),
        (
            "[[Observed]]\nfeatures = ['base']\nrows = [['NaH', 'KOH']]",
            "rules.toml, Observed 1: expected rows of 1 categories, got ['NaH', 'KOH']",
        ),
        (
            "[[Avoids]]\nmotif = ['NaH', 'Zn']",
            (
                "rules.toml, Avoids 1: feature 'base': no category is 'Zn'; "
                "there are 'A|B', 'KOH', 'NaH'"
            ),
        ),
        (
            "[[Avoids]]\nmotif = []",
            "rules.toml, Avoids 1: Avoids: expected a motif of 1 to 60 positions, got 0",
        ),
        (
            "[[When]]\ncondition = {shop = 'east'}\n[[When.rules.Fix]]\nfeature = 'bse'\n"
            "category = 'NaH'",
            "rules.toml, When 1, Fix 1: no feature 'bse'; did you mean 'base'?",
        ),
        (
            "[[Within]]\nedits = 1\nrow = {base = 'NaH'}\nprices = 3",
            "rules.toml, Within 1: prices must be a table of features, got 3",
        ),
        (
            "[[Within]]\nedits = 1\nrow = 3",
            "rules.toml, Within 1: row must be a table of features, got 3",
        ),
        (
            "[[Within]]\nedits = 1\nrow = {base = ['NaH', 'KOH']}",
            "rules.toml, Within 1: expected one category of 'base', got 2: ['NaH', 'KOH']",
        ),
        (
            "[[Budget]]\nlimit = 1\nprices = 3",
            "rules.toml, Budget 1: prices must be a table of features, got 3",
        ),
        (
            "[[Budget]]\nlimit = '1/0'\nprices.base = {NaH = 1}",
            "rules.toml, Budget 1: expected a finite number, got '1/0'",
        ),
        (
            "[[Imply]]\ncondition = 3\nconsequence = {base = 'NaH'}",
            "rules.toml, Imply 1: condition must be a table of features, got 3",
        ),
        (
            "[[Imply]]\ncondition = {base = 'NaH'}\nconsequence = 3",
            "rules.toml, Imply 1: consequence must be a table of features, got 3",
        ),
        (
            "[[AtLeast]]\ncount = 1\ncells = 3",
            "rules.toml, AtLeast 1: cells must be a table of features, got 3",
        ),
        (
            "[[When]]\ncondition = 3\n[[When.rules.Fix]]\nfeature = 'base'\ncategory = 'NaH'",
            "rules.toml, When 1: condition must be a table of features, got 3",
        ),
        (
            "[[When]]\ncondition = {shop = 'east'}\nrules = 3",
            "rules.toml, When 1: rules must be a table of features, got 3",
        ),
        ("[[Length]]\nleast = 1", "rules.toml, Length 1: 'pad' is missing"),
        (
            "[[Length]]\npad = 'NaH'\nfeatures = 'base'",
            "rules.toml, Length 1: expected a list, got 'base'",
        ),
        (
            "[[Length]]\npad = {code = 'x'}",
            "rules.toml, Length 1: expected a whole number, got 'x'",
        ),
        (
            "[[Length]]\npad = 'NaH'\nmost = true",
            "rules.toml, Length 1: expected a whole number, got True",
        ),
        (
            "[[Observed]]\nfeatures = ['base']\nrows = 3",
            "rules.toml, Observed 1: expected a list, got 3",
        ),
        ("[[Exactly]]\ncells = {base = 'NaH'}", "rules.toml, Exactly 1: 'count' is missing"),
        (
            "[[Contains]]\nmotiv = 'NaH'",
            "rules.toml, Contains 1: Contains has no 'motiv'; did you mean 'motif'?",
        ),
        (
            "[[Fix]]\nfeature = 'x'\ncategory = 1",
            (
                "rules.toml, Fix 1: no feature 'x'; there are 'base', "
                "'solvent', 'temperature', 'shop'"
            ),
        ),
        (
            "[[When]]\ncondition = {shop = 'east'}\nrules = {}",
            "rules.toml, When 1: When: expected at least one rule, got []",
        ),
    ],
)
def test_a_fault_is_told_in_its_rule(text: str, told: str) -> None:
    with pytest.raises(RunError) as caught:
        parsed_rules(text, table(context=True), "rules.toml")
    # what Python says of TOML is its own
    assert re.sub("(is not TOML: ).*", r"\1...", str(caught.value)) == told


def test_a_code_in_a_motif_is_named_where_all_its_features_agree() -> None:
    space = {"p1": ["A", "C"], "p2": ["A", "C"], "p3": ["C", "G"]}
    table = read_table(space | {"score": [1.0, 2.0]}, score="score", features=[*space])
    for features, motif in ((["p1", "p2"], '["C"]'), (["p1", "p3"], "[{ code = 1 }]")):
        text = rules_text([Contains([1], features=features)], table)
        assert f"motif = {motif}" in text
    text = rules_text([Length(pad=0, most=1, features=["p1", "p2"])], table)
    assert 'pad = "A"' in text


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for path, told in ((tmp_path, "is a directory, not a file"), (tmp_path / "x", "not exist")):
        with pytest.raises(RunError, match=told):
            read_rules(path, table())
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match="is no text"):
        read_rules(tmp_path / "binary.toml", table())


@pytest.mark.parametrize("text", ["", "# [[Fix]]\n# feature = 'base'\n", "Fix = []"])
def test_a_file_without_a_rule_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(RunError, match=r"rules.toml has no rule; one begins with its kind"):
        read_rules(tmp_path / "rules.toml", table())


BEST = {"base": "A|B", "solvent": "THF", "temperature": "(14, 30]"}


@pytest.mark.parametrize(
    ("words", "rules"),
    [
        ({"fix": ["base=NaH", "temperature=41"]}, "Fix(base, NaH) Fix(temperature, (30, 43])"),
        ({"fix": ["base = NaH|KOH"]}, "OneOf(base, [NaH, KOH])"),
        ({"fix": ["base=A|B"]}, "Fix(base, A|B)"),
        ({"fix": ["temperature=30..58"]}, "OneOf(temperature, [(30, 43], (43, 58]])"),
        (
            {"forbid": ["base=NaH|KOH & solvent=water"]},
            "Forbid({base: [NaH, KOH], solvent: water})",
        ),
        ({"observed": ["base, solvent"]}, "Observed([base, solvent], 6 combinations)"),
        ({"only_seen": True}, "Observed([base, solvent, temperature], 42 combinations)"),
        (
            {"within": 2, "of": "1"},
            "Within({base: NaH, solvent: water, temperature: [0, 14]}, 2)",
        ),
        # the best row of the table
        ({"within": 0}, "Within({base: A|B, solvent: THF, temperature: (14, 30]}, 0)"),
        (
            {"within": 1, "of": "FILE"},
            "Within({base: KOH, solvent: THF, temperature: (87, 101]}, 1)",
        ),
    ],
)
def test_words_mean_rules(
    words: dict[str, object], rules: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("row.csv").write_text("solvent,base,temperature\nTHF,KOH,95\n")
    given = {key: "row.csv" if value == "FILE" else value for key, value in words.items()}
    found = worded_rules(RuleWords(**given), table())  # type: ignore[arg-type]
    assert " ".join(map(repr, found)).replace("'", "") == rules


def test_a_file_of_the_row_to_stay_near_has_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    for count in (2, 1200):
        path.write_text("base,solvent,temperature\n" + "NaH,THF,41\n" * count)
        with pytest.raises(RunError) as caught:
            worded_rules(RuleWords(within=1, of=str(path)), table())
        told = f"--of {path}: expected a file with one row, got {count:,}"
        assert str(caught.value) == told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"fix": ["base"]}, "--fix 'base': expected feature=category, got 'base'"),
        ({"fix": ["bse=NaH"]}, "--fix 'bse=NaH': no feature 'bse'; did you mean 'base'?"),
        (
            {"fix": ["base=NAH"]},
            (
                "--fix 'base=NAH': feature 'base': no category is 'NAH'; there "
                "are 'A|B', 'KOH', 'NaH'; did you mean 'NaH'?"
            ),
        ),
        (
            {"fix": ["weight=1"]},
            "--fix 'weight=1': 'weight' is a context of numbers: rules speak of categories",
        ),
        (
            {"forbid": ["base=NaH & solvnt=water"]},
            "--forbid 'base=NaH & solvnt=water': no feature 'solvnt'; did you mean 'solvent'?",
        ),
        (
            {"forbid": ["base=NaH & base=KOH"]},
            "--forbid 'base=NaH & base=KOH': each feature stands there once, got base, base",
        ),
        ({"forbid": [""]}, "--forbid '': expected feature=category, got ''"),
        (
            {"observed": ["base,solv"]},
            "--observed 'base,solv': no feature 'solv'; did you mean 'solvent'?",
        ),
        (
            {"observed": ["base,base"]},
            (
                "--observed 'base,base': Observed: expected different names of "
                "features, got ['base', 'base']"
            ),
        ),
        ({"within": -1, "of": "1"}, "--within must be at least 0, got -1"),
        (
            {"fix": ["=NaH"]},
            "--fix '=NaH': no feature ''; there are 'base', 'solvent', 'temperature', 'shop'",
        ),
        (
            {"fix": "base=NaH|"},
            "--fix 'base=NaH|': feature 'base': no category is ''; there are 'A|B', 'KOH', 'NaH'",
        ),
        ({"forbid": ["base=NaH & "]}, "--forbid 'base=NaH & ': expected feature=category, got ''"),
        (
            {"observed": "shop,weight"},
            (
                "--observed 'shop,weight': no feature 'weight'; there are "
                "'base', 'solvent', 'temperature', 'shop'"
            ),
        ),
        ({"within": 1}, "--within needs --of: a row's number in the table, or a file with it"),
        ({"within": 1, "of": "61"}, "--of must be from 1 to 60, the table's rows, got 61"),
        ({"within": 1, "of": "0"}, "--of must be from 1 to 60, the table's rows, got 0"),
        ({"of": "1"}, "--of names the row of --within, which is missing"),
    ],
)
def test_words_that_mean_none_are_told(words: dict[str, object], told: str) -> None:
    with pytest.raises(RunError) as caught:
        worded_rules(RuleWords(**words), table(context=True))  # type: ignore[arg-type]
    assert str(caught.value) == told
