"""What verbs show while they work: steps on a terminal, nothing where nobody watches."""

from __future__ import annotations

import io
import os
import pty
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tallystick.node.cli.output import Steps, table


def _work() -> None:
    with Steps() as steps:
        steps.tell("reading the export", 1, 2)
        steps.tell("pairing", 3, 4)
        steps.tell("pairing", 4, 4)


def _read(reader: int) -> Iterator[str]:
    """All that a terminal was written; then, as its other end is closed, it cannot be read."""
    with suppress(OSError), os.fdopen(reader, "rb", buffering=0) as terminal:
        while said := terminal.read(4096):
            yield said.decode(errors="replace")


def test_steps_are_named_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        _work()
    said = "".join(_read(reader))
    assert "pairing" in said
    assert "100%" in said


def test_nothing_is_shown_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    _work()
    assert said.getvalue() == ""


def test_a_table_has_no_padding_at_its_lines_ends(capsys: pytest.CaptureFixture[str]) -> None:
    table(["name", "state"], [["a", "open"], ["b", "confirming"]])
    lines = capsys.readouterr().out.split("\n")
    assert lines == [line.rstrip() for line in lines]
    assert [line.split() for line in lines if "─" not in line] == [
        ["name", "state"], ["a", "open"], ["b", "confirming"], [],
    ]  # fmt: skip
