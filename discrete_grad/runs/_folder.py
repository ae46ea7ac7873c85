"""Content of the folder of a run: settings, schema, rows, weights."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from torch import Tensor, nn

from discrete_grad.data import Schema, Table
from discrete_grad.preferences.preferences import Preferences
from discrete_grad.rules import Rules
from discrete_grad.runs._content_checks import check_table
from discrete_grad.runs._digests import (
    ROWS,
    digest_of,
    pair_tensors,
    table_digest,
    table_tensors,
    text_digest,
)
from discrete_grad.runs._lock import refuse_links
from discrete_grad.runs._refit import changed_settings, first_stage, forget_stages
from discrete_grad.runs._rounds_folder import newest_fit
from discrete_grad.runs._table_rules import table_rules
from discrete_grad.runs.config_file import as_type, expected
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.runs.rules_file import parsed_rules, rules_text
from discrete_grad.runs.scorers._given import ROLES, Scorers
from discrete_grad.runs.scorers._reference import check_reference
from discrete_grad.runs.scorers.scorer import FRAMES, TENSORS
from discrete_grad.runs.settings import flatten, settings
from discrete_grad.training.checkpoint import (
    RunError,
    load_tensors,
    save_tensors,
    told_as_damage,
    write_atomically,
)

__all__ = [
    "load_preferences",
    "load_rules",
    "load_table",
    "load_weights",
    "open_folder",
    "read_settings",
]

_PREFERENCES, _RULES = "preferences.safetensors", "rules.toml"
_MOST_STATES = 10**7  # of rules, behind a feature
# what a fit that was killed before it wrote its settings, or its caller's log, may have left
_OURS = re.compile(
    r"(preferences|rows|scorer)\.safetensors|rules\.toml|schema\.json|tensorboard"
    r"|\.((preferences|rows|scorer)\.safetensors|rules\.toml|(schema|config)\.json)\..*part"
)


def open_folder(
    folder: Path,
    table: Table,
    config: FitConfig,
    *,
    preferences: Preferences | None = None,
    rules: Rules | None = None,
    scorers: Scorers | None = None,
    resume: bool,
    source: dict[str, Any],
) -> None:
    """Lay out a new folder, or check that one holds a fit of this table with these settings.

    The settings are written last, so a folder with settings is complete.

    Raises:
        RunError: if the folder is taken or belongs to another fit.
    """
    refuse_links(folder)
    settings = {
        "config": json.loads(config.to_json()),
        "source": source,
        "table": table_digest(table),
    }
    settings["version"] = version("discrete_grad")
    if preferences is not None:
        settings["preferences"] = digest_of(pair_tensors(preferences), preferences.annotators)
    text = "" if rules is None else rules_text(rules.rules, table)
    if rules is not None:
        settings["rules"] = {"digest": text_digest(text), "max_states": rules.max_states}
    if scorers is not None:
        settings["scorers"] = scorers.settings
    path = folder / "config.json"
    if path.exists():
        if not resume:
            raise RunError(
                f"{folder} holds a fit; use --resume or another folder (--resume goes on with it; "
                "if only settings of the generator or rules changed, it fits the generator anew)"
            )
        begun = read_settings(folder)
        first = first_stage(begun, settings, config)
        if first is None:
            _compare(folder, begun, settings, config)
        else:
            if newest_fit(folder) != folder:
                raise RunError(
                    f"{folder} holds rounds, whose fits have the settings of the first one; "
                    "fit other settings in another folder"
                )
            forget_stages(folder, first)
            settings["source"] = begun["source"]
        _write_inputs(folder, preferences, text if rules is not None else None)
        if first is not None:
            write_atomically(path, json.dumps(settings, indent=2).encode())
        return
    found = [path.name for path in folder.glob("*")] if folder.exists() else []
    strangers = [name for name in found if not _OURS.fullmatch(name)]
    if strangers:
        raise RunError(f"{folder} is not empty, it holds {min(strangers)!r}; use another folder")
    write_atomically(folder / "schema.json", table.schema.to_json().encode())
    save_tensors(folder / "rows.safetensors", table_tensors(table), {})
    _write_inputs(folder, preferences, text if rules is not None else None)
    if scorers is not None:
        scorers.save(folder)
    write_atomically(path, json.dumps(settings, indent=2).encode())


def _write_inputs(folder: Path, preferences: Preferences | None, rules: str | None) -> None:
    """Write preferences and rules; a fit that was killed may have left those of another."""
    if preferences is not None:
        names = {"annotators": preferences.annotators}
        save_tensors(folder / _PREFERENCES, pair_tensors(preferences), names)
    if rules is not None:
        write_atomically(folder / _RULES, rules.encode())


def _compare(
    folder: Path, begun: dict[str, Any], settings: dict[str, Any], config: FitConfig
) -> None:
    if begun["table"] != settings["table"]:
        raise RunError(f"{folder} is a fit of another table")
    if begun["preferences"] != settings.get("preferences"):
        raise RunError(f"{folder} is a fit of other preferences, or of none")
    if begun["rules"] != settings.get("rules"):
        raise RunError(f"{folder} is a fit under other rules, or under none")
    if begun["scorers"] != settings.get("scorers"):
        raise RunError(f"{folder} is a fit by another scorer or judge, or by none")
    but = " (of a fit by a scorer of one's own, the generator's too)"
    but = but if begun["scorers"] else ", but for those of the generator"
    for name, (before, now) in changed_settings(begun, config).items():
        raise RunError(
            f"{folder} was begun with {name} = {before}, not {now}; "
            f"resume with the same settings{but}, or fit in another folder"
        )


def read_settings(folder: Path) -> dict[str, Any]:
    """Content of `open_folder`'s files: `config` (a FitConfig), `source` and the digests.

    `calibrated` says whether the version that made the run calibrated its models; the file also
    holds the version.

    Raises:
        RunError: if there is no fit or its settings are damaged.
    """
    path = folder / "config.json"
    refuse_links(folder)
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        config = FitConfig.from_json(json.dumps(content["config"]))
        _check_settings(config)
        calibrated = "maximise" in content["config"]  # both came with one version
        kept = {name: content[name] for name in ("source", "table")}
        if not isinstance(source := kept["source"], dict):
            raise ValueError(f"source must be a table, got {source!r:.80}")
        if not isinstance(source.get("example", ""), str):
            raise ValueError(f"the example must be text, got {source['example']!r:.80}")
        kept |= {name: content.get(name) for name in ("preferences", "rules", "scorers")}
        _check_inputs(kept)
        return {"config": config, "calibrated": calibrated, **kept}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{folder} holds no fit: {path.name} is missing") from error
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise RunError(f"{path} is damaged, or of another version: {error!s:.300}") from error


def _check_inputs(kept: dict[str, Any]) -> None:
    """Raise an error for what is said of rules and scorers in a wrong form."""
    rules, scorers = kept["rules"], kept["scorers"]
    if rules is not None and not isinstance(rules["digest"], str):
        raise ValueError(f"the digest of rules must be text, got {rules['digest']!r}")
    states = None if rules is None else rules["max_states"]
    if states is not None and not (type(states) is int and 1 <= states <= _MOST_STATES):
        raise ValueError(f"max_states must be 1 to {_MOST_STATES:,}, got {states!r:.20}")
    if scorers is not None and not (isinstance(scorers, dict) and {*scorers} <= {*ROLES.values()}):
        raise ValueError(f"scorers must be a table of {[*ROLES.values()]}, got {scorers!r}")
    for said in (scorers or {}).values():
        check_reference(said["reference"])
        if not isinstance(said["name"], str) or said["takes"] not in (*TENSORS, *FRAMES):
            raise ValueError(f"a scorer of an unknown form: {said!r}")


def _check_settings(config: FitConfig) -> None:
    """Raise ValueError for a setting of a wrong type or out of range."""
    for name, value in flatten(config).items():
        kind = settings()[name].type
        try:
            if value is not None or type(None) not in get_args(kind):
                as_type(list(value) if isinstance(value, tuple) else value, kind)
        except (TypeError, OverflowError) as error:
            raise ValueError(f"{name} must be {expected(name)}, got {value!r}") from error
    config.check()


def load_table(folder: Path, settings: dict[str, Any]) -> Table:
    """The table a run was fitted to, as `read_settings` of the folder says.

    Raises:
        RunError: if it is missing, damaged, or was changed after the fit.
    """
    path = folder / "rows.safetensors"
    tensors, _ = load_tensors(path)
    try:
        text = (folder / "schema.json").read_text(encoding="utf-8")
        schema = Schema.from_json(text)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RunError(f"{folder / 'schema.json'} is missing or damaged: {error!s:.300}") from error
    with told_as_damage(path):
        return _table(path, schema, text, tensors, settings)


def _table(
    path: Path, schema: Schema, text: str, tensors: dict[str, Tensor], settings: dict[str, Any]
) -> Table:
    """The table of tensors that were read, if they are those of the fit."""
    ordered = {name: tensors[name] for name in ROWS if name in tensors}
    if len(ordered) < len(tensors) or digest_of(ordered, text) != settings["table"]:
        raise RunError(f"{path} or schema.json was changed after the fit, or is of another one")
    check_table(tensors, schema)
    further = {name: tensors.get(name) for name in ("context", "more_scores", "failed_context")}
    failed = tensors.get("failed_codes")
    return Table(
        schema,
        tensors["codes"].to(schema.code_dtype),
        tensors["scores"],
        failed_codes=None if failed is None else failed.to(schema.code_dtype),
        **further,
    )


def load_preferences(folder: Path, settings: dict[str, Any], schema: Schema) -> Preferences | None:
    """The preferences a run was fitted to; None for a fit without.

    Raises:
        RunError: if the file is missing or damaged, or was changed after the fit.
    """
    if settings["preferences"] is None:
        return None
    tensors, names = load_tensors(path := folder / _PREFERENCES)
    with told_as_damage(path):
        found = Preferences(**tensors, annotators=tuple(map(str, names["annotators"])))
        found.check(schema.space, schema.context_spec)
        if digest_of(pair_tensors(found), found.annotators) != settings["preferences"]:
            raise RunError(f"{path} was changed after the fit, or is of another one")
    return found


def load_rules(folder: Path, settings: dict[str, Any], table: Table) -> Rules | None:
    """The rules a run was fitted under; None for a fit without."""
    if settings["rules"] is None:
        return None
    path = folder / _RULES
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is missing or damaged: {error!s:.300}") from error
    if text_digest(text) != settings["rules"]["digest"]:
        raise RunError(f"{path} was changed after the fit; further rules are an option of generate")
    given = parsed_rules(text, table, str(path))
    return table_rules(table.schema, given, max_states=settings["rules"]["max_states"])


def load_weights(model: nn.Module, path: Path) -> dict[str, Any]:
    """Load a finished stage's weights into its model; returns their metadata.

    Raises:
        RunError: if the file is missing, damaged, of other settings, or holds a number that is not
            finite.
    """
    tensors, metadata = load_tensors(path)
    own = model.state_dict()
    for name, tensor in tensors.items():
        if name in own and tensor.dtype != own[name].dtype:
            wanted = f"{own[name].dtype}, got {tensor.dtype}"
            raise RunError(f"{path} does not fit the run's settings: {name} must be {wanted}")
        if not tensor.isfinite().all():
            raise RunError(f"{path} is damaged: {name} holds NaN or infinity")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(f"{path} does not fit the run's settings") from error
    return metadata
