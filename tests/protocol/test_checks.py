"""Numbered checks: what they print is safe to print."""

from __future__ import annotations

import pytest

from tallystick.protocol.checks import run_checks
from tallystick.protocol.errors import ProofError


@pytest.mark.parametrize("ok", [True, False])
def test_what_is_quoted_of_a_file_moves_no_cursor(ok: bool) -> None:
    def step(text: str) -> str:
        if not ok:
            raise ProofError(text)
        return text

    (check,) = run_checks("é \x1b[2J\x9b1A\x7f\r", [("form", (), step)])
    assert check.ok == ok
    assert check.detail == r"é \x1b[2J\x9b1A\x7f\x0d"
