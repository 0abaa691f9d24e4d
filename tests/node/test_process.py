"""What a node asks of its process."""

from __future__ import annotations

import gc
import logging
import resource
import subprocess
import sys

import pytest

from tallystick.node.process import (
    FILES_BESIDE,
    SESSIONS_A_FREEZE,
    Sessions,
    check_file_limit,
    lasting,
    raise_file_limit,
)

_LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
from tallystick.node.process import raise_file_limit
print(raise_file_limit(), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_limit_becomes_what_the_system_allows() -> None:
    done = subprocess.run([sys.executable, "-c", _LIMITED], capture_output=True, text=True)
    assert done.stdout == "128 (128, 128)\n"


def test_a_system_that_does_not_let_us_ask_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(what: int) -> None:
        raise PermissionError

    monkeypatch.setattr(resource, "getrlimit", refuse)
    assert raise_file_limit() == -1


def test_too_few_files_for_all_peers_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_file_limit(1000, 1000 - FILES_BESIDE)
        check_file_limit(-1, 10_000)
        assert not caplog.records
        check_file_limit(1000, 1001 - FILES_BESIDE)
    assert "raise the limit of open files" in caplog.text


def test_what_lasts_is_not_looked_through() -> None:
    before = gc.get_freeze_count()
    try:
        with lasting():
            assert not gc.isenabled()
            kept = [[number] for number in range(1000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= before + len(kept)
    finally:
        gc.unfreeze()


def test_sessions_are_not_looked_through_once_some_have_begun() -> None:
    sessions, before = Sessions(), gc.get_freeze_count()
    kept = [[number] for number in range(1000)]
    try:
        for number in range(1, SESSIONS_A_FREEZE):
            sessions.begun(number)
        assert gc.get_freeze_count() == before
        sessions.begun(SESSIONS_A_FREEZE)
        assert gc.get_freeze_count() >= before + len(kept)
        # Where there are very many, they are let be more at a time.
        before = gc.get_freeze_count()
        for _ in range(2 * SESSIONS_A_FREEZE - 1):
            sessions.begun(2 * SESSIONS_A_FREEZE**2)
        assert gc.get_freeze_count() == before
    finally:
        gc.unfreeze()
