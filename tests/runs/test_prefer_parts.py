"""Parts of a session of answers, each alone; with contexts and without."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad.data import NumericColumn, Schema, Vocabulary
from discrete_grad.preferences import append_preferences, read_preferences
from tests.runs.small import small_config, small_table
from tests.runs.untrained import untrained

asking = import_module("discrete_grad.runs.prefer")
CUT, SIZE = Vocabulary("cut", ("fair", "good", "ideal")), Vocabulary("size", (1, 2))
BARE = Schema((CUT, SIZE), (), "score")
PRICED = Schema((CUT, SIZE), (NumericColumn("price", 10.0, 2.0),), "score")
FIRST = torch.tensor([[0, 1], [2, 0], [0, 1], [2, 1]])
SECOND = torch.tensor([[2, 0], [0, 1], [1, 0], [2, 0]])
CONTEXT = torch.tensor([[0.5], [0.5], [1.0], [0.123456]])


def pairs(context: Tensor | None = CONTEXT, *places: int) -> Any:
    made = asking._Pairs(FIRST, SECOND, context)
    return made.take(torch.tensor(places)) if places else made


def script(*answers: str) -> Callable[[str], str]:
    """Answers one after the other, and then the end of the input."""
    left = list(answers)

    def ask(prompt: str) -> str:
        assert prompt == "like 1 or 2, t tie, s skip, q quit > "
        if not left:
            raise EOFError
        return left.pop(0)

    return ask


def test_a_pair_has_one_key_whichever_row_comes_first() -> None:
    bare = pairs(None).keys()
    assert bare == [
        ((0, 1), (2, 0), ()),
        ((0, 1), (2, 0), ()),
        ((0, 1), (1, 0), ()),
        ((2, 0), (2, 1), ()),
    ]
    found = pairs().keys()
    assert [key[:2] for key in found] == [key[:2] for key in bare]
    assert [key[2] for key in found] == [("0.5",), ("0.5",), ("1",), ("0.1235",)]
    assert asking._Pairs(SECOND, FIRST, CONTEXT).keys() == found
    assert pairs(CONTEXT, 3, 0).keys() == [found[3], found[0]]
    assert pairs(None, 2).keys() == [bare[2]]


@pytest.mark.parametrize(("schema", "context"), [(BARE, None), (PRICED, CONTEXT)])
def test_an_answer_is_that_of_who_gave_it_to_the_rows_as_they_were_shown(
    tmp_path: Path, schema: Schema, context: Tensor | None
) -> None:
    path = tmp_path / "a.parquet"
    assert asking._answered(path, schema) == set()
    for place, outcome, who in ((0, "second", "ann"), (2, "tie", "bob"), (3, "first", "ann")):
        made = asking._preference(pairs(context, place), outcome, who)
        append_preferences(path, made, schema)
    kept = read_preferences(path, schema)
    assert torch.equal(kept.first, FIRST[[0, 2, 3]])
    assert torch.equal(kept.second, SECOND[[0, 2, 3]])
    assert (kept.outcome.tolist(), kept.annotators) == ([1, 2, 0], ("ann", "bob"))
    assert kept.who.tolist() == [0, 1, 0]
    assert asking._answered(path, schema) == set(pairs(context, 1, 2, 3).keys())


def test_whoever_answers_otherwise_is_asked_again() -> None:
    def told(key: str) -> str:
        return f"{key!r} is none of 1, 2, t, s and q"

    for given, outcome, said in (
        (["1"], "first", []),
        ([" 2 "], "second", []),
        (["T"], "tie", []),
        (["S"], "skip", []),
        (["q"], "quit", []),
        ([], "quit", [""]),
        (["", "3", "12", "t"], "tie", [told(key) for key in ("", "3", "12")]),
    ):
        shown = list[str]()
        assert asking._answer(script(*given), shown.append) == outcome
        assert shown == said


def test_pairs_are_shown_with_their_contexts_and_where_they_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert asking._shown(BARE, pairs(None, 0), 3) == (
        "\npair 3\n      1     2\ncut   fair  ideal  *\nsize  2     1      *"
    )
    assert asking._shown(PRICED, pairs(CONTEXT / CONTEXT, 3), 12) == (
        "\npair 12  price=12.0\n      1      2\ncut   ideal  ideal\nsize  2      1      *"
    )
    monkeypatch.setattr(asking, "_MOST_FEATURES", 1)
    assert asking._shown(BARE, pairs(None, 3), 1) == (
        "\npair 1\n      1  2\nsize  2  1  *\nand 1 equal feature"
    )


@pytest.mark.parametrize("context", [True, False])
def test_no_pair_is_shown_twice_in_either_order(tmp_path: Path, context: bool) -> None:
    """Every second of the pairs that are left is answered, three times."""
    config = small_config()
    table = small_table(12, context=context)
    run = untrained(table, tmp_path / "run", config)
    seen: set[object] = set()
    for _ in range(3):
        fresh = asking._candidates(run, seen, 0).keys()
        assert len(fresh) == len(set(fresh))
        assert not seen & set(fresh)
        assert all(first != second for first, second, _ in fresh)
        seen |= set(fresh[::2])
