"""What the pages show people to type is what `tally` takes: its verbs, their options and words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest

from tallystick.node.cli import tally

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROMPT = re.compile(r"^(?:\s*(?:[a-z]+)?[$#] |\s{8,}[a-z]+\$ )(?:.*&& )?tally (.*)$")
# Where a second machine's command stands beside it, and what a shell does with the rest.
ENDS = re.compile(r"\s{3,}[a-z]+\$ .*$|\s#\s.*$|\s&$|\s3?[|<>]\s.*$|\s&& .*$")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPACE = re.compile(r"\\\n\s*")


def _commands(page: Path) -> Iterator[str]:
    for kind, block in FENCE.findall(page.read_text()):
        for line in SPACE.sub("", block).splitlines() if kind in ("", "console") else ():
            for half in re.split(r"\s{3,}(?=[a-z]+\$ )", line):
                found = PROMPT.match(half)
                if found:
                    yield ENDS.sub("", found[1])


def _named(page: Path) -> Iterator[str]:
    """Commands inside sentences, which may leave out what the sentence is not about."""
    for found in re.findall(r"`tally\s+([^`]+)`", FENCE.sub("", page.read_text())):
        yield ENDS.sub("", " ".join(found.split()))


SHOWN = [(page.name, command) for page in PAGES for command in _commands(page)]
NAMED = sorted({(page.name, command) for page in PAGES for command in _named(page)})


def test_the_pages_show_commands() -> None:
    assert ("README.md", "accept") in SHOWN
    assert ("README.md", "run --listen 0.0.0.0:7450") in SHOWN
    assert ("operating.md", "--home NEW run") in SHOWN
    assert ("concepts.md", "prove METER/ID") in NAMED


@pytest.mark.parametrize(("page", "command"), SHOWN)
def test_a_command_that_a_page_shows_is_taken(page: str, command: str) -> None:
    try:
        _parse(shlex.split(command))
    except click.BadParameter as error:
        if isinstance(error, click.MissingParameter) or not error.message.startswith("File "):
            raise  # the files of the pages are not here


@pytest.mark.parametrize(("page", "command"), NAMED)
def test_a_command_that_a_sentence_names_is_there_with_its_options(page: str, command: str) -> None:
    with suppress(click.BadParameter, click.BadOptionUsage):
        _parse(shlex.split(command))


@pytest.mark.parametrize(
    "command",
    ["emitt x", "run --listens x", "status too many", "emit x", "keys list", "keys add a --for b"],
)
def test_one_that_is_not_taken_is_found(command: str) -> None:
    with pytest.raises(click.UsageError):
        _parse(shlex.split(command))


def _parse(words: list[str]) -> None:
    """Read a command line as `tally` does, and run nothing."""
    name: str | None = "tally"
    command: click.Command | None = tally
    context: click.Context | None = None
    try:
        while command is not None:
            context = command.make_context(name, words, parent=context)
            words = [*context._protected_args, *context.args]
            if not isinstance(command, click.Group) or not words:
                return
            name, command, words = command.resolve_command(context, words)
    except click.exceptions.Exit:
        pass  # --help
