"""The test-kit on code that is not ours: what third-party layers do with masks, dtypes and noise.

Every layer is a plain function of one feature's logits, called on each feature without checks of
our own and held to the contract of `discrete_grad.testing`. The packages reinmax and entmax are
optional: `pip install 'discrete_grad[bench]'`.

    python -m benchmarks.conformance                    # under a minute
    python -m benchmarks.conformance --rows 2000        # a smoke test of the script
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor
from torch.distributions import OneHotCategoricalStraightThrough
from tqdm import tqdm

from discrete_grad import CategoricalSpace, GumbelSoftmax, ReinMax, StraightThrough
from discrete_grad.testing import CheckResult, Claims, Subject, run_checks

SHOWN = {"passed": "ok", "failed": "**fails**", "skipped": "-"}
# a plain function has no expectation of its own
SKIPPED = {"wrong_f": "the kit's doing, not the layer's"}


def optional(package: str, function: str) -> Callable[..., Any]:
    """A function of a package that may not be installed."""
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(package), function)
    except ImportError:

        def found(*arguments: object, **options: object) -> Any:
            raise ImportError(f"{package} is missing: pip install 'discrete_grad[bench]'")

    return found


reinmax, entmax15, sparsemax = (
    optional("reinmax", "reinmax"),
    optional("entmax", "entmax15"),
    optional("entmax", "sparsemax"),
)


def torch_straight_through(logits: Tensor) -> Tensor:
    """The row of torch's distribution."""
    row: Tensor = OneHotCategoricalStraightThrough(logits=logits).rsample()
    return row


def reinmax_row(logits: Tensor, tau: float = 1.0) -> Tensor:
    """The row of the package reinmax."""
    row: Tensor = reinmax(logits, tau)[0]
    return row


def entmax_row(logits: Tensor) -> Tensor:
    """The row of the package entmax at alpha = 1.5."""
    row: Tensor = entmax15(logits, dim=-1)
    return row


def sparsemax_row(logits: Tensor) -> Tensor:
    """The row of the package entmax at alpha = 2."""
    row: Tensor = sparsemax(logits, dim=-1)
    return row


@dataclass(frozen=True)
class Candidate:
    """A layer to be checked, and the package it comes from."""

    name: str
    make: Callable[..., Any]
    claims: Claims
    package: str

    @property
    def version(self) -> str | None:
        """The version installed, None if there is none."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None


BIASED = Claims(forward="hard", slope=(0.65, 0.8))
MULTILINEAR = Claims(forward="hard", bias="exact on multilinear")
QUADRATIC = Claims(forward="hard", bias="exact on quadratic")
SOFT = functools.partial(Claims, forward="soft")
GUMBEL = F.gumbel_softmax

PEERS = (
    Candidate("F.gumbel_softmax(hard=True)", functools.partial(GUMBEL, hard=True), BIASED, "torch"),
    Candidate("F.gumbel_softmax(hard=False)", GUMBEL, SOFT(slope=(0.65, 0.8)), "torch"),
    Candidate("OneHotCategoricalStraightThrough", torch_straight_through, MULTILINEAR, "torch"),
    Candidate("reinmax.reinmax", reinmax_row, QUADRATIC, "reinmax"),
    Candidate("entmax.entmax15", entmax_row, SOFT(slope=(1.4, 2.0)), "entmax"),
    Candidate("entmax.sparsemax", sparsemax_row, SOFT(slope=(2.0, 5.0)), "entmax"),
)
# the same methods of ours, as a control
OURS = (
    Candidate("GumbelSoftmax", GumbelSoftmax, BIASED, "discrete_grad"),
    Candidate("StraightThrough", StraightThrough, MULTILINEAR, "discrete_grad"),
    Candidate("ReinMax", ReinMax, QUADRATIC, "discrete_grad"),
)


@dataclass(frozen=True)
class Config:
    """The contract on third-party layers."""

    rows: int = 40_000
    """Rows of 1,000 categories drawn in float16."""
    seed: int = 0
    """Of everything random."""
    out: Path = Path("benchmarks/results/conformance.md")
    """Findings."""


def checked(candidate: Candidate, seed: int) -> list[CheckResult]:
    """Every check on one candidate."""
    skip = {} if candidate in OURS else SKIPPED
    subject = Subject(
        candidate.make, facts=candidate.claims, name=candidate.name, skip=skip, seed=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's compiler; the checks look at results
        return run_checks(subject)


def broken_rows(candidate: Candidate, rows: int, seed: int) -> int:
    """Rows of 1,000 equal categories in float16 that hold NaN or do not sum to 1."""
    torch.manual_seed(seed)
    ours = candidate in OURS
    layer = candidate.make(CategoricalSpace({"x": 1000})) if ours else candidate.make
    logits, bad = torch.zeros(2_000, 1000, dtype=torch.float16), 0
    for _ in tqdm(range(rows // 2_000), desc=candidate.name, leave=False, disable=None):
        with torch.no_grad():
            sums = layer(logits).float().sum(-1)
        bad += int((~((sums - 1).abs() < 0.1)).sum())
    return bad


def table(results: dict[str, list[CheckResult]]) -> list[str]:
    """One line a check, one column a candidate; checks that everyone passes are left out."""
    by_check: dict[str, list[str]] = {}
    for found in results.values():
        for result in found:
            by_check.setdefault(result.check, []).append(result.status)
    lines = [f"| check | {' | '.join(f'`{name}`' for name in results)} |"]
    lines.append("|---" * (len(results) + 1) + "|")
    shown = {check: states for check, states in sorted(by_check.items()) if "failed" in states}
    for check, states in shown.items():
        lines.append(f"| {check} | {' | '.join(SHOWN[state] for state in states)} |")
    passed = sorted(check for check in by_check if check not in shown)
    return [*lines, "", f"No layer fails: {', '.join(passed)}. A dash: nothing to check."]


def findings(name: str, results: list[CheckResult]) -> list[str]:
    """Checks that one candidate fails, in the kit's own words."""
    failed = [result for result in results if result.status == "failed"]
    lines = [f"### `{name}`", ""]
    for result in failed:
        message = " ".join(result.message.split("  (")[0].split())
        short = message if len(message) <= 330 else f"{message[:327]}..."
        lines.append(f"- **{result.check}**: {short}")
    return [*lines, *([] if failed else ["Nothing."]), ""]


def page(
    config: Config,
    candidates: list[Candidate],
    results: dict[str, list[CheckResult]],
    broken: dict[str, int],
    missing: list[str],
) -> str:
    """The whole report."""
    packages = {c.package: c.version for c in candidates}
    shown = ", ".join(f"{package} {version}" for package, version in packages.items())
    lines = [
        "# The test-kit on code that is not ours",
        "",
        f"`python -m benchmarks.conformance`, seed {config.seed}; {shown}, CPU.",
        "",
        "Each layer is a plain function that is called on each feature. The checks of",
        "`discrete_grad.testing` run on it, and on three methods of discrete_grad as a control.",
        "A failure need not be a bug by the authors' own promises: it is a point where a layer",
        "differs from our contract. `generator` fails if a layer has no such argument.",
        "",
        *table(results),
        "",
        f"Rows of 1,000 categories in float16, {config.rows:,} drawn, that hold NaN or do not sum "
        "to 1:",
        "",
        "| layer | broken rows |",
        "|---|---|",
        *[f"| `{name}` | {count} |" for name, count in broken.items()],
        "",
        *([f"Not installed, left out: {', '.join(missing)}.", ""] if missing else []),
        "## What each one fails",
        "",
    ]
    for name, found in results.items():
        lines += findings(name, found)
    return "\n".join(lines).rstrip() + "\n"


def main(config: Config) -> None:
    """Check every candidate that is installed; write the report."""
    torch.set_num_threads(1)
    everyone = (*PEERS, *OURS)
    present = [c for c in everyone if c.version is not None]
    missing = sorted({c.package for c in everyone if c.version is None})
    results, broken = {}, {}
    for candidate in tqdm(present, disable=None):
        results[candidate.name] = checked(candidate, config.seed)
        broken[candidate.name] = broken_rows(candidate, config.rows, config.seed)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(page(config, present, results, broken, missing))
    for name, found in results.items():
        failed = [result.check for result in found if result.status == "failed"]
        print(f"{name:34s} {len(failed):2d} fail: {', '.join(failed)}")


if __name__ == "__main__":
    main(tyro.cli(Config))
