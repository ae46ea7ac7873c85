"""Damage to the folder of a run, of every kind that a stranger or a disk may do."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from discrete_grad.data import Schema
from discrete_grad.runs._digests import ROWS, digest_of, text_digest
from discrete_grad.training.checkpoint import load_tensors, save_tensors

VALUES: list[Any] = [None, True, False, -1, 0, 1, 3, 10**6, 10**18, 10**400, 0.5, -0.0, 1e308]
VALUES += [float("nan"), float("inf"), "", "0", "cut", "x" * 3000, "\x00", "\x1b[2J\n", [], {}]
VALUES += [[[]], [None], [10**9] * 3, {"a": 1}, [0] * 5000, "os:abort", "../../x"]
DTYPES: tuple[torch.dtype, ...] = (
    torch.bool,
    torch.int8,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
)
DTYPES += (torch.bfloat16, torch.complex64)


def damage(folder: Path, rng: random.Random) -> str:
    """Damage one file of a run in one way; returns which and how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    path = rng.choice([p for p in files if p.parent.name != "trail" or p.stem == "000001"])
    ways: list[Callable[[Path, random.Random], str]] = [cut, flip, swap, link, lose]
    if path.suffix == ".safetensors":
        ways = [*ways, tensors, tensors, tensors, tensors, numbers]
    elif path.suffix in (".json", ".jsonl"):
        ways = [*ways, *[content] * 6]
    elif path.suffix == ".toml":
        ways = [*ways, *[words] * 4]
    way = rng.choice(ways)
    done = f"{path.relative_to(folder)}: {way.__name__} {way(path, rng)}"
    # who opened a pipe or read all zeros, as this would, would never end
    if rng.random() < 0.6 and not done.endswith(("to pipe", "to /dev/zero")):
        make_digests_fit(path.parent)
    return done


def cut(path: Path, rng: random.Random) -> str:
    """A part of the file is left, or more than all of it."""
    data = path.read_bytes()
    place = rng.randrange(len(data) + 1)
    path.write_bytes(rng.choice([data[:place], data[place:], data + data, data + b"\0" * 99]))
    return f"at {place}"


def flip(path: Path, rng: random.Random) -> str:
    """Some bytes are others."""
    data = bytearray(path.read_bytes())
    places = [rng.randrange(len(data)) for _ in range(rng.choice([1, 1, 2, 50]))]
    for place in places:
        data[place] = rng.randrange(256)
    path.write_bytes(bytes(data))
    return f"bytes {places[:5]}"


def swap(path: Path, rng: random.Random) -> str:
    """Another file of the run lies in its place."""
    others = sorted(p for p in path.parent.rglob("*") if p.is_file() and p != path)
    if not others:
        return lose(path, rng)
    other = rng.choice([p for p in others if p.suffix == path.suffix] or others)
    shutil.copy(other, path)
    return f"for {other.name}"


def link(path: Path, rng: random.Random) -> str:
    """A link, a folder or a pipe lies in its place."""
    path.unlink()
    target = rng.choice(["/nowhere", path.name, "/dev/zero", "/etc/passwd", "folder", "pipe", ".."])
    if target in ("folder", "pipe"):
        path.mkdir() if target == "folder" else os.mkfifo(path)
    else:
        path.symlink_to(target)
    return f"to {target}"


def lose(path: Path, rng: random.Random) -> str:
    """It is not there."""
    path.unlink()
    return ""


def content(path: Path, rng: random.Random) -> str:
    """A part of a JSON file is left out, or is something else."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    place = rng.randrange(len(lines))
    held, said = mutated(json.loads(lines[place]), rng)
    lines[place] = json.dumps(held)
    path.write_text("\n".join(lines))
    return said


def words(path: Path, rng: random.Random) -> str:
    """Words of a TOML file are others."""
    parts = path.read_text().split()
    place = rng.randrange(len(parts))
    parts[place] = rng.choice(["=", "'x'", "1e999", "[[", "9" * 5000, "nan", "", "[[Nothing]]"])
    path.write_text("\n".join(parts))
    return f"{place}: {parts[place][:20]}"


def tensors(path: Path, rng: random.Random) -> str:
    """A tensor of a file is another, has another name, or is not there."""
    held, metadata = load_tensors(path)
    if not held:
        return cut(path, rng)
    name = rng.choice(sorted(held))
    tensor = held.pop(name)
    ways: list[Callable[[Tensor], Tensor]] = [
        lambda t: t.flatten()[:1],
        lambda t: t[:0] if t.dim() else t,
        lambda t: t.unsqueeze(0),
        lambda t: torch.cat([t.flatten(), t.flatten()]),
        lambda t: t.to(rng.choice(DTYPES)),
        lambda t: spoilt(t, rng),
        lambda t: torch.full_like(t, rng.choice([0, 1, 100])),
        lambda t: t.flip(0) if t.dim() else t + 1,
    ]
    if rng.random() < 0.15:
        save_tensors(path, held, metadata)
        return f"without {name}"
    if rng.random() < 0.1:
        save_tensors(path, {**held, f"{name}/x": tensor}, metadata)
        return f"{name} renamed"
    place = rng.randrange(len(ways))
    with contextlib.suppress(RuntimeError):  # of a type that has no such number
        tensor = ways[place](tensor)
    save_tensors(path, {**held, name: tensor}, metadata)
    return f"{name} in way {place}"


def spoilt(tensor: Tensor, rng: random.Random) -> Tensor:
    """A tensor of which one number is no number, or out of every range."""
    made = tensor.clone().flatten()
    if len(made):
        wide = [float("nan"), float("inf"), 1e30, -1e30] if made.is_floating_point() else [-1, 99]
        made[rng.randrange(len(made))] = rng.choice(wide)
    return made.reshape(tensor.shape)


def numbers(path: Path, rng: random.Random) -> str:
    """What a file says beside its tensors is something else."""
    held, metadata = load_tensors(path)
    metadata, said = mutated(metadata, rng)
    save_tensors(path, held, metadata)
    return said


def mutated(given: Any, rng: random.Random, depth: int = 0) -> tuple[Any, str]:
    """JSON with one part changed, and where."""
    if isinstance(given, dict | list) and given and (depth == 0 or rng.random() < 0.8):
        key = rng.choice(sorted(given)) if isinstance(given, dict) else rng.randrange(len(given))
        if rng.random() < 0.1:
            kept = given.copy()
            kept.pop(key)
            return kept, f"without {key}"
        part, said = mutated(given[key], rng, depth + 1)
        made = given.copy()
        made[key] = part
        return made, f"{key}/{said}"
    value = rng.choice(VALUES)
    return value, repr(value)[:30]


def make_digests_fit(folder: Path) -> None:
    """Whoever can write all files can make them fit each other."""
    path = folder / "config.json"
    with contextlib.suppress(Exception):
        settings = json.loads(path.read_text())
        with contextlib.suppress(Exception):
            held, _ = load_tensors(folder / "rows.safetensors")
            text = (folder / "schema.json").read_text()
            Schema.from_json(text)
            ordered = {name: held[name] for name in ROWS if name in held}
            settings["table"] = digest_of(ordered, text)
        with contextlib.suppress(Exception):
            settings["rules"]["digest"] = text_digest((folder / "rules.toml").read_text())
        path.write_text(json.dumps(settings))
