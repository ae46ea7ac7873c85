"""Settings of `estimators`: tables of `tables` and numbers of rows."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.tables import EXAMPLES, SIX6

# by lot: numpy.random.default_rng(0).choice of tables_files.factors() without the four of SIX6
BY_LOT = ("VAX2_L139M_R1", "PAX6_REF_R1")
RINGS = (10**3, 10**4, 10**5, 10**6)
DIAMONDS = (10**3, 10**4)


@dataclass(frozen=True)
class Setting:
    """A table's name and how many rows are learnt from; None for as many as the table has."""

    table: str
    rows: int | None = None


def _settings() -> dict[str, Setting]:
    found = {f"ring {rows:,}": Setting("ring", rows) for rows in RINGS}
    found["TF Bind 8"] = Setting(SIX6)
    found["TF Bind 8, 500 rows"] = Setting(SIX6, 500)
    for factor in BY_LOT:
        found[f"TF Bind 8, {factor}"] = Setting(f"tf_bind_8/{factor}")
    found["suzuki"] = Setting("suzuki")
    found |= {f"diamonds {rows:,}": Setting("diamonds", rows) for rows in DIAMONDS}
    found |= {name: Setting(name) for name in ("diamonds", "fair", "flights")}
    return found | {name.partition("/")[2]: Setting(name) for name in EXAMPLES}


SETTINGS = _settings()
"""By the label that the results show; the rows of the complete tables of `load_example` are those
of `generation`, 1,500 of the worst 80%."""
QUICK = {"ring 100": Setting("ring", 100), "cifar10": Setting("nasbench201/cifar10", 100)}
"""Nothing of these is downloaded."""
