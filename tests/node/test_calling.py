"""What is read of an answer over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.calling import Answer, retry_after


def _after(value: bytes) -> float:
    return retry_after(Answer(429, {b"retry-after": value}, b"", True))


def test_retry_after_is_believed_within_bounds() -> None:
    assert _after(b"") == 0
    assert _after(b"7") == 7
    assert _after(b"999999999999999999999") == 3600
    assert _after(b"-5") == 0
    assert _after(b"soon") == 0
    soon = datetime.now(UTC) + timedelta(seconds=90)
    assert 60 < _after(format_datetime(soon, usegmt=True).encode()) <= 90
    assert _after(b"Fri, 31 Dec 9999 23:59:59 GMT") == 3600
    assert _after(b"Thu, 01 Jan 1970 00:00:00 GMT") == 0


@given(st.binary(max_size=60))
def test_any_retry_after_gives_a_number(value: bytes) -> None:
    assert 0 <= _after(value) <= 3600
