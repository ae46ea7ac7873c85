"""Tables whose content is known, written as CSV and Parquet in every way, some with one fault."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

NAMES = ["cut", "the, shade", 'a "quoted" name', "größe", "a;b|c", "two\nlines", " padded ", "=1+1"]
# what else could be meant by a text of digits, and what a spreadsheet would run
ODD_TEXTS = [
    "",
    " ",
    "  a ",
    "a\r\nb",
    '"',
    ",",
    ";",
    "\t",
    "null",
    "=1+1",
    "@x",
    "-a",
    "é",
    "\U0001d518",
]
DELIMITERS = [",", ";", "\t", "|"]
COMPRESSIONS = ["none", "snappy", "gzip", "zstd"]
FAULTS = ["missing score", "no score", "infinite score", "missing cell", "ragged row", "not UTF-8"]
SECONDS = datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)


@dataclass
class Column:
    """One column: its kind, its categories in the order of their codes, and a place of each row."""

    name: str
    kind: str
    categories: list[Any]
    codes: list[int]
    type: Any = None
    declared: bool = False

    @property
    def values(self) -> list[Any]:
        """Value of each row; None where it is missing."""
        return [None if code < 0 else self.categories[code] for code in self.codes]


@dataclass
class Known:
    """A table, how it is written, and the fault that is planted in it."""

    features: list[Column]
    context: list[Column]
    scores: list[float]
    style: dict[str, Any]
    fault: str = ""
    row: int = 0
    column: int = 0
    told: tuple[str, ...] = field(default_factory=tuple)

    @property
    def columns(self) -> list[Column]:
        """All but the scores."""
        return [*self.features, *self.context]

    @property
    def has_missing(self) -> bool:
        """Whether a cell is missing that no fault put there."""
        return any(code < 0 for column in self.columns for code in column.codes)


def texts() -> st.SearchStrategy[str]:
    """Text that is neither a number nor a date."""
    letters = st.characters(exclude_categories=["Cs", "N"], exclude_characters="\0")
    free = st.text(letters, max_size=5).filter(lambda text: not _is_number(text))
    return st.one_of(st.sampled_from(ODD_TEXTS), free)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def values_of(kind: str) -> st.SearchStrategy[Any]:
    """Categories of a kind."""
    return {
        "text": texts(),
        "integers": st.one_of(st.integers(-9, 9), st.integers(-(2**63), 2**63 - 1)),
        "numbers": st.one_of(
            st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0),
            st.sampled_from([1e308, -1e308, 5e-324, 0.1, 1e16]),
        ),
        "narrow numbers": st.integers(-99, 99).map(lambda i: i / 4),
        "booleans": st.booleans(),
        "dates": st.dates(),
        "moments": st.datetimes(*SECONDS).map(lambda t: t.replace(microsecond=0)),
    }[kind]


KINDS = ["text", "integers", "numbers", "narrow numbers", "booleans", "dates", "moments"]


@st.composite
def column(draw: st.DrawFn, name: str, rows: int, *, missing: bool, parquet: bool) -> Column:
    """A column of at least two categories, both of which some row has."""
    kind = draw(st.sampled_from(KINDS))
    most = 2 if kind == "booleans" else 6
    found = draw(st.lists(values_of(kind), min_size=2, max_size=most, unique=True))
    kind_type = draw(st.sampled_from(types_of(kind, found))) if parquet else None
    declared = parquet and kind == "text" and draw(st.booleans())
    categories = found if declared else sorted(found)
    used = min(len(found), rows)
    low = -1 if missing else 0
    codes = draw(st.lists(st.integers(low, used - 1), min_size=rows - 2, max_size=rows - 2))
    if not declared:  # a category that no row has is known by its declaration alone
        kept = sorted({0, 1, *codes} - {-1})
        categories = [categories[code] for code in kept]
        codes = [kept.index(code) if code >= 0 else -1 for code in codes]
    return Column(name, kind, categories, [0, 1, *codes], kind_type, declared)


def types_of(kind: str, values: list[Any]) -> list[Any]:
    """Types of Parquet that hold these values exactly."""
    if kind == "integers":
        bits = [8, 16, 32, 64]
        ranges = {getattr(pa, f"int{b}")(): (-(2 ** (b - 1)), 2 ** (b - 1)) for b in bits}
        ranges |= {getattr(pa, f"uint{b}")(): (0, 2**b) for b in bits}
        return [t for t, (low, high) in ranges.items() if all(low <= v < high for v in values)]
    return {
        "text": [pa.string(), pa.large_string()],
        "numbers": [pa.float64()],
        "narrow numbers": [pa.float16(), pa.float32(), pa.float64(), pa.decimal128(12, 3)],
        "booleans": [pa.bool_()],
        "dates": [pa.date32(), pa.date64()],
        "moments": [pa.timestamp("us"), pa.timestamp("ms"), pa.timestamp("us", tz="UTC")],
    }[kind]


def scores_of(rows: int) -> st.SearchStrategy[list[float]]:
    """Finite scores, tiny and huge ones among them, not all equal."""
    one = st.one_of(
        st.integers(-3, 3).map(float),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([5e-324, 1e308, -1e308, 0.1]),
    )
    drawn = st.lists(one, min_size=rows, max_size=rows)
    return drawn.filter(lambda scores: len(set(scores)) > 1)


@st.composite
def known_tables(draw: st.DrawFn, *, parquet: bool) -> Known:
    """A table, its style and, in a third of the cases, one fault."""
    rows = draw(st.integers(2, 12))
    names = draw(st.permutations(NAMES))
    missing = draw(st.sampled_from([False, False, True]))
    count, contexts = draw(st.integers(1, 4)), draw(st.integers(0, 2))

    def columns(names: list[str]) -> list[Column]:
        return [draw(column(n, rows, missing=missing, parquet=parquet)) for n in names]

    made = Known(
        columns(names[:count]),
        columns(names[4 : 4 + contexts]),
        draw(scores_of(rows)),
        {
            "times": draw(st.sampled_from([1, 1, 1, 200])),
            "delimiter": draw(st.sampled_from(DELIMITERS)),
            "quote": draw(st.booleans()),
            "end": draw(st.sampled_from(["\n", "\r\n"])),
            "mark": draw(st.booleans()),
            "closed": draw(st.booleans()),
            "score last": draw(st.booleans()),
            "compression": draw(st.sampled_from(COMPRESSIONS)),
            "group": draw(st.sampled_from([1, 5, 10**6])),
            "version": draw(st.sampled_from(["1.0", "2.0"])),
        },
    )
    if draw(st.integers(0, 2)) == 0 and not missing:
        faults = [
            f for f in FAULTS if not parquet or f not in ("no score", "ragged row", "not UTF-8")
        ]
        made.fault = draw(st.sampled_from(faults))
        made.row = draw(st.integers(0, rows - 1))
        made.column = draw(st.integers(0, len(made.columns) - 1))
    return made


def write(known: Known, folder: Path, *, parquet: bool) -> Path:
    """Write the table with its fault; `known.told` are the words that a message must have."""
    times = known.style["times"] if not known.fault else 1
    cells = {c.name: [*c.values] * times for c in known.columns}
    scores: list[Any] = [*known.scores] * times
    row, where = known.row, known.columns[known.column].name
    known.told = (f"row {row + 1}",)
    match known.fault:
        case "missing score":
            scores[row], known.told = None, ("'score'", f"row {row + 1}", "missing")
        case "no score":
            scores[row], known.told = "much", ("'score'", f"row {row + 1}", "'much'")
        case "infinite score":
            scores[row], known.told = float("inf"), ("'score'", f"row {row + 1}", "inf")
        case "missing cell":
            cells[where][row], known.told = None, (repr(where), f"row {row + 1}", "missing")
    ordered = (
        {**cells, "score": scores} if known.style["score last"] else {"score": scores, **cells}
    )
    return (_parquet if parquet else _csv)(known, ordered, folder)


def _parquet(known: Known, cells: dict[str, list[Any]], folder: Path) -> Path:
    arrays = {"score": pa.array(cells["score"], pa.float64())}
    for one in known.columns:
        values = cells[one.name]
        if one.declared:
            places = [None if v is None else one.categories.index(v) for v in values]
            dictionary = pa.array(one.categories, one.type)
            arrays[one.name] = pa.DictionaryArray.from_arrays(
                pa.array(places, pa.int32()), dictionary
            )
        else:
            arrays[one.name] = array_of(one, values)
    style = known.style
    pq.write_table(
        pa.table({name: arrays[name] for name in cells}),
        folder / "rows.parquet",
        compression=style["compression"],
        row_group_size=style["group"],
        data_page_version=style["version"],
    )
    return folder / "rows.parquet"


def array_of(column: Column, values: list[Any]) -> Any:
    """The values in the column's type of Parquet."""
    if column.kind == "narrow numbers":
        return pa.array(values, pa.float64()).cast(column.type)
    if column.kind == "moments" and column.type.tz:
        return pa.array(values, pa.timestamp("us")).cast(column.type)
    return pa.array(values, column.type)


def text_of(value: Any) -> str:
    """A cell of a CSV file."""
    return "" if value is None else str(value)


def _csv(known: Known, cells: dict[str, list[Any]], folder: Path) -> Path:
    style = known.style
    special = {*',;\t|"\r\n'}

    def cell(value: Any) -> str:
        text = text_of(value)
        if value is None or (text and not style["quote"] and not special & {*text}):
            return text
        return '"' + text.replace('"', '""') + '"'

    lines = [[cell(name) for name in cells]]
    lines += [[cell(value) for value in row] for row in zip(*cells.values(), strict=True)]
    if known.fault == "ragged row":
        lines[1 + known.row].append("x")
    text = style["end"].join(style["delimiter"].join(line) for line in lines)
    text += style["end"] if style["closed"] else ""
    data = text.encode("utf-8-sig" if style["mark"] else "utf-8")
    if known.fault == "not UTF-8":
        data, known.told = data + b"\xff", ("not UTF-8",)
    (folder / "rows.csv").write_bytes(data)
    return folder / "rows.csv"
