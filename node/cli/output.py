"""What verbs print: for people (80 columns unless the terminal is wider), JSON for programs."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

PLAIN_SECONDS = 5  # how often progress is told when nobody watches a terminal


def say(text: str) -> None:
    """Print a line for people."""
    click.echo(text)


def folded(text: str, indent: int) -> str:
    """A text in lines that fit the terminal, those after the first indented; words stay whole."""
    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    lines = textwrap.wrap(
        text,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    return "\n".join(lines)


def print_json(document: object) -> None:
    """Print one JSON document."""
    import json

    click.echo(json.dumps(document, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 80
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; columns of numbers are aligned to the right, long texts are folded."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for place, column in enumerate(columns):
        cells = [row[place] for row in rows]
        numeric = all(
            cell.replace(",", "").replace(".", "").lstrip("-").isdigit() for cell in cells
        )
        made.add_column(column, justify="right" if numeric and cells else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    console = _console()
    with console.capture() as captured:
        console.print(made)
    # The last column is padded as well, which only shows when a line is copied or does not fit.
    say("\n".join(line.rstrip() for line in captured.get().splitlines()))


class Progress:
    """Progress of a long verb: a bar on a terminal, a plain line now and then otherwise."""

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = max(total, 1)
        self._bar: RichProgress | None = None
        self._task: Any = None
        self._told = time.monotonic()

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[said]}"),
                console=_console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._title, total=self._total, said="")
            self._bar.start()
        return self

    def update(self, done: int, said: str) -> None:
        """`done` of the total is behind us."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, said=said)
        elif time.monotonic() - self._told >= PLAIN_SECONDS:
            self._told = time.monotonic()
            percent = min(100 * done // self._total, 100)
            click.echo(f"{self._title}: {percent} %, {said}", err=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class Steps:
    """Progress through steps named in words: a bar on a terminal, nothing otherwise."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._task: Any = None
        self._step = ""

    def __enter__(self) -> Steps:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                console=_console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def tell(self, step: str, done: int, of: int) -> None:
        """`done` of `of` of this step is behind us (of 0: nobody knows); each has its own bar."""
        if self._bar is None:
            return
        if step != self._step:
            self._step = step
            self._bar.reset(self._task, description=step)
        self._bar.update(self._task, completed=done, total=of or None)

    def say(self, text: str) -> None:
        """Print a line for people while the steps go on."""
        if self._bar is None:
            say(text)
            return
        self._bar.stop()
        say(text)
        self._bar.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
