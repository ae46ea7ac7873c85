"""Under the least claim there is, every wrong gradient of the table is found, and no right one."""

from __future__ import annotations

import re

import pytest

from discrete_grad.testing import Subject, run_checks
from tests.testing.mutants import MUTANTS, RIGHT, Mutant
from tests.testing.watched import Watch, compare

FOR_EVERYONE = ("direction", "scale", "fresh_noise", "sums_to_zero")


def subject(mutant: Mutant, seed: int) -> Subject:
    return Subject(mutant.make, facts=mutant.claims, name=mutant.name, seed=seed)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_dies(mutant: Mutant, seed: int) -> None:
    (result,) = run_checks(subject(mutant, seed), only=[mutant.check])
    assert result.status == "failed"
    assert re.search(mutant.words, result.message, re.DOTALL), result.message
    if not seed:
        compare(f"{mutant.check}-{mutant.name}", {"message": result.message})


@pytest.mark.parametrize("right", RIGHT, ids=lambda right: right.name)
def test_what_they_were_made_of_lives(right: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    results = run_checks(subject(right, 0), only=FOR_EVERYONE)
    assert [result.message for result in results if result.status != "passed"] == []
    watch.compare(f"right-{right.name}")
