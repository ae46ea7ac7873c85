"""Two rows at a time are shown, and which of them is preferred is kept at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from discrete_grad.data import Schema, TableError
from discrete_grad.grouping import row_groups
from discrete_grad.models import PreferenceModel
from discrete_grad.objectives.preference import OUTCOMES
from discrete_grad.preferences.config import PreferenceConfig
from discrete_grad.preferences.pairs import choose_pairs, random_pairs
from discrete_grad.preferences.preference_file import (
    append_preferences,
    context_columns,
    read_preferences,
)
from discrete_grad.preferences.preference_model import fit_preference_model, new_preference_model
from discrete_grad.preferences.preferences import Preferences
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._shown_pairs import shown_alone
from discrete_grad.sampling import random_indices, seeded
from discrete_grad.training.checkpoint import RunError
from discrete_grad.training.loop import derive_seed

__all__ = ["prefer"]

_POOL = 256  # pairs among which the most telling are chosen
_BLOCK = 8  # pairs chosen at once; then the model learns from the answers
_QUICK = PreferenceConfig(members=6, hidden=(32, 32), steps=200)
_MOST_FEATURES = 20  # more are shown only where the rows differ
_KEYS = {"1": "first", "2": "second", "t": "tie"}
_PROMPT = "like 1 or 2, t tie, s skip, q quit > "

Seen = set[tuple[object, ...]]


@dataclass(frozen=True)
class _Pairs:
    """Rows `(N, F)` to be compared, in contexts `(N, C)`."""

    first: Tensor
    second: Tensor
    context: Tensor | None

    def take(self, indices: Tensor) -> _Pairs:
        context = None if self.context is None else self.context[indices]
        return _Pairs(self.first[indices], self.second[indices], context)

    def keys(self) -> list[tuple[object, ...]]:
        """One for each pair, whichever row comes first."""
        context = self.first[:, :0] if self.context is None else self.context
        rows = zip(self.first.tolist(), self.second.tolist(), context.tolist(), strict=True)
        return [(*map(tuple, sorted((a, b))), tuple(f"{x:.4g}" for x in c)) for a, b, c in rows]


def prefer(
    run: RunParts,
    path: Path,
    *,
    ask: Callable[[str], str],
    show: Callable[[str], None],
    annotator: str = "me",
    pairs: int = 20,
    seed: int = 0,
) -> int:
    """Show pairs of rows until enough are answered, and keep every answer at once.

    Half of the rows are the generator's, half the table's. The pairs whose answers tell most come
    first, by the run's estimators, and by a model of the answers once there are some. A pair that
    was answered is not shown again, and none that another process shows at the same time.

    Args:
        run: a finished fit, on the CPU.
        path: Parquet file; one that exists is gone on with. It is replaced as a whole after every
            answer, so whenever this ends, all answers given are in it.
        ask: prompt -> line; EOFError quits. `input` in a terminal.
        show: takes text to be shown.
        annotator: who answers.
        pairs: answers at most, at least 1.
        seed: with the number of answers in the file, decides every random number.

    Returns:
        How many were answered.

    Raises:
        RunError: for fewer than 1 pair, or a run on another device.
        TableError: for a path that cannot be written, or a file of other preferences.

    Example:
        >>> import tempfile
        >>> from discrete_grad.data import read_table
        >>> from discrete_grad.fitting import EstimatorConfig, GeneratorConfig
        >>> from discrete_grad.runs.fit_config import FitConfig
        >>> from discrete_grad.runs import fit
        >>> table = {"cut": [0, 1, 2] * 20, "score": [0.5, 0.1, 0.9] * 20}
        >>> few, folder = EstimatorConfig(members=2, steps=50), Path(tempfile.mkdtemp())
        >>> config = FitConfig(estimator=few, judge=few, generator=GeneratorConfig(steps=50))
        >>> run = fit(read_table(table, score="score"), folder / "run", config)
        >>> answers = iter(["1", "q"])
        >>> prefer(run, folder / "a.parquet", ask=lambda _: next(answers), show=lambda _: None)
        1
    """
    if pairs < 1:
        raise RunError(f"--pairs must be at least 1, got {pairs}")
    if run.device.type != "cpu":
        raise RunError(f"the run must be on the CPU, where pairs are chosen, got {run.device}")
    schema = run.table.schema
    if path.suffix.lower() != ".parquet" or path.is_dir() or not path.parent.is_dir():
        raise TableError(f"{path} must be a .parquet file in a folder that exists")
    answered, seen = 0, _answered(path, schema)
    for pair in _telling_pairs(run, path, annotator, seen, seed):
        (key,) = pair.keys()
        with shown_alone(path, key) as alone:
            # others answer, too: looked up when nobody else can be shown the pair any more
            if not alone or key in _answered(path, schema):
                continue
            show(_shown(schema, pair, answered + 1))
            outcome = _answer(ask, show)
            if outcome == "quit":
                return answered
            if outcome != "skip":
                append_preferences(path, _preference(pair, outcome, annotator), schema)
                answered += 1
        if answered == pairs:
            return answered
    show("there are no further pairs to compare")
    return answered


def _answered(path: Path, schema: Schema) -> Seen:
    """Keys of the pairs in the file."""
    if not path.exists():
        return set()
    known = read_preferences(path, schema)
    return set(_Pairs(known.first, known.second, known.context).keys())


def _telling_pairs(
    run: RunParts, path: Path, annotator: str, seen: Seen, seed: int
) -> Iterator[_Pairs]:
    """Pairs not seen before, one at a time, by the answers in the file as they come."""
    block = 0
    while True:
        known = read_preferences(path, run.table.schema) if path.exists() else None
        count = len(known) if known else 0
        pool = _candidates(run, seen, derive_seed(seed, "prefer", count, block))
        if not len(pool.first):
            return
        model, asked = _model(run, known, seed), None
        if known and annotator in known.annotators and len(known) >= _BLOCK:
            asked = torch.full((len(pool.first),), known.annotators.index(annotator))
        for index in choose_pairs(
            model, pool.first, pool.second, pool.context, count=_BLOCK, annotator=asked
        ):
            pair = pool.take(index.unsqueeze(0))
            seen.update(pair.keys())
            yield pair
        block += 1


@torch.no_grad()
def _candidates(run: RunParts, seen: Seen, seed: int) -> _Pairs:
    """Different pairs of two different rows, none of them seen."""
    noise, table = seeded(seed), run.table
    here = random_indices(len(table), (_POOL,), generator=noise)
    context = None if table.context is None else table.context[here]
    count = 2 if context is not None else 2 * _POOL
    drawn = run.policy.sample(context, count, generator=noise).view(2, _POOL, -1)
    first, second = table.codes[here].long(), drawn[1]
    if row_groups(table.codes).any():
        second = random_pairs(table.codes, None, _POOL, generator=noise)[1]
        from_table = random_indices(2, (2, _POOL, 1), generator=noise).bool()
        first = torch.where(from_table[0], first, drawn[0])
        second = torch.where(from_table[1], second, drawn[1])
    pairs = _Pairs(first, second, context)
    fresh: dict[tuple[object, ...], int] = {}
    for index, key in enumerate(pairs.keys()):
        if key[0] != key[1] and key not in seen:
            fresh.setdefault(key, index)
    return pairs.take(torch.tensor(list(fresh.values()), dtype=torch.long))


def _model(run: RunParts, known: Preferences | None, seed: int) -> PreferenceModel:
    """Of the answers, once there are enough to choose by; before, the run's estimators."""
    if known is None or len(known) < _BLOCK:
        return PreferenceModel(run.estimator, ties=False).eval()
    model = new_preference_model(
        run.table.schema.space,
        run.table.schema.context_spec,
        _QUICK,
        annotators=len(known.annotators),
        ties=known.has_ties,
        seed=derive_seed(seed, "prefer", "weights"),
    )
    fit_preference_model(model, known, config=_QUICK, seed=seed, stage="learning")
    return model


def _answer(ask: Callable[[str], str], show: Callable[[str], None]) -> str:
    """An outcome, `skip` or `quit`; asks until it is one."""
    while True:
        try:
            key = ask(_PROMPT).strip().lower()
        except EOFError:
            show("")
            return "quit"
        if key in ("s", "q"):
            return "skip" if key == "s" else "quit"
        if key in _KEYS:
            return _KEYS[key]
        show(f"{key!r} is none of 1, 2, t, s and q")


def _preference(pair: _Pairs, outcome: str, annotator: str) -> Preferences:
    code = torch.tensor([OUTCOMES.index(outcome)])
    who = torch.zeros_like(code)
    return Preferences(pair.first, pair.second, code, pair.context, who, (annotator,))


def _shown(schema: Schema, pair: _Pairs, number: int) -> str:
    """A pair as text: a line a feature, marked where the rows differ."""
    context = context_columns(schema, pair.context)
    given = {name: "(missing)" if v[0] is None else v[0] for name, v in context.items()}
    head = "  ".join([f"\npair {number}", *(f"{name}={value}" for name, value in given.items())])
    lines = [("", "1", "2", "")]
    for feature, *codes in zip(schema.features, pair.first[0], pair.second[0], strict=True):
        a, b = (feature.labels[code] for code in codes)
        if a != b or len(schema.features) <= _MOST_FEATURES:
            lines.append((feature.name, a, b, "" if a == b else "*"))
    widths = [max(len(line[i]) for line in lines) for i in range(3)]
    text = ["  ".join([*map(str.ljust, line, widths), line[3]]).rstrip() for line in lines]
    same = len(schema.features) + 1 - len(lines)
    more = [f"and {same} equal feature{'s' * (same > 1)}"] if same else []
    return "\n".join([head, *text, *more])
