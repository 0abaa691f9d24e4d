"""Targets for what a peer says in a reconciliation session: rows, sketches, and its whole side."""

from __future__ import annotations

import io
from collections.abc import Iterator

import msgpack
import msgspec
import numpy as np
from reconciling import BY_ID, START_US, row_set, sides

from fuzzing.contract import attempt
from tallystick.protocol.errors import FormatError, PeerBreach, SessionStopped
from tallystick.protocol.messages import AskReconcile, InReconciliation, decode_message
from tallystick.protocol.reconcile import cells_max
from tallystick.protocol.rowset import Row, decode_row, encode_row
from tallystick.protocol.sketch import CELL_BYTES, Decoder, decode_cells

KEY = bytes(range(16))
OPENS_MAX = 20
ROWS = [Row("tokens", f"e{n}", "x", n, START_US + n * 10**9, 0) for n in range(30)]
OURS = row_set(ROWS[:-4])
THEIRS = row_set(ROWS[3:], near=[msgspec.structs.replace(ROWS[0], occurred_at=START_US - 1)])


def private_rows(data: bytes) -> None:
    """A row that a peer opens."""
    row = attempt(FormatError, decode_row, data)
    assert row is None or encode_row(row) == data


def sketches(data: bytes) -> None:
    """A sketch of a peer, whose first byte is the size of its blocks, read against four items."""
    ours = np.arange(1, 5, dtype=np.uint64)
    decoder = Decoder(KEY, ours, 50)
    size = (data[0] % 16 + 1 if data else 1) * CELL_BYTES
    for at in range(1, len(data), size):
        cells = attempt(FormatError, decode_cells, data[at : at + size])
        if cells is None or attempt(FormatError, decoder.take, cells) is None:
            break
    assert len(decoder.theirs) + len(decoder.ours) <= 51 + len(ours)
    assert decoder.cells <= len(data) // CELL_BYTES


def _bodies(data: bytes) -> Iterator[bytes]:
    """Each MessagePack value of the data, while they are such."""
    unpacker = msgpack.Unpacker(io.BytesIO(data), max_buffer_size=len(data) or 1)
    at = 0
    try:
        while at < len(data):
            unpacker.skip()
            yield data[at : unpacker.tell()]
            at = unpacker.tell()
    except (ValueError, msgpack.UnpackException):
        return


def reconciling(data: bytes) -> None:
    """A peer's whole side of a session with the side that asks, or, by the first byte, consents."""
    asker, consenter = sides(OURS, THEIRS, (OPENS_MAX, OPENS_MAX))
    consents = bool(data and data[0] & 1)
    side = consenter if consents else asker
    if not consents:
        asker.start()
    for body in _bodies(data[1:]):
        message = attempt(PeerBreach, decode_message, body)
        if not isinstance(message, InReconciliation):
            break
        if consents and isinstance(message, AskReconcile) and side.step == "starting":
            answers = attempt(SessionStopped, consenter.start, message)
        else:
            answers = attempt(SessionStopped, side.receive, message)
        if answers is None:
            break
    opening = side.opening
    if opening is not None:
        assert len(opening.opened) + len(opening.kin_opened) <= OPENS_MAX
        assert len(opening.received) + len(opening.kin_received) <= OPENS_MAX
    assert side.cells <= cells_max(2 * OPENS_MAX)
    assert OURS.likeness == THEIRS.likeness == BY_ID
