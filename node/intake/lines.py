"""Lines of a stream that arrives in pieces, gzipped or not, in bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from tallystick.protocol.errors import InputError

LINE_BYTES_MAX = 64 * 1024
PIECE_BYTES = 256 * 1024
TOO_LONG = None  # stands for a line that is longer than any delta; its bytes are not kept

_GZIP = 16 + zlib.MAX_WBITS


class LineSplitter:
    """Cuts pieces of bytes into lines without their ends."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, piece: bytes) -> list[bytes | None]:
        """The lines that end in this piece."""
        lines: list[bytes | None] = []
        if self._skipping:
            end = piece.find(b"\n")
            if end < 0:
                return lines
            piece = piece[end + 1 :]
            self._skipping = False
            lines.append(TOO_LONG)
        whole = (self._rest + piece).split(b"\n")
        self._rest = whole.pop()
        lines += [line if len(line) <= LINE_BYTES_MAX else TOO_LONG for line in whole]
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest = b""
            self._skipping = True
        return lines

    def end(self) -> list[bytes | None]:
        """What is behind the last line's end, if the stream ended there as it should."""
        rest, self._rest = self._rest, b""
        if self._skipping:
            self._skipping = False
            return [TOO_LONG]
        return [rest] if rest else []


class Gunzip:
    """Unpacks gzip, of one or several members, some at a time."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What this piece unpacks to, in pieces of at most `PIECE_BYTES`."""
        while piece:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP)
            self._begun = True
            try:
                unpacked = self._member.decompress(piece, PIECE_BYTES)
            except zlib.error as error:
                raise InputError(f"the stream is not gzip: {error}") from None
            piece = self._member.unconsumed_tail or self._member.unused_data
            if unpacked:
                yield unpacked

    def end(self) -> None:
        """`InputError` if a member is cut off."""
        if self._begun and not self._member.eof:
            raise InputError("the gzip stream is cut off")
