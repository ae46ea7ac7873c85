"""What lies in the folder of a run: settings, schema, rows, weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from discrete_grad.data import Schema, Table
from discrete_grad.training.checkpoint import RunError, load_tensors, save_tensors, write_atomically
from discrete_grad.training.config import FitConfig

__all__ = ["load_table", "load_weights", "open_folder", "read_settings"]

# what a fit that was killed before it wrote its settings, or its caller's log, may have left
_OURS = {
    "rows.safetensors",
    "schema.json",
    "tensorboard",
    ".config.json.part",
    ".rows.safetensors.part",
    ".schema.json.part",
}


def open_folder(
    folder: Path, table: Table, config: FitConfig, *, resume: bool, source: dict[str, Any]
) -> None:
    """Lay out a new folder, or check that one holds a fit of this table with these settings.

    The settings are written last, so a folder with settings is complete.

    Raises:
        RunError: if the folder is taken or belongs to another fit.
    """
    settings = {"config": json.loads(config.to_json()), "source": source, "table": _digest(table)}
    path = folder / "config.json"
    if path.exists():
        if not resume:
            raise RunError(f"{folder} holds a fit; use --resume or another folder")
        _compare(folder, read_settings(folder), table=settings["table"], config=config)
        return
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is not a folder")
    strangers = {p.name for p in folder.glob("*")} - _OURS if folder.exists() else set()
    if strangers:
        raise RunError(f"{folder} is not empty, it holds {min(strangers)!r}; use another folder")
    write_atomically(folder / "schema.json", table.schema.to_json().encode())
    save_tensors(folder / "rows.safetensors", _tensors(table), {})
    write_atomically(path, json.dumps(settings, indent=2).encode())


def _tensors(table: Table) -> dict[str, Tensor]:
    tensors = {
        "codes": table.codes,
        "scores": table.scores,
        "context": table.context,
        "more_scores": table.more_scores,
    }
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _compare(folder: Path, begun: dict[str, Any], *, table: str, config: FitConfig) -> None:
    if begun["table"] != table:
        raise RunError(f"{folder} is a fit of another table")
    before, now = _flatten(asdict(begun["config"])), _flatten(asdict(config))
    for name, value in now.items():
        if before[name] != value:
            raise RunError(
                f"{folder} was begun with {name} = {before[name]}, not {value}; "
                "resume with the same settings"
            )


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        nested = isinstance(value, dict)
        flat |= _flatten(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return flat


def _digest(table: Table) -> str:
    digest = hashlib.sha256(table.schema.to_json().encode())
    for tensor in _tensors(table).values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_settings(folder: Path) -> dict[str, Any]:
    """What `open_folder` wrote: `config` (a FitConfig), `source` and the table's digest.

    Raises:
        RunError: if there is no fit or its settings are damaged.
    """
    path = folder / "config.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        config = FitConfig.from_json(json.dumps(content["config"]))
        return {"config": config, "source": content["source"], "table": content["table"]}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{folder} holds no fit: {path.name} is missing") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path} is damaged, or of another version: {error}") from error


def load_table(folder: Path) -> Table:
    """The table a run was fitted to."""
    tensors, _ = load_tensors(folder / "rows.safetensors")
    try:
        schema = Schema.from_json((folder / "schema.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder / 'schema.json'} is missing or damaged: {error}") from error
    more = tensors.get("more_scores")
    return Table(schema, tensors["codes"], tensors["scores"], tensors.get("context"), more)


def load_weights(model: nn.Module, path: Path) -> dict[str, Any]:
    """Load a finished stage's weights into its model; returns their metadata."""
    tensors, metadata = load_tensors(path)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(f"{path} does not fit the run's settings") from error
    return metadata
