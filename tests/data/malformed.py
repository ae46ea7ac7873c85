"""Inputs that are wrong in one way each, with the message a user must see."""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

HEADER = "cut,shade,shop,price,score"
CUTS, SHADES, SHOPS = ("fair", "good", "ideal"), ("D", "E", "F", "G"), ("east", "west")
LINES = [
    f"{CUTS[i % 3]},{SHADES[i % 4]},{SHOPS[i % 2]},{10 + i % 5}.5,{(i * 7) % 11}" for i in range(24)
]


class Malformed(NamedTuple):
    """A wrong input: its name, the arguments of the command, and a part of the message."""

    name: str
    arguments: list[str]
    message: str


def good_table(folder: Path) -> Path:
    """Write a table without faults; fit it with `--score score --context shop price`."""
    return _write(folder, "good.csv", csv_of(LINES))


def malformed_fits(folder: Path) -> Iterator[Malformed]:
    """Wrong inputs for `fit`; the output would go to `folder / "out"`."""
    for name, (path, message) in {**_text_files(folder), **_binary_files(folder)}.items():
        yield Malformed(name, _fit(folder, path), message)
    path = good_table(folder)
    for name, (options, message) in _OPTIONS.items():
        yield Malformed(name, _fit(folder, path, options), message)
    for name, (text, options, message) in _BOTH.items():
        path = _write(folder, f"{name}.csv", text)
        yield Malformed(name, _fit(folder, path, f"--score score {options}"), message)


def malformed_generates(folder: Path, run: Path) -> Iterator[Malformed]:
    """Wrong inputs for `generate`, for a run that was fitted to `good_table` as it says there."""
    out = folder / "new_rows.csv"
    for name, (text, message) in _CONTEXTS.items():
        path = _write(folder, f"contexts_{name}.csv", text)
        yield Malformed(f"contexts_{name}", _generate(run, path, out), message)
    absent = folder / "absent.csv"
    yield Malformed("contexts_absent", _generate(run, absent, out), "there is no file")
    yield Malformed("contexts_directory", _generate(run, folder, out), "is a directory")
    good = _write(folder, "contexts.csv", "shop,price\neast,11.5\n")
    for name, (target, message) in _TARGETS.items():
        yield Malformed(name, _generate(run, good, folder / target), message)


def csv_of(lines: Sequence[str], header: str = HEADER) -> str:
    """CSV text."""
    return "".join(f"{line}\n" for line in (header, *lines))


def _fit(
    folder: Path, path: Path, options: str = "--score score --context shop price"
) -> list[str]:
    return ["fit", str(path), *options.split(), "--out", str(folder / "out")]


def _generate(run: Path, contexts: Path, out: Path) -> list[str]:
    return ["generate", str(run), "--contexts", str(contexts), "--rows", "2", "--out", str(out)]


def _write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _with_row(number: int, line: str) -> str:
    """The good table with another line as its row of that number."""
    return csv_of([*LINES[: number - 1], line, *LINES[number:]])


_IDENTIFIERS = csv_of([f"x{i},{line[line.index(',') + 1 :]}" for i, line in enumerate(LINES)])
_GAPS = csv_of([*LINES, ",D,east,1.5,2", "fair,D,east,,3", "fair,D,east,1.5,"])
_NO_WHOLE_ROW = csv_of([f",{line.partition(',')[2]}" for line in LINES])
_TEXTS: dict[str, tuple[str | bytes, str]] = {
    "empty_file": ("", "is empty"),
    "blank_file": (" \n\n", "is empty"),
    "not_utf8": (
        _with_row(2, "caf\xe9,D,east,1,2").encode("latin-1"),
        "not UTF-8 text: see line 3",
    ),
    "header_not_utf8": (csv_of(LINES, "caf\xe9,b,shop,price,score").encode("latin-1"), "not UTF-8"),
    "utf16": (csv_of(LINES).encode("utf-16"), "not UTF-8"),
    "gzip": (gzip.compress(csv_of(LINES).encode()), "compressed with gzip"),
    "excel": (b"PK\x03\x04" + bytes(40), "a zip archive or an Excel workbook"),
    "short_row": (_with_row(3, "fair,D,east,1.5"), "row 3 has 4 values, the header has 5"),
    "long_row": (_with_row(3, "fair,D,east,1.5,2,3"), "row 3 has 6 values, the header has 5"),
    "open_quote": (_with_row(3, 'fair,"D,east,1.5,2'), "is a quote left open?"),
    "open_quote_at_the_end": (_with_row(24, 'fair,D,east,1.5,"2\n'), "a quote that is left open"),
    "header_only": (f"{HEADER}\n", "no rows"),
    "header_without_newline": (HEADER, "no rows"),
    "one_row": (csv_of(LINES[:1]), "only 1 row"),
    "spaces": (csv_of(LINES).replace(",", " "), "no score column 'score', only 'cut shade"),
    "duplicate_columns": (
        csv_of(LINES, "cut,cut,shop,price,score"),
        "duplicate column names: 'cut'",
    ),
    "unnamed_column": (csv_of(LINES, "cut,,shop,price,score"), "column 2 has no name"),
    "missing_category": (
        _with_row(2, ",D,east,1.5,2"),
        "column 'cut', row 2: the value is missing",
    ),
    "missing_score": (_with_row(4, "fair,D,east,1.5,"), "'score', row 4: the value is missing"),
    "missing_context": (_with_row(4, "fair,D,,1.5,2"), "'shop', row 4: the value is missing"),
    "text_score": (_with_row(3, "fair,D,east,1.5,high"), "row 3: 'high' is not a number"),
    "nan_score": (_with_row(3, "fair,D,east,1.5,nan"), "row 3: nan is not a finite number"),
    "infinite_score": (_with_row(3, "fair,D,east,1.5,-inf"), "row 3: -inf is not a finite number"),
    "infinite_context": (_with_row(5, "fair,D,east,inf,2"), "'price', row 5: inf is not a finite"),
    "constant_score": (csv_of([f"{c},D,east,1,2" for c in CUTS]), "every row has the score 2"),
    "one_category": (
        csv_of([f"fair,D,east,1,{i}" for i in range(9)]),
        "no feature is left: column 'cut' has one category, 'fair': there is nothing to choose",
    ),
    "no_feature": (csv_of(["east,1,2", "west,2,3"], "shop,price,score"), "no feature is left"),
    "identifiers_alone": (
        csv_of([f"x{i},{'ab'[i % 2]},1.5,{i}" for i in range(30)], "cut,shop,price,score"),
        "no feature is left: column 'cut' looks like an identifier, with 30 different values",
    ),
}

_OPTIONS = {
    "score_wanted_otherwise": ("--score score:least", "says what is wanted of column 'score'"),
    "score_twice_both_ways": ("--score score --score score:min", "given twice: 'score'"),
    "further_score_minimised_as_context": (
        "--score score --score price:min --context price",
        "column 'price' cannot be both score and context",
    ),
    "feature_of_no_kind": (
        "--score score --features cut:numeric",
        "no feature column 'cut:numeric'",
    ),
    "feature_of_two_kinds": (
        "--score score --features cut:ordered cut:categorical",
        "feature columns are given twice: 'cut'",
    ),
    "score_absent": ("--score scor --context shop", "no score column 'scor'"),
    "context_absent": ("--score score --context shops", "did you mean 'shop'?"),
    "feature_absent": ("--score score --features cut colour", "no feature column 'colour'"),
    "score_as_context": ("--score score --context score", "cannot be both score and context"),
    "score_as_feature": ("--score score --features cut score", "cannot be both score and feature"),
    "context_as_feature": (
        "--score score --context shop --features cut shop",
        "cannot be both context and feature",
    ),
    "context_twice": (
        "--score score --context shop shop",
        "context columns are given twice: 'shop'",
    ),
    "feature_twice": ("--score score --features cut cut", "feature columns are given twice: 'cut'"),
    "score_twice": ("--score score --score score", "score columns are given twice: 'score'"),
    "further_score_absent": ("--score score --score prise", "no score column 'prise'"),
    "further_score_as_context": (
        "--score score --score price --context price",
        "column 'price' cannot be both score and context",
    ),
    "further_score_as_feature": (
        "--score score --score price --features cut price",
        "column 'price' cannot be both score and feature",
    ),
    "text_column_as_further_score": (
        "--score score --score price --score shop",
        "column 'shop', row 1: 'east' is not a number",
    ),
    "text_as_number": ("--score score --context shop:numeric", "row 1: 'east' is not a number"),
    "text_column_as_score": ("--score cut --context shop", "row 1: 'fair' is not a number"),
}

# a table and options that do not go together
_BOTH = {
    "identifier_named": (
        _IDENTIFIERS,
        "--features shade cut",
        "column 'cut' looks like an identifier, with 24 different values in 24 rows; "
        "'cut:categorical' keeps it all the same",
    ),
    "gap_in_a_feature": (
        _GAPS,
        "--features cut",
        "column 'score', row 27: the value is missing; with missing='drop' (--missing drop) such",
    ),
    "gap_in_a_numeric_context": (
        _GAPS.replace("1.5,\n", "1.5,4\n"),
        "--context price --missing category",
        "column 'price', row 26: the value is missing; 'price:categorical' makes it a category",
    ),
    "only_gaps": (
        _NO_WHOLE_ROW,
        "--missing category --features cut",
        "column 'cut' has only missing cells: leave it out with exclude= (--exclude)",
    ),
    "gap_in_the_score": (
        _GAPS,
        "--missing category",
        "column 'score', row 27: the value is missing",
    ),
    "no_whole_row": (
        _NO_WHOLE_ROW,
        "--missing drop --features cut",
        "every row has a missing cell: 24 in 'cut'",
    ),
    "bad_cell_after_a_dropped_row": (
        csv_of([",D,east,1.5,2", *LINES[:5], "fair,D,east,1.5,high"]),
        "--missing drop",
        "column 'score', row 7: 'high' is not a number",
    ),
}

_CONTEXTS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "header_only": ("shop,price\n", "no rows"),
    "not_utf8": (b"shop,price\ncaf\xe9,1\n", "not UTF-8"),
    "short_row": ("shop,price\neast,1\nwest\n", "row 2 has 1 value, the header has 2"),
    "column_absent": ("shop\neast\n", "no context column 'price'"),
    "column_of_no_role": ("shop,price,note\neast,1,x\n", "'note' is neither context nor feature"),
    "score_column": ("shop,price,score\neast,1,2\n", "'score' is neither context nor feature"),
    "feature_unseen": ("shop,price,cut\neast,11,\neast,11,far\n", "'cut', row 2: 'far' is not"),
    "unseen": ("shop,price\neast,1\nwst,2\n", "row 2: 'wst' is not among the 2 known categories"),
    "missing": ("shop,price\neast,\n", "column 'price', row 1: the value is missing"),
    "text": ("shop,price\neast,1\nwest,dear\n", "column 'price', row 2: 'dear' is not a number"),
    "infinite": ("shop,price\neast,inf\n", "row 1: inf is not a finite number"),
    "too_far": ("shop,price\neast,1e300\n", "row 1: 1e+300 is too far from the mean"),
    "duplicate": ("shop,shop,price\neast,east,1\n", "duplicate column names: 'shop'"),
}

_TARGETS = {
    "out_suffix": ("new_rows.xlsx", "must end in .csv or .parquet"),
    "out_folder_absent": ("nowhere/new_rows.csv", "there is no folder"),
}


def _text_files(folder: Path) -> dict[str, tuple[Path, str]]:
    files = {
        name: (_write(folder, f"{name}.csv", text), message)
        for name, (text, message) in _TEXTS.items()
    }
    files["absent"] = (folder / "absent.csv", "there is no file")
    files["directory"] = (folder, "is a directory")
    files["csv_called_parquet"] = (
        _write(folder, "text.parquet", csv_of(LINES)),
        "is not a Parquet file",
    )
    return files


def _binary_files(folder: Path) -> dict[str, tuple[Path, str]]:
    rows = [line.split(",") for line in LINES]
    names = HEADER.split(",")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    columns |= {name: [float(value) for value in columns[name]] for name in ("price", "score")}
    good = _parquet(folder, "good", pa.table(columns)).read_bytes()
    listed = pa.table({**columns, "cut": [[cut] for cut in columns["cut"]]})
    undefined = pa.table({**columns, "cut": [float("nan"), *(i % 5 / 2 for i in range(23))]})
    twice = pa.Table.from_arrays([pa.table(columns)[name] for name in names], ["cut", *names[:-1]])
    damaged = bytearray(good)
    damaged[4:40] = b"\xff" * 36
    return {
        "parquet_called_csv": (_write(folder, "binary.csv", good), "is a Parquet file"),
        "truncated_parquet": (
            _write(folder, "truncated.parquet", good[: len(good) // 2]),
            "damaged or truncated",
        ),
        "damaged_parquet": (
            _write(folder, "damaged.parquet", bytes(damaged)),
            "damaged or truncated",
        ),
        "nested_feature": (_parquet(folder, "listed", listed), "which cannot be categories"),
        "nan_feature": (
            _parquet(folder, "undefined", undefined),
            "column 'cut', row 1: the value is missing; with missing='category'",
        ),
        "duplicate_in_parquet": (_parquet(folder, "twice", twice), "duplicate column names: 'cut'"),
        "parquet_without_rows": (
            _parquet(folder, "no_rows", pa.table(columns).slice(0, 0)),
            "no rows",
        ),
    }


def _parquet(folder: Path, name: str, table: pa.Table) -> Path:
    path = folder / f"{name}.parquet"
    pq.write_table(table, path)
    return path
