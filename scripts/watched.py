"""A node whose loop is watched: `tally run` that also knows what held everything up.

The node times every step of every task and every pass of the collector of garbage; `ask` has it
write what was longest since it was asked last, and begin anew. Processor time is told beside the
clock's: on a busy machine a step waits for others as well.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import nodes
import trio

CODE = "import watched; watched.main()"  # what its process runs
ASK_SECONDS = 120.0
_FILE = "TALLYSTICK_WATCHED"  # names the file to which answers are written


class Watcher(trio.abc.Instrument):
    """Knows the longest step of a task, and the longest pass of the collector."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._step = self._pass = (0.0, 0.0)  # by the clock, of the processor: when it began
        self._begin()

    def _begin(self) -> None:
        self._longest = self._cpu = 0.0
        self._task = ""
        self._passes = [0.0, 0.0, 0.0]  # by generation
        self._garbage = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task begins to run."""
        self._step = time.perf_counter(), time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """It waits again."""
        self._longest = max(self._longest, time.perf_counter() - self._step[0])
        cpu = time.thread_time() - self._step[1]
        if cpu > self._cpu:
            self._cpu, self._task = cpu, task.name

    def collecting(self, phase: str, info: Mapping[str, int]) -> None:
        """The collector begins, or has ended."""
        if phase == "start":
            self._pass = time.perf_counter(), time.thread_time()
            return
        seconds, generation = time.thread_time() - self._pass[1], info["generation"]
        self._passes[generation] = max(self._passes[generation], seconds)
        self._garbage += info["collected"]

    def answer(self, *_: object) -> None:
        """Write what was longest, and begin anew."""
        said = {
            "longest_step_ms": round(self._longest * 1000, 1),
            "longest_step_cpu_ms": round(self._cpu * 1000, 1),
            "longest_step_of": self._task.rpartition(".")[2],
            "collections_cpu_ms": [round(one * 1000, 1) for one in self._passes],
            "garbage": self._garbage,
        }
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(said))
        part.rename(self._file)
        self._begin()


def ask(party: nodes.Party, folder: Path) -> dict[str, Any]:
    """What held up a watched node most since it was asked last."""
    assert party.process is not None
    file = _file(folder)
    file.unlink(missing_ok=True)
    party.process.send_signal(signal.SIGUSR1)
    nodes.wait_until(file.exists, ASK_SECONDS)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def party(folder: Path, name: str) -> nodes.Party:
    """A party whose node is watched."""
    os.environ[_FILE] = str(_file(folder))
    return nodes.Party(folder, name, CODE)


def _file(folder: Path) -> Path:
    return folder / "watched.json"


def main() -> None:
    """Run the command line, watched."""
    from tallystick.node.cli import main as command_line

    watcher = Watcher(Path(os.environ[_FILE]))
    gc.callbacks.append(watcher.collecting)
    signal.signal(signal.SIGUSR1, watcher.answer)
    trio.run = partial(trio.run, instruments=[watcher])
    command_line()
