"""A run as a notebook and a terminal show it."""

from __future__ import annotations

from html import escape

from discrete_grad.data.table_text import column_facts, listed
from discrete_grad.runs._parts import RunParts

__all__ = ["run_html", "run_text"]


def run_html(run: RunParts) -> str:
    """A small table of what was fitted.

    Example:
        >>> run_html.__name__
        'run_html'
    """
    lines = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(value)}</td></tr>"
        for name, value in _facts(run).items()
    )
    return f"<table>{lines}</table>"


def run_text(run: RunParts) -> str:
    """The same in one line.

    Example:
        >>> run_text.__name__
        'run_text'
    """
    return "; ".join(f"{name}: {value}" for name, value in _facts(run).items())


def _facts(run: RunParts) -> dict[str, str]:
    schema = run.table.schema
    facts = {
        "run": str(run.folder),
        **_sought(run),
        "rows": f"{len(run.table):,}",
        **column_facts(schema),
    }
    if run.rules is not None:
        facts["rules"] = listed([rule.words() for rule in run.rules.rules])
    if (rank := run.held_out.get("spearman")) is not None:
        text = f"{rank:.2f} on rows that it has not seen"
        facts["rank correlation of the estimator with the score"] = text
    return facts


def _sought(run: RunParts) -> dict[str, str]:
    """What rows are sought by: aims, the scorer that was given, or the score and its statistic."""
    schema, facts = run.table.schema, run.scorer_facts
    verb = "minimised" if schema.signs[0] < 0 else "maximised"
    if facts:
        return {"scorer": f"{facts['reference'] or facts['name']}, {verb}"}
    feasible = {} if schema.feasible is None else {"feasible": schema.feasible}
    if schema.aims:
        return {"aims": listed([aim.words for aim in schema.aims]), **feasible}
    return {"score": f"{schema.score}, {verb} by {run.config.maximise}", **feasible}
