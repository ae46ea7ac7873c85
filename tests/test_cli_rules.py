"""Rules at the command line."""

import csv
import tomllib
from pathlib import Path

import pytest

from discrete_grad.cli import main
from discrete_grad.sampling import random_codes, seeded
from discrete_grad.space import CategoricalSpace

QUICK = ["--config", str(Path(__file__).parent / "runs" / "quick.toml")]
CITIES, COUNTRIES = 40, 8
COUNTRY = {f"city{i}": f"country{i % COUNTRIES}" for i in range(CITIES)}
AUTO = '[[Observed]]\nfeatures = "auto"\n'


def city_table(folder: Path) -> Path:
    """A table of 600 rows in which the city decides the country."""
    path = folder / "cities.csv"
    space = CategoricalSpace.from_sizes((CITIES, 6, 8))
    lines = ["city,country,size,colour,score"]
    for city, size, colour in random_codes(space, 600, generator=seeded(0)).tolist():
        score = city * 7 % 11 + size / 2 + 3 * (colour == city % 8)
        lines.append(f"city{city},country{city % COUNTRIES},{size},c{colour},{score}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run under rules that were found in the table."""
    folder = tmp_path_factory.mktemp("cities")
    (folder / "rules.toml").write_text(AUTO)
    words = ["fit", str(city_table(folder)), "--score", "score", "--out", str(folder / "run")]
    rules = ["--rules", str(folder / "rules.toml"), "--forbid", "size=0|1 & colour=c7"]
    assert main([*words, *QUICK, *rules]) == 0
    return folder / "run"


def written(run: Path, *options: str, rows: int = 20) -> list[dict[str, str]]:
    out = run.parent / "rows.csv"
    assert main(["generate", str(run), "--rows", str(rows), "--out", str(out), *options]) == 0
    return list(csv.DictReader(out.read_text().splitlines()))


def test_no_row_of_1000_is_impossible(fitted: Path) -> None:
    (observed,) = tomllib.loads((fitted / "rules.toml").read_text())["Observed"]
    assert observed == {"features": ["city", "country"]}
    rows = written(fitted, rows=1000)
    assert len({tuple(row.values())[:4] for row in rows}) == 1000
    assert not [row for row in rows if COUNTRY[row["city"]] != row["country"]]
    assert not [row for row in rows if row["size"] in "01" and row["colour"] == "c7"]
    assert {row["in_table"] for row in rows} == {"False"}


def test_options_of_generate_add_rules(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = written(fitted, "--fix", "country=country3|country5", "--fix", "size=2..4")
    assert {row["country"] for row in rows} <= {"country3", "country5"}
    assert {row["size"] for row in rows} <= {"2", "3", "4"}
    assert not [row for row in rows if COUNTRY[row["city"]] != row["country"]]
    rows = written(fitted, "--only-seen", "--no-new-only")
    assert {row["in_table"] for row in rows} == {"True"}
    row = {"city": "city1", "country": "country1", "size": "4", "colour": "c0"}
    (fitted.parent / "row.csv").write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    rows = written(fitted, "--within", "1", "--of", str(fitted.parent / "row.csv"), rows=5)
    assert all(sum(found[name] != one for name, one in row.items()) <= 1 for found in rows)
    rows = written(fitted, "--observed", "city,colour", "--forbid", "city=city1 & size=3")
    table = list(csv.DictReader((fitted.parent / "cities.csv").read_text().splitlines()))
    known = {(row["city"], row["colour"]) for row in table}
    assert {(row["city"], row["colour"]) for row in rows} <= known
    assert capsys.readouterr().err == ""


def test_the_report_says_what_the_rules_are(
    fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(fitted)]) == 0
    said = capsys.readouterr().out
    allowed = CITIES * (6 * 8 - 2)
    assert f"Every generated row obeys 2 rules: {allowed:,} of 15,360 rows allowed" in said
    assert "Rule: (city, country) is one of 40 combinations." in said
    assert "Without them the generator would give rows that break one a probability of 8" in said
    assert "have two categories that no row of the table has together" in said
    # the rule is there already
    assert "combinations of city and country" not in said


def test_fit_proposes_rules_of_columns_that_combine_sparsely(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", str(city_table(tmp_path)), "--score", "score", "--out", str(tmp_path / "run")]
    assert main([*words, *QUICK]) == 0
    said = capsys.readouterr().out
    assert "The table has 40 combinations of city and country; independent columns would" in said
    assert '--observed "city,country" of fit or generate' in said
    assert "city and size" not in said
    rows = written(tmp_path / "run", "--observed", "auto", rows=50)
    assert capsys.readouterr().out == "rule: (city, country) is one of 40 combinations\n"
    assert not [row for row in rows if COUNTRY[row["city"]] != row["country"]]
    assert main([*words[:-1], str(tmp_path / "ruled"), "--observed", "auto", *QUICK]) == 0
    assert "rule: (city, country) is one of 40 combinations\n" in capsys.readouterr().out
    rows = written(tmp_path / "ruled", rows=50)
    assert not [row for row in rows if COUNTRY[row["city"]] != row["country"]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("generate RUN --fix cty=city1", "--fix 'cty=city1': no feature 'cty'; did you mean"),
        ("generate RUN --fix city=cityy1", "no category is 'cityy1'; there are 'city0'"),
        ("generate RUN --fix city", "expected feature=category, got 'city'"),
        (
            "generate RUN --fix city=city1 --fix country=country2",
            "these rules together allow no row: Observed(['city', 'country'], 40 combinations), "
            "Fix('city', 'city1'), Fix('country', 'country2')",
        ),
        ("generate RUN --rules none.toml", "the file of rules none.toml does not exist"),
        ("generate RUN --observed city,contry", "no feature 'contry'; did you mean 'country'?"),
        ("generate RUN --within 1 --of 601", "--of must be from 1 to 600, the table's rows, got"),
        ("generate RUN --within 1 --of none.csv", "there is no file"),
        ("fit TABLE --score score --fix size=9", "feature 'size': no category is '9'"),
        (
            "fit TABLE --score score --fix size=2 --forbid size=2",
            "these rules together allow no row: Fix('size', '2'), Forbid({'size': '2'})",
        ),
        ("fit TABLE --score score --rules TABLE", "is not TOML"),
        ("fit TABLE --score score --fix score=1", "no feature 'score'"),
    ],
)  # fmt: skip
def test_wrong_rules_are_one_line_and_leave_nothing_behind(
    words: str,
    told: str,
    fitted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    named = {"RUN": str(fitted), "TABLE": str(fitted.parent / "cities.csv")}
    arguments = [named.get(word, word) for word in words.split()]
    assert main([*arguments, "--out", "out.csv"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("discrete-grad: error: ")
    assert told in line
    assert not list(tmp_path.iterdir())


def test_a_fit_goes_on_under_the_same_rules(
    fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fitted.parent
    words = ["fit", str(folder / "cities.csv"), "--score", "score", "--out", str(fitted), *QUICK]
    kept = (folder / "rules.toml").write_bytes((fitted / "rules.toml").read_bytes())
    assert kept
    assert main(words) == 2
    assert "if only settings of the generator or rules changed" in capsys.readouterr().err
    # what the run keeps is a file of rules
    assert main([*words, "--resume", "--rules", str(folder / "rules.toml")]) == 0
    assert "fitted anew" not in capsys.readouterr().err
