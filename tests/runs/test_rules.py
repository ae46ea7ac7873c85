"""Fits and generated rows under rules."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from discrete_grad.data import Table, read_table
from discrete_grad.policies import Generator
from discrete_grad.rules import AtMost, Exactly, Fix, Forbid, Imply, Observed, Rule, Rules
from discrete_grad.runs import (
    FewRowsWarning,
    Run,
    fit,
    generate,
    load_run,
    polished_row,
    write_report,
)
from discrete_grad.runs._table_rules import joined_rules
from discrete_grad.runs.prefer import _candidates
from discrete_grad.sampling import random_codes, seeded
from discrete_grad.space import CategoricalSpace
from discrete_grad.training import RunError
from tests.runs.small import small_config, small_table, weights_of

FEW = {"steps": 20, "checkpoint_every": 100}


def quick(**changes: Any) -> Any:
    config = small_config(polish=True)
    parts = ("estimator", "judge", "reproduction", "generator")
    config = replace(config, **{name: replace(getattr(config, name), **FEW) for name in parts})
    return replace(config, generator=replace(config.generator, **changes))


RULES = [Forbid({"cut": "ideal", "shade": ["1", "2"]}), Imply({"size": "True"}, {"shade": "3"})]
BY_SHOP = [Imply({"shop": "east"}, {"cut": "fair"}), Forbid({"cut": "good", "shade": "0"})]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("rules") / "run"
    table = small_table(30, context=False)
    return fit(table, folder, quick(), rules=Rules(table.schema.space, RULES, max_states=500))


@pytest.fixture(scope="module")
def by_shop(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = replace(quick(), polish=False)
    return fit(small_table(), tmp_path_factory.mktemp("rules") / "run", config, rules=BY_SHOP)


def broken(columns: dict[str, list[Any]], rules: list[Rule], table: Table) -> int:
    """Written rows that break a rule, each rule asked by itself."""
    schema = table.schema
    codes = schema.encode_features({name: columns[name] for name in schema.space.names})
    if "shop" not in columns:
        return int((~Rules(schema.space, rules).allows(codes)).sum())
    shops = schema.context_spec.categorical  # type: ignore[union-attr]
    context = torch.tensor([[shops.categories[0].index(one)] for one in columns["shop"]])  # type: ignore[union-attr]
    return int((~Rules(schema.space, rules, context=shops).allows(codes, context=context)).sum())


@pytest.mark.filterwarnings("ignore::discrete_grad.runs.FewRowsWarning")
@pytest.mark.parametrize("new_only", [True, False])
@pytest.mark.parametrize("diversity", [1, 2])
@pytest.mark.parametrize("rows", [1, 30])
def test_every_row_obeys(run: Run, new_only: bool, diversity: int, rows: int) -> None:
    given = {"rows": rows, "new_only": new_only, "diversity": diversity}
    columns = generate(run, {}, None, **given)
    assert broken(columns, RULES, run.table) == 0
    further: list[Rule] = [Fix("cut", "ideal")]
    columns = generate(run, {}, None, rules=further, **given)
    assert broken(columns, [*RULES, *further], run.table) == 0
    if not new_only and diversity == 1 and rows == 30:
        # all that the rules allow: ideal with shades 0 and 3 in size False, 3 in True
        assert len(columns["cut"]) == 3


def test_rules_of_a_context_hold_in_it(by_shop: Run) -> None:
    shops, table = ["east", "west", "north"], by_shop.table
    columns: dict[str, list[Any]] = {"shop": shops, "price": [0.2, 0.5, 0.8]}
    contexts = table.schema.encode_context(columns)
    assert contexts is not None
    found = generate(by_shop, columns, contexts, rows=5, new_only=False)
    assert len(found["cut"]) == 15
    assert broken(found, BY_SHOP, table) == 0
    assert {cut for cut, shop in zip(found["cut"], found["shop"], strict=True)} > {"fair"}
    with pytest.raises(RunError, match=r"context row 1: no row obeys .*Fix\('cut', 'ideal'\)"):
        generate(by_shop, columns, contexts, rows=5, rules=[Fix("cut", "ideal")])
    rows = [polished_row(by_shop, context) for context in contexts]
    codes = table.schema.decode_features(torch.stack(rows))
    assert broken(codes | {"shop": shops}, BY_SHOP, table) == 0


def test_the_run_keeps_its_rules(run: Run, tmp_path: Path) -> None:
    loaded = load_run(run.folder)
    assert loaded.rules == run.rules
    assert loaded.rules is not None
    assert loaded.rules.max_states == 500
    schema = run.table.schema
    for most in (400, 600):
        further = Rules(schema.space, [Fix("cut", "good")], max_states=most)
        joined = joined_rules(schema, loaded.rules, further)
        assert joined is not None
        assert joined.max_states == max(most, 500)
    assert generate(loaded, {}, None, rows=3) == generate(run, {}, None, rows=3)
    shutil.copytree(run.folder, folder := tmp_path / "run")
    (folder / "rules.toml").write_text("")
    with pytest.raises(RunError, match=r"rules.toml was changed after the fit"):
        load_run(folder)
    (folder / "rules.toml").unlink()
    with pytest.raises(RunError, match=r"rules.toml is missing or damaged"):
        load_run(folder)


def test_a_fit_goes_on_under_the_same_rules(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, folder := tmp_path / "run")
    before, table = weights_of(folder), run.table
    (folder / "weights" / "generator.safetensors").unlink()
    same = Rules(table.schema.space, RULES, max_states=500)
    fit(table, folder, run.config, rules=same, resume=True)
    assert weights_of(folder) == before


def test_the_generator_is_trained_under_the_rules(run: Run, tmp_path: Path) -> None:
    free = fit(run.table, tmp_path / "run", run.config)
    assert free.rules is None
    assert torch.equal(free.reference(), run.reference())
    assert not torch.equal(free.generator(), run.generator())


def test_the_report_tells_of_the_rules(run: Run) -> None:
    report = write_report(run)
    space = run.table.schema.space
    every, rules = space.enumerate(), Rules(space, RULES)
    part = report["rules"]
    assert part["allowed"] == "13 of 24 rows allowed (0.542)"
    assert len(part["words"]) == 2
    forbidden = every[~rules.allows(every)]
    logits = run.generator().double()
    assert part["forbidden"] == pytest.approx(space.log_prob(logits, forbidden).exp().sum().item())
    assert part["forbidden"] == part["forbidden_most"]
    # all rows that are shown obey, those of the baselines among them
    for entry in report["average"]:
        if entry["row"] is not None and entry["name"] != "best training row":
            codes = [c.index(one) for c, one in zip(space.categories, entry["row"], strict=True)]
            assert rules.allows(torch.tensor(codes)), entry["name"]
    entropies = {entry["name"]: entry["entropy"] for entry in report["average"]}
    for name, policy in (("data policy", run.reference), ("generator", run.generator)):
        law = rules.condition(policy().double())
        assert entropies[f"{name}, samples"] == pytest.approx(law.entropy().item())
    random = next(e for e in report["average"] if e["name"] == "random rows")
    assert random["distinct_share"] * report["samples"] <= rules.num_rows
    shown = report["contexts"][0]["probabilities"]
    flat = [p for feature in shown for _, p in feature]
    assert flat == pytest.approx(law.marginals().tolist(), rel=1e-3)
    assert "Rule: never cut=ideal" in (run.folder / "report.html").read_text()


@pytest.mark.slow
def test_rules_of_the_context_are_reported_as_their_mean(by_shop: Run) -> None:
    part = write_report(by_shop)["rules"]
    assert "trained_by" in part
    assert part["trained_by"] == "LeaveOneOut"
    assert 0 < part["forbidden"] < part["forbidden_most"] < 1


def test_few_rows_are_told_with_the_reason(run: Run) -> None:
    with pytest.warns(FewRowsWarning, match="only 13 different rows of 30 that obey the rules"):
        generate(run, {}, None, rows=30, new_only=False)


# --- trust --------------------------------------------------------------------------------------


def sparse_table() -> Table:
    """Rows of 12 features that are all near one of 20."""
    space = CategoricalSpace.from_sizes((4,) * 12)
    noise = seeded(0)
    codes = random_codes(space, 20, generator=noise).repeat(4, 1)
    columns: dict[str, Any] = {f"f{i}": column.tolist() for i, column in enumerate(codes.unbind(1))}
    columns["score"] = (codes.double().sum(1) + torch.arange(80) / 100).tolist()
    return read_table(columns, score="score", features=[f"f{i}:categorical" for i in range(12)])


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = quick(trust=10.0, trust_radius=1.0)
    return fit(sparse_table(), tmp_path_factory.mktemp("trust") / "run", config)


@pytest.mark.filterwarnings("ignore::discrete_grad.runs.FewRowsWarning")
@pytest.mark.parametrize(
    "given",
    [{"rows": 2}, {"rows": 60}, {"rows": 5, "diversity": 3}, {"rows": 9, "new_only": False}],
)
def test_every_row_keeps_the_trust_radius(trusting: Run, given: dict[str, Any]) -> None:
    schema, known = trusting.table.schema, trusting.rows.codes.unique(dim=0)
    columns = generate(trusting, {}, None, **given)
    codes = schema.encode_features({name: columns[name] for name in schema.space.names})
    apart = (codes.unsqueeze(1) != known).sum(-1).amin(1)
    assert apart.max() <= 1
    # they are found although a draw is hardly ever near
    assert len(codes) == given["rows"]
    assert (trusting.table.schema.space.num_rows, len(known)) == (4**12, 20)
    polished = polished_row(trusting, None)
    assert (polished != known).sum(-1).min() <= 1


def test_a_polished_row_begins_near_where_the_most_likely_one_is_not(trusting: Run) -> None:
    space, known = trusting.table.schema.space, trusting.rows.codes.unique(dim=0)
    far = Generator(space)
    some = random_codes(space, 1000, generator=seeded(5))
    apart = (some.unsqueeze(1) != known).sum(-1).amin(1)
    with torch.no_grad():
        far.free_logits.copy_(space.one_hot(some[apart.argmax()]))
    assert apart.max() > 2
    polished = polished_row(replace(trusting, generator=far), None)
    assert (polished != known).sum(-1).min() <= 1


def test_trust_and_rules_hold_together(trusting: Run) -> None:
    schema, known = trusting.table.schema, trusting.rows.codes.unique(dim=0)
    cells = {f"f{i}": ["3"] for i in range(12)}
    rules: list[Rule] = [AtMost(3, cells)]
    with pytest.warns(FewRowsWarning, match="that obey the rules and lie within 1 of an observed"):
        columns = generate(trusting, {}, None, rows=1000, rules=rules)
    codes = schema.encode_features({name: columns[name] for name in schema.space.names})
    assert (codes.unsqueeze(1) != known).sum(-1).amin(1).max() <= 1
    assert Rules(schema.space, rules).allows(codes).all()
    assert len(codes) > 100
    row = polished_row(trusting, None, [Exactly(3, cells)])
    assert (row == 3).sum() == 3


@pytest.mark.slow
def test_pairs_never_seen_are_told(tmp_path: Path) -> None:
    codes = random_codes(CategoricalSpace({"city": 12, "size": 3}), 200, generator=seeded(1))
    city, size = codes.unbind(1)
    columns = {"city": [f"c{i}" for i in city.tolist()], "size": size.tolist()}
    columns |= {"country": [f"n{i % 4}" for i in city.tolist()], "score": (city + size).tolist()}
    table = read_table(columns, score="score")
    part = write_report(fit(table, tmp_path / "free", quick()))["together"]
    assert part["pairs"] == 3
    assert part["usual"] == part["usual_share"] < 0.02
    # a country at random is the city's one time in four
    assert 0.6 < part["share"] < 0.85
    assert part["share"] == pytest.approx(part["unseen"])
    (pair,) = part["sparse"]
    assert (pair["columns"], pair["seen"]) == (["city", "country"], 12)
    seen = Observed(
        ["city", "country"],
        [[a, b] for a, b in zip(columns["city"], columns["country"], strict=True)],
    )
    ruled = fit(table, tmp_path / "ruled", quick(), rules=[seen])
    part = write_report(ruled)["together"]
    assert (part["unseen"], part["share"], part["sparse"]) == (0, 0, [])
    assert json.loads((ruled.folder / "report.json").read_text())["rules"]["words"]


def test_preferences_are_asked_of_rows_that_obey(run: Run) -> None:
    pairs = _candidates(run, set(), seed=0)
    rows, rules = torch.cat([pairs.first, pairs.second]), Rules(run.table.schema.space, RULES)
    known = (rows.unsqueeze(1) == run.table.codes).all(-1).any(1)
    assert rules.allows(rows[~known]).all()
    assert (~known).sum() > 3
