"""Two processes that talk by Gloo, forked from one that has imported everything.

torchrun imports torch three times, which takes longer than most of what is tested in two processes.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

from discrete_grad.training.distributed import processes

_PATIENCE = 300.0  # seconds


def forkserver() -> ForkServerContext:
    """The way to start processes that takes one import of the library for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["discrete_grad.cli", "tests.runs.small"])
    return context


def in_two_processes(folder: Path, function: Callable[..., object], *arguments: object) -> str:
    """Call a module's function in the folder in both processes, and require that both return.

    Returns:
        Everything that they write to their outputs, the first process's before the second's.
    """
    context = forkserver()
    # torchrun keeps such a store for the processes it starts
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    both = [
        context.Process(target=_join, args=(place, store.port, folder, function, arguments))
        for place in (0, 1)
    ]
    for process in both:
        process.start()
    try:
        _wait(both)
    finally:
        for process in both:
            process.kill()
            process.join()
    told = "".join((folder / f"told-{place}").read_text() for place in (0, 1))
    assert [process.exitcode for process in both] == [0, 0], told
    return told


def _wait(both: list[BaseProcess]) -> None:
    """Until both have ended, or one has failed, for which the other would wait."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and any(process.is_alive() for process in both):
        if any(process.exitcode for process in both):
            return
        time.sleep(0.02)


def _join(
    place: int, port: int, folder: Path, function: Callable[..., object], arguments: Any
) -> None:
    os.environ |= {"RANK": str(place), "LOCAL_RANK": str(place), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    torch.set_num_threads(1)
    os.chdir(folder)
    with open(f"told-{place}", "w") as told:
        for output in (sys.stdout, sys.stderr):  # torch's own warnings, too, which C++ writes
            os.dup2(told.fileno(), output.fileno())
    with processes():
        function(*arguments)


def command_line(words: list[str]) -> None:
    """The command line in this process, which says its exit code at the end."""
    from discrete_grad.cli import main

    print(f"exit code {main(words)}", flush=True)
