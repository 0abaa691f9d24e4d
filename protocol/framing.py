"""Frames: a four-byte big-endian length, then that many bytes of MessagePack.

The reader takes bytes as they come and gives whole bodies; a length beyond the limit is refused as
soon as it is read, so a peer cannot make us hold more than one frame.
"""

from __future__ import annotations

from tallystick.protocol.errors import FormatError

HEADER_SIZE = 4


def frame(body: bytes) -> bytes:
    """The frame of a body, which is not empty."""
    assert body
    return len(body).to_bytes(HEADER_SIZE, "big") + body


class FrameReader:
    """Cuts a stream of bytes into frames' bodies."""

    def __init__(self, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take more bytes; `FormatError` if the frame that they begin is empty or too long."""
        self._buffer += data
        self._length()

    def next_body(self) -> bytes | None:
        """The next whole body, or None until more bytes came."""
        length = self._length()
        if length is None or len(self._buffer) < HEADER_SIZE + length:
            return None
        with memoryview(self._buffer) as buffer:  # its own slice would be a copy more
            body = bytes(buffer[HEADER_SIZE : HEADER_SIZE + length])
        del self._buffer[: HEADER_SIZE + length]
        return body

    def _length(self) -> int | None:
        if len(self._buffer) < HEADER_SIZE:
            return None
        length = int.from_bytes(self._buffer[:HEADER_SIZE], "big")
        if not 0 < length <= self._body_bytes_max:
            self._buffer.clear()  # nothing is kept for a frame that is refused
            raise FormatError(f"a frame of {length} bytes; 1 to {self._body_bytes_max} are allowed")
        return length
