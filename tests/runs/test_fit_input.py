"""What a fit is given beside its table: rules in a file, in words, or as they are."""

import inspect
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from discrete_grad.data import read_table
from discrete_grad.rules import Fix, Forbid, Rules
from discrete_grad.runs import fit
from discrete_grad.runs._fit_input import given_rules, read_input
from discrete_grad.runs.rule_words import RuleWords

COLUMNS = {"cut": ["fair", "good"], "size": [2, 4], "score": [1.0, 2.0]}
FIX, FORBID = Fix("cut", "good"), Forbid({"cut": "fair", "size": "2"})


@pytest.mark.parametrize("kind", [str, Path])
def test_rules_in_words_come_after_those_of_a_file(kind: Any, tmp_path: Path) -> None:
    table, forbid = read_table(COLUMNS, score="score"), ["cut=fair & size=2"]
    path = tmp_path / "rules.toml"
    path.write_text('[[Fix]]\nfeature = "cut"\ncategory = "good"\n')
    for rules in (kind(path), [FIX], Rules(table.schema.space, [FIX])):
        given = given_rules(rules, RuleWords(forbid=forbid), table)
        assert repr(given) == repr([FIX, FORBID])
    assert repr(given_rules(kind(path), RuleWords(), table)) == repr([FIX])
    read = read_input(COLUMNS, score="score", rules=kind(path), forbid=forbid)
    assert repr(read.rules) == repr([FIX, FORBID])


def test_every_option_of_a_fit_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: dict[str, Any] = {}

    def take(*args: Any, **options: Any) -> Any:
        handed.update(options)
        return SimpleNamespace(table=args[0], **options)

    front = sys.modules["discrete_grad.runs.front"]
    for name in ("given_config", "read_input", "fit_table"):
        monkeypatch.setattr(front, name, take)
    monkeypatch.setattr(front, "quiet_bars", lambda quiet: nullcontext(take(None, quiet=quiet)))
    monkeypatch.setattr(front, "run_of", lambda parts: parts)
    options = {name: object() for name in [*inspect.signature(fit).parameters][3:]}
    fit({}, "folder", **options)  # type: ignore[arg-type]
    assert handed == options
    without = fit({}, "folder", scorer="mine:model")  # type: ignore[attr-defined]
    assert (without.scorer, handed["score"]) == ("mine:model", None)
