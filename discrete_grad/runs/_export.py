"""The generator of a run as a network for other programs."""

from __future__ import annotations

import importlib
import io
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from discrete_grad.atomic import open_atomic
from discrete_grad.policies import Generator
from discrete_grad.runs._parts import RunParts
from discrete_grad.training.checkpoint import RunError

__all__ = ["export_generator"]

_SUFFIXES = (".pt2", ".onnx")
_SCHEMA = "schema"


def export_generator(run: RunParts, path: Path) -> None:
    """Write the run's generator, whole or not at all; see `Run.export`."""
    if path.suffix not in _SUFFIXES:
        raise RunError(f"{path} must end in .pt2 or .onnx")
    if not path.parent.is_dir():
        raise RunError(f"there is no folder {path.parent} to write {path.name} to")
    if run.rules is not None:
        raise RunError("the run has rules, and a network of logits alone does not obey them")
    if not isinstance(run.generator, Generator):
        raise RunError("the generator writes step by step: there is no one network from context")
    program = _program(run.generator.cpu())
    made = _onnx if path.suffix == ".onnx" else _pt2
    data = made(program, run.table.schema.to_json())
    with open_atomic(path) as file:
        file.write(data)


def _program(generator: nn.Module) -> torch.export.ExportedProgram:
    spec: Any = generator.context_spec
    if spec is None:
        return torch.export.export(generator, (), strict=False)
    batch = torch.export.Dim("batch")
    example = torch.zeros(2, spec.width)
    return torch.export.export(
        generator, (example,), dynamic_shapes={"context": {0: batch}}, strict=False
    )


def _pt2(program: torch.export.ExportedProgram, schema: str) -> bytes:
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={_SCHEMA: schema})
    return file.getvalue()


def _onnx(program: torch.export.ExportedProgram, schema: str) -> bytes:
    try:
        importlib.import_module("onnxscript")
        importlib.import_module("onnx")
    except ImportError as error:
        raise ImportError("ONNX is missing: pip install onnx onnxscript") from error
    made: Any = torch.onnx.export(program, dynamo=True, verbose=False)
    made.model.metadata_props[_SCHEMA] = schema
    with tempfile.TemporaryDirectory() as folder:
        made.save(path := Path(folder) / "generator.onnx")
        return path.read_bytes()
