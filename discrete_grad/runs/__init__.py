"""The command line's job: the folder of one fit, its stages, and what is made from it."""

from discrete_grad.fitting.units import ScoreUnits
from discrete_grad.runs.config_file import config_text, read_config
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.runs.front import fit, load_run
from discrete_grad.runs.generate import (
    FewRowsWarning,
    check_columns,
    generate,
    part_path,
    polished_row,
)
from discrete_grad.runs.prefer import prefer
from discrete_grad.runs.report import write_report
from discrete_grad.runs.rules_file import read_rules, rules_text
from discrete_grad.runs.run import Run

__all__ = [
    "FewRowsWarning",
    "FitConfig",
    "Run",
    "ScoreUnits",
    "check_columns",
    "config_text",
    "fit",
    "generate",
    "load_run",
    "part_path",
    "polished_row",
    "prefer",
    "read_config",
    "read_rules",
    "rules_text",
    "write_report",
]
