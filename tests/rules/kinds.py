"""Rules of every kind, in words of one space."""

from __future__ import annotations

from discrete_grad import CategoricalSpace
from discrete_grad.rules import (
    AtLeast,
    AtMost,
    Budget,
    Exactly,
    Fix,
    Forbid,
    Imply,
    Observed,
    OneOf,
    Rule,
    When,
    Within,
)

SPACE = CategoricalSpace(
    {
        "base": ["NaH", "KOH", "none"],
        "solvent": ["water", "THF", "DMF"],
        "ligand": ["XPhos", "SPhos", "none"],
        "heat": 4,
    }
)
EVERY_KIND: list[Rule] = [
    Fix("base", "KOH"),
    OneOf("base", ["KOH", "NaH"]),
    Forbid({"base": "NaH", "solvent": ["water", "THF"]}),
    Imply({"base": "KOH"}, {"ligand": ["XPhos", "none"]}),
    When({"base": "KOH"}, [AtMost(1, {"heat": 3, "solvent": "water"})]),
    AtMost(2, {"base": "KOH", "solvent": "THF", "heat": [0, 1]}),
    AtLeast(1, {"base": "KOH", "solvent": "THF"}),
    Exactly(1, {"ligand": "XPhos", "solvent": "THF"}),
    Budget({"base": {"KOH": 0.1, "NaH": 3.5}, "heat": {3: 0.2}}, limit=0.3),
    Within({"base": "KOH", "solvent": "water", "heat": 0}, edits=1.5, prices={"heat": 0.5}),
    Within(["KOH", "THF", "none", 2], edits=3),
    Observed(["solvent", "ligand"], [["THF", "none"], ["water", "XPhos"], ["DMF", "none"]]),
]
DNA = CategoricalSpace({f"p{i}": ["A", "C", "G", "T", "-"] for i in range(12)})
