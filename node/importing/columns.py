"""From columns of text to columns of exact numbers, many rows at a time.

What is written as nearly every export writes it is read here, digit by digit in whole columns; each
function also says which rows it read. All other rows are left to `drafts`, which knows every
form and every reason to refuse one, so both readers agree on what a text means.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute

from tallystick.node.importing.times import parse_time
from tallystick.protocol.errors import InputError
from tallystick.protocol.records import TIME_MAX_US

DIGITS_MAX = 18  # of a number that is surely within 64 bits
TIME_CHARS_MAX = 35
TEXT_BYTES_MAX = 128
QUARTER_US = 900_000_000

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

Array = Any  # numpy's, of one dimension unless it says so


def read_texts(column: Any) -> Array:
    """Which texts are 1 to 128 characters of ASCII without controls: none of these needs checks."""
    size = pyarrow.compute.binary_length(column).to_numpy(zero_copy_only=False)
    fine = (size >= 1) & (size <= TEXT_BYTES_MAX)
    bytes_ = _content(column)
    if not len(bytes_) or (bytes_.min() >= 0x20 and bytes_.max() < 0x7F):
        return fine
    plain = pyarrow.compute.match_substring_regex(column, r"\A[\x20-\x7e]*\z")
    return fine & plain.to_numpy(zero_copy_only=False)


def _content(column: Any) -> Array:
    """All bytes of a column of text."""
    first, last = _offsets(column)[[0, -1]]
    data = column.buffers()[2]
    return np.frombuffer(data, np.uint8)[first:last] if data else np.empty(0, np.uint8)


def _offsets(column: Any) -> Array:
    offsets = np.frombuffer(column.buffers()[1], np.int32)
    return offsets[column.offset : column.offset + len(column) + 1]


def _by_length(column: Any, longest: int) -> list[tuple[Array, Array]]:
    """The rows of each length up to the longest, and their bytes as a matrix, a row each."""
    offsets = _offsets(column)
    if not len(column):
        return []
    size = np.diff(offsets)
    data = column.buffers()[2]
    content = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    found = []
    for length in np.flatnonzero(np.bincount(np.minimum(size, longest + 1)))[:longest].tolist():
        if 0 < length <= longest:
            rows = np.flatnonzero(size == length)
            if len(rows) == len(column):
                matrix = content[offsets[0] : offsets[-1]].reshape(len(rows), length)
            else:
                matrix = content[offsets[rows][:, None] + np.arange(length)]
            found.append((rows, matrix))
    return found


def read_quantities(column: Any, scale: int) -> tuple[Array, Array]:
    """Decimals as integers in the scale, and which rows they were read of."""
    values = np.zeros(len(column), dtype=np.int64)
    read = np.zeros(len(column), dtype=bool)
    for rows, matrix in _by_length(column, DIGITS_MAX + 2):
        found, fine = _decimals(matrix, scale)
        values[rows], read[rows] = found, fine
    return values, read


def _decimals(matrix: Array, scale: int) -> tuple[Array, Array]:
    """Perhaps a minus, then digits; or also a dot and at most `scale` digits behind it."""
    length = matrix.shape[1]
    minus = matrix[:, 0] == ord("-")
    dots = matrix == ord(".")
    digits = (matrix - ord("0")).astype(np.uint8)
    place = np.where(dots.any(axis=1), dots.argmax(axis=1), length)
    behind = np.maximum(length - place - 1, 0)
    whole = place - minus
    kinds = (digits < 10).sum(axis=1) + dots.sum(axis=1) + minus == length
    fine = (
        kinds
        & (dots.sum(axis=1) <= 1)
        & (whole >= 1)
        & ((place == length) | (behind >= 1))
        & (behind <= scale)
        & (whole + scale <= DIGITS_MAX)
    )
    values = np.zeros(len(matrix), dtype=np.int64)
    for at in range(length):
        digit = digits[:, at]
        values = np.where(digit < 10, values * 10 + digit, values)
    values *= 10 ** np.where(fine, scale - behind, 0)
    return np.where(minus, -values, values), fine


def read_times(column: Any, zone: str, unit: str | None) -> tuple[Array, Array]:
    """Instants in µs UTC, and which rows they were read of."""
    if unit is not None:
        numbers, read = read_quantities(column, 0)
        per_second = _PER_SECOND[unit]
        read &= (numbers >= 0) & (numbers < min(10**12 * per_second, 10**DIGITS_MAX))
        numbers = np.where(read, numbers, 0)
        if per_second > 1_000_000:
            instants = numbers // (per_second // 1_000_000)
        else:
            instants = numbers * (1_000_000 // per_second)
        return instants, read & (instants <= TIME_MAX_US)
    instants = np.zeros(len(column), dtype=np.int64)
    read = np.zeros(len(column), dtype=bool)
    for rows, matrix in _by_length(column, TIME_CHARS_MAX):
        instants[rows], read[rows] = _iso(matrix, zone)
    return instants, read & (instants >= 0) & (instants <= TIME_MAX_US)


def _number(digits: Array, start: int, stop: int) -> tuple[Array, Array]:
    part = digits[:, start:stop]
    value = np.zeros(len(digits), dtype=np.int64)
    for at in range(stop - start):
        value = value * 10 + part[:, at]
    return value, (part < 10).all(axis=1)


def _iso(matrix: Array, zone: str) -> tuple[Array, Array]:
    """Times of one length, as in `2026-10-25 14:30:00.123456`, with or without an offset behind."""
    length = matrix.shape[1]
    instants, read = np.zeros(len(matrix), np.int64), np.zeros(len(matrix), dtype=bool)
    utc = (matrix[:, -1] == ord("Z")) if length >= 20 else read
    offset = (
        ((matrix[:, -6] == ord("+")) | (matrix[:, -6] == ord("-"))) & (matrix[:, -3] == ord(":"))
        if length >= 25
        else read
    )
    for rows, suffix in ((utc, 1), (offset, 6), (~utc & ~offset, 0)):
        part = matrix[rows]
        if not len(part) or length - suffix < 19:
            continue
        walls, fine = _walls(part[:, : length - suffix])
        if suffix == 0:
            walls, fine = _local(walls, fine, zone)
        elif suffix == 6:
            digits = (part - ord("0")).astype(np.uint8)
            hours, right = _number(digits, length - 5, length - 3)
            minutes, too = _number(digits, length - 2, length)
            shift = (hours * 60 + minutes) * 60_000_000
            walls = walls - np.where(part[:, -6] == ord("-"), -shift, shift)
            fine &= right & too & (hours < 24) & (minutes < 60)
        instants[rows], read[rows] = walls, fine
    return instants, read


def _walls(matrix: Array) -> tuple[Array, Array]:
    """What the clock shows, as µs since 1970, and which rows are such times."""
    length = matrix.shape[1]
    digits = (matrix - ord("0")).astype(np.uint8)
    fine = (
        (matrix[:, 4] == ord("-"))
        & (matrix[:, 7] == ord("-"))
        & ((matrix[:, 10] == ord("T")) | (matrix[:, 10] == ord(" ")))
        & (matrix[:, 13] == ord(":"))
        & (matrix[:, 16] == ord(":"))
    )
    fields = []
    for start, stop in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19)):
        value, right = _number(digits, start, stop)
        fields.append(value)
        fine &= right
    year, month, day, hour, minute, second = fields
    fraction = np.zeros(len(matrix), dtype=np.int64)
    if length > 19:
        fine &= (matrix[:, 19] == ord(".")) & (21 <= length <= 29)
        kept = min(length, 26)
        fraction, right = _number(digits, 20, kept)
        fine &= right & (digits[:, 20:] < 10).all(axis=1)
        fraction = fraction * 10 ** (26 - kept)
    fine &= (year >= 1970) & (year <= 9998) & (month >= 1) & (month <= 12) & (day >= 1)
    fine &= (hour < 24) & (minute < 60) & (second < 60)
    months = np.where(fine, (year - 1970) * 12 + month - 1, 0).astype("M8[M]")
    days = months.astype("M8[D]").astype(np.int64) + day - 1
    fine &= days < (months + 1).astype("M8[D]").astype(np.int64)
    clock = (hour * 3600 + minute * 60 + second) * 1_000_000 + fraction
    return np.where(fine, days, 0) * 86_400_000_000 + clock, fine


def _local(walls: Array, fine: Array, zone: str) -> tuple[Array, Array]:
    """The instants at which a zone's clock shows the walls; not read where it is being set."""
    if zone == "UTC":
        return walls, fine
    quarter = np.where(fine, walls, 0) // QUARTER_US
    present, places = np.unique(quarter, return_inverse=True)
    shifts = [_shift(int(at), zone) for at in present.tolist()]
    known = np.array([shift is not None for shift in shifts])
    shift_us = np.array([shift or 0 for shift in shifts], dtype=np.int64)
    return walls + shift_us[places], fine & known[places]


def _shift(quarter: int, zone: str) -> int | None:
    """What to add to the walls of a quarter of an hour; None if it is not the same all along."""
    shifts = []
    for wall_us in (quarter * QUARTER_US, (quarter + 1) * QUARTER_US):
        text = str(np.datetime64(wall_us, "us"))
        try:
            shifts.append(parse_time(text, zone, None) - wall_us)
        except InputError:
            return None
    return shifts[0] if shifts[0] == shifts[1] else None
