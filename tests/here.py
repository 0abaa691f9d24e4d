"""Verbs run in this process, which saves most of the time that starting an interpreter takes."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from nodes import Party

from tallystick.node import cli


def tally(party: Party, *arguments: str) -> tuple[int, str, str]:
    """A verb's exit code, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli._run(["--home", str(party.home), *arguments])
    return code, out.getvalue(), err.getvalue()


def text(party: Party, *arguments: str) -> str:
    """What a verb that works prints."""
    code, out, err = tally(party, *arguments)
    assert code == 0, err
    return out


def document(party: Party, *arguments: str) -> Any:
    """A verb's JSON document."""
    return json.loads(text(party, *arguments, "--json"))
