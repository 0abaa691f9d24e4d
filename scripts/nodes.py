"""Real nodes for scripts and tests: processes of `tally run`, paired and with a channel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 120
_PROCESS_CLOCK = 2  # a process's own time, in the numbers that Linux gives to clocks
STOP_SECONDS = 300  # a node that merges a large index finishes that first

TERMS = """\
provider = "acme.example"
consumer = "beta.example"
[period]
calendar = "hour"
time_zone = "UTC"
[meters.context-tokens]
unit = "token"
source = "provider"
[meters.generated-tokens]
unit = "token"
source = "provider"
"""


MAIN = "from tallystick.node.cli import main; main()"


class Failed(RuntimeError):
    """A verb or a node that was to succeed did not."""


class Party:
    """A party with its home, and its node while it runs."""

    def __init__(self, folder: Path, name: str, code: str = MAIN) -> None:
        self.name = name
        self.home = folder / name
        self.process: subprocess.Popen[str] | None = None
        self.address = ""
        self._code = code

    def command(self, *arguments: str) -> list[str]:
        """The command line of a verb in this home."""
        return [sys.executable, "-c", self._code, "--home", str(self.home), *arguments]

    def tally(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a verb; an exit code other than 0 is an error unless `check` is off."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if check and done.returncode:
            raise Failed(f"tally {' '.join(arguments)}: {done.returncode}\n{done.stderr}")
        return done

    def json(self, *arguments: str) -> Any:
        """A verb's JSON document."""
        return json.loads(self.tally(*arguments, "--json").stdout)

    @property
    def log(self) -> Path:
        """What its node logs, over all its starts."""
        return self.home.parent / f"{self.name}.log"

    def configure(self, text: str) -> None:
        """Put settings in force from the next start on, in place of earlier ones."""
        (self.home / "config.toml").write_text(text)

    def start(self, *options: str) -> None:
        """Start the node and wait until it is ready."""
        if not self.wait_ready(self.launch(*options)):
            raise Failed(f"{self.name} did not start; see {self.log}")

    def launch(self, *options: str) -> subprocess.Popen[str]:
        """Start the node and wait for nothing."""
        log = self.log.open("a")
        self.process = subprocess.Popen(
            self.command("run", "--listen", "127.0.0.1:0", *options),
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        log.close()
        return self.process

    def wait_ready(self, process: subprocess.Popen[str]) -> bool:
        """Wait until the node serves; False if it ended before."""
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("ready "):
            return False
        self.address = line.split()[2]
        return True

    def stop(self) -> None:
        """Stop the node cleanly."""
        self._end(lambda process: process.terminate())

    def kill(self) -> None:
        """Stop the node as a power cut would."""
        self._end(lambda process: process.kill())

    def cpu_seconds(self) -> float:
        """Processor time of its node so far: it says more than the clock on a busy machine."""
        assert self.process is not None
        # What clock_getcpuclockid(3) makes of it: nanoseconds, where /proc counts hundredths.
        return time.clock_gettime((~self.process.pid << 3) | _PROCESS_CLOCK)

    def _end(self, how: Any) -> None:
        if self.process is not None:
            how(self.process)
            self.process.wait(STOP_SECONDS)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


def wait_until(condition: Any, seconds: float = START_SECONDS) -> None:
    """Return when the condition holds; `TimeoutError` if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not come true")
        time.sleep(0.05)


@contextmanager
def running(
    folder: Path, names: Sequence[str] = ("acme.example", "beta.example"), code: str = MAIN
) -> Iterator[tuple[Party, ...]]:
    """Parties whose nodes run `code`; they are stopped at the end."""
    os.environ.pop("TALLYSTICK_HOME", None)
    with ExitStack() as stack:
        parties = tuple(Party(folder, name, code) for name in names)
        for party in parties:
            party.tally("init", "--name", party.name)
            stack.callback(party.stop)
            party.start()
        yield parties


def pair(inviter: Party, joiner: Party) -> None:
    """Pair two running nodes."""
    joiner.tally("join", inviter.json("invite")["code"])


def found(proposer: Party, accepter: Party, terms: str = TERMS) -> str:
    """Found a channel between two paired nodes; its id."""
    file = proposer.home.parent / "terms.toml"
    file.write_text(terms)
    channel: str = proposer.json("propose", str(file), "--to", accepter.name)["channel"]
    accepter.tally("accept", channel, "--yes")
    return channel


@contextmanager
def channel(folder: Path, terms: str = TERMS, code: str = MAIN) -> Iterator[tuple[Party, Party]]:
    """Two running nodes with an open channel: the provider's and the consumer's."""
    with running(folder, code=code) as (acme, beta):
        pair(acme, beta)
        found(acme, beta, terms)
        yield acme, beta
