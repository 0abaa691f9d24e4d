"""How far a long piece of work is, on standard error."""

from __future__ import annotations

import sys
import time

PIPE_SECONDS = 30  # between two lines where they stay on the screen
TERMINAL_SECONDS = 1


class Progress:
    """Says what is done now, and how far it is if it takes long."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._name = ""
        self._began = self._said = 0.0
        self._first = 0

    def begin(self, name: str, done: int = 0) -> None:
        """A piece of work begins, of which so much is done already."""
        self._name, self._first = name, done
        self._began = self._said = time.monotonic()

    def done(self, count: int, total: int) -> None:
        """So much of it is done now; said now and then."""
        now = time.monotonic()
        every = TERMINAL_SECONDS if self._terminal else PIPE_SECONDS
        if self._quiet or now - self._said < every:
            return
        self._said = now
        rate = (count - self._first) / (now - self._began)
        left = f", {(total - count) / rate / 60:.0f} min left" if rate else ""
        self._say(f"{self._name}: {count:,} of {total:,} ({rate:,.0f}/s{left})")

    def note(self, text: str) -> None:
        """What is done now, of something that takes long."""
        if not self._quiet:
            self._say(text)

    def end(self) -> None:
        """The work is over: what comes next has the line for itself."""
        if self._terminal and not self._quiet:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _say(self, text: str) -> None:
        if self._terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)
