"""Durations as people write them on the command line."""

from __future__ import annotations

import re

from tallystick.protocol.errors import InputError

_UNITS = {"m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> int:
    """The seconds of `30m`, `12h` or `7d`; `InputError` for anything else."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if not match:
        raise InputError(f"{text!r} is not a duration", "Write 30m, 12h or 1d")
    return int(match[1]) * _UNITS[match[2]]
