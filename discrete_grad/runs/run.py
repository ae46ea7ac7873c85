"""A finished fit, and all that is made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

from discrete_grad.data.frames import as_rows, frame_like
from discrete_grad.data.sources import Source
from discrete_grad.runs._export import export_generator
from discrete_grad.runs._fit_input import given_rules
from discrete_grad.runs._line_rows import rows_of_lines
from discrete_grad.runs._lines import read_lines
from discrete_grad.runs._own_rows import score_rows, swap_rows
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._run_html import run_html, run_text
from discrete_grad.runs._table_rules import GivenRules
from discrete_grad.runs.edit_rows import edit_rows
from discrete_grad.runs.folder_rounds import propose_rows, refitted, tell_rows
from discrete_grad.runs.report import write_report
from discrete_grad.runs.rule_words import RuleWords

__all__ = ["Run", "run_of"]


@dataclass(frozen=True)
class Run(RunParts):
    """A finished fit, which generates rows, scores your own rows, and writes reports and exports.

    `discrete_grad.fit` and `discrete_grad.load_run` make it. Its `aims`, where it has several, are
    the models of each: a `discrete_grad.runs._aims.RunAims`.

    Example:
        >>> import tempfile
        >>> import discrete_grad
        >>> rows = {"cut": ["fair", "good", "ideal"] * 20, "price": [2.0, 1.0, 3.0] * 20}
        >>> quick = {"estimator.steps": 50, "judge.steps": 50, "generator.steps": 50}
        >>> folder = tempfile.mkdtemp()
        >>> run = discrete_grad.fit(rows, score="price", folder=folder, config=quick)
        >>> run.generate(rows=1, new_only=False)["cut"].tolist()
        ['ideal']
        >>> run.score({"cut": ["ideal", "good"]})["rank"].tolist()
        [1, 2]
    """

    def generate(
        self,
        contexts: Source | None = None,
        *,
        rows: int = 8,
        seed: int = 0,
        diversity: int = 1,
        new_only: bool = True,
        rules: GivenRules | str | PathLike[str] = (),
        fix: Sequence[str] | str = (),
        forbid: Sequence[str] | str = (),
        observed: Sequence[str] | str = (),
        only_seen: bool = False,
        within: int | None = None,
        of: int | str | PathLike[str] | None = None,
        tradeoff: Mapping[str, float] | None = None,
        front: int | None = None,
    ) -> Any:
        """Good and different rows for each context, the best by the estimator's score first.

        Args:
            contexts: a frame, a path or a dict with the context columns; one context as a dict of
                single values; None for a fit without context. A column named like a feature fixes
                that feature in each line where the cell is not empty. Other columns are refused.
            rows: number of different rows for each context.
            seed: seed of every random number.
            diversity: smallest number of features in which any two rows of a context differ.
            new_only: leave out the rows that the table has in the same context.
            rules: rules in addition to those of the fit, or a TOML file of rules.
            fix: `"base=KOH|NaOH"`, one or several.
            forbid: `"base=NaH & solvent=water"`, one or several.
            observed: `"base,solvent"` or `"auto"`, one or several.
            only_seen: write only rows that the table has in some context.
            within: largest number of features in which a row may differ from the row `of`.
            of: row of the table, counted from 1, or a file with one row; by default the best row
                of a table without contexts.
            tradeoff: name of an aim -> its weight, for a fit of several aims; the weights sum to 1.
                By default all weights are equal.
            front: number of rows for each context, spread over all trade-offs; instead of `rows`.

        Returns:
            A frame of the same kind as `contexts`, otherwise of pandas: contexts, features,
            `estimated_score` and `judge_score` in the table's units; `beyond_observed`, whether
            either lies outside the scores observed in the context; and `in_table`. For several aims
            there are `estimated_NAME` and `judge_NAME` of each aim, `probability_...` of thresholds
            and of success, and the weights `tradeoff_NAME`.

        Raises:
            TableError: for contexts that do not fit the run, all faults at once.
            RunError: for rules that leave no row, or numbers out of range.
        """
        words = RuleWords(
            fix=fix,
            forbid=forbid,
            observed=observed,
            only_seen=only_seen,
            within=within,
            of=None if of is None else str(of),
        )
        made = rows_of_lines(
            self,
            read_lines(contexts, self.table.schema),
            rules=given_rules(rules, words, self.table),
            rows=rows,
            seed=seed,
            diversity=diversity,
            new_only=new_only,
            tradeoff=tradeoff,
            front=front,
        )
        return frame_like(contexts, made)

    def score(self, rows: Source) -> Any:
        """Your own rows with their scores by estimator and judge, and their ranks.

        Args:
            rows: a frame, a path or a dict with the features and the context columns; further
                columns are kept.

        Returns:
            A frame of the same kind, otherwise of pandas, in the same order, with the columns
            `estimated_score` and `judge_score` in the table's units, `beyond_observed`, `in_table`
            and `rank`: 1 for the best by the estimator of the rows in the same context. Of several
            aims there are scores of each, as `generate` names them, and the rank is that at the
            run's trade-off.

        Raises:
            TableError: for a missing column or cell or an unknown category, all faults at once.
            RunError: for a run with a feature or a context column named `rank`.
        """
        return score_rows(self, rows)

    def swaps(self, rows: Source) -> Any:
        """Effect of every single swap on your own rows, the best swap of each row first.

        Args:
            rows: as in `score`; one row as a dict of single values.

        Returns:
            A frame of the same kind, otherwise of pandas, with a line for each row and each other
            category of each feature that the run's rules allow: `row`, counted from 1, `feature`,
            `from`, `to`, `estimated_effect` and `judge_effect`, the scores after the swap minus
            those before it, in the table's units, and the scores after it as in `score`.

        Raises:
            TableError: as `score`.
        """
        return swap_rows(self, rows)

    def edit(
        self,
        rows: Source,
        *,
        edits: int = 3,
        rules: GivenRules | str | PathLike[str] = (),
        fix: Sequence[str] | str = (),
        forbid: Sequence[str] | str = (),
        seed: int = 0,
    ) -> Any:
        """The best rows within a few changes of each of your rows, by the generator's objective.

        Args:
            rows: as in `score`; one row as a dict of single values.
            edits: largest number of features in which a row may differ from the given one; at
                least 1.
            rules: as in `generate`.
            fix: as in `generate`.
            forbid: as in `generate`.
            seed: of the search's restarts.

        Returns:
            A frame of the same kind, otherwise of pandas; its columns are those of
            `discrete_grad.runs.edit_rows`.

        Raises:
            TableError: as `score`.
            RunError: for fewer than 1 edit, or a row from which none within them obeys the rules.
        """
        words = RuleWords(fix=fix, forbid=forbid)
        obeyed = given_rules(rules, words, self.table)
        made = edit_rows(self, as_rows(rows), edits=edits, rules=obeyed, seed=seed)
        return frame_like(rows, made)

    def propose(
        self, contexts: Source | None = None, *, rows: int = 16, explore: float = 1.0
    ) -> Any:
        """The most promising rows to be measured next, for each context.

        A Gaussian process over rows and contexts learns from all measurements: the rows of the
        table and the rows given to `tell`, see `Rounds`. The generator guides the search for
        candidates. Rows of the table, measured rows and rows that were proposed before are not
        proposed again in the same context. Every row obeys the rules of the fit, and lies within
        `trust_radius` of an observed row if the fit gives `trust` a weight. Preferences are not
        used. With several aims, a batch is divided among up to 4 trade-offs, drawn at random, and
        a row that misses a threshold counts as one that failed. The expected gain of a row is
        multiplied by the probability that it succeeds, by all failures so far.

        Args:
            contexts: as in `generate`.
            rows: number of different rows for each context, at least 1.
            explore: factor of the uncertainty of the expected scores, at least 0: 0 proposes the
                rows with the highest expected scores, and values above 1 favour rows whose scores
                are uncertain.

        Returns:
            A frame of the same kind as `contexts`, otherwise of pandas: contexts, features and
            `estimated_score` in the table's units, or `estimated_NAME` of each aim. If a context
            has fewer such rows, it gets fewer, with a `FewRowsWarning`.

        Raises:
            TableError: for contexts that do not fit the run, all faults at once.
            RunError: for fewer than 1 row, a negative `explore`, rules that leave no row, or a fit
                with a scorer of one's own, or of thresholds alone.
        """
        run, lines = refitted(self), read_lines(contexts, self.table.schema)
        return frame_like(contexts, propose_rows(run, lines, rows=rows, explore=explore))

    def tell(self, rows: Source, *, measurement: str = "") -> Run:
        """Store measured rows in the run's folder, and fit again to all rows measured so far.

        The rows may have been proposed or not. A measurement is identified by its row, context,
        scores and name, and stored once. So the same table may be given again, also with more rows;
        a measurement that occurs twice in one table counts twice. A repeated measurement with the
        same scores in a later table needs another name.

        A call that is killed has stored the whole table or nothing; when it is called again, it
        continues where it stopped. Two calls at the same time both store their tables.

        Args:
            rows: a frame, a path or a dict with features, contexts and scores. An empty score means
                that the row was not measured yet. Two more columns are read if no column of the fit
                has their name: `failed`, yes or no, for rows that have no score because they
                failed, and `measurement`, the name of each row's measurement, such as a date. Of a
                fit with `feasible` that column is read instead of `failed`.
            measurement: name of the measurement, for rows without one of their own.

        Returns:
            The run of the new fit, which `load_run` loads from now on; this run is unchanged.

        Raises:
            TableError: for a faulty table; nothing of it is stored.
            RunError: as `fit`.
        """
        return run_of(tell_rows(self, rows, measurement))

    def report(self) -> Path:
        """Write `report.html` and `report.json` into the run's folder.

        Returns:
            Path of `report.html`.
        """
        write_report(self)
        return self.folder / "report.html"

    def export(self, path: str | PathLike[str]) -> None:
        """Write the generator as a network, context to logits, for other programs.

        It takes contexts `(N, C)`, encoded by `table.schema.encode_context`, and returns logits
        `(N, D)` with one block of categories per feature. Without contexts it has no input and
        returns `(D,)`. The file's metadata has the columns and categories, as JSON named `schema`.

        Args:
            path: ends in `.pt2` (read by `torch.export.load`) or `.onnx`.

        Raises:
            RunError: for another suffix, for a run with rules, which logits alone do not obey, or
                for an autoregressive generator.
            ImportError: for ONNX without its packages.
        """
        export_generator(self, Path(path))

    def __repr__(self) -> str:
        """One line; the table and the weights are many."""
        return f"<{run_text(self)}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        return run_html(self)


def run_of(parts: RunParts) -> Run:
    """The run of these parts.

    Example:
        >>> issubclass(Run, RunParts)
        True
    """
    return Run(**{item.name: getattr(parts, item.name) for item in fields(RunParts)})
